"""The exercises of the chapters that ask for a value: the right answers, computed, and the usual mistakes.

`check_exercise` of `checks.py` compares a reader's function with these. The exercises that ask for a block or
a network have a check of their own there.
"""

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

import d2lnets
from d2lnets import degradation, references
from d2lnets.densenet import DenseLayer
from d2lnets.googlenet import GOOGLENET_STAGES
from d2lnets.judging import Crashed, Plan, Refused, departs_at, difference, observe, randomize, replay


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
    """For a `judge`: refuse a module unless it does with its weights what the program does (`references.py`)."""
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


# ResNet-18, stage by stage


def photo_shapes(channels=64, side=56):
    """Of the stem and four stages; the first stage keeps its input's."""
    return [(64, 56, 56), *((channels * 2**i, side // 2**i, side // 2**i) for i in range(4))]


def resnet34(depths=(3, 4, 6, 3)):
    stages = [d2lnets.resnet_block(64 * 2 ** max(i - 1, 0), 64 * 2**i, n, i == 0) for i, n in enumerate(depths)]
    return nn.Sequential(d2lnets.resnet.stem(1), *stages, d2lnets.resnet.head(512, 10))


def shortcut_convolutions(in_channels, out_channels, stride):
    return in_channels != out_channels or stride != 1


def judge_resnet34(net):
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
    trace, wanted = (d2lnets.trace_shapes(each, (1, 96, 96)).multiply_adds for each in (net, resnet34()))
    expect(trace == wanted, "The parameters are right, the work is not.", "a stride is on another block than it should")


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


# Dense blocks and DenseNet


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
    """The program (`references.py`) of the paper's DenseNet-BC for CIFAR."""
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
            x = references.transition(net, x, x.shape[1], channels, "nrpc" if v == "pool first" else None)
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


# Inception and GoogLeNet

POSITIONS = {"inception_3": 12**2, "inception_4": 6**2, "inception_5": 3**2}  # of maps, for 96x96
INCEPTION_3A = (192, *GOOGLENET_STAGES["inception_3"]["inception_3a"])


def small_shapes(side=14, part=4, half=lambda side: (side + 1) // 2):
    """Of the three stages that get maps of this side, and the side of the last stage's."""
    sides = half(side), half(half(side)), half(half(side))
    blocks = [list(stage.values())[-1] for stage in GOOGLENET_STAGES.values()]
    channels = [(c1 + c2[1] + c3[1] + c4) // part for c1, c2, c3, c4 in blocks]
    return [*((c, each, each) for c, each in zip(channels, sides)), sides[-1]]


def naive_blocks(keep=True, positions=POSITIONS):
    """The channels that leave the blocks without 1×1, and how many times the multiply-adds they take."""
    c, d, channels, work, ours = 192, 192, [], 0, 0
    for stage, blocks in GOOGLENET_STAGES.items():
        for c1, c2, c3, c4 in blocks.values():
            work += positions[stage] * c * (c1 + 9 * c2[1] + 25 * c3[1])
            ours += positions[stage] * (d * (c1 + c2[0] + c3[0] + c4) + 9 * c2[0] * c2[1] + 25 * c3[0] * c3[1])
            c, d = c1 + c2[1] + c3[1] + (c if keep else c4), c1 + c2[1] + c3[1] + c4
            channels.append(c)
    return [channels, work / ours]


def two_3x3(net, x, between, v=None):
    """The program (`references.py`) of a path with two 3×3 in place of the 5×5."""
    convs = [("the 1×1 convolution", 16, 1), ("the first 3×3", between, 3), ("the second 3×3", 32, 3)]
    for i, (role, channels, kernel) in enumerate(convs[v == "no 1×1" :]):
        x = net.norm_if_any("a batch norm", net.conv(role, x, channels, kernel))
        x = x if v == "no relu" or v == i else F.relu(x)
    return x


def judge_two_3x3(path, between):
    causes = {
        1: "the ReLU between the two 3×3 is missing: together they are one linear map",
        2: "the ReLU after the last 3×3 is missing",
        0: "the ReLU after the 1×1 is missing",
        "no relu": "the ReLUs are missing",
        "no 1×1": "the 1×1 that reduces 192 channels to 16 is missing",
    }
    hint = "Print block.path3: what follows its convolutions, and how is the 5×5 padded?"
    expect_program(path, lambda net, x, v=None: two_3x3(net, x, between, v), (2, 192, 6, 5), causes, hint)


def two_3x3_work(between):
    return 12**2 * (192 * 16 + 9 * 16 * between + 9 * between * 32)


def spread_out(weight):
    """The nine weights at every second position of a 5×5: a dilated convolution."""
    wide = torch.zeros(*weight.shape[:2], 5, 5)
    wide[:, :, ::2, ::2] = weight
    return wide


def judge_5x5(given, weight):
    given = given.weight if isinstance(given, nn.Conv2d) else given
    expect(isinstance(given, torch.Tensor), f"A tensor was expected; {type(given).__name__} came.")
    wanted, came = (*weight.shape[:2], 5, 5), tuple(given.shape)
    shown = "A weight of {} was expected; {} came."
    hint = "At which positions of the 5×5 window does the 3×3 window lie?"
    expect(came == wanted, shown.format(wanted, came), "only two of the four dimensions are to grow", hint)
    x = torch.randn(2, weight.shape[1], 7, 7)
    wanted = F.conv2d(x, weight, padding=1)

    def same(weight):
        return torch.allclose(F.conv2d(x, weight, padding=2), wanted, atol=1e-5)

    wrong = {
        "the zeros are on one side, below and right, which shifts the window": F.pad(weight, (0, 2, 0, 2)),
        "the zeros are on one side, above and left, which shifts the window": F.pad(weight, (2, 0, 2, 0)),
        "the nine weights are spread out, as in a dilated convolution": spread_out(weight),
        "the weights are interpolated: all 25 count then": F.interpolate(weight, 5, mode="bilinear"),
        "the frame repeats the outer weights, where it should have no effect": F.pad(weight, (1,) * 4, "replicate"),
    }
    cause = next((cause for cause, each in wrong.items() if torch.allclose(given.detach(), each)), "")
    expect(same(given.detach()), "The two convolutions give different maps.", cause, hint)


def judge_he(losses):
    expect(hasattr(losses, "__len__") and len(losses) > 1, "The losses were expected in a list, one for a pass.")
    first, *_, last = losses = numbers(losses, len(losses), "one for a pass").tolist()
    shown = ", ".join(f"{loss:.2f}" for loss in losses)
    hint = "What differs from the run with the constant rate above: the weights, the rate, and what else?"
    expect(all(loss < 20 for loss in losses), f"Losses of {shown} came.", "the rate is too large", hint)
    stuck = "the weights are not He's, or were drawn over again by the recipe; else the rate is too small"
    expect(last < 2.285 and last < first, f"Losses of {shown} came: near the plateau to the end.", stuck, hint)


GOOGLENET = {
    1: Exercise(
        small_shapes,
        hint="Follow the side alone first: a pool, two blocks, a pool, five blocks, a pool, two blocks.",
        mistakes={
            "a max-pool stands before the first stage as well": small_shapes(side=28),
            "the small form has a quarter of the channels in the table": small_shapes(part=1),
            "an odd side is rounded up when it is halved": small_shapes(half=lambda side: side // 2),
            "a pool belongs to the stage before it": [(120, 14, 14), (208, 7, 7), (256, 4, 4), 4],
        },
    ),
    2: Exercise(
        lambda: parameters(d2lnets.Inception(*INCEPTION_3A)),
        hint="Write down, for each of the six, the channels in, the channels out and the window.",
        mistakes={
            "the biases are not counted": 163_696 - (64 + 96 + 128 + 16 + 32 + 32),
            "the 1×1 after the pool is forgotten": 163_696 - 193 * 32,
            "the two reductions are forgotten, but not what they do": 163_696 - 193 * (96 + 16),
            "the 3×3 and the 5×5 read what the reductions leave, not all 192 channels": 163_696
            + 9 * 128 * (192 - 96)
            + 25 * 32 * (192 - 16),
            "the window of the third path has 25 positions, not 9": 163_696 - 16 * 16 * 32,
            "a max-pool has no parameters": 163_696 + 9 * 192 * 192,
        },
    ),
    3: Exercise(
        naive_blocks,
        hint="The first block alone: what does each of its four paths leave, and what does it cost?",
        note="Each block adds to what it gets, and the next one pays for it: the 1×1 after the pool reduces as well.",
        mistakes={
            "without its 1×1 the pool's path keeps as many channels as it gets": lambda: naive_blocks(keep=False),
            "weights are compared, not work: a position uses each weight once, and the stages have maps of unlike "
            "sizes": lambda: naive_blocks(positions=dict.fromkeys(POSITIONS, 1)),
            "the ratio is upside down": lambda: [naive_blocks()[0], 1 / naive_blocks()[1]],
        },
        tolerance=0.06,
    ),
    4: Exercise(
        None,
        note=f"It sees 5×5. At 12×12 it takes {two_3x3_work(32):,} multiply-adds with 32 channels between, "
        f"{two_3x3_work(16):,} with 16; the path with the 5×5 takes {12**2 * (192 * 16 + 25 * 16 * 32):,}. "
        "With 32, the second 3×3 takes back what the first saves.",
        calls=((32,), (16,)),
        judge=judge_two_3x3,
    ),
    5: Exercise(
        None,
        note="A frame of zeros does it. Training would move the zeros, since their gradient is not zero: "
        "equal now is not equal later.",
        calls=((torch.linspace(-1, 1, 54).view(2, 3, 3, 3) ** 3,),),
        judge=judge_5x5,
    ),
    6: Exercise(
        lambda: [(96 + 6 - 7) // 2 == (96 + 5 - 7) // 2, *(list(range(7 - before)) for before in (3, 2))],
        hint="The window covers seven rows. How many of them lie above the image?",
        note="So every window lies one pixel further down and right, and weights that were trained with one padding "
        "give other numbers with the other.",
        mistakes={
            "half of 95, rounded down, and half of 94 are the same": [False, [0, 1, 2, 3], [0, 1, 2, 3, 4]],
            "the rows are counted from 0": [True, [1, 2, 3, 4], [1, 2, 3, 4, 5]],
            "the two are swapped: with fewer rows above, more of the image is seen": [
                True,
                [0, 1, 2, 3, 4],
                [0, 1, 2, 3],
            ],
            "a part of the window lies above the image": [True, list(range(7)), list(range(7))],
        },
    ),
    7: Exercise(
        None,
        note="It leaves the plateau, more slowly than with batch norm. Images that reach the output are needed; "
        "batch norm is one way to let them.",
        judge=judge_he,
        limit=120,
    ),
}


# Bottlenecks and ResNet-50


def on_the_way(filters=(256, 256, 1024), bias=1, norm=2, shortcut_norm=2):
    """Parameters of a convolutional block that gets 512 channels, and those of its shortcut."""
    branch = sum(c * d * k**2 + (bias + norm) * d for c, d, k in zip((512, *filters), filters, (1, 3, 1)))
    shortcut = 512 * filters[-1] + (bias + min(norm, shortcut_norm)) * filters[-1]
    return [branch + shortcut, shortcut]


def judge_resnet101(net):
    expect(isinstance(net, nn.Module), f"A network was expected; {type(net).__name__} came.")
    with torch.no_grad():
        shape = tuple(net.eval()(torch.zeros(1, 3, 64, 64)).shape)
    expect(shape == (1, 1000), f"1,000 logits were expected; {shape} came.", "", "Which arguments has resnet50?")
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    middle = Counter(conv.out_channels for conv in convs if conv.kernel_size == (3, 3))
    depths = [middle[width] for width in (64, 128, 256, 512)]
    cause = "23 blocks are added to the six that are there" if depths[2] == 29 else ""
    cause = "nothing is added to the six blocks of conv4_x" if depths == [3, 4, 6, 3] else cause
    hint = "The four numbers of ResNet-50 are 3, 4, 6 and 3."
    expect(depths == [3, 4, 23, 3], f"Stages of {depths} blocks came.", cause, hint)
    with torch.device("meta"):
        block, right = d2lnets.identity_block(1024, (256, 256, 1024)), d2lnets.resnet50(3, 1000)
    wanted = parameters(right) + 17 * parameters(block)
    biases = sum(m.out_channels for m in [*right.modules(), *[*block.modules()] * 17] if isinstance(m, nn.Conv2d))
    came = parameters(net) + sum(conv.out_channels for conv in convs if conv.bias is None)
    what = f"Without biases, {wanted - biases:,} parameters were expected; {came - biases:,} came."
    cause = "the added blocks have a projection on the shortcut, or other widths than the block before them"
    expect(came == wanted, what, cause, "Print the last block that was there, and one of yours.")


def bottleneck_d(net, x, filters, v=None):
    """The program (`references.py`) of ResNet-D's block that halves the size."""
    y = x
    for i, (channels, kernel) in enumerate(zip(filters, (1, 3, 1))):
        stride = 2 if i == (0 if v == "2015" else 1) else 1
        y = net.conv(f"convolution {i + 1} of the branch", y, channels, kernel, stride)
        y = net.norm(f"batch norm {i + 1} of the branch", y)
        y = y if i == 2 else F.relu(y)
    if v not in ("no pool", "pool last"):
        x = net.pool("max" if v == "max" else "avg", "the shortcut's pool", x, 2, 2)
    x = net.conv("the shortcut's 1×1 convolution", x, filters[-1], 1, 2 if v == "no pool" else 1)
    if v == "pool last":
        x = net.pool("avg", "the shortcut's pool", x, 2, 2)
    if v != "no norm":
        x = net.norm("the shortcut's batch norm", x)
    return F.relu(y + x)


def judge_bottleneck_d(block, in_channels, filters):
    causes = {
        "no pool": "the shortcut has no pool: its 1×1 still has stride 2",
        "2015": "the branch's stride is on its first 1×1, as in the block of 2015, not on the 3×3",
        "max": "the pool on the shortcut takes the maximum, not the average",
        "no norm": "the batch norm on the shortcut is missing",
    }
    hint = "Print block.shortcut, and the shape behind each of its layers."
    try:
        expect_program(
            block,
            lambda net, x, v=None: bottleneck_d(net, x, filters, v),
            (2, in_channels, 8, 8),
            causes,
            hint,
            rights=(None, "pool last"),
        )
    except Crashed as crash:
        if "must match the size" not in str(crash.error):
            raise
        cause = "the shortcut halves the size twice: its 1×1 keeps its stride after the pool"
        cause = "nothing halves the size on the shortcut" if "(8)" in str(crash.error) else cause
        raise Refused("The shortcut's map and the branch's differ in size, and cannot be added.", cause, hint) from None


def lean_resnet50(conv="conv2", pool="first"):
    """ResNet-50, in which the last block of a stage makes only what the next stage reads."""
    net = d2lnets.resnet50()
    for stage, following in pairwise((net.conv2_x, net.conv3_x, net.conv4_x, net.conv5_x)):
        last, first = stage[-1], following[0]
        getattr(last, conv).stride = (2, 2)
        pools = {"max": nn.MaxPool2d(2, ceil_mode=True), "average": nn.AvgPool2d(2, ceil_mode=True)}
        last.shortcut = pools.get(pool, nn.MaxPool2d(1, 2))  # every second pixel
        first.conv1.stride = first.shortcut[0].stride = (1, 1)
    return net


def logits_and_work(net, images):
    """The logits, and the multiply-adds for an image; each padding keeps the size at stride 1."""
    record = observe(net, images, False, "for two images of 64×64")
    convs = [made for made in record.calls if made.kind == "conv"]
    work = [
        math.prod(c.shape) * math.prod(-(-n // s) for n, s in zip(c.input.shape[2:], c.geometry["stride"]))
        for c in convs
    ]
    return record.output, sum(work)


def judge_lean_resnet50(net):
    expect(isinstance(net, nn.Module), f"A network was expected; {type(net).__name__} came.")
    images, values = torch.randn(2, 3, 64, 64), list(net.state_dict().values())

    def gives(other, logits):
        """Whether the other network gives these logits with the same weights."""
        other.load_state_dict(dict(zip(other.state_dict(), values)))
        with torch.no_grad():
            wanted = other.eval()(images)
        return wanted.shape == logits.shape and (wanted - logits).norm() < 1e-3 * (wanted[0] - wanted[1]).norm()

    right, hint = d2lnets.resnet50(), "Which positions of a stage's last maps does the next stage read?"
    shapes = [value.shape for value in right.state_dict().values()]
    expect(
        [value.shape for value in values] == shapes,
        "The same weights as resnet50's were expected.",
        "layers with parameters were added or taken out",
        "A shortcut that only picks positions has none.",
    )
    logits, came = logits_and_work(net, images)
    if not gives(right, logits):
        causes = {
            ("conv1", "first"): "the stride is on the first 1×1 of the last block; its 3×3 must read all positions",
            ("conv2", "average"): "the shortcut averages; the next stage has read every second position",
            ("conv2", "max"): "the shortcut takes maxima; the next stage has read every second position",
        }
        cause = next((cause for way, cause in causes.items() if gives(lean_resnet50(*way), logits)), "")
        raise Refused("With the same weights, other logits came than resnet50's.", cause, hint)
    if came > logits_and_work(lean_resnet50(), images)[1]:
        causes = {
            logits_and_work(right, images)[1]: "nothing is saved yet",
            logits_and_work(lean_resnet50("conv3"), images)[
                1
            ]: "the stride is on the last 1×1: the 3×3 before it still makes what nobody reads",
        }
        cause = causes.get(came, "one of the three changes of stage is left as it was")
        raise Refused(
            f"The logits are right; {came:,} multiply-adds of convolutions are more than needed.", cause, hint
        )


RESNET50 = {
    1: Exercise(
        on_the_way,
        hint="Four convolutions, each with a batch norm. One of them is on the shortcut.",
        mistakes={
            "of a convolution's bias and batch norm's scale and shift, one is not counted": on_the_way(bias=0),
            "batch norm is not counted": on_the_way(norm=0),
            "neither biases nor batch norms are counted": on_the_way(bias=0, norm=0),
            "the shortcut has a batch norm as well": on_the_way(shortcut_norm=0),
            "the first number is that of the whole block, with its shortcut": [
                on_the_way()[0] - on_the_way()[1],
                on_the_way()[1],
            ],
        },
    ),
    2: Exercise(
        None,
        note="1 + 3 · (3 + 4 + 23 + 3) + 1 = 101, and 1 + 3 · (3 + 8 + 36 + 3) + 1 = 152. Without the biases of "
        "convolutions it has as many parameters as torchvision's.",
        judge=judge_resnet101,
        limit=30,
    ),
    4: Exercise(
        lambda: 9 / 2,
        hint="The pair is two convolutions. The 3×3 works on c/r channels on both sides.",
        note="The pair costs 2c²/r, the 3×3 9c²/r². A larger r still saves from both, but the 3×3, the only layer "
        "that looks around, gets the smaller part of what is left.",
        mistakes={
            "there are two 1×1 convolutions, not one": 9,
            "asked for is where the two are equal, not the first whole number after it": 5,
            "a 1×1 has the wide end on one side, so that a pair costs 2c²/r and not 2c²": 4.5**0.5,
            "the fraction is upside down": 2 / 9,
        },
    ),
    5: Exercise(
        None,
        note="The shortcut reads all positions now, and the number of parameters is the same: a pool has none.",
        calls=((4, (4, 4, 8)), (6, (3, 5, 7))),
        judge=judge_bottleneck_d,
    ),
    6: Exercise(
        None,
        note="The 3×3 must read all positions, but need not write them; what follows it, and the shortcut, work on "
        "those that are read.",
        judge=judge_lean_resnet50,
        limit=60,
    ),
}

# The residual block


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


def judge_canceling_block(block):
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


def share_of_terms(blocks, least, most):
    return sum(math.comb(blocks, k) for k in range(least, most + 1)) / 2**blocks


def preactivation_net(net, x, v=None, blocks=3):
    """The program (`references.py`) of a network of pre-activation blocks."""
    x = net.conv("the first convolution", x, 16, 3)
    for width in (16, 32, 64):
        if width > 16:
            x = net.conv(f"the 1×1 convolution to {width} channels", x, width, 1, 2)
        for block in range(2 if v == "two" else blocks):
            net.place, y = f"block {block + 1} of {width} channels, ", x
            for i in (1, 2):
                y = F.relu(net.norm(f"batch norm {i}", y))
                y = net.conv(f"convolution {i}", y, width, 3)
            x = F.relu(x + y) if v == "post" else x + y
        net.place = ""
    x = x if v in ("no end", "no norm") else net.norm("the last batch norm", x)
    x = x if v in ("no end", "no relu") else F.relu(x)
    return net.linear("the linear layer", x.mean((2, 3)), 10)


def judge_grown_and_small(nets):
    expect(isinstance(nets, (tuple, list)) and len(nets) == 2, "Two networks were expected, in a tuple.")
    causes = {
        "no end": "the batch norm and the ReLU after the last block are missing",
        "no norm": "the batch norm after the last block is missing",
        "no relu": "the ReLU after the last block is missing",
        "post": "a ReLU follows the sum of every block",
        "two": "a stage has two blocks, not three",
    }
    grown, small = nets
    hint = "Print the network, and look for each part that the exercise lists."
    expect_program(grown, preactivation_net, (2, 1, 16, 12), causes, hint)
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


def judge_default_start(norms):
    norms = numbers(norms, 55, "one for each convolution")
    what = f"Norms between {norms.min():.0e} and {norms.max():.0e} came; far smaller ones were expected."
    causes = (
        (norms.min() > 100, "the network has shortcuts"),
        (norms.max() > 1, "batch norm is still there"),
        (norms.max() > 5e-3, "the network has shortcuts"),
        (
            norms.max() > 1e-20,
            "the weights are still He's: reset_parameters was not called, or not for all convolutions",
        ),
    )
    for holds, cause in causes:
        expect(not holds, what, cause, "bare makes the network; then go through net.modules().")


def judge_changes(changes):
    plain, residual = numbers(changes, 2, "plain-56's first").abs().tolist()
    what = f"{plain:.1g} for plain-56 and {residual:.1g} for ResNet-56 cannot be."
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


def judge_losing_blocks(scores):
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
    3: Exercise(
        None,
        judge=judge_grown_and_small,
        note="Of the large one, the layers outside the blocks are all that is left.",
    ),
    4: Exercise(
        None,
        judge=judge_default_start,
        note="They are tiny, and alike everywhere: the gradient at a weight is what comes in times what comes back, "
        "and each layer shrinks both.",
        limit=60,
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
        judge=judge_losing_blocks,
        note="One block can go for almost nothing. Without two, about every third answer is wrong.",
        limit=60,
    ),
}

# Function classes

POINTS = torch.linspace(0, 1, 1001, dtype=torch.float64)
TARGET = (2 * POINTS - 1).abs() + 0.2 * torch.sin(9 * POINTS)


def distance_with(kinks):
    """The least distance (root mean square) of the piecewise straight functions with such kinks to the target."""
    units = [(POINTS - kink).relu() for kink in kinks]
    columns = torch.stack([torch.ones_like(POINTS), POINTS, *units], dim=1)
    values = columns @ torch.linalg.lstsq(columns, TARGET[:, None]).solution
    return (values[:, 0] - TARGET).square().mean().sqrt().item()


def steps_contained(pieces):
    return [longer % shorter == 0 for shorter, longer in pairwise(pieces)]


def judge_kinks(kinks):
    kinks = numbers(kinks, 5, "the kinks in the order in which they come").tolist()
    inside = len(set(kinks)) == 5 and all(0 < kink < 1 for kink in kinks)
    expect(inside, f"Five different numbers between 0 and 1 were expected; {kinks} came.")
    for k in range(2, 7):
        ours, theirs = distance_with(kinks[: k - 1]), distance_with([j / k for j in range(1, k)])
        what = f"Class F{k}, with the kinks {kinks[: k - 1]}, has distance {ours:.4f}; equal pieces have {theirs:.4f}."
        best = min(distance_with([*kinks[: k - 2], i / 24]) for i in range(1, 24)) if ours > theirs + 1e-9 else 0
        early = "the kinks before its last one: with them no last kink is good enough"
        cause = early if best > theirs + 1e-9 else "its last kink stands in the wrong place"
        expect(ours <= theirs + 1e-9, what, cause, "Try the last kink at many places, and keep the place that is best.")


def judge_two_convolutions(convs):
    convs = convs.children() if isinstance(convs, nn.Module) else convs
    convs = [layer for layer in convs if not isinstance(layer, nn.ReLU)] if isinstance(convs, Iterable) else []
    two = len(convs) == 2 and all(isinstance(conv, nn.Conv2d) for conv in convs)
    expect(two, "Two convolutions (nn.Conv2d) were expected, in a list.")
    one, last = convs
    between, sizes = one.out_channels, {(3, 3)}
    expect({one.kernel_size, last.kernel_size} == sizes, "Both convolutions were expected to be 3×3.")
    expect((one.in_channels, last.out_channels) == (8, 8), "8 channels are to come in, and 8 to go out.")
    x = torch.randn(2, 8, 6, 6)
    with torch.no_grad():
        y, big = last(one(x).relu()), last(one(1e6 * x).relu()) / 1e6
    expect(y.shape == x.shape, f"Maps of 6×6 came out as {y.shape[2]}×{y.shape[3]}.", "a padding of 1 is missing")
    near, plus, minus = (torch.allclose(y, each, atol=1e-4) for each in (x, x.relu(), x.abs()))
    causes = (
        (near, "a large bias keeps the ReLU from clipping, but only for small inputs"),
        (plus, "what is negative in x does not pass the ReLU, so it has to go there with its sign changed"),
        (minus, "the second convolution adds the two parts: it gives the absolute value"),
        (torch.allclose(y, -x, atol=1e-4), "the sign: it gives -x"),
        (between < 16, "each channel needs two in between"),
    )
    cause = next((words for holds, words in causes if holds), "")
    hint = "What does relu(x) - relu(-x) give, for x = 3 and for x = -3?"
    same = near and torch.allclose(big, x, atol=1e-4)
    expect(same, "y = x was expected for all x.", cause, hint)
    few = f"It is the identity, but {between} channels in between are more than it needs."
    expect(between <= 16, few, hint="Which of them carry the same numbers as others?")


def degradation_means(network, *errors):
    """Mean over the recorded seeds."""
    runs = [run for run in degradation.load()["runs"] if run["network"] == network]
    return [sum(run[error] for run in runs) / len(runs) for error in errors]


def answers_to_skeptics(network="plain-56", first="last_epoch_error", second="test_error"):
    seen, trained, test = degradation_means(network, first, "train_error", second)
    return [seen, test - trained]


def judge_random_kinks(counts):
    kept, anew = numbers(counts, 2, "for kept kinks and for those drawn anew").tolist()
    what = f"{kept:g} and {anew:g} of 100 cannot be."
    hint = "In one repetition, are the kinks of a class all among those of the next?"
    swapped = anew == 0 and kept > 50
    expect(not swapped, what, "they are in the other order", hint)
    expect(max(kept, anew) <= 100, what, "every rise is counted, not every repetition with a rise", hint)
    expect(kept == 0, what, "rounding counts as a rise, or kinks get lost on the way", hint)
    expect(anew > 80, what, "too few families are drawn anew, or some of their kinks are kept", hint)


def judge_plain_error(error, depth):
    (error,) = numbers(error, 1, "the training error").tolist()
    expect(0 <= error <= 1, f"{error:g} cannot be a fraction.", "it is a percentage" if 1 < error <= 100 else "")
    what = f"{error:.2f} for {depth} layers cannot be."
    hint = "What does cifar_resnet have to be told, and how many images and epochs are data and short?"
    if depth == 8:
        expect(error < 0.6, what, "it is the accuracy, or the network was not trained", hint)
        expect(error > 0.2, what, "more images or epochs than asked for", hint)
    else:
        expect(error > 0.45, what, "the network has shortcuts, or had more images or epochs than asked for", hint)


FUNCTION_CLASSES = {
    1: Exercise(
        steps_contained,
        hint="Write down the kinks of both classes of the step as fractions.",
        note="Every old kink must be a new one, so the old number divides the new one.",
        calls=(([2, 3, 4, 6, 12],), ([1, 7, 14, 20, 60, 90],)),
        mistakes={
            "more pieces are taken to be enough: every old kink has to be a new one": lambda pieces: (
                [True] * (len(pieces) - 1)
            ),
            "only a doubling is taken to keep all kinks": lambda pieces: [b == 2 * a for a, b in pairwise(pieces)],
            "one kink in common is taken to be enough: all old ones must be new ones": (
                lambda pieces: [math.gcd(a, b) > 1 for a, b in pairwise(pieces)]
            ),
            "each number is compared with the first, not with the one before": (
                lambda pieces: [each % pieces[0] == 0 for each in pieces[1:]]
            ),
        },
    ),
    2: Exercise(
        None,
        judge=judge_kinks,
        note="Nesting promises that no step does harm; that the nested family is the better one takes good kinks.",
    ),
    3: Exercise(
        None,
        judge=judge_two_convolutions,
        note="x = relu(x) - relu(-x), so two channels in between for each. A ReLU after it would clip what is negative "
        "in x, whatever the kernels.",
    ),
    4: Exercise(
        answers_to_skeptics,
        hint="Which error does without the running averages? Which two are far apart in an overfitted network?",
        note="With the batch's own mean and variance plain-56 errs as much, so the running averages are not to blame. "
        "And an overfitted network errs far less on the training images than on others; this one does not.",
        mistakes={
            "the first is train_error, which is measured with the running averages, as that skeptic says": lambda: [
                *degradation_means("plain-56", "train_error"),
                answers_to_skeptics()[1],
            ],
            "the training error minus the test error is returned": lambda: [
                answers_to_skeptics()[0],
                -answers_to_skeptics()[1],
            ],
            "the second is the test error alone": lambda: degradation_means(
                "plain-56", "last_epoch_error", "test_error"
            ),
            "they are in the other order": lambda: answers_to_skeptics()[::-1],
            "the runs of plain-20 are averaged": lambda: answers_to_skeptics("plain-20"),
        },
        tolerance=6e-4,
    ),
    5: Exercise(
        None,
        judge=judge_random_kinks,
        note="Kept kinks give nested classes, wherever they lie; new ones give none, save that F1 is in all.",
        limit=60,
    ),
    6: Exercise(
        None,
        judge=judge_plain_error,
        calls=((8,), (32,)),
        note="Between the two lies the depth at which a plain network begins to lose. "
        "Where it lies, and whether it moves with the budget, takes more runs than this check makes.",
        limit=300,
    ),
}

# Training fast


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


def two_rates(first=0.25, last=1.0, high=0.2):
    """Of a rate that reaches its highest value at the fraction `first` of the steps, and zero at `last`."""
    return [high * (last - done) / (last - first) for done in (0.5, 0.75)]


def steps_and_warmup(images=55_000, batch=128, epochs=4):
    steps = epochs * -(-images // batch)
    return [steps, steps // 4]


def spread_labels(labels, true=0.91, other=0.01):
    return torch.full((len(labels), 10), other).scatter_(1, labels[:, None], true)


def judge_smoothed_loss(loss, logits, labels):
    target, logs = spread_labels(labels), logits.log_softmax(1)
    wanted = F.cross_entropy(logits, labels, label_smoothing=0.1)

    def with_target(*weights):
        return -(spread_labels(labels, *weights) * logs).sum(1).mean()

    mistakes = {
        "the labels are not smoothed": with_target(1.0, 0.0),
        "the true class lacks its own share of the 0.1": with_target(0.9, 0.01),
        "the 0.1 is spread over the other nine classes, not over all ten": with_target(0.9, 0.1 / 9),
        "every class gets 0.1, not a tenth of it": with_target(1.0, 0.1),
        "it is the sum over the examples, not their mean": len(labels) * wanted,
        "the mean over the examples is missing": -(target * logs).sum(1),
        "the mean is taken over the classes as well, where a sum belongs": wanted / 10,
        "the sign: a cross-entropy is not negative": -wanted,
        "the logits are not made log-probabilities (log_softmax)": -(target * logits).sum(1).mean(),
        "the logarithm of the probabilities is missing": -(target * logits.softmax(1)).sum(1).mean(),
        "softmax is taken over the examples, not over the classes": -(target * logits.log_softmax(0)).sum(1).mean(),
    }
    expect_tensor(loss, wanted, mistakes, "Print the target of one example: ten numbers, which sum to 1.")


def judge_lost_by_rate(lost, epochs):
    (lost,) = numbers(lost, 1, "the difference of two accuracies").tolist()
    what = f"{lost:.3f} after {epochs} epochs cannot be."
    hint = "1,000 images in batches of 32 are 32 steps an epoch. Which accuracy is subtracted from which?"
    expect(lost > -0.03, what, "the lower rate's accuracy is subtracted from the higher one's", hint)
    expect(lost <= 1, what, "it is a percentage", hint)
    long = "the higher rate was not trained for as many epochs as the lower, or in larger batches"
    if epochs == 3:
        expect(lost < 0.12, what, long, hint)
    else:
        expect(lost > 0.05, what, "both were trained for too long, or learned nothing in large batches", hint)


LOGITS = torch.tensor([[float((7 * i + 3 * j * j) % 11 - 5) for j in range(10)] for i in range(3)]) / 2
SMALLEST_LOSS = F.cross_entropy(spread_labels(torch.zeros(1, dtype=int)).log(), torch.tensor([0]), label_smoothing=0.1)

TRAINING_FAST = {
    1: Exercise(
        two_rates,
        hint="The rate is highest after a quarter of the steps; what is left of the way down after a half?",
        mistakes={
            "the rate is taken to fall from the start, not from a quarter of the steps on": two_rates(first=0.0),
            "the rate is taken to fall from a half of the steps on, not from a quarter": [0.2, 0.1],
            "the rate is taken to stay at its highest value": [0.2, 0.2],
            "they are in the other order": two_rates()[::-1],
            "they are fractions of the highest rate, not rates": two_rates(high=1.0),
        },
        tolerance=6e-4,
    ),
    2: Exercise(
        steps_and_warmup,
        hint="How many steps has one epoch, and how large is the last batch?",
        mistakes={
            "the smaller batch at the end of an epoch is not counted": [4 * 429, 429],
            "a batch is taken to reach into the next epoch": [1719, 429],
            "all 60,000 images are counted, also the 5,000 for validation": steps_and_warmup(60_000),
            "these are the steps of one epoch": steps_and_warmup(epochs=1),
            "the steps of an epoch are not a whole number": [1718.75, 429.6875],
        },
    ),
    3: Exercise(
        None,
        judge=judge_smoothed_loss,
        note=f"Its smallest value is {SMALLEST_LOSS:.3f}, where the probabilities equal the target.",
        calls=((LOGITS, torch.tensor([3, 0, 9])), (-LOGITS[:2], torch.tensor([1, 1]))),
    ),
    4: Exercise(
        lambda rate, momentum: rate / (1 - momentum),
        hint="Run velocity = momentum * velocity + 1 a hundred times: where does it end?",
        note="A constant gradient g ends at the velocity g (1 + m + m² + ...) = g / (1 - m) with momentum m.",
        calls=((0.2, 0.9), (0.1, 0.5), (0.3, 0.0)),
        mistakes={
            "the rate is made lower, as if momentum made the steps shorter": lambda r, m: r * (1 - m),
            "the rate is multiplied by the momentum": lambda r, m: r * m,
            "only one earlier gradient is counted, not all of them": lambda r, m: r * (1 + m),
            "the rate is divided by the momentum, not by what it takes away": lambda r, m: r / (m or 1),
            "it is the factor, not the rate": lambda r, m: 1 / (1 - m),
            "the factor 10 holds for momentum 0.9 only": lambda r, m: 10 * r,
        },
        tolerance=1e-3,
    ),
    5: Exercise(
        None,
        judge=judge_lost_by_rate,
        note="The high rate costs the short training far more. For the best rate of each, more rates are needed, "
        "and more seeds.",
        calls=((1,), (3,)),
        limit=300,
    ),
}

# Out of the classroom


def last_step(images=55_000, batch=512, processes=4):
    steps = -(-images // batch)
    return [steps, (images - (steps - 1) * batch) / processes]


def squeeze_excite(narrow=16, biases=1):
    """Parameters, and their share of a bottleneck's: three convolutions; a bias, scale and shift for each channel."""
    added = 2 * 256 * narrow + biases * (narrow + 256)
    bottleneck = 256 * 64 + 9 * 64 * 64 + 64 * 256 + 3 * (64 + 64 + 256)
    return [added, added / bottleneck]


def judge_two_groups(joined, x, first, second):
    a, b = x.chunk(2, dim=1)
    with torch.no_grad():
        grouped = F.conv2d(x, torch.cat([first.weight, second.weight]), padding=1, groups=2)
        mistakes = {
            "both convolutions see the first half of the channels": torch.cat([first(a), second(a)], dim=1),
            "the halves of the channels are swapped": torch.cat([first(b), second(a)], dim=1),
            "the two results are joined in the other order": torch.cat([second(b), first(a)], dim=1),
            "the second convolution is not used": torch.cat([first(a), first(b)], dim=1),
            "each takes every other channel, not one half": torch.cat([first(x[:, ::2]), second(x[:, 1::2])], dim=1),
            "the two results are added, not concatenated": first(a) + second(b),
            "they are concatenated along the height": torch.cat([first(a), second(b)], dim=2),
            "they are concatenated along the width": torch.cat([first(a), second(b)], dim=3),
            "they are concatenated along the batch": torch.cat([first(a), second(b)]),
        }
    hint = "Which channels of x does the first group see, and which channels of the output does it make?"
    expect_tensor(joined.detach() if isinstance(joined, torch.Tensor) else joined, grouped, mistakes, hint)


def fold(conv, norm, v=None):
    """Weight and bias of the convolution that does what both do; `v` names a mistake."""
    variance = norm.running_var + (0 if v == "eps" else norm.eps)
    scale = norm.weight / (variance if v == "root" else variance.sqrt())
    scale = torch.ones_like(scale) / variance.sqrt() if v == "scale" else scale
    bias = torch.zeros_like(scale) if conv.bias is None or v == "bias" else conv.bias
    mean = torch.zeros_like(scale) if v == "mean" else norm.running_mean
    bias = bias - mean * scale if v == "bias as it is" else (bias - mean) * scale
    weight = conv.weight if v == "weight" else conv.weight * scale[:, None, None, None]
    return weight, bias + (0 if v == "shift" else norm.bias)


def judge_folded(folded, conv, norm):
    expect(isinstance(folded, nn.Conv2d), f"A convolution (nn.Conv2d) was expected; {type(folded).__name__} came.")
    x = torch.randn(2, 3, 9, 9)
    causes = {
        "eps": "the small number eps is not added to the variance",
        "root": "the variance stands where its square root, the deviation, belongs",
        "scale": "batch norm's own weight is missing from the scale",
        "bias": "the bias of the convolution is lost: batch norm scales it as well",
        "bias as it is": "the bias of the convolution has to be scaled, like its weights",
        "mean": "the running mean is not subtracted",
        "shift": "batch norm's own bias is not added",
        "weight": "the weights are not scaled",
    }
    with torch.no_grad():
        wanted = norm(conv(x))
        mistakes = {words: F.conv2d(x, *fold(conv, norm, v), conv.stride, conv.padding) for v, words in causes.items()}
        mistakes["nothing is folded: it is the convolution as it was"] = conv(x)
        if folded.weight.shape == conv.weight.shape:
            plain = (folded.stride, folded.padding) != (conv.stride, conv.padding)
            expect(not plain, "Another stride or padding came than the convolution's.", "they are not copied from it")
        expect_tensor(folded(x), wanted, mistakes, "Write norm(conv(x)) as a formula for one channel.")


def layers_to_fold():
    """Two pairs of a convolution and a batch norm, in eval mode; the random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pairs = []
        for bias, stride in ((True, 1), (False, 2)):
            conv, norm = nn.Conv2d(3, 4, 3, stride, padding=1, bias=bias).eval(), nn.BatchNorm2d(4, eps=0.01).eval()
            for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                nn.init.uniform_(values, 0.1, 0.9)
            pairs.append((conv, norm))
    return tuple(pairs)


def groups_to_join():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.randn(2, 8, 5, 5), *(nn.Conv2d(4, 3, 3, padding=1, bias=False) for _ in range(2))


HARM = ["inverted", "upside down", "moved"]

BEYOND = {
    1: Exercise(
        last_step,
        hint="The batch size is over all processes. How many images are left for the last step?",
        mistakes={
            "the images that are left are not counted as a step": [55_000 // 512, 54],
            "the last images are not shared among the four processes": [108, 216],
            "each process is given a batch of 512 of its own": last_step(batch=2048),
            "the last step is taken for a full one": [108, 128],
        },
    ),
    2: Exercise(
        squeeze_excite,
        hint="Two convolutions 1×1, from 256 to 16 channels and back.",
        mistakes={
            "the biases of its two layers are not counted": squeeze_excite(biases=0),
            "the added parameters are counted in the bottleneck": [squeeze_excite()[0], 8_464 / (70_784 + 8_464)],
            "the share is a percentage": [squeeze_excite()[0], 100 * squeeze_excite()[1]],
            "only the first of its two layers is counted": [256 * 16 + 16, (256 * 16 + 16) / 70_784],
            "the channels are divided by 4, not by 16": squeeze_excite(narrow=64),
        },
        tolerance=1e-3,
    ),
    3: Exercise(
        None,
        judge=judge_two_groups,
        note="It is what groups=2 computes.",
        calls=(groups_to_join(),),
    ),
    4: Exercise(
        None,
        judge=judge_folded,
        note="In training mode the mean and variance are those of the batch at hand, which no fixed weights can know.",
        calls=layers_to_fold(),
    ),
    5: Exercise(
        lambda: HARM,
        hint="Print the four accuracies.",
        note="The network was trained on mirror images, and on nothing else of this kind.",
        mistakes={
            "the least harmful stands first": HARM[::-1],
            "the names stand in the order of the exercise": ["inverted", "moved", "upside down"],
        },
        limit=60,
    ),
}

EXERCISES = {
    "resnet18": RESNET18,
    "densenet": DENSENET,
    "googlenet": GOOGLENET,
    "resnet50": RESNET50,
    "residual_block": RESIDUAL_BLOCK,
    "function_classes": FUNCTION_CLASSES,
    "training_fast": TRAINING_FAST,
    "beyond": BEYOND,
}
