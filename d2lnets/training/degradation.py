"""The degradation experiment: plain and residual networks of two depths, small enough for minutes.

Reference: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, Sec. 4.2.
"""

from dataclasses import replace

import torch
from torch.nn import functional as F

from d2lnets.data import FashionMNIST, Split
from d2lnets.training.recipe import Recipe

NAMES = ("plain20-thin", "plain56-thin", "resnet20-thin", "resnet56-thin")  # half as wide as in the paper
EXAMPLES = 6000

RECIPE = Recipe(  # no augmentation and no label smoothing, which keep the training error from zero
    epochs=80, lr=0.1, weight_decay=1e-4, label_smoothing=0.0, flip=False, flip_test=False, mixed_precision=False
)


def half(split: Split) -> Split:
    """Images (N, 1, 28, 28) with squares of 2x2 pixels averaged: (N, 1, 14, 14), uint8."""
    return Split(F.avg_pool2d(split.images.float(), 2).round().to(torch.uint8), split.labels)


def halved(data: FashionMNIST) -> FashionMNIST:
    """Fashion-MNIST with images of 14x14, as `half` makes them."""
    return replace(data, train=half(data.train), validation=half(data.validation), test=half(data.test))
