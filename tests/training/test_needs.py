"""What `fit` and `evaluate` cannot work with is refused, in words that help, before any weight changes."""

import copy
import re
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

import d2lnets
from d2lnets.data import SUBSET
from d2lnets.training.loop import Trainer

RECIPE = d2lnets.Recipe(epochs=1, batch_size=16, lr=0.01)
DATA = d2lnets.load_fashion_mnist(SUBSET, validation=32).take(40)


def small_net(channels=1, classes=10):
    torch.manual_seed(0)
    layers = nn.Conv2d(channels, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4, classes))


def refused(kind, words, net, data=DATA, recipe=RECIPE):
    """That `fit` raises an error of this kind with these words, and the weights stay."""
    before = copy.deepcopy(list(net.parameters())) if isinstance(net, nn.Module) else []
    with pytest.raises(kind, match=words):
        d2lnets.fit(net, data, recipe, device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters() if before else []))


def with_train(data=DATA, **changed):
    return replace(data, train=replace(data.train, **changed))


class Answering(nn.Module):
    """A network that returns what `answer` makes of its logits."""

    def __init__(self, answer):
        super().__init__()
        self.net, self.answer = small_net(), answer

    def forward(self, x):
        return self.answer(self.net(x))


# What the network returns

Outputs = namedtuple("Outputs", "logits aux_logits")


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda x: {"logits": x, "features": x}, r"returned dict of logits, features; needed is one tensor"),
        (lambda x: (x, x), r"returned tuple; needed is one tensor, logits of shape \(N, classes\)"),
        (lambda x: Outputs(x, x), r"returned Outputs of logits, aux_logits;.*aux_logits=False"),
        (lambda x: None, r"returned NoneType"),
        (lambda x: x.tolist(), r"returned list"),
    ],
)
def test_a_network_that_returns_more_than_logits(answer, words):
    refused(TypeError, words, Answering(answer))
    with pytest.raises(TypeError, match=words):
        d2lnets.evaluate(Answering(answer), DATA.test[:20], "cpu")


@pytest.mark.parametrize(
    "answer, shape",
    [
        (lambda x: x[:, :, None, None], r"float32 of shape \(16, 10, 1, 1\)"),
        (lambda x: x[:, 0], r"float32 of shape \(16,\)"),
        (lambda x: x.mean(), r"float32 of shape \(\)"),
        (lambda x: x[:3], r"float32 of shape \(3, 10\)"),
        (lambda x: x.argmax(1, keepdim=True).expand(-1, 10), r"int64 of shape \(16, 10\)"),
    ],
)
def test_a_network_whose_tensor_is_not_of_logits(answer, shape):
    refused(ValueError, rf"returned {shape}; needed are logits of shape .*\(16, 10\) or more", Answering(answer))
    with pytest.raises(ValueError, match="needed are logits"):
        d2lnets.evaluate(Answering(answer), DATA.test[:16], "cpu", batch_size=16)


def test_torchvisions_googlenet_returns_more_in_training_mode():
    recipe = replace(RECIPE, batch_size=2, image_size=64)
    for aux in (True, False):
        net = models.GoogLeNet(10, aux_logits=aux, init_weights=False)
        net.conv1.conv = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        if aux:
            refused(
                TypeError, r"GoogLeNetOutputs of logits, aux_logits2, aux_logits1;.*aux_logits=False", net, DATA, recipe
            )
            assert d2lnets.evaluate(net, DATA.test[:2], "cpu", recipe).loss > 0  # in eval mode it is one tensor
        else:
            assert len(d2lnets.fit(net, DATA, recipe, device="cpu", steps=1).first_losses) == 1


# Its weights


@pytest.mark.parametrize("kind", ["half", "bfloat16"])
@pytest.mark.parametrize("amx", [True, False])
def test_weights_of_16_bits(kind, amx, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    words = "fit needs float32 weights, 0.weight is b?float16: call net.float().*mixed_precision casts"
    refused(ValueError, words, getattr(small_net(), kind)())
    assert d2lnets.fit(getattr(small_net(), kind)().float(), DATA, RECIPE, device="cpu").epochs


def test_weights_that_do_not_fit_the_images_are_told_what_these_are():
    with pytest.raises(ValueError, match=r"as it gets them, float32 of shape \(128, 1, 28, 28\): Input type"):
        d2lnets.evaluate(small_net().half(), DATA.test, "cpu")
    refused(ValueError, r"as it gets them, float32 of shape \(16, 1, 28, 28\): Input type", small_net().double())


def test_double_weights_of_a_network_that_casts_its_input_work():
    net = small_net().double()
    net.register_forward_pre_hook(lambda module, inputs: inputs[0].double())
    run = d2lnets.fit(net, DATA, replace(RECIPE, mixed_precision=False), device="cpu")
    assert run.epochs and next(net.parameters()).dtype == torch.float64


def test_a_lazy_network_has_to_see_a_batch_first():
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    with pytest.raises(ValueError, match=r"1\.weight has no shape yet: send a batch through the network"):
        d2lnets.fit(net, DATA, RECIPE, device="cpu")
    net(torch.zeros(2, 1, 28, 28))
    assert d2lnets.fit(net, DATA, RECIPE, device="cpu").epochs


def test_frozen_weights_stay_and_all_frozen_is_refused():
    net = small_net()
    net[0].requires_grad_(False)
    kernel = net[0].weight.clone()
    d2lnets.fit(net, DATA, RECIPE, device="cpu")
    assert torch.equal(net[0].weight, kernel)
    refused(ValueError, "no weight that requires a gradient", net.requires_grad_(False))
    refused(ValueError, "no weight that requires a gradient", nn.Flatten())


@pytest.mark.parametrize("net", [d2lnets.resnet18, nn.Linear, None, "resnet18"])
def test_what_is_no_network(net):
    call = "resnet18|Linear: call it" if callable(net) else repr(net)
    refused(TypeError, rf"net must be a network, an nn.Module, got .*({call})", net)
    with pytest.raises(TypeError, match="net must be a network"):
        d2lnets.evaluate(net, DATA.test)


def test_a_network_with_two_inputs():
    refused(ValueError, r"float32 of shape \(16, 1, 28, 28\): .*missing 1 required positional", nn.Bilinear(2, 2, 10))


# The data


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda x: x / 255, r"got float32 of shape \(40, 1, 28, 28\); pixels from 0 to 1 become so by"),
        (lambda x: x.int(), "got int32"),
        (
            lambda x: x[:, 0],
            r"\(N, channels, .*\), got uint8 of shape \(40, 28, 28\); images\[:, None\] has one channel",
        ),
    ],
)
def test_images_of_another_kind(change, words):
    data = with_train(images=change(DATA.train.images))
    refused(ValueError, rf"data.train.images must be .*{words}", small_net(), data)
    with pytest.raises(ValueError, match=rf"split.images must be .*{words}"):
        d2lnets.evaluate(small_net(), data.train, "cpu")


def test_images_of_three_channels():
    colour = {"images": DATA.train.images.expand(-1, 3, -1, -1)}
    refused(
        ValueError, r"float32 of shape \(16, 3, 28, 28\): .*1 channels, but got 3", small_net(), with_train(**colour)
    )
    data = replace(with_train(**colour), validation=DATA.validation[:0])
    assert d2lnets.fit(small_net(3), data, RECIPE, device="cpu").epochs


def test_images_that_are_too_small():
    data = with_train(images=DATA.train.images[..., :2, :2])
    refused(ValueError, r"float32 of shape \(16, 1, 2, 2\): .*Kernel size can't be greater", small_net(), data)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda y: y.int(), r"got int32 of shape \(40,\); .*labels.long\(\)"),
        (lambda y: y.float(), "got float32"),
        (lambda y: torch.eye(10, dtype=torch.int64)[y], r"got int64 of shape \(40, 10\); .*labels.argmax\(1\)"),
        (lambda y: y[:-1], r"int64 of shape \(40,\), a class for each image, got int64 of shape \(39,\)"),
    ],
)
def test_labels_of_another_kind(change, words):
    data = with_train(labels=change(DATA.train.labels))
    refused(ValueError, rf"data.train.labels must be .*{words}", small_net(), data)
    with pytest.raises(ValueError, match=rf"split.labels must be .*{words}"):
        d2lnets.evaluate(small_net(), data.train, "cpu")


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("label, words", [(-100, "labels must be from 0 on, got -100"), (10, r"\(16, 11\) or more")])
def test_a_label_that_no_logit_stands_for(label, words, place):
    """Wherever it is: an error in a later batch would leave a network that is half trained."""
    labels = DATA.train.labels.clone()
    labels[place] = label
    refused(ValueError, words, small_net(), with_train(labels=labels))
    refused(ValueError, words, small_net(), replace(DATA, validation=replace(DATA.train, labels=labels)))
    with pytest.raises(ValueError, match=re.sub("16", "40", words)):
        d2lnets.evaluate(small_net(), replace(DATA.train, labels=labels), "cpu")


def test_a_negative_label_is_refused_before_xavier_draws_the_weights():
    data = with_train(labels=DATA.train.labels - 1)
    refused(ValueError, "labels must be from 0 on, got -1", small_net(), data, replace(RECIPE, xavier=True))


def test_more_logits_than_classes_are_no_harm():
    assert d2lnets.fit(small_net(classes=1000), DATA, RECIPE, device="cpu").epochs


@pytest.mark.parametrize("examples", [1, 2, 15])
def test_fewer_images_than_a_batch_train(examples):
    run = d2lnets.fit(small_net(), DATA.take(examples), RECIPE, device="cpu")
    assert run.examples == examples and len(run.first_losses) == 1


def test_one_image_is_too_little_for_a_batch_norm_of_single_values():
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.BatchNorm1d(10))
    refused(ValueError, r"float32 of shape \(1, 1, 28, 28\): Expected more than 1 value", net, DATA.take(1))


def test_no_image_to_train_on():
    refused(ValueError, "data.train is empty", small_net(), replace(DATA, train=DATA.train[:0]))


@pytest.mark.parametrize("data", [DATA.train, [DATA.train], None, {"train": DATA.train}])
def test_what_is_no_data(data):
    words = rf"data needs train and validation, as load_fashion_mnist returns them; got {type(data).__name__}"
    refused(TypeError, words, small_net(), data)


def test_what_is_no_split():
    refused(TypeError, "data.train must be a Split, .* got list", small_net(), replace(DATA, train=[1]))
    arrays = replace(DATA.train, images=DATA.train.images.numpy(), labels=np.arange(40))
    refused(TypeError, "data.train must be a Split, with tensors", small_net(), replace(DATA, train=arrays))
    with pytest.raises(TypeError, match=r"split must be a Split, .* got FashionMNIST"):
        d2lnets.evaluate(small_net(), DATA)


# Nothing else changes


def test_the_checks_do_not_run_the_network():
    calls = []
    net = small_net()
    net.register_forward_hook(lambda *_: calls.append(1))
    d2lnets.fit(net, replace(DATA, validation=DATA.validation[:0]), RECIPE, device="cpu")
    assert len(calls) == 3  # 40 images


def test_no_checkpoint_is_left_of_a_training_that_never_began(tmp_path):
    with pytest.raises(TypeError, match="returned dict"):
        d2lnets.fit(Answering(lambda x: {"logits": x}), DATA, RECIPE, device="cpu", checkpoint=tmp_path / "state")
    assert not list(tmp_path.iterdir())
    *_, run = Trainer(small_net(), RECIPE, device="cpu").training(DATA)  # and the next one is not disturbed
    assert run.epochs
