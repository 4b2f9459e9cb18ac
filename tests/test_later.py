"""The later blocks compute what torchvision's compute with the same weights; each keeps the shape."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.convnext import CNBlock
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import Bottleneck

from d2lnets import later


def weights(block):
    return sum(p.numel() for p in block.parameters() if p.dim() == 4)


def same(ours, theirs, channels):
    """Give both the same weights and statistics, in the order of the layers; whether they compute the same."""
    state = [t for name, t in theirs.state_dict().items() if "scale" not in name]
    for mine, other in zip(ours.state_dict().values(), state, strict=True):
        if other.is_floating_point():
            nn.init.uniform_(other, 0.1, 0.3)
        mine.copy_(other.view_as(mine))
    x = torch.randn(2, channels, 9, 9)
    with torch.no_grad():
        return torch.allclose(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-5)


def test_the_blocks_are_torchvisions():
    assert same(later.bottleneck(64), Bottleneck(64, 16), 64)
    theirs = Bottleneck(64, 16, groups=8, base_width=128)
    assert same(later.resnext(64, width=theirs.conv2.out_channels, groups=8), theirs, 64)
    assert same(later.SqueezeExcite(32, 4), torchvision.ops.SqueezeExcitation(32, 8), 32)
    assert same(later.convnext(16), CNBlock(16, 1.0, 0.0), 16)
    theirs = InvertedResidual(16, 16, 1, 4)
    for module in theirs.modules():
        if isinstance(module, nn.ReLU6):
            module.max_val = float("inf")
    assert same(later.inverted(16, relu=False), theirs, 16)


@pytest.mark.parametrize("name", later.LATER)
def test_a_network_trains_a_step_and_its_blocks_keep_the_shape(name):
    net = later.LATER[name]()
    x = torch.randn(4, 1, 28, 28)
    assert net(x).shape == (4, 10)
    net(x).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    inside = net.stem(x)
    width = 60 if name.endswith("wide") else 24
    assert net.stage1(inside).shape == inside.shape == (4, width, 14, 14)
    assert net.stage2(net.halve(inside)).shape == (4, 2 * width, 7, 7)


def test_what_groups_save_is_spent():
    assert abs(weights(later.resnext(256, 128, 32)) / weights(later.bottleneck(256)) - 1) < 0.01
    both = [sum(weights(make(c)) for c in (24, 48)) for make in (later.bottleneck, later.resnext)]
    assert abs(both[1] / both[0] - 1) < 0.1


def test_only_without_a_relu_after_the_sum_is_a_block_with_an_empty_branch_the_identity():
    x = torch.randn(2, 24, 5, 5)
    for name, make in later.BLOCKS.items():
        block = make(24)
        for p in block.branch[-1].parameters():
            nn.init.zeros_(p)
        nothing = not block.branch(x).any() or name == "squeeze-excite"
        assert nothing and torch.equal(block(x), x) == (not block.relu), name


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="reduction must be at most channels, 8, got 16"):
        later.SqueezeExcite(8)
    with pytest.raises(ValueError, match="width must be a whole number of at least 1, got 0"):
        later.later_net(later.bottleneck, 0)
