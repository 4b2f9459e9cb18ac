"""The exercises of the chapter "Training fast"."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from d2lnets.checks.exercises.exercise import Exercise, expect, expect_tensor, numbers


def two_rates(first: float = 0.25, last: float = 1.0, high: float = 0.2) -> list[float]:
    """Of a rate that reaches its highest value at the fraction `first` of the steps, and zero at `last`."""
    return [high * (last - done) / (last - first) for done in (0.5, 0.75)]


def steps_and_warmup(images: int = 55_000, batch: int = 128, epochs: int = 4) -> list[int]:
    steps = epochs * -(-images // batch)
    return [steps, steps // 4]


def spread_labels(labels: Tensor, true: float = 0.91, other: float = 0.01) -> Tensor:
    return torch.full((len(labels), 10), other).scatter_(1, labels[:, None], true)


def judge_smoothed_loss(loss: Any, logits: Tensor, labels: Tensor) -> None:
    target, logs = spread_labels(labels), logits.log_softmax(1)
    wanted = F.cross_entropy(logits, labels, label_smoothing=0.1)

    def with_target(*weights):
        return -(spread_labels(labels, *weights) * logs).sum(1).mean()

    mistakes = {
        "the labels are not smoothed": with_target(1.0, 0.0),
        "the true class lacks its own share of the 0.1": with_target(0.9, 0.01),
        "the 0.1 is spread over the other nine classes, not over all ten": with_target(0.9, 0.1 / 9),
        "every class gets 0.1, not a tenth of it": with_target(1.0, 0.1),
        "it is the sum over the examples, not their mean": len(labels) * wanted,
        "the mean over the examples is missing": -(target * logs).sum(1),
        "the mean is taken over the classes as well, where a sum belongs": wanted / 10,
        "the sign: a cross-entropy is not negative": -wanted,
        "the logits are not made log-probabilities (log_softmax)": -(target * logits).sum(1).mean(),
        "the logarithm of the probabilities is missing": -(target * logits.softmax(1)).sum(1).mean(),
        "softmax is taken over the examples, not over the classes": -(target * logits.log_softmax(0)).sum(1).mean(),
    }
    expect_tensor(loss, wanted, mistakes, "Print the target of one example: ten numbers, which sum to 1.")


def judge_lost_by_rate(lost: Any, epochs: int) -> None:
    (lost,) = numbers(lost, 1, "the difference of two accuracies").tolist()
    what = f"{lost:.3f} after {epochs} epochs cannot be."
    hint = "600 images in batches of 16 are 38 steps an epoch. Which accuracy is subtracted from which?"
    expect(lost > -0.03, what, "the lower rate's accuracy is subtracted from the higher one's", hint)
    expect(lost <= 1, what, "it is a percentage", hint)
    long = "the higher rate was not trained for as many epochs as the lower, or in larger batches"
    if epochs == 3:
        expect(lost < 0.25, what, long, hint)
    else:
        expect(lost > 0.05, what, "both were trained for too long, or learned nothing in large batches", hint)


LOGITS = torch.tensor([[float((7 * i + 3 * j * j) % 11 - 5) for j in range(10)] for i in range(3)]) / 2
SMALLEST_LOSS = F.cross_entropy(
    spread_labels(torch.zeros(1, dtype=torch.long)).log(), torch.tensor([0]), label_smoothing=0.1
)

TRAINING_FAST = {
    1: Exercise(
        two_rates,
        hint="The rate is highest after a quarter of the steps; what is left of the way down after a half?",
        mistakes={
            "the rate is taken to fall from the start, not from a quarter of the steps on": two_rates(first=0.0),
            "the rate is taken to fall from a half of the steps on, not from a quarter": [0.2, 0.1],
            "the rate is taken to stay at its highest value": [0.2, 0.2],
            "they are in the other order": two_rates()[::-1],
            "they are fractions of the highest rate, not rates": two_rates(high=1.0),
        },
        tolerance=6e-4,
    ),
    2: Exercise(
        steps_and_warmup,
        hint="How many steps has one epoch, and how large is the last batch?",
        mistakes={
            "the smaller batch at the end of an epoch is not counted": [4 * 429, 429],
            "a batch is taken to reach into the next epoch": [1719, 429],
            "all 60,000 images are counted, also the 5,000 for validation": steps_and_warmup(60_000),
            "these are the steps of one epoch": steps_and_warmup(epochs=1),
            "the steps of an epoch are not a whole number": [1718.75, 429.6875],
        },
    ),
    3: Exercise(
        None,
        judge=judge_smoothed_loss,
        note=f"Its smallest value is {SMALLEST_LOSS:.3f}, where the probabilities equal the target.",
        calls=((LOGITS, torch.tensor([3, 0, 9])), (-LOGITS[:2], torch.tensor([1, 1]))),
        others=lambda random: tuple((3 * torch.randn(n, 10), torch.randint(10, (n,))) for n in (4, 7)),
    ),
    4: Exercise(
        lambda rate, momentum: rate / (1 - momentum),
        hint="Run velocity = momentum * velocity + 1 a hundred times: where does it end?",
        note="A constant gradient g ends at the velocity g (1 + m + m² + ...) = g / (1 - m) with momentum m.",
        calls=((0.2, 0.9), (0.1, 0.5), (0.3, 0.0)),
        others=lambda random: tuple((random.uniform(0.01, 0.5), random.uniform(0.1, 0.95)) for _ in range(3)),
        mistakes={
            "the rate is made lower, as if momentum made the steps shorter": lambda r, m: r * (1 - m),
            "the rate is multiplied by the momentum": lambda r, m: r * m,
            "only one earlier gradient is counted, not all of them": lambda r, m: r * (1 + m),
            "the rate is divided by the momentum, not by what it takes away": lambda r, m: r / (m or 1),
            "it is the factor, not the rate": lambda r, m: 1 / (1 - m),
            "the factor 10 holds for momentum 0.9 only": lambda r, m: 10 * r,
        },
        tolerance=1e-3,
    ),
    5: Exercise(
        None,
        judge=judge_lost_by_rate,
        note="The high rate costs the short training far more. For the best rate of each, more rates are needed, "
        "and more seeds.",
        calls=((1,), (3,)),
        limit=300,
    ),
}
