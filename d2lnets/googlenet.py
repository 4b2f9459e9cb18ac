"""The Inception block and GoogLeNet (Inception v1).

Read from top to bottom: the block, the paper's table, the network.

Reference: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015.
"""

from collections import OrderedDict

import torch
from torch import nn

from d2lnets.arguments import require_positive
from d2lnets.resnet import head


def convolution(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, batch_norm: bool = False
) -> list[nn.Module]:
    """Convolution that keeps the size (at stride 1), batch norm if asked for, ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)]
    if batch_norm:
        layers.append(nn.BatchNorm2d(out_channels))
    return [*layers, nn.ReLU()]


class Inception(nn.Module):
    """Four paths with windows of four sizes, joined on channels (Szegedy et al. 2015, Sec. 4).

    Where a path has two widths, the first is that of the 1x1 convolution that reduces its input.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, H, W), out_channels = c1 + c2[1] + c3[1] + c4.

    Args:
        c1: channels of the 1x1 path.
        c2: pair, of the 1x1 and the 3x3 convolution.
        c3: pair, of the 1x1 and the 5x5 convolution.
        c4: channels of the 1x1 convolution after the 3x3 max-pool.
        batch_norm: after every convolution, as in later versions (Ioffe and Szegedy 2015).
    """

    def __init__(
        self, in_channels: int, c1: int, c2: tuple[int, int], c3: tuple[int, int], c4: int, batch_norm: bool = False
    ) -> None:
        super().__init__()
        if len(c2) != 2 or len(c3) != 2:
            raise ValueError(f"c2 and c3 must be pairs (1x1 channels, channels), got {c2!r} and {c3!r}")
        for channels in (in_channels, c1, *c2, *c3, c4):
            require_positive(channels=channels)
        self.out_channels = c1 + c2[1] + c3[1] + c4

        def conv(in_channels, out_channels, kernel_size):
            return convolution(in_channels, out_channels, kernel_size, batch_norm=batch_norm)

        self.path1 = nn.Sequential(*conv(in_channels, c1, 1))
        self.path2 = nn.Sequential(*conv(in_channels, c2[0], 1), *conv(c2[0], c2[1], 3))
        self.path3 = nn.Sequential(*conv(in_channels, c3[0], 1), *conv(c3[0], c3[1], 5))
        self.path4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *conv(in_channels, c4, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.path1(x), self.path2(x), self.path3(x), self.path4(x)], dim=1)


GOOGLENET_STAGES = {  # Szegedy et al. 2015, Table 1
    #                 1x1  reduce 3x3  reduce 5x5  pool proj
    "inception_3": {
        "inception_3a": (64, (96, 128), (16, 32), 32),
        "inception_3b": (128, (128, 192), (32, 96), 64),
    },
    "inception_4": {
        "inception_4a": (192, (96, 208), (16, 48), 64),
        "inception_4b": (160, (112, 224), (24, 64), 64),
        "inception_4c": (128, (128, 256), (24, 64), 64),
        "inception_4d": (112, (144, 288), (32, 64), 64),
        "inception_4e": (256, (160, 320), (32, 128), 128),
    },
    "inception_5": {
        "inception_5a": (256, (160, 320), (32, 128), 128),
        "inception_5b": (384, (192, 384), (48, 128), 128),
    },
}


def halve() -> nn.MaxPool2d:
    """Max-pool 3x3 that halves height and width."""
    return nn.MaxPool2d(kernel_size=3, stride=2, padding=1)


def googlenet(
    in_channels: int = 1, num_classes: int = 10, batch_norm: bool = False, small: bool = False, width: float = 1 / 4
) -> nn.Sequential:
    """GoogLeNet (Szegedy et al. 2015, Table 1): nine Inception blocks in three stages.

    5,977,530 parameters with 1 input channel and 10 classes. Any height and width will do.

    Args:
        batch_norm: after every convolution. Without it, plain SGD from the usual initial weights
            starts slowly.
        small: for images of 28x28: one 3x3 convolution and one max-pool in place of the first two parts,
            so that the first Inception stage sees 14x14; and fewer channels.
        width: the part of the paper's channels that a small network has, 1/2, 1/4 or 1/8.

    Shapes: (N, in_channels, H, W) -> (N, num_classes), the logits.

    Departs from the paper, as the book's source does: no local response normalisation, no dropout, no
    auxiliary classifiers.
    """
    require_positive(in_channels=in_channels)
    part = round(1 / width) if small else 1

    def conv(*arguments):
        return convolution(*arguments, batch_norm=batch_norm)

    channels = 192 // part
    if small:
        layers = {"stem": nn.Sequential(*conv(in_channels, channels, 3)), "max_pool": halve()}
    else:
        layers = {
            "conv1": nn.Sequential(*conv(in_channels, 64, 7, 2), halve()),
            "conv2": nn.Sequential(*conv(64, 64, 1), *conv(64, channels, 3), halve()),
        }
    for stage, blocks in GOOGLENET_STAGES.items():
        layers[stage] = nn.Sequential()
        for name, (c1, c2, c3, c4) in blocks.items():
            c2, c3 = ((reduced // part, out // part) for reduced, out in (c2, c3))
            block = Inception(channels, c1 // part, c2, c3, c4 // part, batch_norm)
            layers[stage].add_module(name, block)
            channels = block.out_channels
        if stage != "inception_5":
            layers[stage].add_module("max_pool", halve())
    layers["head"] = head(channels, num_classes)
    return nn.Sequential(OrderedDict(layers))
