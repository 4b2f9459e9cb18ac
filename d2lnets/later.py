"""The blocks that came after ResNet, each a small change to one before it, and small networks to compare them.

Read from top to bottom: the parts, the blocks, the network. A block keeps the shape of what it gets; all convolutions
are without biases where batch norm follows.

References: He et al. 2016b; Xie et al. 2017; Hu, Shen, Sun 2018; Sandler et al. 2018; Liu et al. 2022.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from d2lnets.arguments import require_positive
from d2lnets.resnet import head


class Add(nn.Module):
    """x plus what a branch makes of it, and a ReLU after the sum unless ``relu=False``.

    Shapes: (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, *branch: nn.Module, relu: bool = True) -> None:
        super().__init__()
        self.branch, self.relu = nn.Sequential(*branch), relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + self.branch(x)
        return F.relu(y) if self.relu else y


class SqueezeExcite(nn.Module):
    """Weigh every map by a factor from 0 to 1, made from the means of all maps (Hu et al. 2018, Fig. 2).

    Shapes: (N, channels, H, W) -> (N, channels, H, W).

    Args:
        reduction: the two layers that make the factors meet at channels / reduction numbers.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        require_positive(channels=channels, reduction=reduction)
        if channels < reduction:
            raise ValueError(f"reduction must be at most channels, {channels}, got {reduction}")
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = F.adaptive_avg_pool2d(x, 1)  # (N, channels, 1, 1)
        return x * self.excite(F.relu(self.squeeze(means))).sigmoid()


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each position by itself (Liu et al. 2022).

    Shapes: (N, channels, H, W) -> (N, channels, H, W).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def conv(in_channels: int, out_channels: int, size: int = 1, groups: int = 1, bias: bool = False) -> nn.Conv2d:
    """A convolution that keeps height and width."""
    return nn.Conv2d(in_channels, out_channels, size, padding=size // 2, groups=groups, bias=bias)


def norm_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    """Batch norm and ReLU."""
    return nn.BatchNorm2d(channels), nn.ReLU()


def bottleneck(
    channels: int, width: int | None = None, groups: int = 1, relu: bool = True
) -> Add:  # fmt: skip
    """1x1, 3x3, 1x1 (He et al. 2016a, Fig. 5), by default a quarter as wide."""
    width = width or channels // 4
    return Add(
        conv(channels, width), *norm_relu(width),
        conv(width, width, 3, groups), *norm_relu(width),
        conv(width, channels), nn.BatchNorm2d(channels),
        relu=relu,
    )  # fmt: skip


def pre_activation(channels: int) -> Add:
    """The bottleneck with batch norm and ReLU before each convolution, not after it (He et al. 2016b, Fig. 1)."""
    width = channels // 4
    return Add(
        *norm_relu(channels), conv(channels, width),
        *norm_relu(width), conv(width, width, 3),
        *norm_relu(width), conv(width, channels),
        relu=False,
    )  # fmt: skip


def resnext(channels: int, width: int | None = None, groups: int | None = None) -> Add:
    """The bottleneck with its 3x3 in groups, and for what that saves a larger width (Xie et al. 2017, Table 1).

    In the paper the width is half of the channels, and a group has four. Here, where channels are few, the width is
    three eighths, and a group has three, by default: as many weights as in the bottleneck, within a tenth.
    """
    width = width or 3 * channels // 8
    return bottleneck(channels, width, groups or width // 3)


def squeeze_excite(channels: int, reduction: int = 4) -> Add:
    """The bottleneck with `SqueezeExcite` at the end of its branch (Hu et al. 2018); the paper's reduction is 16."""
    block = bottleneck(channels)
    block.branch.append(SqueezeExcite(channels, reduction))
    return block


def depthwise(channels: int) -> Add:
    """The bottleneck with one group for each channel: a depthwise 3x3."""
    return bottleneck(channels, groups=channels // 4)


def inverted(channels: int, relu: bool = True) -> Add:
    """The depthwise bottleneck, four times as wide as its ends.

    With ``relu=False`` the block of MobileNetV2 (Sandler et al. 2018, Fig. 3),
    which is six times as wide, and whose ReLUs end at 6.
    """
    return bottleneck(channels, 4 * channels, groups=4 * channels, relu=relu)


def depthwise_first(channels: int, size: int = 3) -> Add:
    """The inverted block with its depthwise convolution moved to the front, on few channels (Liu et al. 2022)."""
    wide = 4 * channels
    return Add(
        conv(channels, channels, size, channels), *norm_relu(channels),
        conv(channels, wide), *norm_relu(wide),
        conv(wide, channels), nn.BatchNorm2d(channels),
        relu=False,
    )  # fmt: skip


def one_activation(channels: int) -> Add:
    """7x7, and of the two ReLUs only the second, between the 1x1 convolutions."""
    wide = 4 * channels
    return Add(
        conv(channels, channels, 7, channels), nn.BatchNorm2d(channels),
        conv(channels, wide), *norm_relu(wide),
        conv(wide, channels), nn.BatchNorm2d(channels),
        relu=False,
    )  # fmt: skip


def one_norm(
    channels: int,
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> Add:
    """One norm, after the 7x7, and one activation (Liu et al. 2022, Fig. 4)."""
    wide = 4 * channels
    return Add(
        conv(channels, channels, 7, channels, bias=True), norm(channels),
        conv(channels, wide, bias=True), activation(),
        conv(wide, channels, bias=True),
        relu=False,
    )  # fmt: skip


def convnext(channels: int) -> Add:
    """ConvNeXt's block; that has a learned factor on the branch besides."""
    return one_norm(channels, partial(ChannelNorm, eps=1e-6), nn.GELU)


def later_net(block: Callable[[int], nn.Module], width: int = 24, num_classes: int = 10) -> nn.Sequential:
    """A small network of one kind of block: two at 14x14 and `width` channels, two at 7x7 and twice as many.

    All else is the same whatever the block: the stem, 3x3 with stride 2; between the stages batch norm and a 2x2
    convolution with stride 2; batch norm before the head, which blocks that end without one need.

    Shapes: (N, 1, 28, 28) -> (N, num_classes), the logits.
    """
    require_positive(width=width)
    stem = nn.Sequential(nn.Conv2d(1, width, 3, 2, padding=1, bias=False), *norm_relu(width))
    halve = nn.Sequential(nn.BatchNorm2d(width), nn.Conv2d(width, 2 * width, 2, 2))
    layers = {
        "stem": stem,
        "stage1": nn.Sequential(block(width), block(width)),
        "halve": halve,
        "stage2": nn.Sequential(block(2 * width), block(2 * width)),
        "norm": nn.BatchNorm2d(2 * width),
        "head": head(2 * width, num_classes),
    }
    return nn.Sequential(OrderedDict(layers))


BLOCKS: dict[
    str, Callable[[int], Add]
] = {  # three changes to the bottleneck; then the bottleneck, changed step by step
    "pre-activation": pre_activation,
    "squeeze-excite": squeeze_excite,
    "groups": resnext,
    "bottleneck": bottleneck,
    "depthwise": depthwise,
    "inverted": inverted,
    "no ReLU after": partial(inverted, relu=False),
    "depthwise first": depthwise_first,
    "7x7": partial(depthwise_first, size=7),
    "one activation": one_activation,
    "one norm": one_norm,
    "GELU": partial(one_norm, activation=nn.GELU),
    "layer norm": convnext,
}
LATER = {f"later-{name.replace(' ', '-')}": partial(later_net, block) for name, block in BLOCKS.items()}
LATER["later-bottleneck-wide"] = partial(later_net, bottleneck, 60)  # about the multiply-adds of the inverted ones
