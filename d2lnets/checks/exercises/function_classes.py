"""The exercises of the chapter "Function classes"."""

import math
from collections.abc import Iterable
from itertools import pairwise
from random import Random
from typing import Any

import torch
from torch import nn

from d2lnets.checks.exercises.exercise import Exercise, expect, numbers
from d2lnets.training.runs import load_experiment

POINTS = torch.linspace(0, 1, 1001, dtype=torch.float64)
TARGET = (2 * POINTS - 1).abs() + 0.2 * torch.sin(9 * POINTS)


def distance_with(kinks: Iterable[float]) -> float:
    """The least distance (root mean square) of the piecewise straight functions with such kinks to the target."""
    units = [(POINTS - kink).relu() for kink in kinks]
    columns = torch.stack([torch.ones_like(POINTS), POINTS, *units], dim=1)
    values = columns @ torch.linalg.lstsq(columns, TARGET[:, None], driver="gelsd").solution
    return (values[:, 0] - TARGET).square().mean().sqrt().item()


def steps_contained(pieces: Iterable[int]) -> list[bool]:
    return [longer % shorter == 0 for shorter, longer in pairwise(pieces)]


def judge_kinks(kinks: Any) -> None:
    kinks = numbers(kinks, 5, "the kinks in the order in which they come").tolist()
    inside = len(set(kinks)) == 5 and all(0 < kink < 1 for kink in kinks)
    expect(inside, f"Five different numbers between 0 and 1 were expected; {kinks} came.")
    for k in range(2, 7):
        ours, theirs = distance_with(kinks[: k - 1]), distance_with([j / k for j in range(1, k)])
        what = f"Class F{k}, with the kinks {kinks[: k - 1]}, has distance {ours:.4f}; equal pieces have {theirs:.4f}."
        best = min(distance_with([*kinks[: k - 2], i / 24]) for i in range(1, 24)) if ours > theirs + 1e-9 else 0
        early = "the kinks before its last one: with them no last kink is good enough"
        cause = early if best > theirs + 1e-9 else "its last kink stands in the wrong place"
        expect(ours <= theirs + 1e-9, what, cause, "Try the last kink at many places, and keep the place that is best.")


def judge_two_convolutions(convs: Any) -> None:
    convs = convs.children() if isinstance(convs, nn.Module) else convs
    convs = [layer for layer in convs if not isinstance(layer, nn.ReLU)] if isinstance(convs, Iterable) else []
    two = len(convs) == 2 and all(isinstance(conv, nn.Conv2d) for conv in convs)
    expect(two, "Two convolutions (nn.Conv2d) were expected, in a list.")
    one, last = convs
    between, sizes = one.out_channels, {(3, 3)}
    expect({one.kernel_size, last.kernel_size} == sizes, "Both convolutions were expected to be 3×3.")
    expect((one.in_channels, last.out_channels) == (8, 8), "8 channels are to come in, and 8 to go out.")
    x = torch.randn(2, 8, 6, 6)
    with torch.no_grad():
        y, big = last(one(x).relu()), last(one(1e6 * x).relu()) / 1e6
    expect(y.shape == x.shape, f"Maps of 6×6 came out as {y.shape[2]}×{y.shape[3]}.", "a padding of 1 is missing")
    near, plus, minus = (torch.allclose(y, each, atol=1e-4) for each in (x, x.relu(), x.abs()))
    causes = (
        (near, "a large bias keeps the ReLU from clipping, but only for small inputs"),
        (plus, "what is negative in x does not pass the ReLU, so it has to go there with its sign changed"),
        (minus, "the second convolution adds the two parts: it gives the absolute value"),
        (torch.allclose(y, -x, atol=1e-4), "the sign: it gives -x"),
        (between < 16, "each channel needs two in between"),
    )
    cause = next((words for holds, words in causes if holds), "")
    hint = "What does relu(x) - relu(-x) give, for x = 3 and for x = -3?"
    same = near and torch.allclose(big, x, atol=1e-4)
    expect(same, "y = x was expected for all x.", cause, hint)
    few = f"It is the identity, but {between} channels in between are more than it needs."
    expect(between <= 16, few, hint="Which of them carry the same numbers as others?")


def recorded_errors(network: str = "plain56-thin", epoch: int = 20) -> list[float]:
    """After that epoch, means over the recorded seeds: the error in training mode, in eval mode, on other images."""
    runs = [run for (name, _), each in load_experiment("degradation").items() if name == network for run in each]
    epochs = [run.epochs[epoch - 1] for run in runs]
    errors = [(1 - e["train_accuracy"], e["train_error"], 1 - e["validation_accuracy"]) for e in epochs]
    return [sum(each) / len(each) for each in zip(*errors)]


def answers_to_skeptics(network: str = "plain56-thin", epoch: int = 20) -> list[float]:
    batches, trained, others = recorded_errors(network, epoch)
    return [batches, others - trained]


def judge_random_kinks(counts: Any) -> None:
    kept, anew = numbers(counts, 2, "for kept kinks and for those drawn anew").tolist()
    what = f"{kept:g} and {anew:g} of 100 cannot be."
    hint = "In one repetition, are the kinks of a class all among those of the next?"
    swapped = anew == 0 and kept > 50
    expect(not swapped, what, "they are in the other order", hint)
    expect(max(kept, anew) <= 100, what, "every rise is counted, not every repetition with a rise", hint)
    expect(kept == 0, what, "rounding counts as a rise, or kinks get lost on the way", hint)
    expect(anew > 80, what, "too few families are drawn anew, or some of their kinks are kept", hint)


def judge_plain_error(error: Any, depth: int) -> None:
    (error,) = numbers(error, 1, "the training error").tolist()
    expect(0 <= error <= 1, f"{error:g} cannot be a fraction.", "it is a percentage" if 1 < error <= 100 else "")
    what = f"{error:.2f} for {depth} layers cannot be."
    hint = "What does cifar_resnet have to be told, and how many images and epochs are data and short?"
    if depth == 8:
        expect(error < 0.6, what, "it is the accuracy, or the network was not trained", hint)
        expect(error > 0.2, what, "more images or epochs than asked for", hint)
    else:
        expect(error > 0.45, what, "the network has shortcuts, or had more images or epochs than asked for", hint)


def other_pieces(random: Random) -> tuple[tuple[list[int]], ...]:
    """Two growing lists: some numbers are multiples of the one before, and some are not."""
    lists = []
    for _ in range(2):
        pieces = [random.randint(2, 5)]
        for grow in random.sample((2, 3, 0, 0, 2), 5):
            pieces.append(pieces[-1] * grow or pieces[-1] + random.randint(1, pieces[-1] - 1))
        lists.append((pieces,))
    return tuple(lists)


FUNCTION_CLASSES = {
    1: Exercise(
        steps_contained,
        hint="Write down the kinks of both classes of the step as fractions.",
        note="Every old kink must be a new one, so the old number divides the new one.",
        calls=(([2, 3, 4, 6, 12],), ([1, 7, 14, 20, 60, 90],)),
        others=other_pieces,
        mistakes={
            "more pieces are taken to be enough: every old kink has to be a new one": lambda pieces: (
                [True] * (len(pieces) - 1)
            ),
            "only a doubling is taken to keep all kinks": lambda pieces: [b == 2 * a for a, b in pairwise(pieces)],
            "one kink in common is taken to be enough: all old ones must be new ones": (
                lambda pieces: [math.gcd(a, b) > 1 for a, b in pairwise(pieces)]
            ),
            "each number is compared with the first, not with the one before": (
                lambda pieces: [each % pieces[0] == 0 for each in pieces[1:]]
            ),
        },
    ),
    2: Exercise(
        None,
        judge=judge_kinks,
        note="Nesting promises that no step does harm; that the nested family is the better one takes good kinks.",
    ),
    3: Exercise(
        None,
        judge=judge_two_convolutions,
        note="x = relu(x) - relu(-x), so two channels in between for each. A ReLU after it would clip what is negative "
        "in x, whatever the kernels.",
    ),
    4: Exercise(
        answers_to_skeptics,
        hint="Which error does without the running averages? Which two are far apart in an overfitted network?",
        note="The running averages, at a high learning rate, are a part of it: with the batch's own mean and variance "
        "plain56-thin errs less, but still far more than plain20-thin. And an overfitted network errs far less on the "
        "training images than on others; this one does not.",
        mistakes={
            "the first is train_error, which is measured with the running averages, as that skeptic says": lambda: [
                recorded_errors()[1],
                answers_to_skeptics()[1],
            ],
            "the first is an accuracy, not an error": lambda: [1 - recorded_errors()[0], answers_to_skeptics()[1]],
            "the training error minus the validation error is returned": lambda: [
                answers_to_skeptics()[0],
                -answers_to_skeptics()[1],
            ],
            "the second is the validation error alone": lambda: recorded_errors()[::2],
            "the second compares with the error of the batches, not with train_error": lambda: [
                recorded_errors()[0],
                recorded_errors()[2] - recorded_errors()[0],
            ],
            "they are in the other order": lambda: answers_to_skeptics()[::-1],
            "they are of the last epoch": lambda: answers_to_skeptics(epoch=80),
            "they are of epoch 21: counted from 0, epoch 20 has the index 19": lambda: answers_to_skeptics(epoch=21),
            "the runs of plain20-thin are averaged": lambda: answers_to_skeptics("plain20-thin"),
        },
        tolerance=6e-4,
    ),
    5: Exercise(
        None,
        judge=judge_random_kinks,
        note="Kept kinks give nested classes, wherever they lie; new ones give none, save that F1 is in all.",
        limit=60,
    ),
    6: Exercise(
        None,
        judge=judge_plain_error,
        calls=((8,), (32,)),
        note="Where between the two a plain network begins to lose, and whether that moves with the budget, "
        "takes more runs than this check makes.",
        limit=300,
    ),
}
