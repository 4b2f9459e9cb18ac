"""The exercises of the chapter "Inception and GoogLeNet"."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import d2lnets
from d2lnets.checks.exercises.exercise import Exercise, expect, expect_program, numbers, parameters
from d2lnets.checks.programs.variants import Variant
from d2lnets.checks.replaying import Net
from d2lnets.googlenet import GOOGLENET_STAGES

POSITIONS = {"inception_3": 12**2, "inception_4": 6**2, "inception_5": 3**2}  # of maps, for 96x96
INCEPTION_3A = (192, *GOOGLENET_STAGES["inception_3"]["inception_3a"])


def small_shapes(side: int = 14, part: int = 4, half: Callable[[int], int] = lambda side: (side + 1) // 2) -> list:
    """Of the three stages that get maps of this side, and the side of the last stage's."""
    sides = half(side), half(half(side)), half(half(side))
    blocks = [list(stage.values())[-1] for stage in GOOGLENET_STAGES.values()]
    channels = [(c1 + c2[1] + c3[1] + c4) // part for c1, c2, c3, c4 in blocks]
    return [*((c, each, each) for c, each in zip(channels, sides)), sides[-1]]


def naive_blocks(keep: bool = True, positions: dict[str, int] = POSITIONS) -> list:
    """The channels that leave the blocks without 1×1, and how many times the multiply-adds they take."""
    c, d, channels, work, ours = 192, 192, [], 0, 0
    for stage, blocks in GOOGLENET_STAGES.items():
        for c1, c2, c3, c4 in blocks.values():
            work += positions[stage] * c * (c1 + 9 * c2[1] + 25 * c3[1])
            ours += positions[stage] * (d * (c1 + c2[0] + c3[0] + c4) + 9 * c2[0] * c2[1] + 25 * c3[0] * c3[1])
            c, d = c1 + c2[1] + c3[1] + (c if keep else c4), c1 + c2[1] + c3[1] + c4
            channels.append(c)
    return [channels, work / ours]


@dataclass(frozen=True, kw_only=True)
class Two3x3(Variant):
    """How a path with two 3×3 in place of the 5×5 is written.

    Attributes:
        convs: those of its three convolutions that there are, counted from 0.
        without_relu: those that have no ReLU.
    """

    convs: tuple[int, ...] = (0, 1, 2)
    without_relu: tuple[int, ...] = ()


TWO_3X3_MISTAKES = (
    Two3x3("the ReLU between the two 3×3 is missing: together they are one linear map", without_relu=(1,)),
    Two3x3("the ReLU after the last 3×3 is missing", without_relu=(2,)),
    Two3x3("the ReLU after the 1×1 is missing", without_relu=(0,)),
    Two3x3("the ReLUs are missing", without_relu=(0, 1, 2)),
    Two3x3("the 1×1 that reduces 192 channels to 16 is missing", convs=(1, 2)),
)


def two_3x3(net: Net, x: Tensor, between: int, v: Two3x3) -> Tensor:
    convs = ("the 1×1 convolution", 16, 1), ("the first 3×3", between, 3), ("the second 3×3", 32, 3)
    for i in v.convs:
        role, channels, kernel = convs[i]
        x = net.norm_if_any("a batch norm", net.conv(role, x, channels, kernel))
        x = x if i in v.without_relu else F.relu(x)
    return x


def judge_two_3x3(path: Any, between: int) -> None:
    hint = "Print block.path3: what follows its convolutions, and how is the 5×5 padded?"
    expect_program(path, partial(two_3x3, between=between), (2, 192, 6, 5), [Two3x3()], TWO_3X3_MISTAKES, hint)


def two_3x3_work(between: int) -> int:
    return 12**2 * (192 * 16 + 9 * 16 * between + 9 * between * 32)


def spread_out(weight: Tensor) -> Tensor:
    """The nine weights at every second position of a 5×5: a dilated convolution."""
    wide = torch.zeros(*weight.shape[:2], 5, 5)
    wide[:, :, ::2, ::2] = weight
    return wide


def judge_5x5(given: Any, weight: Tensor) -> None:
    given = given.weight if isinstance(given, nn.Conv2d) else given
    expect(isinstance(given, torch.Tensor), f"A tensor was expected; {type(given).__name__} came.")
    shape, came = (*weight.shape[:2], 5, 5), tuple(given.shape)
    what = f"A weight of {shape} was expected; {came} came."
    hint = "At which positions of the 5×5 window does the 3×3 window lie?"
    expect(came == shape, what, "only two of the four dimensions are to grow", hint)
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


def judge_he(losses: Any) -> None:
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
        "With 32, the second 3×3 takes back more than the first saves.",
        calls=((32,), (16,)),
        others=lambda random: ((random.randint(17, 31),), (random.randint(33, 48),)),
        judge=judge_two_3x3,
    ),
    5: Exercise(
        None,
        note="A frame of zeros does it. Training would move the zeros, since their gradient is not zero: "
        "equal now is not equal later.",
        calls=((torch.linspace(-1, 1, 54).view(2, 3, 3, 3) ** 3,),),
        others=lambda random: ((torch.randn(random.randint(3, 6), random.randint(4, 7), 3, 3),),),
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
        note="It leaves the plateau without batch norm. Images that reach the output are needed; "
        "batch norm is one way to let them.",
        judge=judge_he,
        limit=120,
    ),
}
