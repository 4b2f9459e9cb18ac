"""The loop learns, repeats itself, restores what it borrows, and stops when it must."""

import copy
import math
import shutil
import sys
import sysconfig
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
import torch._dynamo.utils
from helpers import lacking
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

import d2lnets
from d2lnets.data import SUBSET, normalize
from d2lnets.networks import NETWORKS, build
from d2lnets.training import loop
from d2lnets.training.loop import Trainer, eval_mode, precision
from d2lnets.training.recipe import BOOK, D2L


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
    run = d2lnets.fit(small_net(), data, d2lnets.Recipe(epochs=5, lr=0.05, label_smoothing=0.0), device="cpu")
    assert run.epochs[-1]["train_loss"] < 0.6 * run.epochs[0]["train_loss"]
    assert run.epochs[-1]["validation_accuracy"] > 0.6  # chance is 0.1
    assert run.examples == 512 and len(run.epochs) == 5


def test_a_training_of_a_moment_shows_no_bar_and_a_longer_one_a_bar_that_stays(data, monkeypatch, capsys):
    """In a notebook a bar that is taken away leaves an empty line. One under another bar is taken away."""
    monkeypatch.setattr(loop, "tqdm", partial(tqdm, disable=False))
    d2lnets.fit(small_net(), data.take(64), d2lnets.Recipe(epochs=1), device="cpu")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(loop, "tqdm", lambda *args, delay, **rest: tqdm(*args, **rest | {"disable": False}))
    d2lnets.fit(small_net(), data.take(64), d2lnets.Recipe(epochs=1), device="cpu")
    *_, last = capsys.readouterr().err.rstrip("\n").split("\r")
    assert "100%" in last and "batch" in last


def test_it_trains_where_there_is_no_stderr(data, monkeypatch):
    """Under pythonw, for example; and long enough that a bar would come."""
    monkeypatch.setattr(loop, "tqdm", lambda *args, delay, **rest: tqdm(*args, **{"disable": False} | rest))
    monkeypatch.setattr(sys, "stderr", None)
    assert d2lnets.fit(small_net(), data.take(64), d2lnets.Recipe(epochs=1), device="cpu").epochs


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
    assert recipe.epochs == 1 and d2lnets.Recipe() == BOOK


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
        return output * math.nan if len(calls) == 8 else output

    net.register_forward_hook(poison)
    recipe = d2lnets.Recipe(epochs=2, lr=0.02, flip_test=False)  # 4 steps an epoch; validation is three more calls
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
        dict(warmup=1),
        dict(decay="steep"),
        dict(optimizer="adam"),
        dict(average=1),
        dict(clip=0),
        dict(image_size=-3),
        dict(shift=-1),
        dict(shift=1.5),
        dict(image_size=30.5),
        dict(label_smoothing=1),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_by_name(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=rf"{name} must .* got {value!r}"):
        d2lnets.Recipe(**wrong)


def test_a_switch_is_true_or_false():
    with pytest.raises(ValueError, match="flip must be True or False, got 'no'"):
        d2lnets.Recipe(flip="no")


def test_a_run_survives_the_file(data, tmp_path):
    run = d2lnets.fit(small_net(), data, d2lnets.Recipe(epochs=1), device="cpu")
    run.save(tmp_path / "new" / "run.json")
    assert d2lnets.Run.load(tmp_path / "new" / "run.json") == run
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["run.json"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 3}', '{"format": 99}'])
def test_a_file_that_is_not_a_run_is_named(content, tmp_path):
    (tmp_path / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"run\.json"):
        d2lnets.Run.load(tmp_path / "run.json")


def test_a_step_is_the_textbook_step(data):
    """Nesterov momentum, weight decay, label smoothing, the triangular rate and clipping, against plain arithmetic."""
    recipe = d2lnets.Recipe(epochs=1, batch_size=128, lr=0.3, shift=0, flip=False, clip=0.5, mixed_precision=False)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    weights = [p.detach().clone().requires_grad_() for p in net.parameters()]
    batches = []
    net.register_forward_hook(lambda module, inputs, output: batches.append((inputs[0].clone(), module.training)))
    d2lnets.fit(net, data, recipe, device="cpu")
    velocity = [torch.zeros_like(weight) for weight in weights]
    images = normalize(data.train.images)
    for step, batch in enumerate(x for x, training in batches if training):
        labels = torch.stack([data.train.labels[(images == image).all((1, 2, 3))][0] for image in batch])
        logp = (batch.flatten(1) @ weights[0].T + weights[1]).log_softmax(1)
        target = 0.9 * F.one_hot(labels, 10) + 0.1 / 10
        gradients = torch.autograd.grad(-(target * logp).sum(1).mean(), weights)
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        progress = (step + 0.5) / 4
        rate = 0.3 * min(progress / 0.25, (1 - progress) / 0.75)
        with torch.no_grad():
            for weight, gradient, v in zip(weights, gradients, velocity):
                gradient = gradient * min(1, 0.5 / norm.item()) + 5e-4 * weight
                v.mul_(0.9).add_(gradient)
                weight -= rate * (gradient + 0.9 * v)
    assert step == 3
    for ours, theirs in zip(net.parameters(), weights):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_averaged_weights_are_scored_and_kept(data):
    recipe = d2lnets.Recipe(epochs=1, lr=0.02, average=0.5, mixed_precision=False)
    net = small_net()
    seen = []
    trainer = Trainer(net, recipe, device="cpu")
    trainer.optimizers[0].optimizer.register_step_post_hook(
        lambda *_: seen.append([p.detach().clone() for p in net.parameters()])
    )
    *_, run = trainer.training(data)
    expected = seen[0]
    for weights in seen[1:]:
        expected = [0.5 * old + 0.5 * new for old, new in zip(expected, weights)]
    for ours, theirs in zip(net.parameters(), expected):
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert d2lnets.evaluate(net, data.validation, "cpu", recipe).loss == run.epochs[-1]["validation_loss"]


def test_mirror_images_count_in_the_score(data):
    net = small_net().eval()
    images, labels = normalize(data.validation.images), data.validation.labels
    logits = (net(images) + net(images.flip(3))) / 2
    score = d2lnets.evaluate(net, data.validation, "cpu", d2lnets.Recipe(flip_test=True))
    assert math.isclose(score.loss, F.cross_entropy(logits, labels).item(), rel_tol=1e-5)
    assert score != d2lnets.evaluate(net, data.validation, "cpu")


def test_the_d2l_recipe_is_plain(data):
    """d2l 1.0.3: SGD at 0.01, batches of 128, pixels from 0 to 1 at 96x96, Xavier weights, no validation split."""
    rates = {D2L.rate(progress) for progress in (0.0, 0.3, 1.0)}
    assert (rates, D2L.momentum, D2L.weight_decay, D2L.label_smoothing, D2L.batch_size) == ({0.01}, 0, 0, 0, 128)
    images = D2L.prepare(data.train.images[:4])
    assert images.shape == (4, 1, 96, 96) and images.min() == 0 and 0.9 < images.max() <= 1
    pooled = d2lnets.load_fashion_mnist(SUBSET).without_validation()
    assert len(pooled.train) == 3600 and pooled.validation is pooled.test
    net = d2lnets.resnet18()
    Trainer(net, D2L, seed=3, device="cpu")
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(layer.weight)
            bound = math.sqrt(6 / (fan_in + fan_out))
            assert 0.95 * bound < layer.weight.abs().max() <= bound


def test_the_network_is_left_as_it_was_but_for_its_weights(data):
    net = small_net()
    before = set(vars(net))
    d2lnets.fit(net, data.take(128), d2lnets.Recipe(epochs=1), device="cpu")
    assert set(vars(net)) == before
    from accelerate import Accelerator

    Accelerator(mixed_precision="no")  # no state of ours is in its way, nor this of it in ours
    twin = copy.deepcopy(net)
    d2lnets.fit(twin, data.take(128), d2lnets.Recipe(epochs=1), device="cpu")
    assert not torch.equal(next(net.parameters()), next(twin.parameters()))
    assert d2lnets.trace_shapes(net, (1, 28, 28))


def test_mixed_precision_is_for_hardware_that_has_it(monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    for amx, expected in ((True, "bf16"), (False, "no")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        assert precision(torch.device("cpu")) == expected
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    for isa, expected in (("AVX512_CORE", "no"), ("avx2", "no"), ("AVX10_1_512_AMX", "bf16"), ("default", "bf16")):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
        assert precision(torch.device("cpu")) == expected
    assert precision(torch.device("mps")) == "no"
    for has_bf16, expected in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, b=has_bf16: b)
        assert precision(torch.device("cuda")) == expected


def test_bf16_stays_close_to_float32(data, monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    losses = []
    for amx in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        torch.manual_seed(0)
        run = d2lnets.fit(d2lnets.fast_resnet(), data, d2lnets.Recipe(epochs=1, lr=0.05), device="cpu")
        losses.append(run.epochs[0]["train_loss"])
        assert run.precision == ("bf16" if amx else "no")
    assert losses[0] != losses[1] and abs(losses[0] - losses[1]) < 0.05


def test_compiled_steps_learn_the_same(data):
    if not (Path(sysconfig.get_path("include"), "Python.h").exists() and any(map(shutil.which, ("g++", "c++")))):
        lacking("C++ compiler or no Python.h", "apt-get install g++ python3-dev")
    recipe = d2lnets.Recipe(epochs=1, lr=0.02, mixed_precision=False)
    runs = []
    compilations = torch._dynamo.utils.counters["stats"]
    for compile in (False, True):
        before = compilations["unique_graphs"]
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
        runs.append(d2lnets.fit(net, data, recipe, device="cpu", compile=compile))
        assert (compilations["unique_graphs"] > before) == compile
    assert runs[0].first_losses == pytest.approx(runs[1].first_losses, rel=1e-4)


def test_too_little_memory_says_what_to_do(data):
    class Hungry(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(784, 10)

        def forward(self, x):
            torch.empty(2**45)  # 128 TiB
            return self.linear(x.flatten(1))

    with pytest.raises(MemoryError, match="cpu has too little memory for 128 images at a time: use a batch_size of 64"):
        d2lnets.fit(Hungry(), data, device="cpu")


def test_other_errors_of_a_network_stay_what_they_are(data):
    class Broken(nn.Linear):
        def forward(self, x):
            return self.nowhere(x)

    with pytest.raises(AttributeError, match="nowhere"):
        d2lnets.fit(Broken(784, 10), data, device="cpu")


def test_it_trains_outside_the_main_thread(data, tmp_path):
    runs = []

    def work():
        recipe = d2lnets.Recipe(epochs=1)
        runs.append(d2lnets.fit(small_net(), data.take(64), recipe, device="cpu", checkpoint=tmp_path / "c"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(runs) == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_the_list_trains_a_step(name):
    data = d2lnets.load_fashion_mnist(SUBSET).take(16)
    recipe = d2lnets.Recipe(epochs=1, batch_size=8, image_size=96 if name == "densenet" else None)
    run = d2lnets.fit(build(name), data, recipe, device="cpu", steps=1, name=name)
    assert run.network == name and len(run.first_losses) == 1


def test_a_wrong_name_offers_the_right_ones():
    with pytest.raises(ValueError, match=r"'resnet81': did you mean resnet18 .* There are fast-resnet"):
        build("resnet81")
