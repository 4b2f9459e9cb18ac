"""Our networks and those of d2l 1.0.3: weights copied by name, outputs equal in both modes; theirs pass our checks."""

import pytest
import torch
from torch import nn

import d2lnets
from d2lnets.checks import check_residual, check_resnet18

WITHOUT = "no d2l: python -m pip install --no-deps --requirement requirements-d2l.txt"
peers = pytest.importorskip("peers", reason=WITHOUT)
d2l, d2l_resnet18 = peers.d2l, peers.d2l_resnet18


def copy_weights(ours, theirs):
    """Two networks that register the same layers in the same order; random weights and statistics."""
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    state = theirs.state_dict()
    ours.load_state_dict(dict(zip(ours.state_dict(), state.values(), strict=True)))


def assert_equal_in_both_modes(ours, theirs, x):
    for mode in (True, False):
        ours.train(mode)
        theirs.train(mode)
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)
    for mine, other in zip(ours.state_dict().values(), theirs.state_dict().values()):
        torch.testing.assert_close(mine, other)  # training moved the running statistics alike


@pytest.mark.parametrize("use_1x1conv, stride, out_channels", [(False, 1, 3), (True, 1, 6), (True, 2, 6), (True, 1, 3)])
def test_residual(use_1x1conv, stride, out_channels):
    torch.manual_seed(0)
    x = torch.randn(4, 3, 6, 6)
    theirs = d2l.Residual(out_channels, use_1x1conv, stride)
    theirs(x)  # creates d2l's lazy layers
    ours = d2lnets.Residual(3, out_channels, use_1x1conv, stride)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    copy_weights(ours, theirs)
    assert_equal_in_both_modes(ours, theirs, x)


@pytest.mark.parametrize("size", [96, 28])
def test_resnet18(size):
    torch.manual_seed(0)
    x = torch.randn(4, 1, size, size)
    theirs = d2l_resnet18()
    ours = d2lnets.resnet18()
    copy_weights(ours, theirs)
    assert_equal_in_both_modes(ours, theirs, x)


def test_the_resnet18_that_d2l_ships():
    """``d2l.resnet18`` has a 3x3 stem without max-pool; with that stem ours is the same network."""
    torch.manual_seed(0)
    x = torch.randn(2, 1, 28, 28)
    theirs = d2l.resnet18(10)
    theirs(x)
    ours = d2lnets.resnet18()
    ours.stem = nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
    copy_weights(ours, theirs)
    assert_equal_in_both_modes(ours, theirs, x)


@pytest.mark.parametrize("check, answer", [(check_residual, d2l.Residual), (check_resnet18, d2l_resnet18)])
def test_d2ls_networks_pass_the_checks(check, answer):
    verdict = check(answer)
    assert verdict.passed, verdict


def test_a_lazy_network_that_was_not_run_is_run():
    class ResNet18(d2l.Classifier):
        def __init__(self, lr=0.1):
            super().__init__()
            self.save_hyperparameters()
            self.net = d2l_resnet18(run=False)

    net = ResNet18()
    assert check_resnet18(net).passed and check_resnet18(ResNet18).passed
    assert isinstance(net.net[0][0], nn.LazyConv2d)
