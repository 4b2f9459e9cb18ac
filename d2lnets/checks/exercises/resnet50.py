"""The exercises of the chapter "Bottlenecks and ResNet-50"."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import d2lnets
from d2lnets.checks.exercises.exercise import Exercise, expect, expect_program, parameters
from d2lnets.checks.programs.variants import CONV, NORM, POOL, Pool, Steps, Variant, run
from d2lnets.checks.recording import observe
from d2lnets.checks.replaying import Net
from d2lnets.checks.wording import Crashed, Refused


def on_the_way(
    filters: Sequence[int] = (256, 256, 1024), bias: int = 1, norm: int = 2, shortcut_norm: int = 2
) -> list[int]:
    """Parameters of a convolutional block that gets 512 channels, and those of its shortcut."""
    branch = sum(c * d * k**2 + (bias + norm) * d for c, d, k in zip((512, *filters), filters, (1, 3, 1)))
    shortcut = 512 * filters[-1] + (bias + min(norm, shortcut_norm)) * filters[-1]
    return [branch + shortcut, shortcut]


def judge_resnet101(net: Any) -> None:
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


AVERAGE = Pool("avg", 2, 2)


@dataclass(frozen=True, kw_only=True)
class BottleneckD(Variant):
    """How ResNet-D's block that halves the size is written.

    Attributes:
        strided: the convolution of the branch that has the stride, counted from 0.
        shortcut: its steps.
        shortcut_stride: of its 1×1 convolution.
        pool: the one on the shortcut.
    """

    strided: int = 1
    shortcut: Steps = (POOL, CONV, NORM)
    shortcut_stride: int = 1
    pool: Pool = AVERAGE


BOTTLENECK_D_RIGHTS = (BottleneckD(), BottleneckD(shortcut=(CONV, POOL, NORM)))
BOTTLENECK_D_MISTAKES = (
    BottleneckD("the shortcut has no pool: its 1×1 still has stride 2", shortcut=(CONV, NORM), shortcut_stride=2),
    BottleneckD("the branch's stride is on its first 1×1, as in the block of 2015, not on the 3×3", strided=0),
    BottleneckD("the pool on the shortcut takes the maximum, not the average", pool=Pool("max", 2, 2)),
    BottleneckD("the batch norm on the shortcut is missing", shortcut=(POOL, CONV)),
)


def bottleneck_d(net: Net, x: Tensor, filters: Sequence[int], v: BottleneckD) -> Tensor:
    y = x
    for i, (channels, kernel) in enumerate(zip(filters, (1, 3, 1))):
        y = net.conv(f"convolution {i + 1} of the branch", y, channels, kernel, 2 if i == v.strided else 1)
        y = net.norm(f"batch norm {i + 1} of the branch", y)
        y = y if i == 2 else F.relu(y)
    x = run(
        x,
        v.shortcut,
        pool=partial(v.pool, net, "the shortcut's pool"),
        conv=partial(net.conv, "the shortcut's 1×1 convolution", out=filters[-1], kernel=1, stride=v.shortcut_stride),
        norm=partial(net.norm, "the shortcut's batch norm"),
    )
    return F.relu(y + x)


def judge_bottleneck_d(block: Any, in_channels: int, filters: Sequence[int]) -> None:
    program, shape = partial(bottleneck_d, filters=filters), (2, in_channels, 8, 8)
    hint = "Print block.shortcut, and the shape behind each of its layers."
    try:
        expect_program(block, program, shape, BOTTLENECK_D_RIGHTS, BOTTLENECK_D_MISTAKES, hint)
    except Crashed as crash:
        if "must match the size" not in str(crash.error):
            raise
        cause = "the shortcut halves the size twice: its 1×1 keeps its stride after the pool"
        cause = "nothing halves the size on the shortcut" if "(8)" in str(crash.error) else cause
        raise Refused("The shortcut's map and the branch's differ in size, and cannot be added.", cause, hint) from None


def every_second_pixel() -> nn.Module:
    return nn.MaxPool2d(1, 2)


@dataclass(frozen=True, kw_only=True)
class LeanResNet50(Variant):
    """How the last block of a stage makes only what the next stage reads.

    Attributes:
        strided: its convolution that has the stride.
        shortcut: makes its shortcut.
    """

    strided: str = "conv2"
    shortcut: Callable[[], nn.Module] = every_second_pixel


LEAN_MISTAKES = (
    LeanResNet50("the stride is on the first 1×1 of the last block; its 3×3 must read all positions", strided="conv1"),
    LeanResNet50(
        "the shortcut averages; the next stage has read every second position",
        shortcut=partial(nn.AvgPool2d, 2, ceil_mode=True),
    ),
    LeanResNet50(
        "the shortcut takes maxima; the next stage has read every second position",
        shortcut=partial(nn.MaxPool2d, 2, ceil_mode=True),
    ),
)
LESS_LEAN = LeanResNet50(
    "the stride is on the last 1×1: the 3×3 before it still makes what nobody reads", strided="conv3"
)


def lean_resnet50(v: LeanResNet50) -> nn.Module:
    net: Any = d2lnets.resnet50()
    for stage, following in pairwise((net.conv2_x, net.conv3_x, net.conv4_x, net.conv5_x)):
        last, first = stage[-1], following[0]
        getattr(last, v.strided).stride = (2, 2)
        last.shortcut = v.shortcut()
        first.conv1.stride = first.shortcut[0].stride = (1, 1)
    return net


def logits_and_work(net: nn.Module, images: Tensor) -> tuple[Tensor, int]:
    """The logits, and the multiply-adds for an image; each padding keeps the size at stride 1."""
    record = observe(net, images, False, "for two images of 64×64")
    assert record.output is not None
    work = 0
    for made in record.calls:
        if made.kind == "conv":
            assert made.input is not None
            sides = zip(made.input.shape[2:], made.geometry["stride"])
            work += math.prod(made.shape) * math.prod(-(-side // stride) for side, stride in sides)
    return record.output, work


def judge_lean_resnet50(net: Any) -> None:
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
        cause = next((mistake.says for mistake in LEAN_MISTAKES if gives(lean_resnet50(mistake), logits)), "")
        raise Refused("With the same weights, other logits came than resnet50's.", cause, hint)
    if came > logits_and_work(lean_resnet50(LeanResNet50()), images)[1]:
        causes = {
            logits_and_work(right, images)[1]: "nothing is saved yet",
            logits_and_work(lean_resnet50(LESS_LEAN), images)[1]: LESS_LEAN.says,
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
        others=lambda random: tuple((random.randint(5, 9), tuple(random.sample(range(3, 12), 3))) for _ in range(2)),
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
