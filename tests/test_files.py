"""A path leads where it would lead in a shell: ``~`` is the home folder, wherever a path is taken."""

import json
from pathlib import Path

import pytest
import record
import safetensors.torch
import torch
from torch import nn

import d2lnets
from d2lnets import plots
from d2lnets.__main__ import main
from d2lnets.data import SUBSET
from d2lnets.export import export
from d2lnets.files import expanded
from d2lnets.networks import NETWORKS
from d2lnets.training.bench import Benchmark
from d2lnets.training.runs import load_all


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder; the working folder is another, and stays empty: nothing goes to a folder named ~."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    yield home
    assert not list(here.iterdir())


def small_net():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


@pytest.fixture
def run():
    return load_all()[0]


def test_what_is_expanded(home):
    assert expanded("~") == expanded(Path("~")) == home
    assert expanded("~/a b/é") == expanded(Path("~/a b/é")) == home / "a b" / "é"
    for name in ("~draft", "a/~/b", "a~", "./~", "~nobody-is-called-so/x", "", "/~"):
        assert expanded(name) == Path(name)


def test_checkpoints_and_runs(home):
    data = d2lnets.load_fashion_mnist(SUBSET).take(32)
    net, recipe = small_net(), d2lnets.Recipe(epochs=1)
    for resume in (False, True):
        d2lnets.fit(net, data, recipe, device="cpu", checkpoint="~/new/state", resume=resume).save("~/new/run.json")
    assert {path.name for path in (home / "new").iterdir()} == {"state", "run.json"}
    assert d2lnets.Run.load("~/new/run.json") == load_all("~/new")[0] == load_all(Path("~/new"))[0]


def test_weights(home, monkeypatch):
    monkeypatch.setitem(NETWORKS, "small", small_net)
    net = NETWORKS["small"]()
    weights = {f"net/{name}": weight for name, weight in net.state_dict().items()}
    safetensors.torch.save_file(weights, home / "small.safetensors")
    assert torch.equal(d2lnets.load_trained("small", "~/small.safetensors")[1].weight, net[1].weight)


@pytest.mark.skipif(torch.__version__ < "2.9", reason="ONNX export needs PyTorch 2.9")
def test_figures_exports_and_records(home, run, monkeypatch):
    plots.compare_runs([run], "~/curves.svg")
    assert (home / "curves.svg").stat().st_size > 1000
    monkeypatch.setattr("d2lnets.export.write", lambda path, content: path.write_bytes(content))
    export(d2lnets.cifar_resnet(8, width=8).eval(), "~/net.onnx")
    assert (home / "net.onnx").stat().st_size > 1000
    (home / "benchmark.json").write_text('{"rounds": 1}', encoding="utf-8")
    assert Benchmark("~/benchmark.json").results == {"rounds": 1}


def test_a_photo(home):
    with pytest.raises(FileNotFoundError, match=str(home)):
        d2lnets.classify("~/photo.jpg")


def test_commands(home, run, monkeypatch, capsys):
    monkeypatch.setenv("D2LNETS_DATA", str(SUBSET))
    run.save(home / "runs" / "a.json")
    main(["runs", "--from", "~/runs", "--plot", "~/curves.png"])
    assert run.network in capsys.readouterr().out and (home / "curves.png").exists()
    monkeypatch.setitem(NETWORKS, "small", small_net)
    main(["train", "small", "--epochs", "1", "--device", "cpu", "--out", "~/trained"])
    finished, weights = sorted(path.name for path in (home / "trained").iterdir())
    assert json.loads((home / "trained" / finished).read_text(encoding="utf-8"))["network"] == "small"
    monkeypatch.setattr("d2lnets.__main__.export", lambda net, path: path.write_text("", encoding="utf-8"))
    main(["export", "small", "--weights", f"~/trained/{weights}", "--out", "~/models"])
    assert [path.name for path in (home / "models").iterdir()] == ["small.onnx"]


def test_the_recorder_takes_the_same_paths(home, monkeypatch):
    places = []
    monkeypatch.setenv("D2LNETS_DATA", str(SUBSET))
    monkeypatch.setattr(record, "record", lambda *given: places.append(given[4]) or [])
    command = ["record.py", "ladder", "--out", "~/recorded", "--device", "cpu"]
    monkeypatch.setattr("sys.argv", [*command, "--examples", "64"])
    record.main()
    assert places == [home / "recorded" / "ladder.jsonl"]


def test_a_part_of_the_data_is_not_recorded_as_the_whole(home, monkeypatch, capsys):
    monkeypatch.setenv("D2LNETS_DATA", str(SUBSET))
    monkeypatch.setattr("sys.argv", ["record.py", "ladder", "--out", "~/recorded", "--device", "cpu"])
    with pytest.raises(SystemExit):
        record.main()
    assert "of the whole data set" in capsys.readouterr().err
