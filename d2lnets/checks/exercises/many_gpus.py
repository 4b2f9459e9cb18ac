"""The exercises of the chapter "Many GPUs"."""

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


def seconds_in_a_ring(weights: int, gpus: int, bytes_per_second: float, rounds: int = 2, size: float = 4) -> float:
    return rounds * (gpus - 1) / gpus * size * weights / bytes_per_second


def pooled(counts: list[int], means: list[float], variances: list[float], between: float = 1) -> list[float]:
    """Mean and variance of all values, from those of the shares."""
    total = sum(counts)
    mean = sum(n * m for n, m in zip(counts, means)) / total
    return [mean, sum(n * (v + between * (m - mean) ** 2) for n, m, v in zip(counts, means, variances)) / total]


def unweighted(counts: list[int], means: list[float], variances: list[float]) -> list[float]:
    return pooled([1] * len(counts), means, variances)


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


HARM = ["inverted", "upside down", "moved"]

MANY_GPUS = {
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
        seconds_in_a_ring,
        hint="How many bytes has a number of 32 bits? How often does each part of the gradients travel?",
        note="The number of GPUs hardly counts, which is why this is done in a ring.",
        calls=((25_557_032, 8, 1.25e9), (11_178_378, 4, 64e9)),
        others=lambda random: ((random.randint(10**6, 10**8), random.randint(3, 16), random.choice([1e9, 25e9])),),
        mistakes={
            "a number of 32 bits is taken for 32 bytes": lambda w, n, b: seconds_in_a_ring(w, n, b, size=32),
            "a number of 32 bits has more than one byte": lambda w, n, b: seconds_in_a_ring(w, n, b, size=1),
            "the sums are made, but not handed round": lambda w, n, b: seconds_in_a_ring(w, n, b, rounds=1),
            "each process sends all its gradients to each other one": lambda w, n, b: (n - 1) * 4 * w / b,
            "what all processes send is added up, though they send at the same time": lambda w, n, b: (
                n * seconds_in_a_ring(w, n, b)
            ),
            "one part less travels in each round than there are processes": lambda w, n, b: 8 * w / b,
        },
        tolerance=1e-5,
    ),
    3: Exercise(
        pooled,
        hint="The variance of all values has two sources: inside the shares, and between their means.",
        note="No values are squared before their mean is taken away, so no digits are lost.",
        calls=(([4, 12], [1.0, 3.0], [0.5, 2.0]), ([10, 5, 25], [0.0, 4.0, -1.0], [1.0, 0.0, 3.0])),
        others=lambda random: (
            ([random.randint(2, 30), random.randint(31, 60)], [random.random(), 5.0], [1.0, 2 + random.random()]),
        ),
        mistakes={
            "the shares' means differ, which adds to the variance": lambda n, m, v: pooled(n, m, v, between=0),
            "a share with more values does not count more": unweighted,
            "the means are weighted by their counts, the variances are not": lambda n, m, v: [
                pooled(n, m, v)[0],
                sum(v) / len(v),
            ],
            "these are sums: they are not divided by the number of values": lambda n, m, v: [
                sum(n) * each for each in pooled(n, m, v)
            ],
            "the second is the deviation, the root of the variance": lambda n, m, v: [
                pooled(n, m, v)[0],
                pooled(n, m, v)[1] ** 0.5,
            ],
        },
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
