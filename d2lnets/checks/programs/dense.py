"""Dense blocks, and the transitions between them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from d2lnets.checks.programs.variants import CONV, NORM, POOL, RELU, Pool, Steps, Variant, run
from d2lnets.checks.replaying import Net


def along_channels(maps: list[Tensor]) -> Tensor:
    return torch.cat(maps, dim=1)


@dataclass(frozen=True, kw_only=True)
class DenseBlock(Variant):
    """How a dense block is written.

    Attributes:
        steps: of each layer.
        join: makes one tensor of a list of maps.
        sees: of the maps so far, those that a layer reads.
        returns: of all maps, those that the block puts out.
        relu_on_all: whether a ReLU is applied to all maps after each layer.
    """

    steps: Steps = (NORM, RELU, CONV)
    join: Callable[[list[Tensor]], Tensor] = along_channels
    sees: Callable[[list[Tensor]], list[Tensor]] = list
    returns: Callable[[list[Tensor]], list[Tensor]] = list
    relu_on_all: bool = False


DENSE_MISTAKES = (
    DenseBlock("the input is concatenated after the new maps, not before them",
               join=lambda maps: torch.cat(maps[::-1], dim=1)),
    DenseBlock("the new maps are added to the input instead of concatenated", join=partial(reduce, torch.add)),
    DenseBlock("only the last layer's new maps are returned, not all maps joined", returns=lambda maps: maps[-1:]),
    DenseBlock("the block's input is missing from what is returned", returns=lambda maps: maps[1:]),
    DenseBlock("the last layer's new maps are missing from what is returned", returns=lambda maps: maps[:-1]),
    DenseBlock("each layer sees only the maps of the layer before it, not all earlier ones",
               sees=lambda maps: maps[-1:]),
    DenseBlock("each layer sees only the block's input, not the maps of the layers before it",
               sees=lambda maps: maps[:1]),
    DenseBlock("the maps are joined along the height, not along the channels", join=partial(torch.cat, dim=2)),
    DenseBlock("the maps are joined along the width, not along the channels", join=partial(torch.cat, dim=3)),
    DenseBlock("the maps are joined along the batch, not along the channels", join=partial(torch.cat, dim=0)),
    DenseBlock("the ReLU between batch norm and convolution is missing", steps=(NORM, CONV)),
    DenseBlock("batch norm is missing", steps=(RELU, CONV)),
    DenseBlock("batch norm and ReLU are missing", steps=(CONV,)),
    DenseBlock("the ReLU stands before the batch norm, not after it", steps=(RELU, NORM, CONV)),
    DenseBlock("batch norm and ReLU stand after the convolution, not before it", steps=(CONV, NORM, RELU)),
    DenseBlock("ReLU and batch norm stand after the convolution, not before it", steps=(CONV, RELU, NORM)),
    DenseBlock("the ReLU stands after the convolution, and batch norm is missing", steps=(CONV, RELU)),
    DenseBlock("batch norm stands after the convolution, and the ReLU is missing", steps=(CONV, NORM)),
    DenseBlock("the ReLU stands after the convolution, not before it", steps=(NORM, CONV, RELU)),
    DenseBlock("a ReLU too many: one stands after the convolution", steps=(NORM, RELU, CONV, RELU)),
    DenseBlock("a batch norm too many: one stands after the convolution", steps=(NORM, RELU, CONV, NORM)),
    DenseBlock("a ReLU is applied to the maps after joining", relu_on_all=True),
)  # fmt: skip


def dense_block(net: Net, x: Tensor, num_convs: int, in_channels: int, growth_rate: int, v: DenseBlock) -> Tensor:
    maps = [x]
    for i in range(1, num_convs + 1):
        norm = partial(net.norm, f"the batch norm of layer {i}")
        conv = partial(net.conv, f"the 3×3 convolution of layer {i}", out=growth_rate, kernel=3)
        maps.append(run(v.join(v.sees(maps)), v.steps, norm=norm, conv=conv))
        if v.relu_on_all:
            maps = [F.relu(v.join(maps))]
    return v.join(v.returns(maps))


HALVE = Pool("avg", 2, 2)


@dataclass(frozen=True, kw_only=True)
class Transition(Variant):
    """How a transition is written.

    Attributes:
        steps: in their order.
        stride: of the convolution.
        pool: what is called for the pool.
    """

    steps: Steps = (NORM, RELU, CONV, POOL)
    stride: int = 1
    pool: Callable[[Net, str, Tensor], Tensor] = HALVE


TRANSITION_MISTAKES = (
    Transition("the average-pool is missing", steps=(NORM, RELU, CONV)),
    Transition("the 1×1 convolution is missing", steps=(NORM, RELU, POOL)),
    Transition("the ReLU between batch norm and convolution is missing", steps=(NORM, CONV, POOL)),
    Transition("batch norm is missing", steps=(RELU, CONV, POOL)),
    Transition("batch norm and ReLU are missing", steps=(CONV, POOL)),
    Transition("the ReLU stands before the batch norm, not after it", steps=(RELU, NORM, CONV, POOL)),
    Transition("batch norm and ReLU stand after the convolution, not before it", steps=(CONV, NORM, RELU, POOL)),
    Transition("ReLU and batch norm stand after the convolution, not before it", steps=(CONV, RELU, NORM, POOL)),
    Transition("the ReLU stands after the convolution, and batch norm is missing", steps=(CONV, RELU, POOL)),
    Transition("the ReLU stands after the convolution, not before it", steps=(NORM, CONV, RELU, POOL)),
    Transition("the pool stands before the batch norm, not at the end", steps=(POOL, NORM, RELU, CONV)),
    Transition("the ReLU stands after the convolution, not before it", steps=(NORM, POOL, CONV, RELU)),
    Transition("a ReLU too many: one stands after the convolution", steps=(NORM, RELU, CONV, RELU, POOL)),
    Transition("a ReLU too many: one stands at the end", steps=(NORM, RELU, CONV, POOL, RELU)),
    Transition("the pool takes the maximum, not the average", pool=Pool("max", 2, 2)),
    Transition("the convolution has stride 2 in place of the average-pool", steps=(NORM, RELU, CONV), stride=2),
    Transition("the average-pool's window is 3×3, not 2×2", pool=Pool("avg", 3, 2, 1)),
    Transition("the average-pool has stride 1, so the size is not halved", pool=Pool("avg", 2, 1)),
    Transition("the average-pool rounds the size up, not down", pool=Pool("avg", 2, 2, ceil_mode=True)),
    Transition("the pool averages over the whole map, not over 2×2 windows",
               pool=lambda net, role, x: F.adaptive_avg_pool2d(x, 1)),
    Transition("the average-pool divides the size by 4, not by 2", pool=Pool("avg", 4, 4)),
)  # fmt: skip
POOL_FIRST = Transition(
    "the pool stands before the 1×1 convolution, which gives the same with less work", steps=(NORM, RELU, POOL, CONV)
)


def transition(net: Net, x: Tensor, in_channels: int, out_channels: int, v: Transition) -> Tensor:
    norm = partial(net.norm, "the batch norm")
    conv = partial(net.conv, "the 1×1 convolution", out=out_channels, kernel=1, stride=v.stride)
    return run(x, v.steps, norm=norm, conv=conv, pool=partial(v.pool, net, "the average-pool"))
