"""Dense blocks and DenseNet.

Read from top to bottom: the layer, the block, the transition, the network.

Reference: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks", CVPR 2017.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint as keep_inputs

from d2lnets.arguments import require_positive
from d2lnets.resnet import head, small_stem, stem


class DenseLayer(nn.Sequential):
    """New maps from all earlier ones: batch norm, ReLU, convolution 3x3 (Huang et al. 2017, Sec. 3).

    With `bottleneck`, a 1x1 convolution first reduces the input to 4 * growth_rate channels (DenseNet-B).

    Shapes: any number of (N, C_i, H, W), in_channels in all -> (N, growth_rate, H, W).
    """

    def __init__(self, in_channels: int, growth_rate: int, bottleneck: bool = False) -> None:
        layers = []
        if bottleneck:
            layers += [nn.BatchNorm2d(in_channels), nn.ReLU(), nn.Conv2d(in_channels, 4 * growth_rate, kernel_size=1)]
            in_channels = 4 * growth_rate
        layers += [nn.BatchNorm2d(in_channels), nn.ReLU(), nn.Conv2d(in_channels, growth_rate, 3, padding=1)]
        super().__init__(*layers)

    def forward(self, *features: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.cat(features, dim=1))


class DenseBlock(nn.Sequential):
    """Keep the input and append `growth_rate` maps per layer to it (Huang et al. 2017, Sec. 3).

    Each layer sees everything before it. ``out_channels`` is in_channels + num_convs * growth_rate.

    Args:
        bottleneck: layers reduce their input by a 1x1 convolution first.
        checkpoint: keep only the layers' outputs for the backward pass and compute what is between
            them a second time: less memory, more time, the same gradients and statistics. Does not
            go with ``torch.compile``.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, H, W).
    """

    def __init__(
        self, num_convs: int, in_channels: int, growth_rate: int, bottleneck: bool = False, checkpoint: bool = False
    ) -> None:
        require_positive(num_convs=num_convs, in_channels=in_channels, growth_rate=growth_rate)
        super().__init__(
            *(DenseLayer(in_channels + i * growth_rate, growth_rate, bottleneck) for i in range(num_convs))
        )
        self.out_channels = in_channels + num_convs * growth_rate
        self.checkpoint = checkpoint

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [x]
        for layer in self:
            new = recomputed(layer, *features) if self.checkpoint else layer(*features)
            features.append(new)  # C grows by growth_rate
        return torch.cat(features, dim=1)


class RecomputedSequential(nn.Sequential):
    """An ``nn.Sequential`` that keeps only its input for the backward pass, and computes the rest again."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return recomputed(super().forward, x)


def recomputed(layer: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
    """``layer(*inputs)``, computed a second time in the backward pass; batch norm's statistics move once."""
    if not torch.is_grad_enabled():
        return layer(*inputs)
    module: nn.Module = getattr(layer, "__self__", layer)  # type: ignore[arg-type]  # of a bound method
    return keep_inputs(layer, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), StatisticsHeld(module)))


class StatisticsHeld:
    """Inside the ``with`` block batch norm does not update its running statistics.

    A class and not a generator, because a second backward pass through one graph enters it again.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.norms = [m for m in layer.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]

    def __enter__(self) -> None:
        self.before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in self.norms]  # type: ignore[union-attr]  # they track
        for norm in self.norms:
            norm.momentum = 0.0

    def __exit__(self, *error: object) -> None:
        for norm, (momentum, batches) in zip(self.norms, self.before):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(batches)  # type: ignore[union-attr]  # as above


def transition_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Between dense blocks: fewer channels by a 1x1 convolution, half the size by pooling (Sec. 3).

    Shapes: (N, in_channels, H, W) -> (N, out_channels, floor(H / 2), floor(W / 2)).
    """
    require_positive(in_channels=in_channels, out_channels=out_channels)
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, kernel_size=1),
        nn.AvgPool2d(kernel_size=2, stride=2),
    )


DENSENET_BLOCKS = (4, 4, 4, 4)  # layers in each dense block, as in *Dive into Deep Learning*
DENSENET121_BLOCKS = (6, 12, 24, 16)  # Huang et al. 2017, Table 1, column "DenseNet-121"


def densenet(
    in_channels: int = 1,
    num_classes: int = 10,
    blocks: Sequence[int] = DENSENET_BLOCKS,
    growth_rate: int = 32,
    bottleneck: bool = False,
    checkpoint: bool = False,
    small: bool = False,
    width: float = 3 / 8,
) -> nn.Sequential:
    """DenseNet: the stem of ResNet, then dense blocks with transitions that halve channels and size.

    758,226 parameters with 1 input channel and 10 classes. Halving the channels is the paper's
    "compression"; with `bottleneck` too this is its DenseNet-BC (Huang et al. 2017, Sec. 3), and with
    ``blocks=DENSENET121_BLOCKS`` its DenseNet-121.

    Args:
        small: for images of 28x28: `small_stem`, and fewer channels.
        width: the part of the growth rate, and of the stem's channels, that a small network has.

    Shapes: (N, in_channels, H, W) -> (N, num_classes), the logits. H and W at least 29, or 8 with `small`.

    Departs from the paper, as the book's source does: convolutions have biases.
    """
    require_positive(growth_rate=growth_rate, num_classes=num_classes, blocks=len(blocks))
    channels = 64
    if small:
        channels, growth_rate = int(channels * width), max(1, int(growth_rate * width))
    first = (small_stem if small else stem)(in_channels, channels)
    layers: dict[str, nn.Module] = {"stem": RecomputedSequential(*first) if checkpoint else first}
    for i, num_convs in enumerate(blocks, 1):
        block = DenseBlock(num_convs, channels, growth_rate, bottleneck, checkpoint)
        layers[f"dense{i}"] = block
        channels = block.out_channels
        if i < len(blocks):
            layers[f"transition{i}"] = transition_block(channels, channels // 2)
            channels //= 2
    last = nn.BatchNorm2d(channels), nn.ReLU()
    layers["head"] = nn.Sequential(*last, *head(channels, num_classes))
    return nn.Sequential(OrderedDict(layers))
