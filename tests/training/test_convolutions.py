"""Which convolutions are computed in another way, and that they compute the same."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import d2lnets
from d2lnets.data import SUBSET, seeded
from d2lnets.training import convolutions
from d2lnets.training.convolutions import CPUConvolutions, winograd
from d2lnets.training.loop import Trainer
from d2lnets.training.recipe import BOOK


@pytest.fixture
def products(monkeypatch):
    """The shapes of the weights of all matrix products that stand for convolutions."""
    shapes = []

    def linear(images, weight, *bias):
        shapes.append(tuple(weight.shape))
        return torch.nn.functional.linear(images, weight, *bias)

    class Functional:
        conv2d, pad = F.conv2d, F.pad

    Functional.linear = staticmethod(linear)
    monkeypatch.setattr(convolutions, "F", Functional)
    return shapes


@pytest.mark.parametrize(
    "kernel, stride, padding, height, width, shape",
    [
        (3, 1, 1, 1, 1, (4, 6)),
        (3, 2, 1, 2, 2, (4, 6 * 2 * 2)),
        (3, 2, 1, 1, 2, (4, 6 * 2)),
        (1, 1, 0, 1, 1, (4, 6)),
        (1, 2, 0, 1, 1, (4, 6)),
        (5, 1, 2, 1, 1, (4, 6)),
        ((3, 5), 1, 0, 3, 5, (4, 6 * 3 * 5)),
        (7, 2, 3, 2, 2, (4, 6 * 2 * 2)),
        (3, 1, 1, 2, 2, (4 * 4, 6 * 2 * 2)),  # four positions, of which each sees all
        (3, 1, 1, 1, 2, (2 * 4, 6 * 2)),
        (7, 2, 3, 4, 3, (4 * 4, 6 * 4 * 3)),
        (3, 2, 1, 2, 3, None),  # the left position sees two columns of three
        (3, 1, 1, 3, 3, None),  # the middle one does
        (1, 2, 0, 2, 2, None),  # one, but the kernel does not see all of the map
        (3, 1, 0, 4, 3, None),  # one column, two rows
        (3, 1, "same", 1, 1, None),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_the_same_numbers_and_gradients(products, kernel, stride, padding, height, width, shape, bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 4, kernel, stride, padding, bias=bias).double().to(memory_format=torch.channels_last)
    plain, images = copy.deepcopy(conv), torch.rand(2, 6, height, width, dtype=torch.float64, requires_grad=True)
    others = images.detach().clone().requires_grad_()
    with CPUConvolutions():
        found = conv(images)
    expected = plain(others)
    assert products == ([shape] if shape else [])
    torch.testing.assert_close(found, expected)
    for out in (found, expected):
        out.square().sum().backward()
    torch.testing.assert_close(images.grad, others.grad)
    for mine, theirs in zip(conv.parameters(), plain.parameters()):
        torch.testing.assert_close(mine.grad, theirs.grad)
        assert mine.grad.stride() == mine.stride()  # or every step would copy it


def test_autocast_gives_16_bits_as_without():
    conv, images = nn.Conv2d(6, 4, 3, padding=1), torch.rand(3, 6, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        expected = conv(images)
        with CPUConvolutions():
            found = conv(images)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("options", [{"groups": 2}, {"dilation": 2, "padding": 2}], ids=["groups", "dilation"])
def test_other_convolutions_are_left_alone(products, options):
    conv = nn.Conv2d(6, 4, 3, **{"padding": 1} | options)
    images = torch.rand(2, 6, 1, 1)
    with CPUConvolutions():
        torch.testing.assert_close(conv(images), F.conv2d(images, conv.weight, conv.bias, **{"padding": 1} | options))
        F.conv2d(images, torch.rand(4, 6, 3, 3), None, 1, 1, 1, 1)  # numbers for pairs
        conv = nn.Conv2d(6, 4, 3, padding=1)
        conv(images[0])  # an image without a batch
        F.conv2d(input=images, weight=conv.weight, bias=conv.bias, padding=(1, 1))
    assert products == []


@pytest.fixture
def windows(monkeypatch):
    """The sizes of the windows of all convolutions that are computed by Winograd's algorithm."""
    sizes = []

    def noted(images, weight, bias, size):
        sizes.append(size)
        return winograd(images, weight, bias, size)

    monkeypatch.setattr(convolutions, "winograd", noted)
    return sizes


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("height, width", [(12, 12), (7, 5), (1, 9), (3, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_winograd_gives_the_same_numbers_and_gradients(size, height, width, bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 4, 3, padding=1, bias=bias).double().to(memory_format=torch.channels_last)
    plain, images = copy.deepcopy(conv), torch.rand(2, 5, height, width, dtype=torch.float64, requires_grad=True)
    others = images.detach().clone().requires_grad_()
    found, expected = winograd(images, conv.weight, conv.bias, size), plain(others)
    torch.testing.assert_close(found, expected)
    towards = torch.randn_like(expected)
    for out in (found, expected):
        out.backward(towards)
    torch.testing.assert_close(images.grad, others.grad)
    for mine, theirs in zip(conv.parameters(), plain.parameters()):
        torch.testing.assert_close(mine.grad, theirs.grad)
        assert mine.grad.stride() == mine.stride()  # or every step would copy it


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_rounding_error_of_winograd_in_float32(size):
    torch.manual_seed(0)
    images, weight = torch.randn(8, 256, 12, 12), torch.randn(128, 256, 3, 3)
    exact = F.conv2d(images.double(), weight.double(), padding=1)
    error = (winograd(images, weight, size=size) - exact).abs().max() / exact.std()
    direct = (F.conv2d(images, weight, padding=1) - exact).abs().max() / exact.std()
    assert direct / 4 < error < 1e-4, f"{error:.1e}, and {direct:.1e} directly"


def conv(channels_in, channels_out, kernel=3, **options):
    return nn.Conv2d(channels_in, channels_out, kernel, **{"padding": kernel // 2} | options)


@pytest.mark.parametrize(
    "layer, shape, expected",
    [
        (conv(256, 256), (32, 256, 6, 6), 3),  # windows of 3 cover a map of 6
        (conv(128, 96), (90, 128, 7, 7), 4),
        (conv(256, 256), (128, 256, 2, 3), 3),
        (conv(256, 256), (128, 256, 2, 5), 2),
        (conv(256, 256), (1, 256, 32, 32), 4),
        (conv(256, 256), (15, 256, 6, 6), None),  # 60 windows do not pay
        (conv(128, 95), (90, 128, 7, 7), None),  # too few channels
        (conv(128, 128), (128, 128, 3, 3), None),  # too small, as the last layer of `fast_resnet` is
        (conv(256, 256, stride=2), (16, 256, 12, 12), None),
        (conv(256, 256, padding=0), (16, 256, 12, 12), None),
        (conv(256, 256, padding=2, dilation=2), (16, 256, 12, 12), None),
        (conv(512, 512, groups=2), (16, 512, 12, 12), None),
        (conv(256, 256, 5), (16, 256, 12, 12), None),
        (conv(256, 256), (256, 12, 12), None),  # an image without a batch
        (conv(256, 256).bfloat16(), (16, 256, 12, 12), None),
    ],
)
def test_which_convolutions_are_winograd_s(windows, layer, shape, expected):
    images = torch.rand(shape).to(layer.weight.dtype)
    with CPUConvolutions():
        found = layer(images)
        with torch.autocast("cpu", torch.bfloat16):
            layer(images)
    assert windows == ([expected] if expected else [])
    torch.testing.assert_close(found, layer(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "make, size, whole, sizes",
    [
        (d2lnets.resnet18, 28, 7, [4] * 3),  # three layers of 2 by 2 positions, four of one
        (d2lnets.resnet18, 96, 0, [4] * 3 + [3] * 6),
        (d2lnets.fast_resnet, 28, 0, []),
    ],
)
def test_which_layers_of_a_network_that_is_trained(products, windows, make, size, whole, sizes):
    recipe = replace(BOOK, lr=0.01, image_size=size, mixed_precision=False)
    trainer = Trainer(make(), recipe, device="cpu")
    data = d2lnets.load_fashion_mnist(SUBSET)
    trainer.step(data.train, torch.arange(128), 0.01, seeded(0))
    assert len(products) == whole and windows == sizes
