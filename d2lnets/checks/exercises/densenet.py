"""The exercises of the chapter "Dense blocks and DenseNet"."""

import torch
from torch import nn
from torch.nn import functional as F

from d2lnets.checks import programs
from d2lnets.checks.exercises.exercise import Exercise, expect, expect_program, numbers, parameters
from d2lnets.densenet import DenseLayer


def channels_and_blocks():
    """Of blocks of 6 layers with growth rate 12; how many it takes to pass 130."""
    channels, blocks = 24 + 6 * 12, 1
    while channels <= 130:
        channels, blocks = channels // 2 + 6 * 12, blocks + 1
    return [24 + 6 * 12, (24 + 6 * 12) // 2, blocks]


def trading_places():
    conv, x = nn.Conv2d(6, 3, 1), torch.randn(1, 6, 4, 4)
    same = [torch.allclose(conv(pool(x, 2)), pool(conv(x), 2), atol=1e-5) for pool in (F.avg_pool2d, F.max_pool2d)]
    return [*same, 2 * 2]


def densenet_bc100(net, x, v=None):
    """The program (`programs.py`) of the paper's DenseNet-BC for CIFAR."""
    x = net.conv("the first convolution", x, 24, 3)
    if v == "small stem":
        x = F.relu(net.norm("the first batch norm", x))
    for block in range(1, 4):
        for layer in range({"32 layers": 32, "32 plain": 32}.get(v, 16)):
            net.place = f"block {block}, layer {layer + 1}, "
            y = F.relu(net.norm("batch norm 1", x))
            if v not in ("plain", "32 plain"):
                y = net.conv("the 1×1 convolution", y, 12 if v == "narrow" else 48, 1)
                y = F.relu(net.norm("batch norm 2", y))
            x = torch.cat([x, net.conv("the 3×3 convolution", y, 12, 3)], dim=1)
        if block < 3 or v == "last transition":
            net.place = f"transition {block}, "
            channels = x.shape[1] if v == "no compression" else x.shape[1] // 2
            x = programs.transition(net, x, x.shape[1], channels, "nrpc" if v == "pool first" else None)
    net.place = "head, "
    if v != "no final norm":
        x = F.relu(net.norm("the batch norm", x))
    return net.linear("the linear layer", x.mean((2, 3)), 10)


def judge_densenet_bc100(net):
    causes = {
        "32 layers": "every layer has two convolutions, so a block has half as many layers",
        "plain": "the layers have no bottleneck",
        "32 plain": "the layers have no bottleneck, and so each has one convolution instead of two",
        "narrow": "the bottlenecks reduce to one growth rate, not to four",
        "no compression": "the transitions do not halve the channels",
        "last transition": "a transition too many: one stands after the last block",
        "no final norm": "batch norm and ReLU before the head are missing",
    }
    hint = "Write down which layers with weights add up to 100."
    expect_program(net, densenet_bc100, (2, 3, 16, 16), causes, hint, rights=(None, "small stem", "pool first"))


def judge_depth(factors):
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
