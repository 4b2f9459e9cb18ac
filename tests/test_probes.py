"""Probes: what they say of a network is what the network does."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import d2lnets
from d2lnets import probes
from d2lnets.resnet import CifarBlock


@pytest.fixture
def net():
    torch.manual_seed(0)
    return probes.measure_statistics(d2lnets.cifar_resnet(20, 4), torch.rand(16, 1, 14, 14)).double()


IMAGES, LABELS = torch.rand(3, 1, 14, 14, dtype=torch.float64), torch.tensor([1, 2, 3])


def test_the_paths_of_each_length_carry_what_they_carry_one_by_one(net):
    """All 512 paths: at each block the gradient is let through the branch alone, or through the shortcut alone."""
    blocks = [module for module in net.modules() if isinstance(module, CifarBlock)]
    through = {}

    def forward(block, x):
        y = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
        shortcut = F.pad(x[:, :, :: block.stride, :: block.stride], [0, 0, 0, 0, 0, block.more_channels])
        branch_too = through[block]
        return F.relu((shortcut.detach() if branch_too else shortcut) + (y if branch_too else y.detach()))

    twin = copy.deepcopy(net)
    expected = torch.zeros(10, *IMAGES.shape, dtype=torch.float64)
    for block in blocks:
        block.forward = lambda x, block=block: forward(block, x)
    for choice in itertools.product((False, True), repeat=9):
        through.update(zip(blocks, choice))
        images = IMAGES.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(net(images), LABELS, reduction="sum"), images)
        expected[sum(choice)] += gradient
    found = probes.path_gradients(twin, IMAGES, LABELS)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-9) and found.abs().max() > 1e-3


def test_the_paths_of_27_blocks_add_up_to_the_gradient():
    torch.manual_seed(0)
    net = probes.measure_statistics(d2lnets.cifar_resnet(56, 4), torch.rand(16, 1, 14, 14)).double()
    images = IMAGES.clone().requires_grad_()
    (whole,) = torch.autograd.grad(F.cross_entropy(net(images), LABELS, reduction="sum"), images)
    paths = probes.path_gradients(net, IMAGES, LABELS)
    assert paths.shape == (28, *IMAGES.shape) and torch.allclose(paths.sum(0), whole, rtol=1e-9, atol=1e-12)


def test_scaled_branches_change_the_gradient_and_nothing_else(net):
    images = IMAGES.clone().requires_grad_()
    with probes.scaled_branches(net, 0.0):
        logits = net(images)
        (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert torch.equal(logits, net(images))
    assert not torch.allclose(gradient, torch.autograd.grad(net(images).sum(), images)[0])
    assert not any(block.bn2._forward_hooks for block in net.modules() if isinstance(block, CifarBlock))


def test_gradients_are_those_of_every_convolution(net):
    norms = probes.convolution_gradients(net, IMAGES, LABELS)
    F.cross_entropy(net(IMAGES), LABELS).backward()
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert norms.tolist() == pytest.approx([conv.weight.grad.norm().item() for conv in convs]) and len(norms) == 19


def test_without_batch_norm_the_convolutions_are_what_is_left(net):
    bare = probes.without_batch_norm(net)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in bare.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    theirs = dict(net.named_parameters())
    assert all(torch.equal(weight, theirs[name]) for name, weight in bare.named_parameters())


def test_a_linear_function_has_one_gradient_and_noise_has_many():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(4, 10))
    start, end = torch.zeros(1, 2, 2), torch.ones(1, 2, 2)
    assert probes.neighbour_likeness(flat, start, end) == pytest.approx(1)

    class Noise(nn.Module):
        def forward(self, x):
            return (x.flatten(1) @ torch.eye(4, 10)) * torch.randn(len(x), 10)

    torch.manual_seed(0)
    assert abs(probes.neighbour_likeness(Noise(), start, end, 500)) < 0.1


def test_measured_statistics_are_those_of_the_images():
    norm = nn.BatchNorm2d(2)
    images = 3 + 2 * torch.randn(50, 2, 8, 8)
    assert probes.measure_statistics(norm, images) is norm and not norm.training
    assert torch.allclose(norm.running_mean, images.mean((0, 2, 3)))
    assert torch.allclose(norm.running_var, images.var((0, 2, 3)))


@pytest.mark.parametrize("name", ["resnet18-small", "googlenet-small-bn", "densenet-small", "fast-resnet"])
def test_the_means_of_class_maps_are_the_logits(name):
    net, images = d2lnets.load_trained(name), torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(probes.class_maps(net, images).mean((2, 3)), net(images))
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_class_maps_need_a_mean_and_a_linear_layer_at_the_end():
    with pytest.raises(ValueError, match="head ends with a global average pool"):
        probes.class_maps(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.rand(1, 1, 2, 2))
