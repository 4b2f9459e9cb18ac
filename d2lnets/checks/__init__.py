"""Checks for exercises: pass what you wrote, and read what is wrong with it.

Each function returns a `Verdict`, which shows what was expected, what came, the likeliest cause and a hint;
nothing is raised. Names, order and style of the code do not matter, only what it does: the student's layers are
recorded (`recording.py`) and run again by a reference (`programs`, `replaying.py`), whose output, gradients and
running statistics must come out the same (`examination.py`).
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from d2lnets.checks.contracts import (
    BOTTLENECK,
    DENSE_BLOCK,
    DENSENET,
    GOOGLENET,
    INCEPTION,
    RESIDUAL,
    RESNET18,
    TRANSITION,
)
from d2lnets.checks.examination import examine
from d2lnets.checks.judging import judge
from d2lnets.checks.values import check_exercise, check_value
from d2lnets.checks.wording import Verdict

__all__ = [
    "Verdict",
    "check_bottleneck",
    "check_dense_block",
    "check_densenet",
    "check_exercise",
    "check_googlenet",
    "check_inception",
    "check_residual",
    "check_resnet18",
    "check_transition",
    "check_value",
]


def check_residual(answer: Callable[..., nn.Module], limit: float = 10, seed: int = 0) -> Verdict:
    """Check a residual block: ``answer(in_channels, out_channels, stride)`` makes it.

    y = relu(shortcut(x) + F(x)); F is 3x3 convolution, batch norm, ReLU, 3x3 convolution, batch norm, with the
    stride on the first; the shortcut is x, or where the shape changes a 1x1 convolution with the stride.
    Biases, and batch norm on the shortcut, are as you like. d2l's ``answer(num_channels, use_1x1conv, strides)``
    with lazy layers will do as well.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)).

    Args:
        answer: a class, or a function that returns a module.
        limit: seconds of computing, or of idling, after which the check gives up.
        seed: decides the inputs' values; from 1 on, other channels and sizes are tried too.

    Returns:
        A `Verdict`.
    """
    return judge(partial(examine, answer, RESIDUAL, seed), limit, seed)


def check_bottleneck(answer: Callable[..., nn.Module], limit: float = 10, seed: int = 0) -> Verdict:
    """Check a bottleneck: ``answer(in_channels, filters, stride)`` makes it.

    F is 1x1 to ``filters[0]``, 3x3 to ``filters[1]``, 1x1 to ``filters[2]`` channels, each followed by batch norm,
    with a ReLU after the first two. ``stride=None``: the shortcut is x; a number: the shortcut is a 1x1 convolution
    with that stride and batch norm, and the branch's stride is on its first 1x1 or on its 3x3.

    Shapes: (N, in_channels, H, W) -> (N, filters[2], ceil(H / stride), ceil(W / stride)).

    Args and returns: see `check_residual`.
    """
    return judge(partial(examine, answer, BOTTLENECK, seed), limit, seed)


def check_dense_block(answer: Callable[..., nn.Module], limit: float = 10, seed: int = 0) -> Verdict:
    """Check a dense block: ``answer(num_convs, in_channels, growth_rate)``, or d2l's (num_convs, num_channels).

    Each layer is batch norm, ReLU, 3x3 convolution to growth_rate channels; its maps are appended to all
    earlier ones, and the next layer sees them all.

    Shapes: (N, in_channels, H, W) -> (N, in_channels + num_convs * growth_rate, H, W).

    Args and returns: see `check_residual`.
    """
    return judge(partial(examine, answer, DENSE_BLOCK, seed), limit, seed)


def check_transition(answer: Callable[..., nn.Module], limit: float = 10, seed: int = 0) -> Verdict:
    """Check a transition: ``answer(in_channels, out_channels)``, or d2l's ``answer(num_channels)``.

    Batch norm, ReLU, 1x1 convolution, average-pool 2x2 with stride 2.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, floor(H / 2), floor(W / 2)).

    Args and returns: see `check_residual`.
    """
    return judge(partial(examine, answer, TRANSITION, seed), limit, seed)


def check_inception(answer: Callable[..., nn.Module], limit: float = 10, seed: int = 0) -> Verdict:
    """Check an Inception block: ``answer(in_channels, c1, c2, c3, c4)``, or d2l's ``answer(c1, c2, c3, c4)``.

    Four paths, joined on channels in this order: 1x1; 1x1 and 3x3; 1x1 and 5x5; 3x3 max-pool and 1x1. A ReLU
    follows every convolution; batch norm between the two is as you like.

    Shapes: (N, in_channels, H, W) -> (N, c1 + c2[1] + c3[1] + c4, H, W).

    Args and returns: see `check_residual`.
    """
    return judge(partial(examine, answer, INCEPTION, seed), limit, seed)


def check_resnet18(answer: nn.Module | Callable[[], nn.Module], limit: float = 10, seed: int = 0) -> Verdict:
    """Check a ResNet-18 for 1 input channel and 10 classes, as `d2lnets.resnet18`.

    Shapes: (N, 1, H, W) -> (N, 10), the logits; tried with 64x64 and 96x80.

    Args:
        answer: a module, which is left as it was, or a function without arguments that makes one.
        limit: seconds of computing, or of idling, after which the check gives up.
        seed: decides the inputs' values; from 1 on, other channels and sizes are tried too.

    Returns:
        A `Verdict`.
    """
    return judge(partial(examine, answer, RESNET18, seed), limit, seed)


def check_densenet(answer: nn.Module | Callable[[], nn.Module], limit: float = 10, seed: int = 0) -> Verdict:
    """Check a DenseNet for 1 input channel and 10 classes, as `d2lnets.densenet`: see `check_resnet18`."""
    return judge(partial(examine, answer, DENSENET, seed), limit, seed)


def check_googlenet(answer: nn.Module | Callable[[], nn.Module], limit: float = 10, seed: int = 0) -> Verdict:
    """Check a GoogLeNet for 1 input channel and 10 classes, as `d2lnets.googlenet`: see `check_resnet18`."""
    return judge(partial(examine, answer, GOOGLENET, seed), limit, seed)
