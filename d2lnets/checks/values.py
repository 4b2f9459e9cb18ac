"""Exercises that ask for a value: what was expected, what came, and which mistake leads there."""

import copy
import math
from collections.abc import Mapping
from functools import partial
from numbers import Number
from random import Random
from typing import Any

import torch
from torch import nn

from d2lnets.checks.exercises import EXERCISES
from d2lnets.checks.judging import call, judge
from d2lnets.checks.wording import Refused, Verdict, told


def check_value(
    answer: object, expected: object, mistakes: Mapping[str, object] | None = None, tolerance: float = 0
) -> Verdict:
    """Check a number, a shape, a word or a list that a prediction or counting exercise asks for.

    The expected value is not told.

    Args:
        answer: number, text, list, tuple, or tensor (of one element: that number).
        mistakes: causes in words, and for each the wrong value that it leads to.
        tolerance: by how much numbers may differ.

    Returns:
        A `Verdict`.
    """
    given, wanted = plain(answer), plain(expected)
    if agree(given, wanted, tolerance):
        return Verdict(True, f"{_short(answer)} is right.")
    for cause, value in (mistakes or {}).items():
        if agree(given, plain(value), tolerance):
            return Verdict(False, told(f"{_short(answer)} is not right.", cause))
    if answer is Ellipsis:
        return Verdict(False, "Nothing is filled in yet: put your answer in place of the three dots.")
    number = isinstance(wanted, Number) and not isinstance(wanted, bool)
    kinds = {
        str: "a text",
        tuple: f"a list or tuple of {len(wanted) if isinstance(wanted, tuple) else 0}",
        bool: "True or False",
    }
    kind = "a number" if number else kinds.get(type(wanted), f"a {type(wanted).__name__}")
    same = isinstance(given, Number) and not isinstance(given, bool) if number else type(given) is type(wanted)
    if not same or (isinstance(wanted, tuple) and len(given) != len(wanted)):
        asked = ": did the cell return or print?" if answer is None else "."
        return Verdict(False, f"{kind[0].upper()}{kind[1:]} was expected; {kind_of(answer)} came{asked}")
    if isinstance(wanted, tuple):
        wrong = next(i for i, (a, b) in enumerate(zip(given, wanted)) if not agree(a, b, tolerance))
        return Verdict(False, f"{_short(answer)} is not right: look at entry {wrong + 1} of {len(wanted)} again.")
    if number and not isinstance(given, complex):
        size = "not a number" if given != given else "too large" if given > wanted else "too small"
        return Verdict(False, f"{_short(answer)} is {size}.")
    return Verdict(False, f"{_short(answer)} is not right.")


def check_exercise(chapter: str, number: int, answer: object, seed: int = 0) -> Verdict:
    """Check what you wrote for an exercise: ``check_exercise("resnet18", 2, parameters_by_hand)``.

    Args:
        chapter: the name of its notebook.
        number: the exercise's.
        answer: the function that the exercise asks for; if it has no arguments, what it returns will do.
        seed: from 1 on, the function is called with other arguments, and tried with other random numbers.

    Returns:
        A `Verdict`.
    """
    try:
        exercise = EXERCISES[chapter][number]
    except (KeyError, TypeError):
        known = "; ".join(f"{name}: {', '.join(map(str, each))}" for name, each in EXERCISES.items())
        return Verdict(False, f"{chapter!r} has no exercise {number!r} that is checked so. There are {known}.")
    return judge(partial(_check_exercise, answer, exercise, seed), exercise.limit, seed)


def _check_exercise(answer, exercise, seed):
    calls = exercise.others(Random(seed)) if seed and exercise.others else exercise.calls
    given = []
    for args in calls:
        shown = f"({', '.join(map(_short, args))})"
        if callable(answer) and not isinstance(answer, nn.Module):
            given.append(call("calling your function" + f" with {shown}" * bool(args), answer, *copy.deepcopy(args)))
        elif args:
            raise Refused(
                f"A function was expected; {kind_of(answer)} came.", "", "Pass its name, without parentheses."
            )
        else:
            given.append(answer)
        if exercise.judge:
            call("checking what your function returned", exercise.judge, given[-1], *args)
    if exercise.judge:
        return Verdict(True, f"It does what was asked. {exercise.note}".rstrip())

    causes = {}  # those that explain the answers to all calls
    for cause, wrong in exercise.mistakes.items():
        values = [wrong(*args) if callable(wrong) else wrong for args in calls]
        if all(agree(plain(a), plain(b), exercise.tolerance) for a, b in zip(given, values)):
            causes[cause] = values
    for i, args in enumerate(calls):
        known = {cause: values[i] for cause, values in causes.items()}
        verdict = check_value(given[i], exercise.answer(*args), known, exercise.tolerance)
        if not verdict:
            where = f"For ({', '.join(map(_short, args))}): " if args else ""
            raise Refused(where + verdict.message, "", exercise.hint)
    told = verdict.message if calls == ((),) else "It does what was asked."
    return Verdict(True, f"{told} {exercise.note}".rstrip())


def kind_of(value: object) -> str:
    if value is None or value is Ellipsis:
        return "None" if value is None else "an ellipsis (...)"
    if isinstance(value, bool):
        return f"the truth value {value}"
    if isinstance(value, Number):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, (list, tuple, range)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


NUMBERS = (bool, int, float, complex)


def is_plain(value: object) -> bool:
    """Whether it is a number, and not of a class of theirs, which may say that it equals any, as may its metaclass."""
    return any(type(value) is kind for kind in NUMBERS)


def plain(value: Any) -> Any:
    """Tensors, arrays and shapes as Python numbers and tuples; text without case and spaces."""
    if isinstance(value, torch.Tensor) or type(value).__module__ == "numpy":
        value = value.tolist() if math.prod(value.shape) != 1 else value.item()
    if isinstance(value, (list, tuple, range)):
        return tuple(map(plain, value))
    if isinstance(value, Number) and not is_plain(value):
        return complex(value) if isinstance(value, complex) else float(value)  # type: ignore[arg-type]
    return "".join(str.split(value)).casefold().replace("×", "x") if isinstance(value, str) else value


def agree(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(agree(c, d, tolerance) for c, d in zip(a, b))
    if isinstance(b, bool):
        return is_plain(a) and a == b  # 1 is what tensors and arrays make of True
    if isinstance(a, bool) or not is_plain(a) or not isinstance(b, Number):
        return type(a) is type(b) and a == b
    return a == b or abs(a - b) <= tolerance  # type: ignore[operator]


def _short(value):
    if isinstance(value, torch.Tensor) and value.numel() > 10:
        return kind_of(value)
    text = " ".join(repr(_rounded(value)).split())
    return text if len(text) <= 200 else text[:200] + " ..."


def _rounded(value):
    """Numbers with as many digits as one reads: six that count below 1, four places above."""
    if type(value) in (list, tuple):
        return type(value)(map(_rounded, value))
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < 1 else round(value, 4)
    return value
