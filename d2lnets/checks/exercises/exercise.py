"""What an exercise is, and what its judges share."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from d2lnets.checks.judging import Refused
from d2lnets.checks.recording import observe, randomize
from d2lnets.checks.replaying import Plan, departs_at, difference, replay


@dataclass(frozen=True)
class Exercise:
    """One exercise, whose answer is a function.

    Attributes:
        answer: a right one, with the same arguments.
        hint: for one whose mistake is not known.
        note: what to know once it is solved.
        calls: the arguments that answers are tried with; for each call a tuple.
        mistakes: wrong answers, and what is wrong with each.
        judge: takes what an answer returned and the call's arguments, and raises `Refused`; in place of `answer`
            where more than one thing is right.
        tolerance: by how much numbers may differ.
        limit: seconds of computing.
    """

    answer: Callable | None
    hint: str = ""
    note: str = ""
    calls: tuple = ((),)
    mistakes: dict = field(default_factory=dict)
    judge: Callable | None = None
    tolerance: float = 1e-6
    limit: float = 10


def parameters(module):
    return sum(weight.numel() for weight in module.parameters())


def expect(condition, what, cause="", hint=""):
    """For a `judge`: refuse the answer unless the condition holds."""
    if not condition:
        raise Refused(what, cause, hint)


def expect_program(module, program, shape, mistakes, hint, rights=(None,)):
    """For a `judge`: refuse a module unless it does with its weights what the program does (`programs.py`)."""
    expect(isinstance(module, nn.Module), f"An nn.Module was expected; {type(module).__name__} came.")
    doing, x, module = f"for an input of shape {shape}", torch.randn(shape), copy.deepcopy(module)
    randomize(module, observe(module, x, False, doing))
    record = observe(module, x, False, doing)

    def does(v):
        with torch.no_grad():
            return replay(lambda net, x: program(net, x, v), record, x, False)

    agreed = next(filter(None, map(does, rights)), None)
    if agreed:
        used = {p.data_ptr() for made in agreed.used for p in (made.weight, made.bias) if p is not None}
        idle = [name for name, p in module.named_parameters() if p.data_ptr() not in used]
        expect(not idle, "A layer too many came.", f"{', '.join(idle[:4])} has no effect on the output", hint)
        return
    what, plan = "With the same weights another output was expected.", Plan(program, shape)
    if plan.output.shape != record.output.shape:
        what = f"F{doing[1:]}, {tuple(plan.output.shape)} was expected; {tuple(record.output.shape)} came."
    for v, cause in mistakes.items():
        expect(not does(v), what, cause, hint)
    raise Refused(what, difference(plan.calls, record.calls) or departs_at(program, record, x, False), hint)


def numbers(given, count, which):
    """For a `judge`: what came, as a tensor of so many numbers."""
    try:
        values = torch.as_tensor(given, dtype=torch.float64).flatten()
    except (TypeError, ValueError, RuntimeError):
        values = None
    came = f"a {type(given).__name__}" if values is None else len(values)
    expect(
        came == count, f"{'A number was' if count == 1 else f'{count} numbers were'} expected, {which}; {came} came."
    )
    return values


def expect_tensor(given, wanted, mistakes, hint):
    """For a `judge`: refuse what came unless it is the tensor `wanted`; for each cause, the tensor it leads to."""
    kind = type(given).__name__
    expect(isinstance(given, (torch.Tensor, float)), f"A tensor was expected; {kind} came.")
    given, shape = torch.as_tensor(given, dtype=wanted.dtype), tuple(wanted.shape)
    if given.numel() == wanted.numel() == 1:
        given = given.reshape(shape)

    def agrees(other):
        return given.shape == other.shape and torch.allclose(given, other, rtol=1e-4, atol=1e-5)

    if agrees(wanted):
        return
    what = "Other values were expected."
    if given.shape != wanted.shape:
        what = f"A tensor of shape {shape} was expected; {tuple(given.shape)} came."
    cause = next((words for words, other in mistakes.items() if agrees(other)), "")
    raise Refused(what, cause, hint)
