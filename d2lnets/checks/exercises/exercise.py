"""What an exercise is, and what its judges share."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from d2lnets.checks.programs.variants import Variant
from d2lnets.checks.recording import observe, randomize
from d2lnets.checks.replaying import Plan, departs_at, difference, replay
from d2lnets.checks.wording import Refused


@dataclass(frozen=True)
class Exercise:
    """One exercise, whose answer is a function.

    Attributes:
        answer: a right one, with the same arguments.
        hint: for one whose mistake is not known.
        note: what to know once it is solved.
        calls: the arguments that answers are tried with; for each call a tuple.
        others: draws other arguments, which a hidden test takes; None where there are no others.
        mistakes: wrong answers, and what is wrong with each.
        judge: takes what an answer returned and the call's arguments, and raises `Refused`; in place of `answer`
            where more than one thing is right.
        tolerance: by how much numbers may differ.
        limit: seconds of computing.
    """

    answer: Callable[..., Any] | None
    hint: str = ""
    note: str = ""
    calls: tuple[tuple, ...] = ((),)
    others: Callable[[Random], tuple[tuple, ...]] | None = None
    mistakes: dict[str, Any] = field(default_factory=dict)
    judge: Callable[..., None] | None = None
    tolerance: float = 1e-6
    limit: float = 10


def parameters(module: nn.Module) -> int:
    """Their number."""
    return sum(weight.numel() for weight in module.parameters())


def expect(condition: object, what: str, cause: str = "", hint: str = "") -> None:
    """For a `judge`: refuse the answer unless the condition holds."""
    if not condition:
        raise Refused(what, cause, hint)


def expect_program(
    module: Any,
    program: Callable[..., Tensor],
    shape: tuple[int, ...],
    rights: Sequence[Variant],
    mistakes: Iterable[Variant],
    hint: str,
) -> None:
    """For a `judge`: refuse a module unless it does with its weights what the program does (`programs`).

    Args:
        program: takes a net, an input and a variant `v`.
        rights: variants that are right; the first says which layers were expected.
        mistakes: variants that are wrong; the first that gives what the module gave says the cause.
    """
    expect(isinstance(module, nn.Module), f"An nn.Module was expected; {type(module).__name__} came.")
    doing, x, module = f"for an input of shape {shape}", torch.randn(shape), copy.deepcopy(module)
    randomize(module, observe(module, x, False, doing))
    record = observe(module, x, False, doing)

    def does(v):
        with torch.no_grad():
            return replay(partial(program, v=v), record, x, False)

    agreed = next(filter(None, map(does, rights)), None)
    if agreed:
        used = {p.data_ptr() for made in agreed.used for p in (made.weight, made.bias) if p is not None}
        idle = [name for name, p in module.named_parameters() if p.data_ptr() not in used]
        expect(not idle, "A layer too many came.", f"{', '.join(idle[:4])} has no effect on the output", hint)
        return
    reference = partial(program, v=rights[0])
    what, plan = "With the same weights another output was expected.", Plan(reference, shape)
    assert plan.output is not None and record.output is not None
    if plan.output.shape != record.output.shape:
        what = f"F{doing[1:]}, {tuple(plan.output.shape)} was expected; {tuple(record.output.shape)} came."
    for mistake in mistakes:
        expect(not does(mistake), what, mistake.says, hint)
    raise Refused(what, difference(plan.calls, record.calls) or departs_at(reference, record, x, False), hint)


def numbers(given: Any, count: int, which: str) -> Tensor:
    """For a `judge`: what came, as a tensor of so many numbers."""
    what = f"{'A number was' if count == 1 else f'{count} numbers were'} expected, {which}"
    try:
        values = torch.as_tensor(given, dtype=torch.float64).flatten()
    except (TypeError, ValueError, RuntimeError):
        raise Refused(f"{what}; a {type(given).__name__} came.") from None
    expect(len(values) == count, f"{what}; {len(values)} came.")
    return values


def expect_tensor(given: object, wanted: Tensor, mistakes: dict[str, Tensor], hint: str) -> None:
    """For a `judge`: refuse what came unless it is the tensor `wanted`; for each cause, the tensor it leads to."""
    kind = type(given).__name__
    expect(type(given) in (torch.Tensor, nn.Parameter, float), f"A tensor was expected; {kind} came.")
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
