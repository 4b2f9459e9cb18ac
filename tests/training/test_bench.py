"""The measurements measure; what is stored of them keeps what was promised."""

import json
import multiprocessing
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import d2lnets
from d2lnets.data import SUBSET
from d2lnets.training.bench import (
    MEASURED_ON_CPU,
    Benchmark,
    bytes_of_tensors,
    convolution_peak,
    ladder,
    measured_on_gpu,
    peak_of_tensors,
    seconds,
    stepper,
    time_by_operation,
    trace,
    training_speed,
)


def sleeper(length):
    """For a contest: work that takes `length` seconds and no computing."""
    return lambda: time.sleep(length), 10


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_contest_times_each_contestant(monkeypatch):
    import run

    forks = multiprocessing.get_context("fork")  # quicker than new processes, and enough for contestants that sleep
    monkeypatch.setattr(run.multiprocessing, "get_context", lambda way: forks)
    results = run.contest("sleep", {"long": (sleeper, 0.2), "short": (sleeper, 0.1)}, rounds=2)
    assert results["long"]["images_per_second"] == pytest.approx(50, rel=0.2)
    assert results["short"]["images_per_second"] == pytest.approx(100, rel=0.2)
    assert results["long"]["cpu_seconds_per_image"] < 0.002
    for result in results.values():
        assert result["lowest"] <= result["images_per_second"] <= result["highest"]


def test_seconds_by_the_clock_and_of_computing():
    clock, cpu = seconds(lambda: time.sleep(0.05), torch.device("cpu"), repeats=3)
    assert len(clock) == 3 and min(clock) >= 0.05 and max(cpu) < 0.04


def test_a_step_learns():
    torch.manual_seed(0)
    net = d2lnets.fast_resnet((4, 8))
    step = stepper(net, d2lnets.Recipe(batch_size=32, lr=0.05), "cpu")
    losses = [step()[0].item() for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]  # the same noise every time, learnt by heart


def test_no_step_is_faster_than_the_peak():
    peak = convolution_peak("cpu", mixed_precision=False)
    recipe = d2lnets.Recipe(batch_size=32, mixed_precision=False)
    images, operations = training_speed(d2lnets.resnet18(small=True), recipe, "cpu")
    assert 1e9 < operations < peak and images > 1


def test_time_is_split_by_operation():
    x = torch.rand(300, 300)
    times = time_by_operation(lambda: [x @ x for _ in range(20)] and x.relu())
    assert times["aten::mm"] > 10 * times["aten::relu"] > 0


def test_a_trace_has_the_named_parts_around_what_they_call():
    def work():
        with torch.profiler.record_function("part"):
            torch.rand(300, 300).relu()

    work()
    part, *others = trace(work)
    assert (part.name, part.start, part.depth) == ("part", 0, 0)
    assert {"aten::rand", "aten::relu"} <= {span.name for span in others if span.depth == 1}
    assert all(part.start <= span.start <= span.end <= part.end for span in others)


def test_bytes_alive_rise_and_fall():
    def work():
        kept = torch.ones(1_000)
        del kept
        return torch.ones(500)

    times, sizes = bytes_of_tensors(work)
    assert max(sizes) == 4_000 and sizes[0] == 4_000 and sorted(times) == times
    assert peak_of_tensors(work) == 4_000


def test_the_gpu_s_measurements_say_which_card_and_when():
    (machine,) = measured_on_gpu("machine")
    assert "NVIDIA" in machine["device"] and machine["date"].startswith("20")
    assert {"network", "size", "step", "images_per_second"} <= set(measured_on_gpu("speed")[0])
    (stand_in,) = measured_on_gpu("machine", MEASURED_ON_CPU)
    assert stand_in["device"] == "cpu" and stand_in["threads"] == 1
    assert not measured_on_gpu("failed") and not measured_on_gpu("failed", MEASURED_ON_CPU)


def test_the_gpu_s_program_runs_on_a_cpu(tmp_path, monkeypatch, capsys):
    """From the first line to the last, with a network of one layer and 130 images."""
    import gpu

    def build(name):
        return nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(49, 10))

    monkeypatch.setattr(gpu, "build", build)
    monkeypatch.setattr(gpu, "STRETCH", 13)
    monkeypatch.setattr(gpu, "SEEDS", (0, 1))
    monkeypatch.setattr(gpu, "SPEEDS", {"fast-resnet": 28})
    monkeypatch.setattr(gpu, "gc", SimpleNamespace(collect=lambda: 0))  # it would take most of the time
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(d2lnets, "load_fashion_mnist", partial(d2lnets.load_fashion_mnist, SUBSET, validation=600))
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "new" / "gpu.jsonl"
    gpu.main(["--device", "cpu", "--part", str(130 / 55_000), "--out", "new/gpu.jsonl"])
    lines = {what: measured_on_gpu(what, out) for what in ("training", "speed", "ladder", "d2l", "profile", "left out")}
    assert not measured_on_gpu("failed", out) and measured_on_gpu("end", out)[0]["failed"] == 0
    eight = [
        ("muon" in line["recipe"], line["seed"], line["graph"]) for line in lines["training"] if line["epochs"] == 8
    ]
    assert eight == [(muon, seed, True) for seed in gpu.SEEDS for muon in (False, True)] + [(False, 0, False)]
    order = [
        (line["what"], line.get("epochs")) for line in map(json.loads, out.read_text(encoding="utf-8").splitlines())
    ]
    assert ("ladder", None) not in order[order.index(("training", 10)) :]  # which take most of the time
    for seed in gpu.SEEDS:
        ten = {line["network"] for line in lines["training"] if (line["epochs"], line["seed"]) == (10, seed)}
        steps = [line["step"] for line in lines["ladder"] if line["seed"] == seed]
        assert ten == set(gpu.SOURCE)
        assert steps == [step for step in gpu.LADDER if "fp16" not in step and (step != "compiled" or seed == 0)]
    assert {line["network"] for line in lines["speed"]} == {"resnet18", *gpu.SPEEDS}
    assert {line["arguments"][0] for line in lines["left out"]} == {step for step in gpu.LADDER if "fp16" in step}
    assert len(lines["d2l"]) == 3 and all(line["images_per_second"] > 0 for each in lines.values() for line in each
                                          if "images_per_second" in line)  # fmt: skip
    assert lines["profile"][0]["microseconds"] > 0
    table = ladder(out)
    assert [row[0] for row in table.rows] == [step for step in gpu.LADDER if "fp16" not in step]
    assert all("±" in row[-1] for row in table.rows if row[0] != "compiled")
    assert "left out" in capsys.readouterr().out

    assert gpu.main(["--device", "cpu", "--part", "0", "--out", str(out), "--only", "profile"]) == 0
    with monkeypatch.context() as broken:
        broken.setattr(gpu, "build", lambda name: nn.Linear(1, 1))
        assert gpu.main(["--device", "cpu", "--part", "0", "--out", str(out), "--only", "profile"]) == 1

    notes = gpu.Notes(out, torch.device("cpu"), 0, ["rung"])
    data = d2lnets.load_fashion_mnist().take(130, 50)
    for scaled in (True, False):
        gpu.rung(notes, "fp16", "any", data, 0, None, bits=torch.float16, scaled=scaled)
    notes.attempt(gpu.rung, "late", "any", data, 0, None)
    notes.attempt(gpu.speed, "not asked for", 28, data)
    notes.end += 60
    notes.attempt(gpu.rung, "broken", "any", data, 0, None, no="such switch")
    assert [line["what"] for line in map(json.loads, out.read_text(encoding="utf-8").splitlines())] == [
        "machine", "ladder", "ladder", "left out", "failed"]  # fmt: skip


@pytest.mark.parametrize("options", [["--device", "cpu"], ["--device", "cpu", "--only", "rung"]])
def test_what_the_pages_show_of_a_gpu_is_not_overwritten_by_a_trial(options, capsys):
    import gpu

    before = gpu.MEASURED.read_bytes()
    with pytest.raises(SystemExit):
        gpu.main(options)
    assert "measured whole, on a GPU: name an --out" in capsys.readouterr().err
    assert gpu.MEASURED.read_bytes() == before


def test_where_there_is_no_gpu_its_program_says_so(monkeypatch, capsys):
    import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "PyTorch finds no GPU here: --device cpu" in capsys.readouterr().err


def test_another_card_than_the_pages_speak_of_is_measured_beside_it(monkeypatch, capsys):
    import gpu

    before = gpu.MEASURED.read_bytes()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "machine", lambda device: {"device": "NVIDIA T4"})
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "measured on NVIDIA H200, and this is NVIDIA T4: name an --out" in capsys.readouterr().err
    assert gpu.MEASURED.read_bytes() == before


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_freed_memory_is_kept():
    """Page faults of steps that allocate and free 64 MB, with and without what `fit` asks of the C library."""
    program = """
import resource, sys, torch
from d2lnets.training.loop import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.zeros(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", program, how], capture_output=True, check=True).stdout)
        for how in ("keep", "")
    )
    assert kept < given_back / 10


def test_d2l_finds_the_same_images(tmp_path, monkeypatch):
    import run

    data = d2lnets.load_fashion_mnist(d2lnets.data.SUBSET, validation=0)
    monkeypatch.chdir(run.where_d2l_looks(data, tmp_path))
    theirs = run.d2l.FashionMNIST(batch_size=8)
    image, label = theirs.train[5]
    assert torch.equal((image * 255).round().byte(), data.train.images[5]) and label == data.train.labels[5]


def test_a_mark_that_only_one_of_two_reached_is_a_column_too():
    benchmark = Benchmark()
    first, *_ = benchmark.results["accuracy"]
    theirs = benchmark.results["accuracy"][first]
    benchmark.results["accuracy"] = {first: theirs, "99%": {key: theirs[key] for key in theirs if "d2lnets" not in key}}
    table = benchmark.accuracy()
    assert table.headers == ["mark", first, "99%"] and {len(row) for row in table.rows} == {3}
    assert [row[0] for row in table.rows if row[2] is None] == [row[0] for row in table.rows[2:]]
    assert f"{theirs['d2l_cpu_seconds'] / theirs['d2lnets_cpu_seconds']:,.0f}" in table.rows[-2]


def test_the_stored_measurements_keep_the_promises(monkeypatch, tmp_path):
    import run

    out = tmp_path / "benchmark.json"
    out.write_bytes(run.BENCHMARKED.read_bytes())
    monkeypatch.setattr(sys, "argv", ["run.py", "--recorded", "--out", str(out)])
    run.main()
    stored = Benchmark()
    assert Benchmark(out).results == stored.results  # what the recorded runs decide is counted anew
    bars = stored.results["bars"]
    assert len(bars) == 15
    for bar in bars:
        kept = bar["value"] >= bar["bound"] if bar["is"] == "at least" else bar["value"] <= bar["bound"]
        assert kept, bar
