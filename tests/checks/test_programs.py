"""The reference programs: a mistake changes what its program does, and a choice that is misspelt cannot be made."""

import math
from dataclasses import fields
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from d2lnets.checks import contracts
from d2lnets.checks.exercises import densenet, googlenet, many_gpus, residual_block, resnet50
from d2lnets.checks.programs.variants import POOL, Variant, run
from d2lnets.checks.recording import Call
from d2lnets.checks.replaying import Net, replay

CONTRACTS = [value for value in vars(contracts).values() if isinstance(value, contracts.Contract)]
BLOCKS = [contract for contract in CONTRACTS if contract.names]
FOLDED = many_gpus.layers_to_fold()
PROGRAMS = {  # the rights, the mistakes, and for each case the program and the shapes of inputs
    contract.what: (
        contract.rights,
        contract.mistakes,
        [(partial(contract.program, **case), contract.shapes(case)) for case in contract.cases],
    )
    for contract in CONTRACTS
} | {
    "DenseNet-BC": (densenet.BC100_RIGHTS, densenet.BC100_MISTAKES, [(densenet.densenet_bc100, [(2, 3, 16, 16)])]),
    "two 3×3": (
        [googlenet.Two3x3()],
        googlenet.TWO_3X3_MISTAKES,
        [(partial(googlenet.two_3x3, between=32), [(2, 192, 6, 5)])],
    ),
    "pre-activation": (
        [residual_block.Preactivation()],
        residual_block.PREACTIVATION_MISTAKES,
        [(residual_block.preactivation_net, [(2, 1, 16, 12)])],
    ),
    "ResNet-D": (
        resnet50.BOTTLENECK_D_RIGHTS,
        resnet50.BOTTLENECK_D_MISTAKES,
        [(partial(resnet50.bottleneck_d, filters=(4, 4, 8)), [(2, 4, 8, 8)])],
    ),
}


class Answer(Net):
    """Runs a program with random layers and lists them, as if a student had written it; batch norm wherever it may."""

    def __init__(self, program, x):
        self.calls = []
        with torch.no_grad():
            self.output = program(self, x)

    def made(self, kind, shape, x, **more):
        weight = torch.randn(shape) * (2 / math.prod(shape[1:])) ** 0.5
        self.calls.append(Call(kind, shape, weight, torch.randn(shape[0]), x, **more))
        return weight, self.calls[-1].bias

    def convolved(self, x, shape, geometry, stride, padding, role):
        return F.conv2d(x, *self.made("conv", shape, x, geometry=geometry), stride, padding)

    def linear(self, role, x, out):
        return F.linear(x, *self.made("linear", (out, x.shape[1]), x))

    def norm(self, role, x):
        statistics = torch.randn(x.shape[1]), 0.5 + torch.rand(x.shape[1])
        return F.batch_norm(x, *statistics, *self.made("norm", (x.shape[1],), x, before=statistics))

    norm_if_any = norm


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_mistake_does_what_is_right(name):
    torch.manual_seed(0)
    rights, mistakes, cases = PROGRAMS[name]
    for right in rights:
        alike = list(mistakes)
        for program, shapes in cases:
            for shape in shapes:
                x = torch.randn(shape)
                answer = Answer(partial(program, v=right), x)
                assert replay(partial(program, v=right), answer, x, False)
                alike = [v for v in alike if replay(partial(program, v=v), answer, x, False)]
        assert not alike


@pytest.mark.parametrize("contract", BLOCKS, ids=lambda contract: contract.what)
def test_a_block_with_a_mistake_is_told_so(contract):
    torch.manual_seed(0)
    for mistake in contract.mistakes:
        said = set()
        for case in contract.cases:
            program, x = partial(contract.program, **case), torch.randn(contract.shapes(case)[0])
            try:
                answer = Answer(partial(program, v=mistake), x)
            except RuntimeError:  # the shapes do not fit; such code crashes before it can be compared
                said.add(mistake.says)
                continue
            if not any(replay(partial(program, v=v), answer, x, False) for v in contract.rights):
                said.add(next(v.says for v in contract.mistakes if replay(partial(program, v=v), answer, x, False)))
        assert mistake.says in said  # where a block has one layer, some are the same


def test_no_mistake_in_folding_is_right():
    right = [torch.cat([part.flatten() for part in many_gpus.fold(*pair, many_gpus.Folding())]) for pair in FOLDED]
    for mistake in many_gpus.FOLDING_MISTAKES:
        wrong = [torch.cat([part.flatten() for part in many_gpus.fold(*pair, mistake)]) for pair in FOLDED]
        assert not all(map(torch.allclose, wrong, right)), mistake


def test_no_mistake_in_a_lean_resnet50_is_right():
    with torch.device("meta"):
        variants = (resnet50.LeanResNet50(), *resnet50.LEAN_MISTAKES, resnet50.LESS_LEAN)
        printed = {str(resnet50.lean_resnet50(v)) for v in variants}
    assert len(printed) == len(variants)


def kinds(variant=Variant):
    return [kind for each in variant.__subclasses__() for kind in (each, *kinds(each))]


@pytest.mark.parametrize("kind", kinds())
def test_a_choice_that_is_misspelt_cannot_be_made(kind):
    choice, *_ = [each.name for each in fields(kind) if each.name != "says"]
    assert kind("the cause", **{choice: getattr(kind(), choice)}).says == "the cause"
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        kind("the cause", **{f"{choice}_": getattr(kind(), choice)})
    with pytest.raises(TypeError, match="positional argument"):
        kind("the cause", getattr(kind(), choice))


def test_a_step_that_a_program_does_not_describe_is_an_error():
    with pytest.raises(KeyError):
        run(torch.zeros(1), [POOL], conv=torch.abs)
