"""The exercises of the chapter "One recipe, every network"."""

import math
from collections.abc import Sequence
from itertools import combinations, product
from operator import mul
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from d2lnets.checks.exercises.exercise import Exercise, expect, numbers


def permutation_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Share of the ways to deal out all runs that set the means at least as far apart."""
    both, found = [*a, *b], abs(fmean(a) - fmean(b))
    ways = list(combinations(range(len(both)), len(a)))
    total = sum(both)
    apart = [abs(sum(both[i] for i in way) / len(a) - (total - sum(both[i] for i in way)) / len(b)) for way in ways]
    return sum(gap >= found - 1e-9 for gap in apart) / len(ways)


def paired_p(a: Sequence[float], b: Sequence[float], two_sided: bool = True, found_counts: bool = True) -> float:
    """The same for pairs, where chance decides the sign of each difference."""
    gaps = [x - y for x, y in zip(a, b)]
    size = abs if two_sided else float
    sums = [size(sum(map(mul, signs, gaps))) for signs in product((1, -1), repeat=len(gaps))]
    as_far = sum(each >= size(sum(gaps)) - 1e-9 for each in sums)
    return (as_far if found_counts else as_far - 2) / len(sums)


def average_accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.mean(0).argmax(1) == labels).float().mean().item()


def some_logits(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Of five networks for 400 images, and labels; the random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        labels = torch.randint(10, (400,))
        sharpness = torch.tensor([0.5, 1.0, 1.0, 2.0, 4.0])[:, None, None]
        return sharpness * (torch.randn(5, 400, 10) + 1.2 * F.one_hot(labels, 10)), labels


def judge_flips(scores: Any) -> None:
    hint = "Set the random seed before the network is built, and give the seed to fit as well."
    expect(
        isinstance(scores, list | tuple) and len(scores) == 2,
        "Two lists were expected, with mirror images and without.",
        "",
        hint,
    )
    rows = [numbers(row, 3, "one for each seed").tolist() for row in scores]
    every = [score for row in rows for score in row]
    expect(max(every) <= 1, f"{max(every):g} cannot be an accuracy.", "it is a percentage", hint)
    for row in rows:
        same = len(set(row)) == 1  # of 500 images two seeds may get equally many right
        expect(not same, "All seeds give the very same accuracy.", "the seed decides neither weights nor order", hint)
    expect(rows[0] != rows[1], "Both lists are the same.", "the recipes do not differ", hint)
    most, least = max(every), min(every)
    expect(least > 0.3, f"{least:.2f} cannot be.", "the networks were not trained, or the losses came", hint)
    expect(most < 0.87, f"{most:.2f} cannot be.", "more images or epochs than asked for", hint)


COMPARISON = {
    1: Exercise(
        lambda seeds: 2 / 2**seeds,
        hint="How many ways are there to set all signs, and which of them always count?",
        note="Six seeds reach 0.031, ten 0.002: what three pairs cannot tell, six may.",
        calls=((3,), (4,), (6,)),
        others=lambda random: ((random.randint(7, 12),), (5,), (random.randint(13, 20),)),
        mistakes={
            "the opposite of the signs that were found counts too": lambda n: 1 / 2**n,
            "the runs are dealt out anew, though each has a partner": lambda n: 2 / math.comb(2 * n, n),
            "a pair has one difference, and so one sign": lambda n: 2 / 4**n,
            "each sign has two choices, so the choices multiply": lambda n: 2 / (2 * n),
        },
    ),
    2: Exercise(
        lambda apart, gap: (apart - gap**2) / (gap / 2) ** 2,
        hint="Set the gap to twice the standard error, and solve for the number of images.",
        note="For three tenths of a point it takes more images than the test set has, and far fewer than unshared.",
        calls=((0.035, 0.003), (0.2, 0.05)),
        others=lambda random: tuple((random.uniform(0.02, 0.3), random.uniform(0.005, 0.05)) for _ in range(3)),
        mistakes={
            "that makes the gap one standard error, not two": lambda a, gap: (a - gap**2) / gap**2,
            "the root is lost: the number of images stands under it": lambda a, gap: (a - gap**2) / (gap / 2),
            "the variance is the mean of the square less the square of the mean": lambda a, gap: a / (gap / 2) ** 2,
            "that is the variance of one network's errors": lambda a, gap: a * (1 - a) / (gap / 2) ** 2,
            "the gap is halved after it is squared": lambda a, gap: (a - gap**2) / (gap**2 / 2),
        },
        tolerance=0.1,
    ),
    3: Exercise(
        paired_p,
        hint="Three pairs have eight ways to choose their signs. For which of them is the sum as far from zero?",
        note="Three pairs never bring it below 2 / 8: pairing asks for more seeds, and pays where seeds vary together.",
        others=lambda random: tuple((random.sample(range(90), n), random.sample(range(60), n)) for n in (4, 5)),
        calls=(([11, 12, 13], [1, 2, 4]), ([0.93, 0.94, 0.935, 0.92], [0.92, 0.945, 0.92, 0.91])),
        mistakes={
            "a sum as far on the other side of zero counts too": lambda a, b: paired_p(a, b, two_sided=False),
            "the signs that were found count too, and their opposites": lambda a, b: paired_p(a, b, found_counts=False),
            "the runs are dealt out anew, though each has a partner": permutation_p,
        },
    ),
    4: Exercise(
        average_accuracy,
        hint="In which dimension of logits do the networks lie?",
        note="Where the networks disagree, the error of one is outvoted by the others. The errors that all share stay.",
        calls=(some_logits(),),
        others=lambda random: (some_logits(random.randint(1, 9**9)),),
        mistakes={
            "it is the mean of the networks' accuracies": lambda x, y: (x.argmax(2) == y).float().mean().item(),
            "it is the accuracy of the best network alone": lambda x, y: (
                (x.argmax(2) == y).float().mean(1).max().item()
            ),
            "each network has a vote, but it is their logits that are averaged": lambda x, y: (
                (x.argmax(2).mode(0).values == y).float().mean().item()
            ),
            "the probabilities are averaged, not the logits": lambda x, y: average_accuracy(x.softmax(2), y),
        },
    ),
    5: Exercise(
        None,
        judge=judge_flips,
        note="What differs less than the seeds do is not shown by three of them, in either direction.",
        limit=120,
    ),
}
