"""The exercises of the chapter "Out of the classroom"."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from d2lnets.checks.exercises.exercise import Exercise, expect, expect_tensor
from d2lnets.checks.programs.variants import Variant


def last_step(images: int = 55_000, batch: int = 512, processes: int = 4) -> list[float]:
    steps = -(-images // batch)
    return [steps, (images - (steps - 1) * batch) / processes]


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


@dataclass(frozen=True, kw_only=True)
class Folding(Variant):
    """How batch norm is folded into a convolution: the parts of the formula that are not forgotten.

    Attributes:
        eps, root: of the deviation, the small number and the square root.
        scale, shift, mean: batch norm's own weight, own bias and running mean.
        bias: the convolution's.
        bias_scaled, weight_scaled: whether they are.
    """

    eps: bool = True
    root: bool = True
    scale: bool = True
    bias: bool = True
    bias_scaled: bool = True
    mean: bool = True
    shift: bool = True
    weight_scaled: bool = True


FOLDING_MISTAKES = (
    Folding("the small number eps is not added to the variance", eps=False),
    Folding("the variance stands where its square root, the deviation, belongs", root=False),
    Folding("batch norm's own weight is missing from the scale", scale=False),
    Folding("the bias of the convolution is lost: batch norm scales it as well", bias=False),
    Folding("the bias of the convolution has to be scaled, like its weights", bias_scaled=False),
    Folding("the running mean is not subtracted", mean=False),
    Folding("batch norm's own bias is not added", shift=False),
    Folding("the weights are not scaled", weight_scaled=False),
)


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d, v: Folding) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does what both do."""
    assert norm.running_mean is not None and norm.running_var is not None
    variance = norm.running_var + (norm.eps if v.eps else 0)
    scale = (norm.weight if v.scale else 1) / (variance.sqrt() if v.root else variance)
    bias = conv.bias if v.bias and conv.bias is not None else torch.zeros_like(scale)
    mean = norm.running_mean if v.mean else torch.zeros_like(scale)
    bias = (bias - mean) * scale if v.bias_scaled else bias - mean * scale
    weight = conv.weight * scale[:, None, None, None] if v.weight_scaled else conv.weight
    return weight, bias + (norm.bias if v.shift else 0)


def judge_folded(folded: Any, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    expect(isinstance(folded, nn.Conv2d), f"A convolution (nn.Conv2d) was expected; {type(folded).__name__} came.")
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        wanted = norm(conv(x))
        mistakes = {v.says: F.conv2d(x, *fold(conv, norm, v), conv.stride, conv.padding) for v in FOLDING_MISTAKES}
        mistakes["nothing is folded: it is the convolution as it was"] = conv(x)
        if folded.weight.shape == conv.weight.shape:
            plain = (folded.stride, folded.padding) != (conv.stride, conv.padding)
            expect(not plain, "Another stride or padding came than the convolution's.", "they are not copied from it")
        expect_tensor(folded(x), wanted, mistakes, "Write norm(conv(x)) as a formula for one channel.")


def layers_to_fold(seed: int = 0) -> tuple[tuple[nn.Conv2d, nn.BatchNorm2d], ...]:
    """Two pairs of a convolution and a batch norm, in eval mode; the random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pairs = []
        for bias, stride in ((True, 1), (False, 2)):
            conv, norm = nn.Conv2d(3, 4, 3, stride, padding=1, bias=bias).eval(), nn.BatchNorm2d(4, eps=0.01).eval()
            for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                assert values is not None
                nn.init.uniform_(values, 0.1, 0.9)
            pairs.append((conv, norm))
    return tuple(pairs)


def groups_to_join(seed: int = 0) -> tuple[Tensor | nn.Conv2d, ...]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.randn(2, 8, 5, 5), *(nn.Conv2d(4, 3, 3, padding=1, bias=False) for _ in range(2))


HARM = ["inverted", "upside down", "moved"]

BEYOND = {
    1: Exercise(
        last_step,
        hint="The batch size is over all processes. How many images are left for the last step?",
        mistakes={
            "the images that are left are not counted as a step": [55_000 // 512, 54],
            "the last images are not shared among the four processes": [108, 216],
            "each process is given a batch of 512 of its own": last_step(batch=2048),
            "the last step is taken for a full one": [108, 128],
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
        judge=judge_folded,
        note="In training mode the mean and variance are those of the batch at hand, which no fixed weights can know.",
        calls=layers_to_fold(),
        others=lambda random: layers_to_fold(random.randint(1, 9**9)),
    ),
    5: Exercise(
        lambda: HARM,
        hint="Print the four accuracies.",
        note="The network was trained on mirror images, and on nothing else of this kind.",
        mistakes={
            "the least harmful stands first": HARM[::-1],
            "the names stand in the order of the exercise": ["inverted", "moved", "upside down"],
        },
        limit=60,
    ),
}
