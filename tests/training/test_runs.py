"""The recorded runs are what they say they are: full trainings, whose first steps anyone finds again."""

import json
from dataclasses import replace

import pytest
import torch
from helpers import lacking

import d2lnets
from d2lnets.networks import WEIGHTS, build
from d2lnets.training.recipe import Recipe
from d2lnets.training.runs import COMPARED, RECORDED, compare, load_all

RUNS = load_all(RECORDED / "earlier.jsonl") + load_all(COMPARED)


@pytest.fixture(scope="module")
def whole():
    data = d2lnets.load_fashion_mnist()
    if len(data.train) < 55_000:
        lacking("whole Fashion-MNIST", "apt-get install dataset-fashion-mnist")
    return data


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.network} {Recipe(**run.recipe)} seed={run.seed}")
def test_a_recorded_run_is_whole(run):
    assert len(run.epochs) == run.recipe["epochs"]
    assert run.examples == (60_000 if run.recipe["score_test"] else 55_000)
    assert run.parameters == sum(weight.numel() for weight in build(run.network).parameters())
    least = 0.05 if run.network == "googlenet-small" else 0.5  # it stays at a guess
    assert run.test["accuracy"] > least and least < run.epochs[-1]["validation_accuracy"] < 1
    assert {"processor", "cores", "threads", "processes", "device", "system"} == set(run.machine)
    assert {"python", "torch", "d2lnets"} <= set(run.versions)
    assert run.peak_memory > 1e8 and run.cpu_seconds > 0 and run.images_per_second > 1 and len(run.first_losses) == 10
    assert "/" not in json.dumps([run.machine, run.recipe, run.network])  # no path of a machine


@pytest.mark.parametrize("run", {run.network: run for run in RUNS}.values(), ids=lambda run: run.network)
def test_the_first_steps_are_found_again(run, whole):
    """Two, since another machine's rounding, or float32 where it has no 16 bits, leads further and further away."""
    recipe = Recipe(**run.recipe)
    data = whole.without_validation() if recipe.score_test else whole
    torch.manual_seed(run.seed)
    again = d2lnets.fit(build(run.network), data, recipe, run.seed, "cpu", steps=2)
    tolerance = 0.01 if again.precision == run.precision else 0.05
    assert again.first_losses == pytest.approx(run.first_losses[:2], rel=tolerance)


@pytest.mark.parametrize("name", sorted(path.stem for path in WEIGHTS.iterdir()))
def test_the_weights_that_ship_are_those_of_the_recorded_run(name, whole):
    """Rounded to 16 bits they may get a few of 10,000 images otherwise; a twentieth of them is looked at."""
    part = whole.test[:500]
    (run, *_) = d2lnets.load_runs(name, experiment="earlier")
    accuracy = d2lnets.evaluate(d2lnets.load_trained(name), part, "cpu", Recipe()).accuracy
    assert accuracy == pytest.approx(run.test["accuracy"], abs=0.03)


def test_weights_of_another_network_and_unknown_ones_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"no trained weights of resnet50 ship with the package; there are those of .*fast-resnet"
    ):
        d2lnets.load_trained("resnet50")
    with pytest.raises(RuntimeError, match="Missing key"):
        d2lnets.load_trained("resnet56", WEIGHTS / "fast-resnet.safetensors")


def test_the_weights_of_ones_own_training_are_loaded(tmp_path):
    data = d2lnets.load_fashion_mnist(d2lnets.data.SUBSET).take(256)
    for recipe in (Recipe(epochs=1), Recipe(epochs=1, average=0.9)):
        net = build("fast-resnet")
        path = tmp_path / str(recipe)
        d2lnets.fit(net, data, recipe, device="cpu", checkpoint=path)
        again = d2lnets.load_trained("fast-resnet", path)
        for mine, loaded in zip(net.state_dict().values(), again.state_dict().values(), strict=True):
            assert torch.equal(mine, loaded)


def test_what_is_compared_has_six_seeds_or_three():
    """Of the earlier ones one of d2l's recipe, which takes hours, and of two whose weights ship."""
    for (network, recipe), runs in d2lnets.load_experiment("earlier").items():
        single = recipe.score_test or network in ("fast-resnet", "resnet50-small-thin")
        assert [run.seed for run in runs] == ([0] if single else [0, 1, 2])
    for (network, recipe), runs in d2lnets.load_experiment("networks").items():
        of_other_sizes = network in ("resnet18", "resnet50-small")
        assert [run.seed for run in runs] == list(range(3 if of_other_sizes else 6)) and recipe == Recipe()


def test_what_is_not_recorded_is_told_with_what_is():
    with pytest.raises(ValueError, match=r"no recorded runs of 'resnet19' in 'networks'; there are runs of .*resnet20"):
        d2lnets.load_runs("resnet19")
    message = r"no recorded runs of fast-resnet by the recipe book epochs=999; there are by book, book epochs=1,"
    with pytest.raises(ValueError, match=message):
        d2lnets.load_runs("fast-resnet", Recipe(epochs=999), "budgets")


def test_the_comparison_has_means_and_spread():
    runs = [replace(RUNS[0], seed=seed, test={"loss": 1.0, "accuracy": 0.9 + seed / 100}) for seed in range(3)]
    table = compare(runs)
    (row,) = table.rows
    named = dict(zip(table.headers, row))
    assert named["seeds"] == 3 and named["test"] == pytest.approx(0.91) and named["s.d."] == pytest.approx(0.01)
    assert "0.9100" in str(table) and "<table>" in table._repr_html_()


def test_an_experiment_is_found_by_network_and_recipe():
    runs = d2lnets.load_experiment("recipe", "tried")
    assert [run.seed for run in runs["fast-resnet", Recipe(lr=0.4)]] == list(range(9))
    assert len(runs["fast-resnet", Recipe(lr=0.8)]) == 3  # of the second
    with pytest.raises(ValueError, match=r"nothing is recorded of 'recipes'; there are .*sooner, transfer, tried"):
        d2lnets.load_experiment("recipes")
