"""ResNet-18 and its residual block, as *Dive into Deep Learning* builds them.

Read from top to bottom: the block, a stage of blocks, the paper's table, the network.

Reference: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from collections import OrderedDict

from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Learn what to add to the input, y = relu(shortcut(x) + F(x)) (He et al. 2016, Sec. 3.2).

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

    def __init__(self, in_channels, out_channels, use_1x1conv=None, stride=1):
        super().__init__()
        for name, value in dict(in_channels=in_channels, out_channels=out_channels, stride=stride).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
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

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))  # H and W divided by stride
        y = self.bn2(self.conv2(y))
        shortcut = x if self.conv3 is None else self.conv3(x)
        return F.relu(shortcut + y)


def resnet_block(in_channels, out_channels, num_residuals, first_block=False):
    """One stage: `num_residuals` residual blocks in a row (He et al. 2016, Table 1).

    The first block halves height and width, unless the stage is the network's first
    (``first_block=True``), which the stem's max-pool has already halved for. The others keep the shape.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H / 2), ceil(W / 2)),
    or (N, out_channels, H, W) with ``first_block=True``.
    """
    if num_residuals < 1:
        raise ValueError(f"num_residuals must be at least 1, got {num_residuals}")
    first = Residual(in_channels, out_channels, stride=1 if first_block else 2)
    return nn.Sequential(first, *(Residual(out_channels, out_channels) for _ in range(num_residuals - 1)))


def stem(in_channels, out_channels=64):
    """Convolution 7x7 and max-pool 3x3, both with stride 2 (He et al. 2016, Table 1, first rows).

    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H / 4), ceil(W / 4)).
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=7, stride=2, padding=3),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )


def head(in_channels, num_classes):
    """Mean over height and width, then a linear layer (He et al. 2016, Table 1, last row).

    Shapes: (N, in_channels, H, W) -> (N, num_classes), the logits.
    """
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes))


RESNET18_STAGES = (  # He et al. 2016, Table 1, column "18-layer"
    # stage      blocks  channels
    ("conv2_x",  2,       64),
    ("conv3_x",  2,      128),
    ("conv4_x",  2,      256),
    ("conv5_x",  2,      512),
)  # fmt: skip


def resnet18(in_channels=1, num_classes=10):
    """ResNet-18 (He et al. 2016, Table 1): a stem, four stages of two residual blocks, a linear head.

    11,178,378 parameters with 1 input channel and 10 classes. Any height and width will do, since the
    head averages over them; in training mode a 1x1 map needs a batch of at least two.

    Shapes: (N, in_channels, H, W) -> (N, num_classes), the logits.
    """
    channels = 64
    layers = OrderedDict(stem=stem(in_channels, channels))
    for name, blocks, width in RESNET18_STAGES:
        first = name == "conv2_x"  # the stem has halved the size already
        layers[name] = resnet_block(channels, width, blocks, first_block=first)
        channels = width
    layers["head"] = head(channels, num_classes)
    return nn.Sequential(layers)
