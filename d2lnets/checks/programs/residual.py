"""Residual blocks of two and of three convolutions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from d2lnets.checks.programs.variants import CONV, NORM, RELU, Steps, Variant, run
from d2lnets.checks.replaying import Net

LAST = -1


def add_then_relu(y: Tensor, shortcut: Callable[[], Tensor]) -> Tensor:
    return F.relu(y + shortcut())


@dataclass(frozen=True, kw_only=True)
class Residual(Variant):
    """How a residual block is written; its branch's layers are counted from 0.

    Attributes:
        join: of the branch y and the shortcut s(), what comes out.
        sum_normed: whether a batch norm stands between addition and ReLU.
        steps: of each layer of the branch.
        without_norm: the layers that have none.
        without_relu: the layers that have none; the last one's stands after the addition.
        strided: the layers that have the block's stride.
        shortcut_from: how many layers of the branch x has gone through where the shortcut starts.
        shortcut_strided: whether the shortcut has the block's stride.
        shortcut_pooled: whether a pool has it, in place of the 1×1 convolution.
        shortcut_normed: whether batch norm follows the 1×1 convolution, if it does in this block.
        always_projected: whether the shortcut has a 1×1 convolution even where the shape stays the same.
    """

    join: Callable[[Tensor, Callable[[], Tensor]], Tensor] = add_then_relu
    sum_normed: bool = False
    steps: Steps = (CONV, NORM, RELU)
    without_norm: tuple[int, ...] = ()
    without_relu: tuple[int, ...] = (LAST,)
    strided: tuple[int, ...] = (0,)
    shortcut_from: int = 0
    shortcut_strided: bool = True
    shortcut_pooled: bool = False
    shortcut_normed: bool = True
    always_projected: bool = False


V1_5 = Residual("the stride is on the 3×3, as in torchvision (v1.5)", strided=(1,))
NO_RELU_2 = Residual("the ReLU after the second batch norm is missing", without_relu=(1, LAST))
NO_RELUS = Residual("the ReLUs inside the branch are missing", without_relu=(0, 1, LAST))
STRIDE_ON_2ND = Residual("the branch's stride is on the second convolution", strided=(1,))
CONCATENATED = "branch and shortcut are concatenated instead of added"
MISTAKES = (
    Residual("the ReLU stands before the addition, not after it", join=lambda y, s: F.relu(y) + s()),
    Residual("a ReLU too many: it stands before the addition as well as after it",
             join=lambda y, s: F.relu(F.relu(y) + s())),
    Residual("the last ReLU, after the addition, is missing", join=lambda y, s: y + s()),
    Residual("a ReLU stands on the shortcut", join=lambda y, s: F.relu(y + F.relu(s()))),
    Residual("the shortcut is never added", join=lambda y, s: F.relu(y)),
    Residual("the shortcut is never added, and the last ReLU is missing", join=lambda y, s: y),
    Residual("the shortcut is subtracted instead of added", join=lambda y, s: F.relu(y - s())),
    Residual("the branch is subtracted from the shortcut instead of added", join=lambda y, s: F.relu(s() - y)),
    Residual("branch and shortcut are multiplied instead of added", join=lambda y, s: F.relu(y * s())),
    Residual("the sum is divided by 2", join=lambda y, s: F.relu((y + s()) / 2)),
    Residual("the branch is added to itself: x was overwritten on the way, so the input is lost",
             join=lambda y, s: F.relu(y + y)),
    Residual(CONCATENATED, join=lambda y, s: F.relu(torch.cat([y, s()], dim=1))),
    Residual(CONCATENATED, join=lambda y, s: F.relu(torch.cat([s(), y], dim=1))),
    Residual("the shortcut starts after the first convolution, not at the input", shortcut_from=1),
    Residual("the ReLU after the first batch norm is missing", without_relu=(0, LAST)),
    NO_RELU_2,
    NO_RELUS,
    Residual("the ReLU stands before the batch norm, not after it", steps=(CONV, RELU, NORM)),
    Residual("the first batch norm is missing", without_norm=(0,)),
    Residual("the second batch norm is missing", without_norm=(1,)),
    Residual("batch norm is missing after all convolutions of the branch", without_norm=(0, 1, LAST)),
    Residual("batch norm and ReLU stand before the convolutions, as in a pre-activation block",
             steps=(NORM, RELU, CONV), without_relu=(), join=lambda y, s: y + s()),
    Residual("the addition stands before the last batch norm, not after it", without_norm=(LAST,), sum_normed=True),
    Residual("one batch norm too many: it is applied to the sum", sum_normed=True),
    Residual("the 1×1 convolution stands on the shortcut even where the shape stays the same", always_projected=True),
    STRIDE_ON_2ND,
    Residual("every convolution of the branch has the stride, not only one", strided=(0, 1, 2)),
    Residual("the stride is ignored", strided=(), shortcut_strided=False),
    Residual("the shortcut is pooled; a 1×1 convolution with the stride was expected", shortcut_pooled=True),
    Residual("the branch keeps stride 1", strided=()),
    Residual("the shortcut keeps stride 1", shortcut_strided=False),
)  # fmt: skip
RESIDUAL_MISTAKES = tuple(v for v in MISTAKES if v not in (NO_RELU_2, NO_RELUS))  # it has one inside the branch
BOTTLENECK_MISTAKES = (
    *(v for v in MISTAKES if v is not STRIDE_ON_2ND),  # which is right there: v1.5
    Residual("the branch's stride is on the third convolution", strided=(2,)),
    Residual("the third batch norm is missing", without_norm=(2,)),
    Residual("the batch norm after the shortcut's 1×1 convolution is missing", shortcut_normed=False),
)
BOTTLENECK_MISTAKES += tuple(replace(v, strided=V1_5.strided) for v in BOTTLENECK_MISTAKES if v.strided == (0,))


def residual(net: Net, x: Tensor, in_channels: int, out_channels: int, stride: int, v: Residual) -> Tensor:
    project = stride != 1 or in_channels != out_channels
    return _residual(net, x, [(out_channels, 3)] * 2, stride, project, net.norm_if_any, v)


def bottleneck(
    net: Net, x: Tensor, in_channels: int, filters: Sequence[int], stride: int | None, v: Residual
) -> Tensor:
    widths = list(zip(filters, (1, 3, 1)))
    return _residual(net, x, widths, stride or 1, stride is not None, net.norm, v)


def _residual(net, x, widths, stride, project, norm, v):
    """relu(branch + shortcut); `widths` are (channels, kernel) of the branch's convolutions, `norm` the shortcut's."""
    depth, out = len(widths), widths[-1][0]
    maps = [x]
    for i, (channels, kernel) in enumerate(widths):
        only = [k for _, k in widths].count(kernel) == 1
        place = "" if only else "first " if i == 0 else "last "
        role = f"the {place}{kernel}×{kernel} convolution"
        without = {NORM: v.without_norm, RELU: v.without_relu, CONV: ()}
        steps = [step for step in v.steps if i not in without[step] and i - depth not in without[step]]
        conv = partial(net.conv, role, out=channels, kernel=kernel, stride=stride if i in v.strided else 1)
        maps.append(run(maps[-1], steps, conv=conv, norm=partial(net.norm, f"batch norm {i + 1}")))
    y, start = maps[-1], maps[v.shortcut_from]

    def shortcut():
        return _shortcut(net, start, out, stride, norm, v) if project or v.always_projected else start

    if v.sum_normed:
        return F.relu(net.norm("the batch norm of the sum", y + shortcut()))
    return v.join(y, shortcut)


def _shortcut(net, x, out, stride, norm, v):
    stride = stride if v.shortcut_strided else 1
    if v.shortcut_pooled:
        x, stride = F.avg_pool2d(x, stride, ceil_mode=True), 1
    x = net.conv("the shortcut's 1×1 convolution", x, out, 1, stride)
    return norm("the shortcut's batch norm", x) if v.shortcut_normed else x
