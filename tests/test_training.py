"""The loop learns, repeats itself, restores what it borrows, and stops when it must."""

import json
import math

import pytest
import torch
from torch import nn

import d2lnets
from d2lnets.__main__ import main
from d2lnets.data import SUBSET
from d2lnets.training import eval_mode


@pytest.fixture(scope="module")
def data():
    return d2lnets.load_fashion_mnist(SUBSET).take(512)


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Flatten(),
        nn.Linear(8 * 13**2, 10),
    )


def numbers(run):
    return [[epoch[key] for key in epoch if "seconds" not in key] for epoch in run.epochs]


def test_it_learns(data):
    run = d2lnets.fit(small_net(), data, d2lnets.Recipe(epochs=5, lr=0.02), device="cpu")
    assert run.epochs[-1]["train_loss"] < 0.6 * run.epochs[0]["train_loss"]
    assert run.epochs[-1]["validation_accuracy"] > 0.6  # chance is 0.1
    assert run.examples == 512 and len(run.epochs) == 5


def test_same_seed_same_numbers_another_seed_others(data):
    recipe = d2lnets.Recipe(epochs=2, lr=0.02)
    state = torch.random.get_rng_state()
    first = d2lnets.fit(small_net(), data, recipe, seed=3, device="cpu")
    torch.rand(7)
    second = d2lnets.fit(small_net(), data, recipe, seed=3, device="cpu")
    third = d2lnets.fit(small_net(), data, recipe, seed=4, device="cpu")
    assert numbers(first) == numbers(second) != numbers(third)
    torch.random.set_rng_state(state)


def test_the_callers_random_state_is_left_alone(data):
    net = small_net()
    state = torch.random.get_rng_state()
    d2lnets.fit(net, data, d2lnets.Recipe(epochs=1), seed=1, device="cpu")
    assert torch.equal(state, torch.random.get_rng_state())


def test_every_image_is_seen_once_an_epoch(data):
    order = torch.Generator().manual_seed(0)
    seen = torch.cat([labels for _, labels in d2lnets.batches(data.train, 100, generator=order)])
    assert torch.equal(seen.bincount(), data.train.labels.bincount())
    assert not torch.equal(seen, data.train.labels)


def test_a_last_batch_of_one_joins_the_one_before(data):
    assert [len(labels) for _, labels in d2lnets.batches(data.train[:129], 64)] == [64, 65]
    assert [len(labels) for _, labels in d2lnets.batches(data.train[:130], 64)] == [64, 64, 2]
    assert [len(labels) for _, labels in d2lnets.batches(data.train[:1], 64)] == [1]
    with pytest.raises(ValueError, match="batch_size"):
        next(d2lnets.batches(data.train, 0))


def test_a_run_is_a_record_and_shares_nothing_with_its_recipe(data):
    recipe = d2lnets.Recipe(epochs=1)
    run = d2lnets.fit(small_net(), data.take(64), recipe, device="cpu")
    run.recipe["epochs"] = 7
    assert recipe.epochs == 1 and d2lnets.Recipe() == d2lnets.fit.__defaults__[0]


def test_divergence_in_the_last_step_is_noticed(data):
    with pytest.raises(d2lnets.DivergedError, match="on the validation images after epoch 1"):
        d2lnets.fit(small_net(), data, d2lnets.Recipe(epochs=1, batch_size=512, lr=1e30), device="cpu")


def test_evaluate_equals_the_plain_computation_and_restores_each_mode(data):
    net = small_net()
    net[1].eval()
    modes = [module.training for module in net.modules()]
    score = d2lnets.evaluate(net, data.validation, device="cpu", batch_size=77)
    assert modes == [module.training for module in net.modules()]
    ((images, labels),) = d2lnets.batches(data.validation, 10_000)
    with eval_mode(net), torch.no_grad():
        logits = net(images)
    assert math.isclose(score.loss, nn.functional.cross_entropy(logits, labels).item(), rel_tol=1e-5)
    assert math.isclose(score.accuracy, (logits.argmax(1) == labels).float().mean().item(), rel_tol=1e-6)


def test_an_empty_split_is_refused(data):
    with pytest.raises(ValueError, match="empty"):
        d2lnets.evaluate(small_net(), data.validation[:0])


def test_without_validation_images_there_is_no_validation_score():
    data = d2lnets.load_fashion_mnist(SUBSET, validation=0).take(256)
    run = d2lnets.fit(small_net(), data, d2lnets.Recipe(epochs=1), device="cpu")
    assert run.epochs[0]["validation_accuracy"] is None
    assert "-" in str(run)


def test_a_loss_that_is_not_a_number_stops_and_says_where(data):
    net = small_net()
    calls = []

    def poison(module, inputs, output):
        calls.append(1)
        return output * math.nan if len(calls) == 6 else output

    net.register_forward_hook(poison)
    recipe = d2lnets.Recipe(epochs=2, batch_size=128, lr=0.02)  # 4 steps an epoch; validation is one more call
    with pytest.raises(d2lnets.DivergedError, match="nan at step 1 of 4 in epoch 2") as error:
        d2lnets.fit(net, data, recipe, device="cpu")
    assert "lr below 0.02" in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(epochs=0),
        dict(epochs=1.5),
        dict(lr=math.inf),
        dict(weight_decay=math.nan),
        dict(batch_size=-1),
        dict(lr=0),
        dict(momentum=1),
        dict(weight_decay=-1),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_by_name(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name} must .* got {value}"):
        d2lnets.Recipe(**wrong)


def test_a_run_survives_the_file(data, tmp_path):
    run = d2lnets.fit(small_net(), data, d2lnets.Recipe(epochs=1), device="cpu")
    run.save(tmp_path / "new" / "run.json")
    assert d2lnets.Run.load(tmp_path / "new" / "run.json") == run
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["run.json"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}', '{"format": 99}'])
def test_a_file_that_is_not_a_run_is_named(content, tmp_path):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"run\.json"):
        d2lnets.Run.load(tmp_path / "run.json")


def test_the_recorded_runs_are_full_ones():
    runs = d2lnets.load_runs("resnet18")
    assert [run.seed for run in runs] == [0, 1, 2]
    for run in runs:
        assert len(run.epochs) == run.recipe["epochs"] >= 5
        assert run.examples == 55_000 and run.parameters == 11_178_378
        assert run.test["accuracy"] > 0.85
        assert {"processor", "cores", "threads", "device"} <= set(run.machine)
        assert {"python", "torch", "d2lnets"} <= set(run.versions)
    with pytest.raises(ValueError, match="there are runs of resnet18"):
        d2lnets.load_runs("resnet19")


def test_the_command_trains_and_writes_what_load_reads(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("D2LNETS_DATA", str(SUBSET))
    monkeypatch.setattr("d2lnets.__main__.NETWORKS", {"small": small_net})
    main(["train", "small", "--seeds", "5", "--epochs", "1", "--out", str(tmp_path), "--device", "cpu"])
    run = d2lnets.Run.load(tmp_path / "small-seed5.json")
    assert (run.network, run.seed, run.examples) == ("small", 5, 3_300)
    assert f"{run.test['accuracy']:.4f}" in capsys.readouterr().out


def test_the_command_keeps_what_is_there(tmp_path, capsys):
    (tmp_path / "resnet18-seed1.json").write_text("precious")
    (tmp_path / "file").write_text("")
    for wrong, message in (
        (["--seeds", "0", "1", "--out", str(tmp_path)], "there already"),
        (["--out", str(tmp_path / "file")], "File exists"),
        (["--seeds", "2", "2", "--out", str(tmp_path)], "different whole numbers"),
        (["--device", "nowhere", "--out", str(tmp_path)], "nowhere"),
    ):
        with pytest.raises(SystemExit):
            main(["train", "resnet18", *wrong])
        assert message in capsys.readouterr().err
    assert (tmp_path / "resnet18-seed1.json").read_text() == "precious"


@pytest.mark.parametrize(
    "wrong, message",
    [
        (["train", "resnet19"], "resnet18"),
        (["train", "resnet18", "--lr", "-1"], "lr must be a number above 0"),
        ([], "command"),
    ],
)
def test_the_command_refuses_before_any_work(wrong, message, capsys):
    with pytest.raises(SystemExit):
        main(wrong)
    assert message in capsys.readouterr().err


def test_a_recorded_json_holds_no_path():
    for run in d2lnets.load_runs("resnet18"):
        assert "/" not in json.dumps([run.machine, run.recipe, run.network])
