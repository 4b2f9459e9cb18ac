"""Hidden tests: the checks with a seed, which try other inputs, channels and arguments than a student sees."""

import ast

import pytest
import students
from course.book import exercises
from student_edition import chapters
from torch import nn

import d2lnets
from d2lnets import checks
from d2lnets.checks.contracts import BOTTLENECK, DENSE_BLOCK, INCEPTION, RESIDUAL, TRANSITION
from d2lnets.checks.exercises import EXERCISES

BLOCKS = {
    "residual": (checks.check_residual, RESIDUAL, students.RESIDUAL),
    "bottleneck": (checks.check_bottleneck, BOTTLENECK, students.BOTTLENECK),
    "dense block": (checks.check_dense_block, DENSE_BLOCK, students.DENSE),
    "transition": (checks.check_transition, TRANSITION, students.TRANSITION),
    "Inception": (checks.check_inception, INCEPTION, students.INCEPTION),
}
WITH_OTHERS = [(name, n) for name, each in EXERCISES.items() for n, exercise in each.items() if exercise.others]


NOTEBOOKS, EXERCISES_OF = chapters(), exercises()


def values(args):
    """Arguments to compare; of a module its weights."""
    return str([each.state_dict() if isinstance(each, nn.Module) else each for each in args])


def seen_only(block, contract):
    """A block that is right with the channels that the visible check builds it with, and no module with others."""
    seen = [tuple(case.values()) for case in contract.cases]
    return lambda *args: block(*args) if args in seen else nn.Identity()


@pytest.mark.parametrize("name", BLOCKS)
def test_a_right_block_passes_and_one_for_the_visible_check_does_not(name):
    check, contract, source = BLOCKS[name]
    block = students.written(source)
    learned = seen_only(block, contract)
    assert check(block) and check(learned)
    for seed in (1, 2, 77):
        assert check(block, seed=seed), check(block, seed=seed)
        assert not check(learned, seed=seed)


def test_other_channels_are_equal_where_they_were_and_inputs_are_larger():
    other = RESIDUAL.varied(5)
    for case, before in zip(other.cases, RESIDUAL.cases):
        assert (case["in_channels"] == case["out_channels"]) == (before["in_channels"] == before["out_channels"])
        assert case["stride"] == before["stride"]
        assert all(a > b for a, b in zip(other.shapes(case)[0][2:], RESIDUAL.shapes(before)[0][2:]))
    assert other.cases != RESIDUAL.cases and RESIDUAL.varied(0) is RESIDUAL and RESIDUAL.varied(5).cases == other.cases


def test_a_network_passes_with_every_seed():
    assert checks.check_resnet18(d2lnets.resnet18, seed=3)


@pytest.mark.parametrize("name, number", WITH_OTHERS)
def test_an_answer_that_knows_the_visible_arguments_fails(name, number):
    """The chapter's solution passes with every seed; a table of what the visible check asks for does not."""
    each, exercise = EXERCISES_OF[name][number], EXERCISES[name][number]
    solution = ast.parse(each["solution"].source)
    solution.body = [node for node in solution.body if isinstance(node, ast.FunctionDef | ast.ImportFrom)]
    space = {}
    exec(next(cell.source for cell in NOTEBOOKS[each["notebook"]].cells if cell.id == "setup"), space)
    exec(compile(solution, "solution", "exec"), space)
    right = space["solution"]

    def learned(*args):
        if any(values(args) == values(call) for call in exercise.calls):
            return right(*args)
        raise LookupError("not seen")

    assert checks.check_exercise(name, number, learned)
    for seed in (1, 2):
        verdict = checks.check_exercise(name, number, right, seed=seed)
        assert verdict, verdict
        assert not checks.check_exercise(name, number, learned, seed=seed)


@pytest.mark.parametrize("name, number", [each for each in WITH_OTHERS if EXERCISES[each[0]][each[1]].answer])
def test_a_mistake_fails_with_other_arguments_too(name, number):
    exercise = EXERCISES[name][number]
    for cause, wrong in exercise.mistakes.items():
        assert not checks.check_exercise(name, number, wrong, seed=9), cause
