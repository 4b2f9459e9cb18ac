"""Self-checking exercises: wrong answers are refused with their cause named, right ones pass in any style."""

import functools
import random
import re
import sys
import threading
import time

import numpy as np
import pytest
import students
import torch
from students import written
from torch import nn

import d2lnets
from d2lnets import checks
from d2lnets.checks import check_residual, check_resnet18, check_value
from d2lnets.resnet import Bottleneck

BLOCKS = {
    "RESIDUAL": (checks.check_residual, students.RIGHT_RESIDUALS),
    "BOTTLENECK": (checks.check_bottleneck, students.RIGHT_BOTTLENECKS),
    "DENSE": (checks.check_dense_block, students.RIGHT_DENSE_BLOCKS),
    "TRANSITION": (checks.check_transition, students.RIGHT_TRANSITIONS),
    "INCEPTION": (checks.check_inception, students.RIGHT_INCEPTIONS),
}
NETWORKS = {
    "RESNET18": checks.check_resnet18,
    "DENSENET": checks.check_densenet,
    "GOOGLENET": checks.check_googlenet,
}


def mistakes(names):
    return [
        pytest.param(name, edits, phrase, id=f"{name.lower()}, {mistake}")
        for name in names
        for mistake, (edits, phrase) in getattr(students, f"{name}_MISTAKES").items()
    ]


@pytest.mark.parametrize("name, edits, phrase", mistakes(BLOCKS))
def test_a_mistake_in_a_block_is_refused_and_named(name, edits, phrase):
    verdict = BLOCKS[name][0](written(getattr(students, name), *edits))
    assert not verdict.passed
    assert phrase in verdict.message


@pytest.mark.parametrize("name, edits, phrase", mistakes(NETWORKS))
def test_a_mistake_in_a_network_is_refused_and_named(name, edits, phrase):
    verdict = NETWORKS[name](written(getattr(students, name), *edits))
    assert not verdict.passed
    assert phrase in verdict.message


@pytest.mark.parametrize(
    "check, answer",
    [pytest.param(check, answer, id=f"{name.lower()}, {style}")
     for name, (check, right) in BLOCKS.items() for style, answer in right.items()],
)  # fmt: skip
def test_a_right_block_passes_in_any_style(check, answer):
    verdict = check(answer)
    assert verdict.passed, verdict


@pytest.mark.parametrize(
    "check, answer",
    [
        (checks.check_residual, d2lnets.Residual),
        (checks.check_bottleneck, Bottleneck),
        (checks.check_bottleneck, functools.partial(Bottleneck, v1_5=True)),
        (checks.check_dense_block, d2lnets.DenseBlock),
        (checks.check_dense_block, functools.partial(d2lnets.DenseBlock, checkpoint=True)),
        (checks.check_transition, d2lnets.transition_block),
        (checks.check_inception, d2lnets.Inception),
        (checks.check_inception, functools.partial(d2lnets.Inception, batch_norm=True)),
        (checks.check_resnet18, d2lnets.resnet18),
        (checks.check_resnet18, written(students.RESNET18)),
        (checks.check_resnet18, written(students.RESNET18, students.NORM_ON_SHORTCUT)),
        (checks.check_densenet, d2lnets.densenet),
        (checks.check_densenet, written(students.DENSENET)),
        (checks.check_densenet, written(students.DENSENET, students.POOL_BEFORE_CONVOLUTION)),
        (checks.check_googlenet, d2lnets.googlenet),
        (checks.check_googlenet, functools.partial(d2lnets.googlenet, batch_norm=True)),
        (checks.check_googlenet, written(students.GOOGLENET)),
    ],
)  # fmt: skip
def test_the_package_passes(check, answer):
    verdict = check(answer)
    assert verdict.passed, verdict


def test_the_bottleneck_is_told_where_its_stride_is():
    assert "the first 1×1, as in the networks of 2015" in checks.check_bottleneck(Bottleneck).message
    assert "(v1.5)" in checks.check_bottleneck(functools.partial(Bottleneck, v1_5=True)).message
    assert "v1.5" not in checks.check_bottleneck(Bottleneck).message


# Every small change of a right source


WORDS = {  # a pattern, and what to put in its place
    r"\+": ["-", "*"],
    r"\[x, y\]": ["[y, x]", "[x]", "[y]"],
    r"\[a, b, c, d\]": ["[a, b, d, c]", "[a, b, c]"],
    r"F\.relu": ["F.gelu", "torch.tanh", "torch.abs", ""],
    r"nn\.ReLU": ["nn.ELU", "nn.Tanh", "nn.Identity"],
    r"nn\.MaxPool2d": ["nn.AvgPool2d"],
    r"nn\.AvgPool2d": ["nn.MaxPool2d"],
    r"BatchNorm2d": ["InstanceNorm2d"],
    r"(?<=self\.)conv(\d)(?=\()": ["bn1", "conv1", "conv2"],
    r"(?<=self\.)bn(\d)(?=\()": ["bn1", "bn2", "conv2"],
    r"(?<=[( ])x(?=[),])": ["y"],
    r"(?<=\()y(?=\))": ["x"],
    r"(?<=\b)\d(?=[,)])": ["0", "1", "2", "3", "5"],
    r"stride=\w+": ["stride=1", "stride=2"],
    r"padding=\d": ["padding=0", "padding=1", "padding=2"],
    r"dim=1": ["dim=0", "dim=2", "dim=3"],
    r"out_channels(?=[,)])": ["in_channels"],
    r"in_channels(?=[,)])": ["out_channels"],
    r"growth_rate(?=[,)])": ["width"],
    r"f\d(?=[,)])": ["f1", "f2", "f3"],
    r"c\d\[\d\]": ["c2[0]", "c2[1]", "c3[0]", "c3[1]"],
    r" or ": [" and "],
    r"!=": ["=="],
    r"is None": ["is not None"],
    r"is not None": ["is None"],
    r"return ": [""],
    r"self\.": [""],
}


def mutants(source):
    for pattern, others in WORDS.items():
        for match in re.finditer(pattern, source):
            line = source[source.rfind("\n", 0, match.start()) + 1 : source.find("\n", match.end())]
            if not line.strip().startswith("def __init__"):  # a default that no check uses
                for other in set(others) - {match[0]}:
                    yield source[: match.start()] + other + source[match.end() :]


@pytest.mark.parametrize("name", BLOCKS)
def test_a_change_of_one_word_is_refused(name):
    check, source = BLOCKS[name][0], getattr(students, name)
    found = sorted(set(mutants(source)))
    assert len(found) > 15
    passed = []
    for mutant in found:
        try:
            answer = written(mutant)
        except SyntaxError:
            continue
        verdict = check(answer)
        assert "check itself" not in verdict.message
        if verdict:
            passed.append(mutant)
    assert not passed, passed[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_change_of_one_word_in_a_network_is_refused(name):
    source = getattr(students, name)
    for mutant in random.Random(0).sample(sorted(set(mutants(source))), 5):
        verdict = NETWORKS[name](written(mutant))
        assert not verdict.passed, mutant
        assert "check itself" not in verdict.message


# Answers that are no blocks


class NoModule:
    def __init__(self, in_channels, out_channels, stride):
        pass


def returns_none(in_channels, out_channels, stride):
    nn.Identity()


@pytest.mark.parametrize(
    "answer, phrase",
    [
        (None, "None came"),
        (..., "an ellipsis (...) came"),
        (7, "the number 7 came"),
        ("Residual", "the string 'Residual' came"),
        ([nn.Identity], "a list of 1 came"),
        (torch.zeros(3), "a tensor of shape (3,) came"),
        (d2lnets.Residual(4, 4), "Pass Residual, without parentheses"),
        (NoModule, "NoModule is none"),
        (returns_none, "the function has no return"),
        (lambda in_channels, out_channels, stride: 3, "the number 3 came"),
        (lambda: nn.Identity(), "Arguments (in_channels, out_channels, stride) were expected; yours are ()"),
        (lambda a, b, c, d: nn.Identity(), "yours are (a, b, c, d)"),
        (nn.Identity, "is missing"),
        (nn.Conv2d, "the first 3×3 convolution should be"),
        (print, "None came"),
        (nn.Module, "__init__ is missing or misspelled"),
    ],
)
def test_an_answer_that_is_no_block_is_explained(answer, phrase):
    verdict = check_residual(answer)
    assert not verdict.passed
    assert phrase in verdict.message


@pytest.mark.parametrize(
    "answer", [None, 3, nn.Identity(), nn.Identity, lambda x: x, lambda: None, d2lnets.Residual, nn.Sequential()]
)
def test_an_answer_that_is_no_network_is_refused(answer):
    for check in NETWORKS.values():
        verdict = check(answer)
        assert not verdict.passed
        assert "check itself" not in verdict.message


# Hostile ones

FORWARD = "        y = self.conv1(x)\n"
BUILD = "        super().__init__()\n"


@pytest.mark.parametrize(
    "code, phrase",
    [
        ("exit()", "exit() or quit() is called"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise SystemExit", "exit() or quit() is called"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt itself"),
        ("raise BaseException('odd')", "BaseException: odd"),
        ("raise StopIteration", "StopIteration"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("assert x is None, 'no'", "AssertionError: no"),
        ("self.forward(x)", "calls itself without end"),
        ("torch.zeros(10 ** 6, 10 ** 9)", "more memory than there is"),
        ("raise MemoryError", "more memory than there is"),
        ("class E(Exception):\n            __str__ = None\n        raise E", "raised E"),
        ("raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})", "raised E"),
    ],
)
def test_what_the_code_raises_is_shown_with_its_line(code, phrase):
    verdict = check_residual(written(students.RESIDUAL, (FORWARD, f"        {code}\n{FORWARD}")))
    assert not verdict.passed
    assert phrase in verdict.message
    assert re.search(r"your line \d+ of \w+: ", verdict.message)


@pytest.mark.parametrize(
    "code, place",
    [
        ("while True: pass", BUILD),
        ("while True: pass", FORWARD),
        ("while True:\n            try:\n                while True: pass\n            except: pass", FORWARD),
        ("while True:\n            try: 1 / 0\n            except BaseException: continue", FORWARD),
        ("import time; time.sleep(3)", FORWARD),
        ("import threading; threading.Event().wait()", FORWARD),
    ],
    ids=["loop at first", "loop", "loop in try", "try in loop", "sleep", "wait"],
)
def test_a_hang_ends_at_the_limit(code, place, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # pytest's does not bear to be interrupted
    before = time.monotonic()
    verdict = check_residual(written(students.RESIDUAL, (place, f"{place}        {code}\n")), limit=0.3)
    assert time.monotonic() - before < 10
    assert not verdict.passed
    assert "still running after 0.3 seconds" in verdict.message
    assert re.search(r"your line \d+ of \w+: ", verdict.message)


@pytest.mark.parametrize("caught", ["", "1 / 0", "while True: pass", "x + x"])
def test_a_loop_leaves_no_thread_behind(caught, monkeypatch):
    """It would take its turns from all checks after it, whose limits count what the process computes."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # pytest's does not bear to be interrupted
    before = set(threading.enumerate())
    loop = f"try: {caught}" if caught != "while True: pass" else f"try:\n                {caught}"
    body = f"{loop}\n            except BaseException: pass" if caught else "pass"
    for _ in range(5):
        answer = written(students.RESIDUAL, (FORWARD, f"        while True:\n            {body}\n"))
        assert "Which condition ends the loop" in check_residual(answer, limit=0.1).message
    assert set(threading.enumerate()) <= before


# What it leaves as it was


def test_the_module_that_is_passed_stays_as_it_was():
    net = d2lnets.resnet18().eval()
    net[0].train()
    net.stem[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert "requires_grad=False" in check_resnet18(net).message
    net.stem[0].weight.requires_grad_(True)
    assert check_resnet18(net).passed
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not net.training and net[0].training and not net[1].training
    assert all(p.grad is None for p in net.parameters())


def test_a_lazy_module_that_is_passed_stays_lazy():
    net = nn.Sequential(nn.LazyConv2d(8, 3), nn.Flatten(), nn.LazyLinear(10))
    assert not check_resnet18(net).passed
    assert isinstance(net[0], nn.LazyConv2d)


def test_what_is_compiled_is_judged_as_it_was_written():
    """A finished network, a class and a function that make compiled blocks, and a layer compiled inside one."""
    assert check_resnet18(torch.compile(d2lnets.resnet18())).passed

    class Inside(d2lnets.Residual):
        def __init__(self, in_channels, out_channels, stride):
            super().__init__(in_channels, out_channels, stride=stride)
            self.conv1 = torch.compile(self.conv1)

    assert check_residual(Inside).passed
    assert check_residual(lambda i, o, s: torch.compile(d2lnets.Residual(i, o, stride=s))).passed
    wrong = written(students.RESIDUAL, *students.RESIDUAL_MISTAKES["no last relu"][0])
    verdict = check_residual(lambda *args: torch.compile(wrong(*args)))
    assert verdict.message == check_residual(wrong).message


def test_global_settings_stay_as_they_were():
    spoil = (
        "import random, numpy; random.seed(1); numpy.random.seed(1); torch.manual_seed(1); "
        "torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False); torch.set_num_threads(1); "
        "torch.use_deterministic_algorithms(True); torch.backends.cudnn.benchmark = True"
    )
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    with torch.no_grad():
        assert check_residual(d2lnets.Residual).passed  # whatever the caller's mode
        assert not check_residual(written(students.RESIDUAL, (FORWARD, f"        {spoil}\n{FORWARD}"))).passed
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]
    assert torch.get_default_dtype() == torch.float32
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark


def test_a_check_says_the_same_twice():
    wrong = written(students.RESIDUAL, ("y + s", "y - s"))
    assert check_residual(wrong) == check_residual(wrong)


# The verdict


def test_the_verdict_shows_itself():
    right = check_residual(d2lnets.Residual)
    assert right and repr(right).startswith("Passed. ")
    wrong = check_residual(written(students.RESIDUAL, ("return F.relu(y)", "raise ValueError('a < b')")))
    assert not wrong and repr(wrong).startswith("Not yet. ")
    assert "a &lt; b" in wrong._repr_html_() and "<br>" in wrong._repr_html_()
    assert "Hint:" not in right.message
    assert "In your line 21 of forward: raise ValueError('a < b')" in wrong.message


def test_the_message_says_what_was_expected_and_what_came():
    message = check_residual(written(students.RESIDUAL, ("stride=stride", "stride=1"))).message
    assert "an output of shape (3, 6, 4, 4) was expected; (3, 6, 8, 7) came." in message
    assert "Likeliest cause: the stride is ignored." in message
    assert "Hint: " in message


def test_blocks_are_checked_in_a_second():
    before = time.process_time()
    check_residual(written(students.RESIDUAL, ("y + s", "y + s.mean(0, keepdim=True)")))
    assert time.process_time() - before < 1.5


# Values


@pytest.mark.parametrize(
    "answer, expected",
    [
        (8, 8),
        (8.0, 8),
        (0.5, 0.5004),
        (torch.tensor(8), 8),
        (torch.tensor([8.0]), 8),
        (np.int64(8), 8),
        ((1, 2), (1, 2)),
        ([1, 2], (1, 2)),
        (torch.Size([1, 2]), (1, 2)),
        (torch.tensor([1, 2]), [1, 2]),
        ([(1, 2), 3], [(1, 2), 3]),
        ("64×24×24", " 64x24x24 "),
        ("Grows", "grows"),
        (True, True),
    ],
)
def test_right_values(answer, expected):
    assert check_value(answer, expected, tolerance=0.001)


@pytest.mark.parametrize(
    "answer, expected, phrase",
    [
        (None, 8, "A number was expected; None came: did the cell return or print?"),
        (..., 8, "Nothing is filled in yet"),
        ("8", 8, "A number was expected; the string '8' came"),
        (True, 1, "the truth value True came"),
        (9, 8, "9 is too large"),
        (7, 8, "7 is too small"),
        (float("nan"), 8, "not a number"),
        (16, 8, "Likeliest cause: both branches are counted."),
        ((1, 2), 8, "a tuple of 2 came"),
        ((1, 2, 3), (1, 2), "A list or tuple of 2 was expected; a tuple of 3 came"),
        ((1, 3), (1, 2), "look at entry 2 of 2"),
        (8, (1, 2), "the number 8 came"),
        ("shrinks", "grows", "'shrinks' is not right"),
        (torch.zeros(2), 8, "a tensor of shape (2,) came"),
        (print, 8, "A number was expected"),
        ({1: 2}, (1, 2), "a dict came"),
        (2, True, "True or False was expected"),
    ],
)
def test_wrong_values(answer, expected, phrase):
    verdict = check_value(answer, expected, {"both branches are counted": 16})
    assert not verdict
    assert phrase in verdict.message


def test_numbers_are_told_with_few_digits():
    assert check_value((8464, [1 / 3]), (8464, (1 / 3,))).message == "(8464, [0.333333]) is right."
    assert check_value(20_000 / 3, 9e-9).message == "6666.6667 is too large."
    assert check_value(1e-9 / 3, 8.0).message == "3.33333e-10 is too small."


def test_a_wrong_value_does_not_tell_the_right_one():
    assert "1234" not in check_value(77, 1234).message
    assert "1234" not in check_value((77, 2), (1234, 2)).message


class Block(nn.Module):
    """A residual block to make mistakes in."""

    def __init__(self, i, o, stride=1, act=torch.relu, momentum=0.1, tied=False, **first):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, **first), nn.BatchNorm2d(o, momentum=momentum)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1), nn.BatchNorm2d(o)
        if tied and i == o:
            self.conv2.weight = self.conv1.weight
        self.shortcut = nn.Conv2d(i, o, 1, stride) if stride != 1 or i != o else nn.Identity()
        self.act = act

    def forward(self, x):
        y = self.act(self.bn1(self.conv1(x)))
        return torch.relu(self.shortcut(x) + self.bn2(self.conv2(y)))


@pytest.mark.parametrize(
    "change, phrase",
    [
        ({"padding_mode": "reflect"}, "padding_mode"),
        ({"act": nn.functional.relu6}, "ReLU6"),
        ({"act": nn.ReLU6()}, "ReLU6"),
        ({"momentum": 1.0}, "momentum 1.0"),
        ({"momentum": 0.0}, "momentum 0.0"),
        ({"tied": True}, "conv1 and conv2 have the same"),
    ],
)
def test_mistakes_in_an_argument(change, phrase):
    assert check_residual(Block)
    verdict = check_residual(
        lambda in_channels, out_channels, stride: Block(in_channels, out_channels, stride, **change)
    )
    assert not verdict and phrase in verdict.message, verdict


def test_the_head_of_a_network_has_a_bias():
    net = d2lnets.resnet18()
    net.head[-1] = nn.Linear(512, 10, bias=False)
    assert "bias=False" in check_resnet18(net).message
