"""The exercises of the chapter "The residual block"."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import d2lnets
from d2lnets.checks.exercises.exercise import Exercise, expect, expect_program, numbers, parameters
from d2lnets.checks.programs.variants import NORM, RELU, Steps, Variant, run
from d2lnets.checks.replaying import Net
from d2lnets.checks.wording import Refused


def judge_canceling_block(block: Any) -> None:
    kind = type(block).__name__
    expect(isinstance(block, d2lnets.Residual), f"A block made by d2lnets.Residual was expected; {kind} came.")
    hint = "Residual has an argument for it."
    expect(block.conv3 is None, "The shortcut is to be x itself.", "there is a convolution on it", hint)
    x = 1 + torch.rand(2, block.conv1.in_channels, 4, 4)
    with torch.no_grad():
        inside = block.conv1(x)
        branch = block.bn2(block.conv2(block.bn1(inside).relu()))
    if torch.allclose(branch, -x, atol=1e-6):
        return
    norms = any(isinstance(layer, nn.BatchNorm2d) for layer in (block.bn1, block.bn2))
    aside = not all(conv.weight[..., 1, 1].any() for conv in (block.conv1, block.conv2))
    wide = any(conv.weight.count_nonzero() > len(conv.weight) for conv in (block.conv1, block.conv2))
    biases = block.conv1.bias.any() or block.conv2.bias.any()
    causes = (
        (norms, "batch norm is still in the branch"),
        (not branch.any() and (inside < 0).all(), "the sign changes before the ReLU, which then clips everything"),
        (torch.allclose(branch, x, atol=1e-6), "the sign: F(x) is x"),
        (not branch.any(), "a kernel is zero everywhere, so F(x) is zero"),
        (biases, "a convolution adds a bias"),
        (aside, "a kernel has its entry elsewhere than in its middle"),
        (wide, "a kernel has more entries than the one in its middle"),
    )
    cause = next((words for holds, words in causes if holds), "")
    raise Refused("F(x) is not -x for an x > 0.", cause, "Compute conv1(x) and conv2 of that, for x = 1 everywhere.")


def share_of_terms(blocks: int, least: int, most: int) -> float:
    return sum(math.comb(blocks, k) for k in range(least, most + 1)) / 2**blocks


@dataclass(frozen=True, kw_only=True)
class Preactivation(Variant):
    """How a network of pre-activation blocks is written: blocks in a stage, steps after a sum and after the last."""

    blocks: int = 3
    after_sum: Steps = ()
    end: Steps = (NORM, RELU)


PREACTIVATION_MISTAKES = (
    Preactivation("the batch norm and the ReLU after the last block are missing", end=()),
    Preactivation("the batch norm after the last block is missing", end=(RELU,)),
    Preactivation("the ReLU after the last block is missing", end=(NORM,)),
    Preactivation("a ReLU follows the sum of every block", after_sum=(RELU,)),
    Preactivation("a stage has two blocks, not three", blocks=2),
)


def preactivation_net(net: Net, x: Tensor, v: Preactivation) -> Tensor:
    x = net.conv("the first convolution", x, 16, 3)
    for width in (16, 32, 64):
        if width > 16:
            x = net.conv(f"the 1×1 convolution to {width} channels", x, width, 1, 2)
        for block in range(1, v.blocks + 1):
            net.place, y = f"block {block} of {width} channels, ", x
            for i in (1, 2):
                y = F.relu(net.norm(f"batch norm {i}", y))
                y = net.conv(f"convolution {i}", y, width, 3)
            x = run(x + y, v.after_sum)
        net.place = ""
    x = run(x, v.end, norm=partial(net.norm, "the last batch norm"))
    return net.linear("the linear layer", x.mean((2, 3)), 10)


def judge_grown_and_small(nets: Any) -> None:
    expect(isinstance(nets, (tuple, list)) and len(nets) == 2, "Two networks were expected, in a tuple.")
    grown, small = nets
    hint = "Print the network, and look for each part that the exercise lists."
    expect_program(grown, preactivation_net, (2, 1, 16, 12), [Preactivation()], PREACTIVATION_MISTAKES, hint)
    expect(isinstance(small, nn.Module), f"Two networks were expected; the second is a {type(small).__name__}.")
    x = torch.randn(2, 1, 16, 12)
    with torch.no_grad():
        a, b = grown.eval()(x), small.eval()(x)
    count = parameters(small)
    expect(
        count < parameters(grown) / 10,
        f"The second network is to be much smaller than the first; it has {count:,} parameters.",
        hint="What does a block compute whose last convolution is zero? Which layers are left without the blocks?",
    )
    same = a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5)
    cause = "the last convolution of a block is not zero, or the second network has weights of its own"
    hint = "Let the second network use the same layers (the same objects) as the first."
    expect(same, "The two networks do not give the same logits.", cause, hint)


def judge_small_branches(norms: Any) -> None:
    norms = numbers(norms, 55, "one for each convolution")
    what = f"Norms between {norms.min():.0e} and {norms.max():.0e} came; all are to lie between 0.001 and 10."
    causes = (
        (norms.max() > 10, "the branches are not scaled, or too little"),
        (norms.max() < 0.01, "the network has no shortcuts"),
        (norms.min() < 0.001, "the factor is too small"),
        (norms.max() / norms.min() < 6, "batch norm is still there"),
    )
    for holds, cause in causes:
        expect(not holds, what, cause, "Print the names of the layers that you scale; there are 27.")


def judge_changes(changes: Any) -> None:
    plain, residual = numbers(changes, 2, "plain56-thin's first").abs().tolist()
    what = f"{plain:.1g} for plain56-thin and {residual:.1g} for resnet56-thin cannot be."
    hint = "Take the gradients of one and the same network before and after, and subtract 1 from the ratio."
    expect(plain and residual, what, "the network saw the same pixels twice", hint)
    alike = 0.8 < plain < 1.5 and 0.8 < residual < 1.5
    expect(not alike, what, "the ratio itself is returned, not its difference from 1", hint)
    anew = "the network was drawn anew, or the pixels were changed by more than a millionth"
    expect(residual < 0.02 or plain < 0.02, what, anew, hint)
    expect(residual < plain, what, "they are in the other order", hint)
    expect(residual > 1e-5, what, "these are not the gradients of the first convolution", hint)
    expect(plain < 0.5, what, "it is a percentage, or the two gradients are not of the same weights", hint)
    expect(plain > 1e-3, what, "the change of the pixels is too small", hint)


def judge_losing_blocks(scores: Any) -> None:
    scores = numbers(scores, 8, "the accuracies with 0 to 7 blocks missing").tolist()
    what = f"{', '.join(f'{score:.2f}' for score in scores)} cannot be."
    causes = (
        (scores[0] < 0.9, "the first is to be the whole network's accuracy"),
        (max(scores[5:]) > 0.6, "only one block is missing each time"),
        (scores[6] < 0.2, "the statistics are those of the whole network"),
        (scores[1] < 0.925, "the last block is to go first, that of conv4_x"),
        (scores[2] > 0.75, "the blocks go in another order"),
    )
    for holds, cause in causes:
        expect(not holds, what, cause, "Take the next block out of what is left, measure the statistics, then score.")


RESIDUAL_BLOCK = {
    1: Exercise(
        None,
        judge=judge_canceling_block,
        note="It puts out 0 for every such x, and its derivative is 0: where ∂F/∂x = -I, the shortcut does not help.",
    ),
    2: Exercise(
        share_of_terms,
        hint="To go through k blocks, choose which k of them.",
        note="Of 54 blocks, "
        f"{share_of_terms(54, 19, 35):.0%} of the terms go through 19 to 35. "
        "That is a count, not a size: where the branches' derivatives are small, the terms with few of them are large.",
        calls=((9, 2, 4), (54, 19, 35), (9, 0, 9)),
        others=lambda random: tuple((n, random.randint(1, 5), random.randint(6, n - 1)) for n in (8, 17, 40)),
        mistakes={
            "the terms with the most branches are left out: a range ends before its end": (
                lambda n, least, most: share_of_terms(n, least, most - 1)
            ),
            "the terms with the fewest branches are left out": lambda n, least, most: share_of_terms(
                n, least + 1, most
            ),
            "it is a number of terms, not a share": lambda n, *ends: share_of_terms(n, *ends) * 2**n,
            "it is a percentage": lambda *args: 100 * share_of_terms(*args),
            "the numbers of branches are counted, not the terms": lambda n, least, most: (most - least + 1) / (n + 1),
        },
    ),
    4: Exercise(
        None,
        judge=judge_grown_and_small,
        note="Of the large one, the layers outside the blocks are all that is left.",
    ),
    5: Exercise(
        None,
        judge=judge_changes,
        note="A network whose gradients explode multiplies small changes of its input as well: "
        "32 bits leave few digits of the gradient.",
        limit=60,
    ),
    6: Exercise(
        None,
        judge=judge_small_branches,
        note="Every branch adds a small part of what comes along the shortcut, and nothing explodes.",
        limit=60,
    ),
    7: Exercise(
        None,
        judge=judge_losing_blocks,
        note="One block can go for almost nothing. Without two, about every third answer is wrong.",
        limit=60,
    ),
}
