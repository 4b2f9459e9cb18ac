"""The measurements measure; what is stored of them keeps what was promised."""

import multiprocessing
import subprocess
import sys
import time

import pytest
import torch

import d2lnets
from d2lnets.training.bench import (
    Benchmark,
    bytes_of_tensors,
    convolution_peak,
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
    assert {"network", "size", "step", "images_per_second"} <= set(measured_on_gpu("ladder")[0])


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


def test_the_stored_measurements_keep_the_promises():
    bars = Benchmark().results["bars"]
    assert len(bars) == 9
    for bar in bars:
        kept = bar["value"] >= bar["bound"] if bar["is"] == "at least" else bar["value"] <= bar["bound"]
        assert kept, bar
