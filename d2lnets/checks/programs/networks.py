"""Networks made of the blocks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from d2lnets.checks.programs.dense import (
    DENSE_MISTAKES,
    TRANSITION_MISTAKES,
    DenseBlock,
    Transition,
    dense_block,
    transition,
)
from d2lnets.checks.programs.inception import INCEPTION_MISTAKES, Inception, inception
from d2lnets.checks.programs.residual import RESIDUAL_MISTAKES, Residual, residual
from d2lnets.checks.programs.variants import CONV, NORM, POOL, RELU, Pool, Steps, Variant, run, within
from d2lnets.checks.replaying import Net
from d2lnets.googlenet import GOOGLENET_STAGES
from d2lnets.resnet import RESNET18_STAGES, Stage

HALVE = Pool("max", 3, 2, 1)


@dataclass(frozen=True, kw_only=True)
class Stem(Variant):
    """How the stem is written: its steps, and its pool."""

    steps: Steps = (CONV, NORM, RELU, POOL)
    pool: Pool = HALVE


STEM_MISTAKES = (
    Stem("the max-pool of the stem is missing", steps=(CONV, NORM, RELU)),
    Stem("the stem pools by average, not by maximum", pool=Pool("avg", 3, 2, 1)),
    Stem("the stem's max-pool has a 2×2 window; 3×3 with padding 1 was expected", pool=Pool("max", 2, 2)),
    Stem("the stem's max-pool has no padding", pool=Pool("max", 3, 2)),
    Stem("the batch norm of the stem is missing", steps=(CONV, RELU, POOL)),
    Stem("the ReLU of the stem is missing", steps=(CONV, NORM, POOL)),
    Stem("batch norm and ReLU of the stem are missing", steps=(CONV, POOL)),
    Stem("in the stem the ReLU stands before the batch norm", steps=(CONV, RELU, NORM, POOL)),
    Stem("in the stem the max-pool stands before batch norm and ReLU", steps=(CONV, POOL, NORM, RELU)),
)


def _stem(net, x, v):
    net.place = "stem, "
    conv = partial(net.conv, "the 7×7 convolution", out=64, kernel=7, stride=2)
    norm = partial(net.norm, "the batch norm")
    return run(x, v.steps, conv=conv, norm=norm, pool=partial(v.pool, net, "the max-pool"))


def mean(x: Tensor) -> Tensor:
    return x.mean((2, 3))


@dataclass(frozen=True, kw_only=True)
class Head(Variant):
    """How the head is written: what it makes of each map, and of the logits."""

    pool: Callable[[Tensor], Tensor] = mean
    end: Callable[[Tensor], Tensor] = lambda logits: logits


HEAD_MISTAKES = (
    Head("a softmax stands at the end; the logits were expected", end=partial(F.softmax, dim=1)),
    Head("a log-softmax stands at the end; the logits were expected", end=partial(F.log_softmax, dim=1)),
    Head("a sigmoid stands at the end; the logits were expected", end=torch.sigmoid),
    Head("a ReLU stands at the end; the logits may be negative", end=F.relu),
    Head("the head takes the maximum over the map, not the average", pool=lambda x: x.amax((2, 3))),
    Head("the head averages over a window of fixed size, not over the whole map",
         pool=lambda x: mean(F.avg_pool2d(x, 2))),  # the whole map, if the image is 64 by 64
)  # fmt: skip


def _head(net, x, v):
    net.place = "head, "
    return v.end(net.linear("the linear layer", v.pool(x), 10))


@dataclass(frozen=True, kw_only=True)
class ResNet18(Variant):
    """How a ResNet-18 is written.

    Attributes:
        stages: of residual blocks.
        all_strided: whether every block of a stage has the stride, not only the first.
        stem, head, block: how these are written.
    """

    stem: Stem = field(default=Stem())
    stages: tuple[Stage, ...] = RESNET18_STAGES
    all_strided: bool = False
    block: Residual = field(default=Residual())
    head: Head = field(default=Head())


RESNET18_MISTAKES = (
    *within(ResNet18, "stem", STEM_MISTAKES),
    *within(ResNet18, "head", HEAD_MISTAKES),
    *(ResNet18(f"the stage {stage.name} is missing", stages=tuple(s for s in RESNET18_STAGES if s is not stage))
      for stage in RESNET18_STAGES),
    ResNet18("the stages have one residual block each; two were expected",
             stages=tuple(stage._replace(depth=1) for stage in RESNET18_STAGES)),
    ResNet18("the stages have three residual blocks each; two were expected",
             stages=tuple(stage._replace(depth=3) for stage in RESNET18_STAGES)),
    ResNet18("the first stage, conv2_x, has stride 2; the stem's max-pool has halved the size already",
             stages=(RESNET18_STAGES[0]._replace(stride=2), *RESNET18_STAGES[1:])),
    ResNet18("the stages do not halve the size: their first blocks have stride 1",
             stages=tuple(stage._replace(stride=1) for stage in RESNET18_STAGES)),
    ResNet18("both blocks of a stage have stride 2; only the first halves the size", all_strided=True),
    *within(ResNet18, "block", RESIDUAL_MISTAKES),
)  # fmt: skip


def resnet18(net: Net, x: Tensor, v: ResNet18) -> Tensor:
    x = _stem(net, x, v.stem)
    for name, depth, width, stride in v.stages:
        for i in range(depth):
            net.place = f"{name}, block {i + 1}, "
            x = residual(net, x, x.shape[1], width, stride if i == 0 or v.all_strided else 1, v.block)
    return _head(net, x, v.head)


@dataclass(frozen=True, kw_only=True)
class DenseNet(Variant):
    """How a DenseNet is written.

    Attributes:
        blocks: their number.
        transitions: the number of transitions, from the first block on.
        reduction: by how much they divide the channels.
        end: the steps before the head.
        stem, block, transition, head: how these are written.
    """

    stem: Stem = field(default=Stem())
    blocks: int = 4
    transitions: int = 3
    reduction: int = 2
    block: DenseBlock = field(default=DenseBlock())
    transition: Transition = field(default=Transition())
    end: Steps = (NORM, RELU)
    head: Head = field(default=Head())


DENSENET_MISTAKES = (
    *within(DenseNet, "stem", STEM_MISTAKES),
    *within(DenseNet, "head", HEAD_MISTAKES),
    DenseNet("the transitions between the dense blocks are missing", transitions=0),
    DenseNet("the transitions do not halve the channels", reduction=1),
    DenseNet("a transition too many: one stands after the last dense block", transitions=4),
    DenseNet("there are three dense blocks; four were expected", blocks=3, transitions=2),
    DenseNet("batch norm and ReLU before the head are missing", end=()),
    DenseNet("the ReLU after the last batch norm, before the head, is missing", end=(NORM,)),
    DenseNet("the batch norm before the head is missing", end=(RELU,)),
    *within(DenseNet, "transition", TRANSITION_MISTAKES, "in the transitions, "),
    *within(DenseNet, "block", DENSE_MISTAKES, "in the dense blocks, "),
)


def densenet(net: Net, x: Tensor, v: DenseNet) -> Tensor:
    x = _stem(net, x, v.stem)
    for i in range(1, v.blocks + 1):
        net.place = f"dense{i}, "
        x = dense_block(net, x, 4, x.shape[1], 32, v.block)
        if i <= v.transitions:
            net.place = f"transition{i}, "
            x = transition(net, x, x.shape[1], x.shape[1] // v.reduction, v.transition)
    net.place = "head, "
    return _head(net, run(x, v.end, norm=partial(net.norm, "the batch norm")), v.head)


INCEPTIONS = tuple(name for blocks in GOOGLENET_STAGES.values() for name in blocks)


@dataclass(frozen=True, kw_only=True)
class GoogLeNet(Variant):
    """How a GoogLeNet is written.

    Attributes:
        conv1x1: whether the second part has its 1×1 convolution.
        conv_relu: whether ReLUs follow the convolutions before the Inception blocks.
        pooled: the parts that end with a pool, counted from 0.
        pool: how each of them pools.
        blocks: the names of the Inception blocks that there are.
        block, head: how these are written.
    """

    conv1x1: bool = True
    conv_relu: bool = True
    pooled: tuple[int, ...] = (0, 1, 2, 3)
    pool: Pool = HALVE
    blocks: tuple[str, ...] = INCEPTIONS
    block: Inception = field(default=Inception())
    head: Head = field(default=Head())


PARTS = ("the 7×7 convolution", "the first 3×3 convolution", "inception_3", "inception_4")
GOOGLENET_MISTAKES = (
    *within(GoogLeNet, "head", HEAD_MISTAKES),
    *(GoogLeNet(f"the block {name} is missing", blocks=tuple(other for other in INCEPTIONS if other != name))
      for name in INCEPTIONS),
    GoogLeNet("the 1×1 convolution of the second part is missing", conv1x1=False),
    GoogLeNet("the ReLUs after the convolutions before the Inception blocks are missing", conv_relu=False),
    *(GoogLeNet(f"the max-pool after {part} is missing", pooled=tuple(k for k in range(4) if k != i))
      for i, part in enumerate(PARTS)),
    GoogLeNet("the max-pools between the parts are missing", pooled=()),
    GoogLeNet("the pools between the parts take the average, not the maximum", pool=Pool("avg", 3, 2, 1)),
    GoogLeNet("a max-pool too many: one stands after inception_5", pooled=(0, 1, 2, 3, 4)),
    *within(GoogLeNet, "block", INCEPTION_MISTAKES, "in the Inception blocks, "),
)  # fmt: skip


def googlenet(net: Net, x: Tensor, v: GoogLeNet) -> Tensor:
    def conv(role, x, channels, kernel, stride=1):
        y = net.norm_if_any("a batch norm", net.conv(role, x, channels, kernel, stride))
        return F.relu(y) if v.conv_relu else y

    def end(x, part):
        return v.pool(net, "the max-pool", x) if part in v.pooled else x

    net.place = "part 1, "
    x = end(conv("the 7×7 convolution", x, 64, 7, 2), 0)
    net.place = "part 2, "
    if v.conv1x1:
        x = conv("the 1×1 convolution", x, 64, 1)
    x = end(conv("the 3×3 convolution", x, 192, 3), 1)
    for part, blocks in enumerate(GOOGLENET_STAGES.values(), 2):
        for name, widths in blocks.items():
            net.place = f"{name}, "
            if name in v.blocks:
                x = inception(net, x, x.shape[1], *widths, v.block)
        x = end(x, part)
    return _head(net, x, v.head)
