"""Residual networks: ResNet-18, ResNet-50, and the family for small images.

Read from top to bottom: for each, the block, the paper's table, the network.

Reference: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from d2lnets.arguments import require_positive


class Residual(nn.Module):
    """Learn what to add to the input, y = relu(shortcut(x) + F(x)) (He et al. 2016a, Sec. 3.2).

    F is two 3x3 convolutions with batch norm. The shortcut is x itself or, where F changes the
    shape, a 1x1 convolution of x with the same stride.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)).

    Args:
        use_1x1conv: put the 1x1 convolution on the shortcut; None does so exactly where it is needed.
        stride: of the first 3x3 convolution and of the shortcut, in pixels.

    Raises:
        ValueError: ``use_1x1conv=False`` although F(x) and x differ in shape.

    Departs from the paper, as the book's source does: convolutions have biases, and the 1x1
    convolution has no batch norm. Parameter names are those of ``d2l.torch.Residual``.
    """

    def __init__(self, in_channels: int, out_channels: int, use_1x1conv: bool | None = None, stride: int = 1) -> None:
        super().__init__()
        require_positive(in_channels=in_channels, out_channels=out_channels, stride=stride)
        changes_shape = in_channels != out_channels or stride != 1
        if use_1x1conv is None:
            use_1x1conv = changes_shape
        if changes_shape and not use_1x1conv:
            scale = "" if stride == 1 else f"/{stride}"
            raise ValueError(
                f"cannot add F(x) of shape (N, {out_channels}, H{scale}, W{scale}) "
                f"to x of shape (N, {in_channels}, H, W): "
                "use use_1x1conv=True (or None), or keep in_channels == out_channels and stride == 1"
            )
        self.out_channels = out_channels
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride) if use_1x1conv else None
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))  # H and W divided by stride
        y = self.bn2(self.conv2(y))
        shortcut = x if self.conv3 is None else self.conv3(x)
        return F.relu(shortcut + y)


def resnet_block(in_channels: int, out_channels: int, num_residuals: int, first_block: bool = False) -> nn.Sequential:
    """One stage: `num_residuals` residual blocks in a row (He et al. 2016a, Table 1).

    The first block halves height and width, unless the stage is the network's first
    (``first_block=True``), which the stem's max-pool has already halved for. The others keep the shape.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H / 2), ceil(W / 2)),
    or (N, out_channels, H, W) with ``first_block=True``.
    """
    require_positive(num_residuals=num_residuals)
    first = Residual(in_channels, out_channels, stride=1 if first_block else 2)
    return nn.Sequential(first, *(Residual(out_channels, out_channels) for _ in range(num_residuals - 1)))


def stem(in_channels: int, out_channels: int = 64) -> nn.Sequential:
    """Convolution 7x7 and max-pool 3x3, both with stride 2 (He et al. 2016a, Table 1, first rows).

    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H / 4), ceil(W / 4)).
    """
    require_positive(in_channels=in_channels)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=7, stride=2, padding=3),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )


def small_stem(in_channels: int, out_channels: int) -> nn.Sequential:
    """Convolution 3x3 that keeps the size, for images of 28x28 or 32x32 (He et al. 2016a, Sec. 4.2).

    Shapes: (N, in_channels, H, W) -> (N, out_channels, H, W).
    """
    require_positive(in_channels=in_channels, out_channels=out_channels)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU())


def head(in_channels: int, num_classes: int) -> nn.Sequential:
    """Mean over height and width, then a linear layer (He et al. 2016a, Table 1, last row).

    Shapes: (N, in_channels, H, W) -> (N, num_classes), the logits.
    """
    require_positive(num_classes=num_classes)
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes))


class Stage(NamedTuple):
    """A row of the paper's table: `depth` blocks of `width` channels."""

    name: str
    depth: int
    width: int
    stride: int


RESNET18_STAGES = (  # He et al. 2016a, Table 1, column "18-layer"
    #     name      depth width stride
    Stage("conv2_x", 2,    64,  1),
    Stage("conv3_x", 2,   128,  2),
    Stage("conv4_x", 2,   256,  2),
    Stage("conv5_x", 2,   512,  2),
)  # fmt: skip


def resnet18(in_channels: int = 1, num_classes: int = 10, small: bool = False, width: float = 1 / 4) -> nn.Sequential:
    """ResNet-18 (He et al. 2016a, Table 1): a stem, four stages of two residual blocks, a linear head.

    11,178,378 parameters with 1 input channel and 10 classes. Any height and width will do, since the
    head averages over them; in training mode a 1x1 map needs a batch of at least two.

    Args:
        small: for images of 28x28: `small_stem`, which keeps every pixel, and fewer channels.
        width: the part of the paper's channels that a small network has, 1/2, 1/4, 1/8, ...

    Shapes: (N, in_channels, H, W) -> (N, num_classes), the logits.
    """
    part = round(1 / width) if small else 1
    channels = 64 // part
    layers: dict[str, nn.Module] = {"stem": (small_stem if small else stem)(in_channels, channels)}
    for name, depth, width, stride in RESNET18_STAGES:
        layers[name] = resnet_block(channels, width // part, depth, first_block=stride == 1)
        channels = width // part
    layers["head"] = head(channels, num_classes)
    return nn.Sequential(OrderedDict(layers))


class Bottleneck(nn.Module):
    """A residual block whose kernel_size convolution works on few channels (He et al. 2016a, Fig. 5, right).

    The branch is 1x1 to ``filters[0]``, kernel_size to ``filters[1]``, 1x1 to ``filters[2]`` channels, each
    followed by batch norm.

    Args:
        stride: None for the identity as shortcut; a number for a 1x1 convolution with that stride and
            batch norm on the shortcut.
        v1_5: put the branch's stride on the middle convolution, as torchvision does ("v1.5"), and
            not on the first 1x1, as in the networks of 2015. Shapes and parameters are the same; more is
            computed, and less thrown away, since a 1x1 with stride 2 skips three of four positions.

    Shapes: (N, in_channels, H, W) -> (N, filters[2], ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        filters: Sequence[int],
        kernel_size: int = 3,
        stride: int | None = None,
        v1_5: bool = False,
    ) -> None:
        super().__init__()
        if len(filters) != 3:
            raise ValueError(f"filters must be three numbers of channels, got {filters!r}")
        reduced, middle, self.out_channels = filters
        for channels in (in_channels, *filters):
            require_positive(channels=channels)
        require_positive(stride=1 if stride is None else stride, kernel_size=kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, so that padding keeps the size, got {kernel_size}")
        if stride is None and in_channels != self.out_channels:
            raise ValueError(
                f"cannot add F(x) of shape (N, {self.out_channels}, H, W) to x of shape (N, {in_channels}, H, W): "
                f"use convolutional_block, or filters that end with {in_channels}"
            )
        first, second = (1, stride or 1) if v1_5 else (stride or 1, 1)
        self.conv1 = nn.Conv2d(in_channels, reduced, kernel_size=1, stride=first)
        self.bn1 = nn.BatchNorm2d(reduced, eps=1e-3)
        self.conv2 = nn.Conv2d(reduced, middle, kernel_size, stride=second, padding=kernel_size // 2)
        self.bn2 = nn.BatchNorm2d(middle, eps=1e-3)
        self.conv3 = nn.Conv2d(middle, self.out_channels, kernel_size=1)
        self.bn3 = nn.BatchNorm2d(self.out_channels, eps=1e-3)
        self.shortcut = nn.Sequential()
        if stride is not None:
            self.shortcut.append(nn.Conv2d(in_channels, self.out_channels, kernel_size=1, stride=stride))
            self.shortcut.append(nn.BatchNorm2d(self.out_channels, eps=1e-3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(self.shortcut(x) + y)


def identity_block(in_channels: int, filters: Sequence[int], kernel_size: int = 3) -> Bottleneck:
    """The `Bottleneck` that keeps the shape: its shortcut is the input.

    Raises:
        ValueError: ``filters[2]`` is not in_channels.
    """
    return Bottleneck(in_channels, filters, kernel_size)


def convolutional_block(
    in_channels: int, filters: Sequence[int], kernel_size: int = 3, stride: int = 2, v1_5: bool = False
) -> Bottleneck:
    """The `Bottleneck` that changes the shape: a 1x1 convolution and batch norm on its shortcut."""
    return Bottleneck(in_channels, filters, kernel_size, stride, v1_5)


RESNET50_STAGES = (  # He et al. 2016a, Table 1, column "50-layer"; the blocks' output is 4 times the width
    #     name      depth width stride
    Stage("conv2_x", 3,    64,  1),
    Stage("conv3_x", 4,   128,  2),
    Stage("conv4_x", 6,   256,  2),
    Stage("conv5_x", 3,   512,  2),
)  # fmt: skip


def resnet50(
    in_channels: int = 3, num_classes: int = 6, v1_5: bool = False, small: bool = False, width: float = 1 / 4
) -> nn.Sequential:
    """ResNet-50 (He et al. 2016a, Table 1), as the book's source has it: for 64x64 colour images, 6 classes.

    23,546,886 trainable parameters, 23,600,006 with batch norm's running statistics. By default the
    stride is on the first 1x1 convolution of a block, as published; see `Bottleneck` for `v1_5`.

    Args:
        small: for images of 28x28: `small_stem`, which keeps every pixel, and fewer channels.
        width: the part of the paper's channels that a small network has, 1/2, 1/4, 1/8, ...

    Shapes: (N, in_channels, H, W) -> (N, num_classes), the logits. H and W at least 5, or 1 with `small`.

    Departs from the paper, as the source does: convolutions have biases, the max-pool has no padding,
    and batch norm's eps is 1e-3. The source averages over 2x2, which at 64x64 is the whole map; here it
    is the whole map at any size.
    """
    part = round(1 / width) if small else 1
    channels = 64 // part
    entry = (small_stem if small else stem)(in_channels, channels)
    for layer in entry:
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1e-3
        elif isinstance(layer, nn.MaxPool2d):
            layer.padding = 0
    layers: dict[str, nn.Module] = {"stem": entry}
    for name, depth, width, stride in RESNET50_STAGES:
        filters = [width // part, width // part, 4 * width // part]
        first = convolutional_block(channels, filters, stride=stride, v1_5=v1_5)
        channels = first.out_channels
        layers[name] = nn.Sequential(first, *(identity_block(channels, filters) for _ in range(depth - 1)))
    layers["head"] = head(channels, num_classes)
    return nn.Sequential(OrderedDict(layers))


class CifarBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (He et al. 2016a, Sec. 4.2, option A).

    Where the shape changes, the shortcut takes every stride-th pixel and appends channels of zeros.
    With ``residual=False`` there is no shortcut, and the parameters are the same.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, residual: bool = True) -> None:
        super().__init__()
        self.out_channels, self.stride, self.residual = out_channels, stride, residual
        self.more_channels = out_channels - in_channels
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.residual:
            shortcut = x[:, :, :: self.stride, :: self.stride]
            y = y + F.pad(shortcut, [0, 0, 0, 0, 0, self.more_channels])  # zeros for the new channels
        return F.relu(y)


def cifar_resnet(
    depth: int, width: int = 16, residual: bool = True, in_channels: int = 1, num_classes: int = 10
) -> nn.Sequential:
    """ResNet-20, -32, -44, -56, ... for small images (He et al. 2016a, Sec. 4.2).

    A 3x3 convolution, three stages of n blocks with `width`, 2 * width and 4 * width channels, and a
    linear layer: 6n + 2 layers with weights. With ``residual=False`` this is the plain twin: the same
    layers, and with the same random seed the same initial weights.

    Shapes: (N, in_channels, H, W) -> (N, num_classes), the logits.

    Raises:
        ValueError: `depth` is not 6n + 2.
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        below = max(8, depth - rest)
        raise ValueError(f"depth must be 6n + 2 (8, 14, 20, ...), got {depth}: try {below} or {below + 6}")
    channels = width
    layers: dict[str, nn.Module] = {"stem": small_stem(in_channels, channels)}
    for i, name in enumerate(("conv2_x", "conv3_x", "conv4_x")):
        layers[name] = stage = nn.Sequential()
        for j in range(blocks):
            block = CifarBlock(channels, width * 2**i, stride=2 if i > 0 and j == 0 else 1, residual=residual)
            stage.append(block)
            channels = block.out_channels
    layers["head"] = head(channels, num_classes)
    net = nn.Sequential(OrderedDict(layers))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # He et al. 2015
    return net


class PooledResidual(nn.Module):
    """Half the size, then a residual block of one convolution (Page 2018, simplified).

    A 3x3 convolution, max-pool, batch norm and ReLU make x; the output is x + relu(bn(conv(x))).
    Pooling comes before batch norm, which then costs a quarter.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, floor(H / 2), floor(W / 2)).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(F.max_pool2d(self.conv1(x), 2)))  # H and W halved
        return x + F.relu(self.bn2(self.conv2(x)))


def fast_resnet(widths: Sequence[int] = (16, 64, 128), in_channels: int = 1, num_classes: int = 10) -> nn.Sequential:
    """A small residual network that learns Fashion-MNIST in seconds, for 28x28 (after Page 2018).

    A 3x3 convolution of ``widths[0]`` channels, a `PooledResidual` for each width, and a linear layer.

    Shapes: (N, in_channels, H, W) -> (N, num_classes), the logits. H and W at least 8.

    Reference: Page, "How to Train Your ResNet", Myrtle.ai, 2018.
    """
    channels = widths[0]
    layers: dict[str, nn.Module] = {"stem": small_stem(in_channels, channels)}
    for i, width in enumerate(widths, 1):
        layers[f"stage{i}"] = PooledResidual(channels, width)
        channels = width
    layers["head"] = head(channels, num_classes)
    return nn.Sequential(OrderedDict(layers))
