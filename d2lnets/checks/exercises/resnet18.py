"""The exercises of the chapter "ResNet-18, stage by stage"."""

from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from torch import nn

import d2lnets
from d2lnets.checks.exercises.exercise import Exercise, expect, parameters


def photo_shapes(channels: int = 64, side: int = 56) -> list[tuple[int, int, int]]:
    """Of the stem and four stages; the first stage keeps its input's."""
    return [(64, 56, 56), *((channels * 2**i, side // 2**i, side // 2**i) for i in range(4))]


def resnet34(depths: Sequence[int] = (3, 4, 6, 3)) -> nn.Module:
    stages = [d2lnets.resnet_block(64 * 2 ** max(i - 1, 0), 64 * 2**i, n, i == 0) for i, n in enumerate(depths)]
    return nn.Sequential(d2lnets.resnet.stem(1), *stages, d2lnets.resnet.head(512, 10))


def shortcut_convolutions(in_channels: int, out_channels: int, stride: int) -> bool:
    return in_channels != out_channels or stride != 1


def judge_resnet34(net: Any) -> None:
    expect(isinstance(net, nn.Module), f"A network was expected; {type(net).__name__} came.")
    with torch.no_grad():
        shapes = [tuple(net.eval()(torch.zeros(1, 1, side, side)).shape) for side in (64, 96)]
    expect(shapes == [(1, 10)] * 2, f"10 logits were expected for images of 64×64 and 96×96; {shapes} came.")
    blocks = [block for block in net.modules() if isinstance(block, d2lnets.Residual)]
    widths = [block.out_channels for block in blocks]
    wanted = [64] * 3 + [128] * 4 + [256] * 6 + [512] * 3
    expect(
        widths == wanted,
        f"3, 4, 6 and 3 residual blocks were expected; blocks of {widths} channels came.",
        hint="Compare them with the 64, 128, 256 and 512 channels of the stages.",
    )
    expect(
        parameters(net) == parameters(resnet34()),
        f"{parameters(net):,} parameters came, which is not as many as expected.",
        "a block changes the shape where none should, or the stem or the head differs",
        "What does first_block=True do, and in which stage?",
    )
    came, least = (d2lnets.trace_shapes(each, (1, 96, 96)).multiply_adds for each in (net, resnet34()))
    expect(came == least, "The parameters are right, the work is not.", "a stride is on another block than it should")


def other_shapes(random: Random) -> tuple[tuple[int, int, int], ...]:
    channels = random.sample(range(3, 99), 2)
    return tuple((i, o, stride) for i in channels for o in channels for stride in (1, 4))


RESNET18 = {
    1: Exercise(
        photo_shapes,
        hint="The stem divides height and width by 4; conv2_x keeps what it gets, every later stage halves it.",
        note="Only the stem has other parameters than for gray images: its convolution reads three channels.",
        mistakes={
            "conv2_x does not halve again: the max-pool has done it": photo_shapes(side=28),
            "the channels double from conv3_x on, not in conv2_x": photo_shapes(channels=128),
            "the channels come first": [(height, width, channels) for channels, height, width in photo_shapes()],
            "the batch does not belong there": [(1, *shape) for shape in photo_shapes()],
            "the max-pool belongs to the stem": [(64, 112, 112), *photo_shapes()[1:]],
        },
    ),
    2: Exercise(
        lambda: parameters(d2lnets.Residual(64, 128, stride=2)),
        hint="Three convolutions and two batch norms.",
        mistakes={
            "the biases of the convolutions are not counted": 230_272 - 3 * 128,
            "the scales and shifts of the two batch norms are not counted": 230_272 - 4 * 128,
            "neither biases nor batch norms are counted": 230_272 - 7 * 128,
            "the convolution on the shortcut is forgotten": 230_272 - 64 * 128 - 128,
            "the second 3×3 reads 128 channels, not 64": 230_272 - 9 * 64 * 128,
            "the shortcut has no batch norm": 230_272 + 2 * 128,
        },
    ),
    3: Exercise(None, hint="Print the shape after each stage.", judge=judge_resnet34),
    4: Exercise(
        shortcut_convolutions,
        hint="Print the block's conv3 for the arguments named.",
        note="x and F(x) are added: they must have the same shape.",
        calls=((64, 64, 1), (64, 128, 1), (64, 128, 2), (64, 64, 2), (128, 64, 1), (64, 64, 3)),
        others=other_shapes,
        mistakes={
            "more channels alone need a convolution as well": lambda i, o, s: s != 1,
            "a stride alone changes the shape as well": lambda i, o, s: i != o,
            "one of the two conditions is enough": lambda i, o, s: i != o and s != 1,
        },
    ),
    5: Exercise(
        lambda: 33,
        hint="Try one side after the other, between 28 and 64.",
        note="Five halvings, each rounded up, leave 2×2 of it; of 32×32 they leave a single position.",
        mistakes={
            "at 32 the last maps are 1×1, and eight of nine positions of the kernels meet only padding": 32,
            "a smaller side will do": 64,
        },
        limit=120,
    ),
    6: Exercise(
        lambda: "conv2_x",
        hint="Compare the four accuracies with that of the whole network.",
        note="The others are missed so little that a few images decide between them.",
        limit=120,
    ),
}
