"""How sure a comparison is: runs are paired by seed, errors by image.

A seed is a block: it decides the order and the mirroring of the images for all that is trained with it. So what is
compared is the differences within seeds.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded when they are first used
import torch

from d2lnets.training.runs import WATCHED, Run, unpack


@dataclass(frozen=True)
class Difference:
    """A mean difference of accuracies with its interval; as text in percentage points.

    Attributes:
        mean: of the differences.
        low, high: ends of the confidence interval.
        p_value: how often chance alone sets the two at least as far apart.
        each: the differences themselves, by seed, or none where images were compared.
    """

    mean: float
    low: float
    high: float
    p_value: float
    each: tuple[float, ...] = ()

    def __str__(self) -> str:
        mean, low, high = (f"{100 * each:+z.2f}" for each in (self.mean, self.low, self.high))
        return f"{mean} ({low} to {high})"

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def accuracy(split: str = "test") -> Callable[[Run], float]:
    """Of a run, on ``"validation"``, ``"test"``, or either with ``"_mirrored"``: a function for `by_seed`."""
    return lambda run: 1 - float(wrong(run, split).double().mean())


def wrong(run: Run, split: str = "test") -> torch.Tensor:
    """Which images of a split a recorded run got wrong: (N,) of bool, in the order of the data set."""
    return unpack(run.errors[split]) > 0


def taken_for(run: Run, split: str = "test") -> tuple[torch.Tensor, torch.Tensor]:
    """The labels of the test images, and what a recorded run took them for: two tensors (N,) of classes from 0 to 9.

    Args:
        split: ``"test"``, or ``"test_mirrored"`` where the mirror image was asked as well.
    """
    labels = unpack(json.loads(WATCHED.read_text(encoding="utf-8"))["test"]).long()
    return labels, (labels + unpack(run.errors[split])) % 10


def by_seed(runs: Iterable[Run], others: Iterable[Run], score: Callable[[Run], float]) -> Difference:
    """The score of `runs` minus that of `others`, seed by seed.

    Raises:
        ValueError: the two have not the same seeds, each once, or those of one seed were made on unlike machines.
    """
    runs, others = (sorted(each, key=lambda run: run.seed) for each in (runs, others))
    first, second = ([run.seed for run in each] for each in (runs, others))
    if first != second or len(set(first)) < len(first):
        raise ValueError(f"to be paired both need the same seeds, each once, and have {first} and {second}")
    for run, other in zip(runs, others):
        devices = [str(each.machine["device"]) for each in (run, other)]
        if len(set(devices)) > 1:
            raise ValueError(f"a seed is a block on one kind of machine; seed {run.seed} has {' and '.join(devices)}")
    return paired([score(run) for run in runs], [score(run) for run in others])


def paired(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Difference:
    """The differences ``a[i] - b[i]``: their mean with Student's interval, and the sign-flip test.

    The interval takes the differences as drawn independently from one normal distribution. The test only takes it
    that, if nothing differs, each could as well have the other sign; with n pairs its least p-value is 2 / 2^n.
    """
    differences = np.subtract(a, b)
    if len(differences) < 2:
        raise ValueError(f"an interval needs two pairs or more, got {len(differences)}")
    half = scipy.stats.t.ppf((1 + confidence) / 2, len(differences) - 1) * scipy.stats.sem(differences)
    flips = scipy.stats.permutation_test((differences,), np.mean, permutation_type="samples")  # all, up to 13 pairs
    mean = float(differences.mean())
    return Difference(mean, mean - half, mean + half, float(flips.pvalue), tuple(map(float, differences)))


def mcnemar(wrong_a: torch.Tensor, wrong_b: torch.Tensor, confidence: float = 0.95) -> Difference:
    """The accuracy of network a minus that of b on the same images, from which images each gets wrong, (N,) of bool.

    McNemar's test, exact: only images that one of the two gets wrong tell them apart, and if the two are equally
    good, each of these is as likely a's as b's. The interval is for other images, not for other seeds.
    """
    only_a, only_b = int((wrong_a & ~wrong_b).sum()), int((wrong_b & ~wrong_a).sum())
    images, apart = len(wrong_a), only_a + only_b
    mean = (only_b - only_a) / images
    half = scipy.stats.norm.ppf((1 + confidence) / 2) * ((apart - images * mean**2) / images**2) ** 0.5
    p_value = scipy.stats.binomtest(only_a, apart).pvalue if apart else 1.0
    return Difference(mean, mean - half, mean + half, float(p_value))


def seeds_needed(deviation: float, difference: float, power: float = 0.8, confidence: float = 0.95) -> int:
    """How many seeds find a difference with this power, where the differences by seed have this standard deviation."""
    seeds, found = 1, 0.0
    while found < power:
        seeds += 1
        bound, shift = scipy.stats.t.ppf((1 + confidence) / 2, seeds - 1), abs(difference) / deviation * seeds**0.5
        with np.errstate(divide="ignore"):  # of which some versions of SciPy warn
            found = scipy.stats.nct.sf(bound, seeds - 1, shift) + scipy.stats.nct.cdf(-bound, seeds - 1, shift)
    return seeds


def images_needed(apart: float, difference: float, errors: float = 2.0) -> float:
    """How many shared test images make a difference of accuracies as large as so many of its standard errors.

    Args:
        apart: the share of images that exactly one of the two networks gets wrong.
    """
    return (errors / difference) ** 2 * (apart - difference**2)
