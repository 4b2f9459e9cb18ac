"""Which convolutions are computed in another way, and that they compute the same."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import d2lnets
from d2lnets.data import SUBSET, seeded
from d2lnets.training.loop import Trainer
from d2lnets.training.recipe import BOOK
from d2lnets.training.small_maps import SmallMaps


def test_they_are_float32_and_the_same_numbers():
    torch.manual_seed(0)
    conv = nn.Conv2d(512, 512, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    images = torch.rand(2, 512, 2, 2)
    plain = copy.deepcopy(conv)
    expected = F.conv2d(images, plain.weight, padding=1)
    with SmallMaps(), torch.autocast("cpu", torch.bfloat16):
        found = conv(images)
        assert conv(torch.rand(2, 512, 3, 3)).dtype == torch.bfloat16  # the kernel is no larger than the map
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    for out in (found, expected):
        out.square().sum().backward()
    torch.testing.assert_close(conv.weight.grad, plain.weight.grad)


@pytest.mark.parametrize(
    "make, size, changed", [(d2lnets.resnet18, 28, 4), (d2lnets.resnet18, 96, 0), (d2lnets.fast_resnet, 28, 0)]
)
def test_which_layers_of_a_network_that_is_trained(make, size, changed):
    recipe = replace(BOOK, batch_size=2, lr=0.01, image_size=size, mixed_precision=False)
    trainer = Trainer(make(), recipe, device="cpu")
    data = d2lnets.load_fashion_mnist(SUBSET)
    trainer.step(data.train, torch.arange(2), 0.01, seeded(0))
    kernels = [each.weight for each in trainer.net.modules() if isinstance(each, nn.Conv2d) and each.kernel_size[0] > 1]
    assert sum(weight.shape[1] > 1 and weight.is_contiguous() for weight in kernels) == changed
