"""Judged apart: what another process answers is judged as in one; what it makes up is not believed."""

import os
import re
import socket
import subprocess
import sys
from collections import OrderedDict
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import students
import torch
from course import apart, worker
from helpers import ROOT
from students import written

import d2lnets
from d2lnets import checks

KINDS = {
    "RESIDUAL": ("check_residual", students.RIGHT_RESIDUALS),
    "BOTTLENECK": ("check_bottleneck", students.RIGHT_BOTTLENECKS),
    "DENSE": ("check_dense_block", students.RIGHT_DENSE_BLOCKS),
    "TRANSITION": ("check_transition", students.RIGHT_TRANSITIONS),
    "INCEPTION": ("check_inception", students.RIGHT_INCEPTIONS),
}
RIGHT = [(check, answer) for check, styles in KINDS.values() for answer in styles.values()]
RIGHT += [("check_resnet18", written(students.RESNET18)), ("check_resnet18", d2lnets.resnet18())]
WRONG = [
    (KINDS[name][0], written(getattr(students, name), *edits), phrase)
    for name in KINDS
    for edits, phrase in [*getattr(students, f"{name}_MISTAKES").values()][::4]
    if "ndarray" not in phrase  # which comes as a tuple
]
FORWARD = "        y = self.conv1(x)\n"


class Cut(torch.autograd.Function):
    """The identity, without its gradient."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return 0 * gradient


def hooked(*args):
    """A block whose hook takes the gradient away."""
    block = d2lnets.Residual(*args)
    block.conv1.weight.register_hook(lambda gradient: 0 * gradient)
    return block


ODD = [  # and what is said of it
    (
        "check_residual",
        written(students.RESIDUAL, (FORWARD, f"        x = Cut.apply(x)\n{FORWARD}"), Cut=Cut),
        "person",
    ),
    ("check_residual", hooked, "person"),
    (
        "check_residual",
        written(students.RESIDUAL, ("y = y + s", "raise ValueError('a < b')")),
        "of forward: raise ValueError",
    ),
    ("check_residual", written(students.RESIDUAL, (FORWARD, f"        self.missing\n{FORWARD}")), "never sets"),
    (
        "check_residual",
        written("def net(a, b, c): raise NotImplementedError('a block')"),
        "Still to be written: a block",
    ),
    ("check_residual", written("def net(a, b, c):\n    while True: pass"), "raised TimeoutError"),
    ("check_residual", written("def net(a, b, c): pass"), "has no return"),
]
NUMBERS = [230_272, 230_272.0, Decimal(230_272), Fraction(230_272), np.float32(230_272), np.array([230_272]),
           torch.tensor(230_272), lambda: Decimal("230272.0")]  # fmt: skip
ANSWERS = {f"answer{i}": answer for i, (_, answer, *_) in enumerate([*RIGHT, *WRONG, *ODD])}
ANSWERS |= {f"number{i}": number for i, number in enumerate(NUMBERS)}


@pytest.fixture(scope="module")
def verdict():
    """Of the judge, on a name that another process has."""
    here, there = socket.socketpair()
    paths = [str(ROOT / each) for each in ("tools", "tests", "tests/checks")]
    serve = (
        f"import sys; sys.path[:0] = {paths}; import test_apart; from course import apart, worker;"
        f"apart.Witness(test_apart.ANSWERS, {{}}, worker.interrupted).serve(apart.Wire({there.fileno()}))"
    )
    with subprocess.Popen([sys.executable, "-c", serve], pass_fds=[there.fileno()]) as process, there:
        names = apart.Names(checks, apart.Wire(here.detach()))
        with pytest.MonkeyPatch.context() as patch:
            apart.patient(names, patch.setattr)
            yield lambda call: worker.judged(f"verdict = checks.{call}, seed=3)", names)
        process.kill()


@pytest.mark.parametrize("i", range(len(RIGHT)))
def test_a_right_answer_passes_in_any_style(verdict, i):
    passed, message = verdict(f"{RIGHT[i][0]}(answer{i}")
    assert passed, message


@pytest.mark.parametrize("i", range(len(WRONG + ODD)))
def test_a_wrong_answer_is_refused_with_the_same_words(verdict, i):
    check, _, phrase = [*WRONG, *ODD][i]
    limit = ", limit=0.5" if "Timeout" in phrase else ""
    passed, message = verdict(f"{check}(answer{len(RIGHT) + i}{limit}")
    assert not passed and phrase in message


@pytest.mark.parametrize("i", range(len(NUMBERS)))
def test_a_number_is_a_number_of_any_kind(verdict, i):
    assert verdict(f'check_exercise("resnet18", 2, number{i}')[0]
    assert checks.check_exercise("resnet18", 2, NUMBERS[i]).passed
    assert not verdict(f'check_exercise("resnet18", 1, number{i}')[0]


def test_what_is_not_there_is_said(verdict):
    assert verdict('check_exercise("resnet18", 2, answer') == (False, "Not handed in: answer is not defined.")
    assert list not in (type(each) for each in verdict('check_exercise("resnet18", 2, sorted'))  # and Python's are


def module(**more):
    """A module's data, as another process may send it."""
    return {"same": 0, "own": {}} | {part: {} for part in apart.PARTS} | more


RESIDUAL = ("d2lnets.resnet", "Residual")
MADE_UP = [
    module(**{"class": ("os", "_Environ")}), module(**{"class": ("d2lnets.checks", "Verdict")}),
    module(**{"class": ("d2lnets.checks.values", "Verdict")}), {"tensor": OrderedDict, "same": 0, "parameter": False},
    OrderedDict, {"same": 1}, {"function": 0, "arguments": [("a b", 1, {})]}, {}, {1, 2},
]  # fmt: skip


@pytest.mark.parametrize("data", MADE_UP, ids=str)
def test_what_is_made_up_becomes_nothing(data):
    with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
        apart.decode(data, None)


def test_no_method_of_a_known_class_is_replaced():
    own = {"named_parameters": OrderedDict, "parameters": [OrderedDict], "_modules": {}, "stride": 2}
    made = apart.decode(module(**{"class": RESIDUAL, "own": own}), None)
    assert type(made) is d2lnets.Residual and made.stride == 2 and list(made.parameters()) == []


def test_the_judge_calls_no_function_that_reaches_further_than_numbers():
    known = apart.functions()
    assert len(known) > 1000 and {"torch.Tensor.relu", "torch.nn.functional.relu_", "torch.Tensor.T.__get__"} <= {
        *known
    }
    far = "load|save|set_|storage|file|pickle|memory|_C|resize|numpy|apply|import|exec|ptr|__reduce|fbgemm"
    assert [name for name in known if re.search(far, name.removeprefix("torch"))] == []


def test_data_that_holds_code_is_not_loaded():
    here, there = socket.socketpair()
    wire = apart.Wire(here.detach())
    apart.Wire(there.detach()).send(SimpleNamespace(code=os.system))
    with pytest.raises(apart.Unfit, match="more than data"):
        wire.receive()
