"""Looking into networks: what comes back through them, and along which paths.

`path_gradients` and `scaled_branches` work on the networks of `d2lnets.cifar_resnet`, whose blocks end with ``bn2``
before the addition; `class_maps` on every network of the book.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from d2lnets.resnet import CifarBlock
from d2lnets.training.loop import eval_mode


def convolution_gradients(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The norm of the loss's gradient at the weights of each convolution, from the input on: (convolutions,)."""
    loss = F.cross_entropy(net(images), labels)
    weights = [module.weight for module in net.modules() if isinstance(module, nn.Conv2d)]
    return torch.stack([gradient.norm() for gradient in torch.autograd.grad(loss, weights)])


def class_maps(net: nn.Module, images: Tensor) -> Tensor:
    """Class activation maps (Zhou et al. 2016): what each position of the last maps adds to the logits, with biases.

    Shapes: (N, C, H, W) -> (N, classes, height, width) of the last maps. Their means over the positions are the logits.

    Raises:
        ValueError: the network has no ``head`` that ends with a global average pool and a linear layer.
    """
    end = list(getattr(net, "head", nn.Sequential()))[-3:]
    if [type(layer) for layer in end] != [nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]:
        raise ValueError("class maps need a network whose head ends with a global average pool and a linear layer")
    pool, _, linear = end
    seen: list[Tensor] = []
    handle = pool.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with eval_mode(net), torch.no_grad():
        net(images)
    handle.remove()
    return F.conv2d(seen[0], linear.weight.detach()[:, :, None, None], linear.bias.detach())


def without_batch_norm(net: nn.Module) -> nn.Module:
    """A copy of the network in which every batch norm passes on what it gets."""
    net = copy.deepcopy(net)
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return net


@contextmanager
def scaled_branches(net: nn.Module, factor: float | Tensor) -> Iterator[None]:
    """What the network computes stays; what comes back through the branch of each block is multiplied by `factor`.

    It is read in the backward pass: a tensor of one number can be changed between two of them.
    """

    def scale(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        output.register_hook(lambda gradient: factor * gradient)

    hooks = [block.bn2.register_forward_hook(scale) for block in net.modules() if isinstance(block, CifarBlock)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def path_gradients(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The gradient at the image by the length of the paths on which it comes back (Veit et al. 2016, Sec. 4.3).

    With n blocks there are 2^n paths; those of length k go through the branch of k blocks, and along the shortcut of
    the others. With all branches' derivatives multiplied by t, the gradient is a polynomial in t, and what comes along
    the paths of length k is its coefficient of t^k: n + 1 passes instead of 2^n.

    Returns:
        (n + 1, N, C, H, W), in 64 bits; the sum over the lengths is the gradient.
    """
    net, images = copy.deepcopy(net).double(), images.double().requires_grad_()
    count = sum(isinstance(block, CifarBlock) for block in net.modules())
    factors = torch.cos(torch.pi * (torch.arange(count + 1, dtype=torch.float64) + 0.5) / (count + 1))
    factor = torch.ones((), dtype=torch.float64)
    with scaled_branches(net, factor):
        loss = F.cross_entropy(net(images), labels, reduction="sum")
    gradients: list[Tensor] = []
    for value in factors.tolist():
        factor.fill_(value)
        gradients += torch.autograd.grad(loss, images, retain_graph=True)
    powers = factors[:, None] ** torch.arange(count + 1)
    return torch.linalg.solve(powers, torch.stack(gradients).flatten(1)).unflatten(1, images.shape)


def neighbour_likeness(net: nn.Module, start: Tensor, end: Tensor, points: int = 65, seed: int = 0) -> float:
    """How alike the gradients at nearby images are (Balduzzi et al. 2017): the mean cosine of neighbours on a line.

    Args:
        start, end: the images at its ends, (C, H, W).
        points: how many images lie on the line, evenly spaced, the ends included.
        seed: of the weights of the sum of logits whose gradient is taken.
    """
    part = torch.linspace(0, 1, points).view(-1, 1, 1, 1).to(start)
    images = torch.lerp(start, end, part).requires_grad_()
    with eval_mode(net):
        logits = net(images)
    weights = torch.randn(logits.shape[1], generator=torch.Generator().manual_seed(seed)).to(start)
    (gradients,) = torch.autograd.grad((logits @ weights).sum(), images)
    return F.cosine_similarity(gradients[1:].flatten(1), gradients[:-1].flatten(1)).mean().item()


@torch.no_grad()
def measure_statistics(net: nn.Module, images: Tensor) -> nn.Module:
    """Replace batch norm's running statistics, in place, by those of `images`; the network in eval mode."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the last batch counts, and no other
    net.train()(images)
    return net.eval()
