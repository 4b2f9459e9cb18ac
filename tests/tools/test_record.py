"""What is recorded carries the comparisons: blocks of seeds, one thing changed, errors of every image."""

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import record
import torch

import d2lnets
from d2lnets.data import SUBSET
from d2lnets.training.loop import DivergedError
from d2lnets.training.recipe import BOOK, D2L, Recipe
from d2lnets.training.runs import RECORDED, Run, pack, unpack

EARLIER = RECORDED / "earlier.jsonl"  # before there was a plan: tests/training/test_runs.py
FASHION = d2lnets.load_fashion_mnist(SUBSET)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("experiment", record.EXPERIMENTS)
def test_a_plan_has_every_seed_for_all_that_is_compared(experiment):
    jobs = record.jobs(experiment)
    assert len({record.key(*job) for job in jobs}) == len(jobs)
    seeds = Counter((network, recipe) for network, recipe, _ in jobs)
    assert len(set(seeds.values())) == 1
    assert [seed for *_, seed in jobs] == sorted(seed for *_, seed in jobs)  # whole blocks first


def test_bytes_survive_the_packing():
    numbers = torch.randint(0, 256, (1000,), dtype=torch.uint8)
    assert torch.equal(unpack(pack(numbers)), numbers)


def test_a_run_is_recorded_once_with_the_errors_of_every_image(tmp_path):
    data = d2lnets.load_fashion_mnist(SUBSET).take(256)
    jobs = [("fast-resnet", Recipe(epochs=1, lr=0.05), seed) for seed in (0, 1)]
    out = tmp_path / "networks.jsonl"
    record.WATCHED, kept = (0, 5, 9), record.WATCHED
    try:
        for _ in range(2):  # the second time nothing is left to do
            record.record(jobs, "networks", data, torch.device("cpu"), out, streams=1)
    finally:
        record.WATCHED = kept
    recorded = Run.load_lines(out)
    assert [run.seed for run in recorded] == [0, 1]
    for run in recorded:
        for split, mirrored in (("test", False), ("test_mirrored", True)):
            right = (unpack(run.errors[split]) == 0).double().mean().item()
            if mirrored == run.recipe["flip_test"]:
                assert right == pytest.approx(run.test["accuracy"])
        assert len(unpack(run.errors["validation"])) == len(data.validation)
        assert [len(unpack(epoch["watched"])) for epoch in run.epochs] == [30]


def test_a_seed_of_another_kind_of_machine_is_refused(tmp_path):
    out = tmp_path / "recipe.jsonl"
    out.write_text((RECORDED / "recipe.jsonl").read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    message = "on one kind of machine, and seed 0 on NVIDIA H200, not on cpu; name other --seeds, or another --out"
    with pytest.raises(ValueError, match=message):
        record.record(record.jobs("recipe"), "recipe", None, torch.device("cpu"), out, streams=1)
    second = [job for job in record.jobs("recipe") if job[2] == 1]
    failed = record.record(second, "recipe", FASHION, torch.device("cpu"), out, streams=1, until=0)
    assert not failed  # another seed is another block; none of it begun, since the time is over


def test_a_trial_takes_a_few_images_of_every_split(tmp_path, monkeypatch):
    """As `make gpu TRIAL=folder` records, and none when its time is over."""
    monkeypatch.setattr(d2lnets, "load_fashion_mnist", lambda: FASHION)
    monkeypatch.setattr(record, "jobs", lambda experiment: [("fast-resnet", Recipe(epochs=1, lr=0.05), 0)])
    command = ["record", "networks", "--device", "cpu", "--examples", "150", "--seconds"]
    for seconds, out in (("0", "late"), ("60", "trial")):
        monkeypatch.setattr("sys.argv", [*command, seconds, "--out", str(tmp_path / out)])
        record.main()
    assert not list((tmp_path / "late").iterdir())
    (run,) = Run.load_lines(tmp_path / "trial" / "networks.jsonl")
    assert run.examples == 150 and len(unpack(run.epochs[0]["watched"])) == 10 * len(record.WATCHED)
    assert [len(unpack(run.errors[split])) for split in ("validation", "test")] == [15, 15]


def test_a_training_that_fails_does_not_stop_the_others(tmp_path, monkeypatch):
    class Recorder:
        def __init__(self, *_):
            pass

        def training(self, network, recipe, seed):
            yield SimpleNamespace(line=lambda: ""), False
            if seed < 2:
                raise (DivergedError, MemoryError)[seed]("too high")
            yield SimpleNamespace(line=lambda: f"{seed}\n"), True

    monkeypatch.setattr(record, "Record", Recorder)
    jobs, out = [("plain20", BOOK, seed) for seed in range(4)], tmp_path / "networks.jsonl"
    failed = record.record(jobs, "networks", None, torch.device("cpu"), out, streams=1)
    assert out.read_text(encoding="utf-8") == "2\n3\n"
    assert failed == [f"{out}: plain20, book, seed {seed}: too high" for seed in (0, 1)]


def test_what_one_experiment_refuses_the_next_does_not_feel(tmp_path, monkeypatch):
    recorded = []

    def refuse_the_first(jobs, experiment, *_):
        assert {seed for *_, seed in jobs} == {1, 3}
        if experiment == "recipe":
            raise ValueError("another kind of machine")
        recorded.append(experiment)
        return ["plain56 diverged"]

    monkeypatch.setattr(record, "record", refuse_the_first)
    command = ["record", "recipe", "ladder", "--out", str(tmp_path), "--device", "cpu", "--examples", "64"]
    command += ["--seeds", "1", "3"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit, match="another kind of machine\nplain56 diverged"):
        record.main()
    assert recorded == ["ladder"]


def test_the_ladder_leads_from_d2ls_recipe_to_the_books():
    first, *_, last = (recipe for _, recipe, seed in record.jobs("ladder") if seed == 0 and recipe.batch_size == 128)
    assert first == replace(D2L, image_size=None, mixed_precision=True, score_test=False, epochs=4) and last == Recipe()


@pytest.mark.parametrize("path", sorted(set(RECORDED.glob("*.jsonl")) - {EARLIER}), ids=lambda path: path.stem)
def test_what_ships_was_planned_and_a_seed_made_on_one_kind_of_machine(path):
    rows = lines(path)
    planned = {record.key(*job) for job in record.jobs(path.stem.removeprefix("gpu_"))}
    keys = [json.dumps([row["network"], row["recipe"], row["seed"]], sort_keys=True) for row in rows]
    assert len(set(keys)) == len(keys) and set(keys) <= planned
    kinds = {(row["seed"], row["machine"]["device"], row["versions"]["torch"]) for row in rows}
    assert len(kinds) == len({row["seed"] for row in rows})  # a seed is a block
    for row in rows:
        assert len(row["epochs"]) == row["recipe"]["epochs"] and set(row["errors"]) == {
            "validation", "test", "validation_mirrored", "test_mirrored"
        }  # fmt: skip
        scored = unpack(row["errors"]["test_mirrored" if row["recipe"]["flip_test"] else "test"])
        assert (scored == 0).double().mean().item() == pytest.approx(row["test"]["accuracy"], abs=2e-4)


def test_the_parts_of_the_recipe_have_nine_seeds_and_one_of_them_eight():
    rows = lines(RECORDED / "recipe.jsonl")
    seeds = Counter(json.dumps(row["recipe"], sort_keys=True) for row in rows)
    assert sorted(seeds.values()) == [8] + [9] * (len(record.PARTS) - 1)  # the card was not there long enough
    assert {row["seed"]: row["machine"]["device"] for row in rows} == {
        seed: "NVIDIA H200" if seed < 6 else "cpu" for seed in range(9)
    }
