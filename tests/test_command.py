"""The command line trains, lists, traces and measures; and refuses, before any work, what cannot be."""

import json
import re

import pytest

import d2lnets
from d2lnets.__main__ import EXAMPLES, main
from d2lnets.data import SUBSET
from d2lnets.networks import NETWORKS
from d2lnets.training.runs import RECORDED


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setenv("D2LNETS_DATA", str(SUBSET))
    monkeypatch.setitem(NETWORKS, "small", lambda: d2lnets.fast_resnet((4, 8)))


def test_it_trains_and_writes_what_load_reads(small, tmp_path, capsys):
    out = ["--out", str(tmp_path), "--device", "cpu", "--image-size", "16"]
    main(["train", "small", "fast-resnet", "--seeds", "5", "6", "--epochs", "1", "--average", "0.9", *out])
    printed = capsys.readouterr().out
    for network in ("small", "fast-resnet"):
        for seed in (5, 6):
            run = d2lnets.Run.load(tmp_path / f"{network}-epochs1-image_size16-average0.9-seed{seed}.json")
            assert (run.network, run.seed, run.examples, run.recipe["average"]) == (network, seed, 3_300, 0.9)
            assert f"test accuracy {run.test['accuracy']:.4f}" in printed
            assert run.peak_memory > 1e8 and run.cpu_seconds > 0 and len(run.first_losses) == 10
    main(["runs", "--from", str(tmp_path), "--plot", str(tmp_path / "curves.png")])
    assert re.search(r"fast-resnet +book epochs=1 image_size=16 average=0.9 +274,186 +2 +0", capsys.readouterr().out)
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_what_is_there_is_kept_unless_told_otherwise(small, tmp_path, capsys):
    out = ["--out", str(tmp_path), "--device", "cpu", "--epochs", "1"]
    (tmp_path / "small-epochs1-seed1.json").write_text("precious", encoding="utf-8")
    with pytest.raises(
        SystemExit, match=r"small-epochs1-seed1.json: there already; --resume goes on, --overwrite begins anew"
    ):
        main(["train", "small", "--seeds", "0", "1", *out])
    main(["train", "small", "--seeds", "1", "--resume", *out])
    assert "small-epochs1-seed1.json is finished" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["small-epochs1-seed1.json"]
    assert (tmp_path / "small-epochs1-seed1.json").read_text(encoding="utf-8") == "precious"
    main(["train", "small", "--seeds", "1", "--overwrite", *out])
    assert d2lnets.Run.load(tmp_path / "small-epochs1-seed1.json").seed == 1


@pytest.mark.parametrize(
    "wrong, message",
    [
        (["resnet81"], "no network is called 'resnet81': did you mean resnet18"),
        (["small", "--lr", "-1"], "lr must be a number above 0, got -1.0"),
        (["small", "--warmup", "2"], "warmup must be a number of at least 0 and below 1, got 2.0"),
        (["small", "--epochs", "0"], "epochs must be a whole number of at least 1, got 0"),
        (["small", "--seeds", "2", "2"], "--seeds has 2 twice"),
        (["small", "--seed", "-1"], "--seeds must be whole numbers from 0 to 2^63 - 1, got -1"),
        (["small", "small"], "NAME has small twice"),
        (["small", "--device", "nowhere"], "--device nowhere: "),
        (["small", "--device", "mps"], "--device mps: "),
        (["small", "--image-size", "3"], "does not accept an input of 1×3×3"),
        (["densenet"], "the smallest that works is 1×29×29"),
    ],
)
def test_it_refuses_before_any_work(wrong, message, small, tmp_path, monkeypatch):
    monkeypatch.setattr("d2lnets.__main__.load_fashion_mnist", lambda: pytest.fail("work was begun"))
    with pytest.raises(SystemExit, match=re.escape(message)):
        main(["train", *wrong, "--out", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists() or not list((tmp_path / "new").iterdir())


def test_a_folder_that_cannot_be_written_is_refused(small, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"--out: cannot write to the folder .*file"):
        main(["train", "small", "--out", str(tmp_path / "file")])


@pytest.mark.parametrize(
    "wrong", [[], ["train"], ["train", "small", "--epochs", "1.5"], ["train", "small", "--lr", "x"]]
)
def test_what_cannot_be_read_shows_the_usage(wrong, capsys):
    with pytest.raises(SystemExit):
        main(wrong)
    assert "usage: python -m d2lnets" in capsys.readouterr().err


@pytest.mark.parametrize("command", EXAMPLES)
def test_help_shows_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0 and f"d2lnets {command} " in capsys.readouterr().out


def test_a_trace_is_at_the_networks_own_size(capsys):
    main(["trace", "resnet18"])
    assert "1×96×96" in capsys.readouterr().out
    main(["trace", "fast-resnet"])
    assert "1×28×28" in capsys.readouterr().out
    main(["trace", "densenet", "--image-size", "64"])
    assert "1×64×64" in capsys.readouterr().out


def test_bench_says_how_near_the_peak(capsys):
    main(["bench", "fast-resnet", "--batch-size", "16", "--device", "cpu"])
    assert re.search(r"fast-resnet +\d+ +\d+ +\d+%", capsys.readouterr().out)


def test_runs_are_those_of_the_package_or_of_a_file(capsys):
    main(["runs", "resnet20"])
    assert re.search(r"resnet20 +book +269,450 +6 ", capsys.readouterr().out)
    main(["runs", "--from", str(RECORDED / "ladder.jsonl")])
    printed = capsys.readouterr().out
    assert len(re.findall(r"fast-resnet .* 274,186 +6 ", printed)) == 13 and "book batch_size=1024 lr=0.4" in printed


def test_runs_of_a_network_that_has_none(tmp_path):
    with pytest.raises(SystemExit, match="no runs of 'nothing'; there are runs of no network"):
        main(["runs", "nothing", "--from", str(tmp_path)])
    with pytest.raises(SystemExit, match="there is no folder, and no file, "):
        main(["runs", "--from", str(tmp_path / "nowhere")])
    (tmp_path / "a.json").write_text(json.dumps([1]), encoding="utf-8")
    with pytest.raises(SystemExit, match="is not a recorded run"):
        main(["runs", "--from", str(tmp_path)])
