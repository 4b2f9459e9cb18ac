"""The exercises of the chapter "Dense blocks and DenseNet"."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from d2lnets.checks.exercises.exercise import Exercise, expect, expect_program, numbers, parameters
from d2lnets.checks.programs.dense import POOL_FIRST, Transition, transition
from d2lnets.checks.programs.variants import NORM, RELU, Steps, Variant, run
from d2lnets.checks.replaying import Net
from d2lnets.densenet import DenseLayer


def channels_and_blocks() -> list[int]:
    """Of blocks of 6 layers with growth rate 12; how many it takes to pass 130."""
    channels, blocks = 24 + 6 * 12, 1
    while channels <= 130:
        channels, blocks = channels // 2 + 6 * 12, blocks + 1
    return [24 + 6 * 12, (24 + 6 * 12) // 2, blocks]


def trading_places() -> list[bool | int]:
    conv, x = nn.Conv2d(6, 3, 1), torch.randn(1, 6, 4, 4)
    same = [torch.allclose(conv(pool(x, 2)), pool(conv(x), 2), atol=1e-5) for pool in (F.avg_pool2d, F.max_pool2d)]
    return [*same, 2 * 2]


@dataclass(frozen=True, kw_only=True)
class DenseNetBC100(Variant):
    """How the paper's DenseNet-BC for CIFAR is written.

    Attributes:
        stem: the steps after the first convolution.
        layers: the number in a block.
        bottleneck: the channels to which a layer's 1×1 convolution reduces; 0 for none.
        transitions: the number of transitions, from the first block on.
        reduction: by how much they divide the channels.
        transition: how they are written.
        end: the steps before the head.
    """

    stem: Steps = ()
    layers: int = 16
    bottleneck: int = 48
    transitions: int = 2
    reduction: int = 2
    transition: Transition = field(default=Transition())
    end: Steps = (NORM, RELU)


BC100_RIGHTS = (
    DenseNetBC100(),
    DenseNetBC100(stem=(NORM, RELU)),
    DenseNetBC100(transition=POOL_FIRST),
)
BC100_MISTAKES = (
    DenseNetBC100("every layer has two convolutions, so a block has half as many layers", layers=32),
    DenseNetBC100("the layers have no bottleneck", bottleneck=0),
    DenseNetBC100(
        "the layers have no bottleneck, and so each has one convolution instead of two", layers=32, bottleneck=0
    ),
    DenseNetBC100("the bottlenecks reduce to one growth rate, not to four", bottleneck=12),
    DenseNetBC100("the transitions do not halve the channels", reduction=1),
    DenseNetBC100("a transition too many: one stands after the last block", transitions=3),
    DenseNetBC100("batch norm and ReLU before the head are missing", end=()),
)


def densenet_bc100(net: Net, x: Tensor, v: DenseNetBC100) -> Tensor:
    x = net.conv("the first convolution", x, 24, 3)
    x = run(x, v.stem, norm=partial(net.norm, "the first batch norm"))
    for block in range(1, 4):
        for layer in range(1, v.layers + 1):
            net.place = f"block {block}, layer {layer}, "
            y = F.relu(net.norm("batch norm 1", x))
            if v.bottleneck:
                y = net.conv("the 1×1 convolution", y, v.bottleneck, 1)
                y = F.relu(net.norm("batch norm 2", y))
            x = torch.cat([x, net.conv("the 3×3 convolution", y, 12, 3)], dim=1)
        if block <= v.transitions:
            net.place = f"transition {block}, "
            x = transition(net, x, x.shape[1], x.shape[1] // v.reduction, v.transition)
    net.place = "head, "
    x = run(x, v.end, norm=partial(net.norm, "the batch norm"))
    return net.linear("the linear layer", x.mean((2, 3)), 10)


def judge_densenet_bc100(net: Any) -> None:
    hint = "Write down which layers with weights add up to 100."
    expect_program(net, densenet_bc100, (2, 3, 16, 16), BC100_RIGHTS, BC100_MISTAKES, hint)


def judge_depth(factors: Any) -> None:
    names = "parameters", "receptive field", "peak of memory, plain,", "peak of memory, checkpointed,"
    least, most = (1, 65 / 9 - 0.1, 2.5, 0.5), (1.4, 65 / 9 + 0.1, 8, 2)  # the memories are measured
    factors = numbers(factors, 4, "one for each property").tolist()
    right = [low <= factor <= high for low, factor, high in zip(least, factors, most)]
    cause, hint = "", "Write the eight numbers down, two rows of four, before you divide."
    if factors[0] > 8:
        cause = "the growth rate is the same in both blocks, so the deeper one makes more channels"
    elif 1 / most[1] <= factors[1] <= 1 / least[1]:
        cause = "the values of 4 layers are divided by those of 32"
    elif right[:2] == [True] * 2 and least[2] <= factors[3] <= most[2] and least[3] <= factors[2] <= most[3]:
        cause = "the two memories have traded places"
    elif factors[1] == 65:
        cause = "the value at 32 layers came, not how many times that at 4 layers it is"
    wrong = [f"{name} {factor:.3g} times" for name, factor, fine in zip(names, factors, right) if not fine]
    expect(all(right), f"Not right: {'; '.join(wrong)}.", cause, hint)


DENSENET = {
    1: Exercise(
        channels_and_blocks,
        hint="Every layer adds its maps to all that it has read. What does the third layer of the block read?",
        note="Halving and adding 72 has its fixed point at 2 · 72 = 144: no number of blocks passes that.",
        mistakes={
            "the transition halves the channels": [96, 96, 2],
            "after two blocks 120 channels leave, which is not more than 130": [96, 48, 2],
            "the transitions are counted with the blocks": [96, 48, 5],
        },
    ),
    2: Exercise(
        lambda channels, growth_rate: parameters(DenseLayer(channels, growth_rate)),
        hint="Two of the three steps have parameters. How many channels does each of the two receive?",
        calls=((112, 32), (5, 4)),
        others=lambda random: tuple((random.randint(6, 99), random.randint(5, 31)) for _ in range(3)),
        mistakes={
            "the biases of the convolution are not counted": lambda c, k: 2 * c + 9 * c * k,
            "batch norm is not counted": lambda c, k: 9 * c * k + k,
            "batch norm has two parameters for each channel, a scale and a shift": lambda c, k: c + 9 * c * k + k,
            "batch norm stands before the convolution, and sees the channels that the layer reads": lambda c, k: (
                2 * k + 9 * c * k + k
            ),
            "the window of the convolution is 3×3, not 1×1": lambda c, k: 2 * c + c * k + k,
        },
    ),
    4: Exercise(
        trading_places,
        hint="Take one channel and one window of 2×2: four numbers, scaled and shifted before or after the pool.",
        note="Convolution and mean are linear, and one mixes channels, the other positions. "
        "The largest of four is not linear: a negative weight makes it the smallest.",
        mistakes={
            "the largest of four weighted sums is not the weighted sum of the largest": [True, True, 4],
            "the mean of four weighted sums is the weighted sum of the four means": [False, False, 4],
            "the pool halves the height and the width": [True, False, 2],
            "the factor is upside down": [True, False, 0.25],
        },
    ),
    5: Exercise(
        None,
        note="16 layers a block: 100 - 4 for the first convolution, two transitions and the linear layer, "
        "by three blocks, by two convolutions a layer.",
        judge=judge_densenet_bc100,
        limit=30,
    ),
    6: Exercise(
        None,
        note="A new channel costs 9 weights for each channel read, in any shape of block. Each layer widens the view "
        "by 2 pixels, and keeps copies of all that it reads, unless they are recomputed.",
        judge=judge_depth,
        limit=60,
    ),
}
