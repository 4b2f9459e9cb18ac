"""The residual block and ResNet-18 are what the paper's argument needs, not only the right size."""

import pytest
import torch
from torch import nn

from d2lnets import Residual, resnet18, resnet_block


def zero_the_branch(block):
    for layer in (block.conv1, block.conv2, block.bn1, block.bn2):
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


def test_a_zeroed_branch_leaves_only_the_shortcut():
    block = Residual(8, 8).eval()
    zero_the_branch(block)
    x = torch.rand(2, 8, 6, 6)  # x >= 0, so the last ReLU changes nothing
    assert torch.equal(block(x), x)
    assert torch.equal(block(-x), torch.zeros_like(x))


def test_a_zeroed_branch_leaves_the_projection():
    block = Residual(8, 16, stride=2).eval()
    zero_the_branch(block)
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(block(x), block.conv3(x).relu())


def test_without_the_shortcut_the_block_would_be_its_branch():
    block = Residual(4, 4).eval()
    x = torch.randn(2, 4, 5, 5)
    branch = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
    assert torch.equal(block(x), (x + branch).relu())
    assert not torch.allclose(block(x), branch.relu())


@pytest.mark.parametrize("stride, channels, size", [(1, 3, 6), (1, 8, 6), (2, 3, 3), (2, 8, 3), (3, 8, 2)])
def test_the_shape_follows_channels_and_stride(stride, channels, size):
    block = Residual(3, channels, stride=stride)
    assert block(torch.randn(2, 3, 6, 6)).shape == (2, channels, size, size)
    assert block.out_channels == channels
    assert (block.conv3 is None) == (stride == 1 and channels == 3)


def test_the_projection_can_be_asked_for_where_it_is_not_needed():
    assert Residual(4, 4, use_1x1conv=True).conv3 is not None
    assert Residual(4, 8, use_1x1conv=True, stride=2)(torch.randn(2, 4, 7, 7)).shape == (2, 8, 4, 4)


@pytest.mark.parametrize(
    "arguments, shapes",
    [
        (dict(out_channels=8), ["(N, 8, H, W)", "(N, 4, H, W)"]),
        (dict(out_channels=4, stride=2), ["(N, 4, H/2, W/2)", "(N, 4, H, W)"]),
        (dict(out_channels=8, stride=3), ["(N, 8, H/3, W/3)", "(N, 4, H, W)"]),
    ],
)
def test_an_impossible_addition_is_refused_with_both_shapes(arguments, shapes):
    with pytest.raises(ValueError) as error:
        Residual(4, use_1x1conv=False, **arguments)
    assert all(shape in str(error.value) for shape in shapes)


@pytest.mark.parametrize("wrong", [dict(in_channels=0), dict(out_channels=-1), dict(stride=0), dict(stride=2.0)])
def test_a_size_below_one_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a whole number"):
        Residual(**(dict(in_channels=4, out_channels=4) | wrong))


def test_a_stage_halves_once_and_only_where_it_should():
    x = torch.randn(2, 4, 8, 8)
    assert resnet_block(4, 8, 3)(x).shape == (2, 8, 4, 4)
    assert resnet_block(4, 4, 3, first_block=True)(x).shape == (2, 4, 8, 8)
    assert len(resnet_block(4, 8, 3)) == 3
    with pytest.raises(ValueError, match="num_residuals"):
        resnet_block(4, 8, 0)


def test_resnet18_has_the_parameters_of_the_source():
    assert sum(p.numel() for p in resnet18().parameters()) == 11_178_378


def test_the_gradient_reaches_the_first_layer_whatever_the_branches_do():
    net = resnet18()
    for block in net.modules():
        if isinstance(block, Residual):
            zero_the_branch(block)
    net(torch.randn(2, 1, 32, 32)).sum().backward()
    assert net.stem[0].weight.grad.abs().sum() > 0


def test_channels_and_classes_are_the_callers():
    assert resnet18(in_channels=3, num_classes=7)(torch.randn(2, 3, 33, 47)).shape == (2, 7)
