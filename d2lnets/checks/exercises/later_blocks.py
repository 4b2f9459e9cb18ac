"""The exercises of the chapter "The blocks that came after"."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from d2lnets.checks.exercises.exercise import Exercise, expect, expect_tensor, numbers


def depthwise_share(channels: int, times: int, window: int = 9) -> float:
    """Of the weights of 1x1 to `times` the channels, depthwise 3x3, 1x1 back."""
    wide = times * channels
    return window * wide / (window * wide + 2 * channels * wide)


def squeeze_excite(narrow: int = 16, biases: int = 1) -> list[float]:
    """Parameters, and their share of a bottleneck's: three convolutions; a bias, scale and shift for each channel."""
    added = 2 * 256 * narrow + biases * (narrow + 256)
    bottleneck = 256 * 64 + 9 * 64 * 64 + 64 * 256 + 3 * (64 + 64 + 256)
    return [added, added / bottleneck]


def judge_two_groups(joined: Any, x: Tensor, first: nn.Conv2d, second: nn.Conv2d) -> None:
    a, b = x.chunk(2, dim=1)
    with torch.no_grad():
        grouped = F.conv2d(x, torch.cat([first.weight, second.weight]), padding=1, groups=2)
        mistakes = {
            "both convolutions see the first half of the channels": torch.cat([first(a), second(a)], dim=1),
            "the halves of the channels are swapped": torch.cat([first(b), second(a)], dim=1),
            "the two results are joined in the other order": torch.cat([second(b), first(a)], dim=1),
            "the second convolution is not used": torch.cat([first(a), first(b)], dim=1),
            "each takes every other channel, not one half": torch.cat([first(x[:, ::2]), second(x[:, 1::2])], dim=1),
            "the two results are added, not concatenated": first(a) + second(b),
            "they are concatenated along the height": torch.cat([first(a), second(b)], dim=2),
            "they are concatenated along the width": torch.cat([first(a), second(b)], dim=3),
            "they are concatenated along the batch": torch.cat([first(a), second(b)]),
        }
    hint = "Which channels of x does the first group see, and which channels of the output does it make?"
    expect_tensor(joined.detach() if isinstance(joined, torch.Tensor) else joined, grouped, mistakes, hint)


def merged(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    """The kernels of the ordinary convolution that does what both do, (C, 1, 3, 3) and (D, C, 1, 1) -> (D, C, 3, 3)."""
    return pointwise * depthwise[:, 0]


def judge_merged(given: Any, depthwise: Tensor, pointwise: Tensor) -> None:
    wanted = merged(depthwise, pointwise)
    mistakes = {
        "inputs and outputs stand in the other order": wanted.transpose(0, 1),
        "the kernels are summed over the channels, as the result is": wanted.sum(1, keepdim=True),
        "every output has the kernels themselves: the factors of the 1×1 convolution are missing": (
            depthwise[:, 0].expand_as(wanted)
        ),
        "the factors of the 1×1 convolution are added, not multiplied": pointwise + depthwise[:, 0],
        "the kernels are turned over, height with width": wanted.transpose(2, 3),
    }
    hint = "What does one output channel see of one input channel?"
    expect_tensor(given.detach() if isinstance(given, Tensor) else given, wanted, mistakes, hint)


def judge_slowdown(given: Any) -> None:
    (ratio,) = numbers(given, 1, "a ratio of two times for a multiply-add").tolist()
    what = f"{ratio:.3g} times as long for a multiply-add cannot be."
    hint = "Divide each time by the multiply-adds of its convolution; which of the two quotients is divided by which?"
    expect(
        ratio > 1, what, "the ordinary convolution's is divided by the depthwise one's, or nothing by its work", hint
    )
    expect(ratio < 1000, what, "the work of the two is not counted in the same unit", hint)


def groups_to_join(seed: int = 0) -> tuple[Tensor | nn.Conv2d, ...]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.randn(2, 8, 5, 5), *(nn.Conv2d(4, 3, 3, padding=1, bias=False) for _ in range(2))


def kernels_to_merge(seed: int = 0) -> tuple[Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.randn(4, 1, 3, 3), torch.randn(6, 4, 1, 1)


LATER_BLOCKS = {
    1: Exercise(
        depthwise_share,
        hint="Write the three numbers of weights, and cancel what all of them have.",
        note="How wide the middle is cancels out.",
        calls=((32, 4), (64, 4), (96, 6)),
        others=lambda random: ((random.randint(20, 200), random.randint(2, 8)),),
        mistakes={
            "the depthwise convolution is taken for an ordinary one": lambda c, t: depthwise_share(c, t, 9 * t * c),
            "only one of the two 1×1 convolutions is counted": lambda c, t: 9 / (9 + c),
            "it is the share of the 1×1 convolutions": lambda c, t: 1 - depthwise_share(c, t),
            "it is over the other weights, not over all": lambda c, t: 9 / (2 * c),
            "each channel's window has 9 weights, not 3": lambda c, t: depthwise_share(c, t, 3),
        },
    ),
    2: Exercise(
        squeeze_excite,
        hint="Two convolutions 1×1, from 256 to 16 channels and back.",
        mistakes={
            "the biases of its two layers are not counted": squeeze_excite(biases=0),
            "the added parameters are counted in the bottleneck": [squeeze_excite()[0], 8_464 / (70_784 + 8_464)],
            "the share is a percentage": [squeeze_excite()[0], 100 * squeeze_excite()[1]],
            "only the first of its two layers is counted": [256 * 16 + 16, (256 * 16 + 16) / 70_784],
            "the channels are divided by 4, not by 16": squeeze_excite(narrow=64),
        },
        tolerance=1e-3,
    ),
    3: Exercise(
        None,
        judge=judge_two_groups,
        note="It is what groups=2 computes.",
        calls=(groups_to_join(),),
        others=lambda random: (groups_to_join(random.randint(1, 9**9)),),
    ),
    4: Exercise(
        None,
        judge=judge_merged,
        note="The matrix from input to output channels is the same for all nine places, but for one factor a channel.",
        calls=(kernels_to_merge(),),
        others=lambda random: (kernels_to_merge(random.randint(1, 9**9)),),
    ),
    5: Exercise(
        None,
        judge=judge_slowdown,
        note="Each number that it reads is used nine times only, so it waits for memory. Multiply-adds are not time.",
        limit=60,
    ),
}
