"""The source's ResNet-50 and Inception block, written again in Keras: weights copied over, outputs equal.

Keras pads "same" unevenly where the stride is 2 and the size even. ResNet-50 has no such layer (its padding is
explicit), and the Inception block has stride 1, so both must agree in every pixel.
"""

import math
import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import d2lnets


class Twin:
    """A Keras model, and its layers with weights in the order in which they were made."""

    def __init__(self):
        self.made = []

    def __call__(self, layer, x):
        self.made.append(layer)
        return layer(x)

    def bottleneck(self, x, filters, stride=None):
        """The source's identity block or, with a stride, its convolutional block."""
        y = self(layers.BatchNormalization(), self(layers.Conv2D(filters[0], 1, strides=stride or 1), x))
        y = self(layers.BatchNormalization(), self(layers.Conv2D(filters[1], 3, padding="same"), layers.ReLU()(y)))
        y = self(layers.BatchNormalization(), self(layers.Conv2D(filters[2], 1), layers.ReLU()(y)))
        if stride:
            x = self(layers.BatchNormalization(), self(layers.Conv2D(filters[2], 1, strides=stride), x))
        return layers.ReLU()(layers.Add()([x, y]))

    def resnet50(self, size):
        inputs = layers.Input((size, size, 3))
        x = self(layers.Conv2D(64, 7, strides=2), layers.ZeroPadding2D(3)(inputs))
        x = layers.ReLU()(self(layers.BatchNormalization(), x))
        x = layers.MaxPooling2D(3, strides=2)(x)
        for width, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            filters = (width, width, 4 * width)
            x = self.bottleneck(x, filters, stride)
            for _ in range(depth - 1):
                x = self.bottleneck(x, filters)
        x = layers.Flatten()(layers.AveragePooling2D(2)(x))
        self.model = keras.Model(inputs, self(layers.Dense(6), x))
        return self

    def inception(self, shape, c1, c2, c3, c4):
        def conv(channels, kernel, x):
            return self(layers.Conv2D(channels, kernel, padding="same", activation="relu"), x)

        x = layers.Input(shape)
        paths = [
            conv(c1, 1, x),
            conv(c2[1], 3, conv(c2[0], 1, x)),
            conv(c3[1], 5, conv(c3[0], 1, x)),
            conv(c4, 1, layers.MaxPooling2D(3, strides=1, padding="same")(x)),
        ]
        self.model = keras.Model(x, layers.Concatenate()(paths))
        return self

    def randomize(self):
        """Biases, and batch norm's parameters and statistics; kernels are random already."""
        generator = np.random.default_rng(0)
        for layer in self.made:
            for variable in layer.weights:
                if len(variable.shape) == 1:
                    variable.assign(generator.uniform(0.5, 1.5, variable.shape))
        return self


def in_our_shape(variable):
    """Keras has kernels as (H, W, in, out) and (in, out), PyTorch as (out, in, H, W) and (out, in)."""
    tensor = variable.value.detach().cpu()
    return tensor.permute(3, 2, 0, 1) if tensor.dim() == 4 else tensor.T if tensor.dim() == 2 else tensor


def copy_weights(net, twin):
    ours = [module for module in net.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))]
    for module, layer in zip(ours, twin.made, strict=True):
        names = ("weight", "bias", "running_mean", "running_var")
        state = {name: in_our_shape(variable) for name, variable in zip(names, layer.weights)}
        module.load_state_dict(state, strict=not isinstance(module, nn.BatchNorm2d))


@torch.no_grad()
def difference(net, twin, *shape):
    """Of the outputs for random images, relative to the twin's output."""
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    expected = twin.model(x.permute(0, 2, 3, 1), training=False).cpu()
    if expected.dim() == 4:
        expected = expected.permute(0, 3, 1, 2)
    ours = net.eval()(x)
    assert ours.shape == expected.shape and expected.std() > 1e-3
    return ((ours - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("size", [64, 56])  # both end with the 2x2 map that the source averages over
def test_resnet50(size):
    net, twin = d2lnets.resnet50(), Twin().resnet50(size).randomize()
    copy_weights(net, twin)
    assert difference(net, twin, 3, size, size) < 1e-4


def test_resnet50_has_the_sources_parameters():
    twin = Twin().resnet50(64)
    assert twin.model.count_params() == 23_600_006
    assert sum(math.prod(variable.shape) for variable in twin.model.trainable_weights) == 23_546_886
    net = d2lnets.resnet50()
    assert sum(p.numel() for p in net.parameters()) == 23_546_886
    statistics = sum(b.numel() for name, b in net.named_buffers() if "running" in name)
    assert 23_546_886 + statistics == 23_600_006


def test_the_other_placement_of_the_stride_is_another_function():
    net, twin = d2lnets.resnet50(v1_5=True), Twin().resnet50(64).randomize()
    copy_weights(net, twin)
    assert difference(net, twin, 3, 64, 64) > 1e-2


@pytest.mark.parametrize("size", [12, 7])
def test_inception(size):
    widths = (64, (96, 128), (16, 32), 32)
    net, twin = d2lnets.Inception(192, *widths), Twin().inception((size, size, 192), *widths).randomize()
    copy_weights(net, twin)
    assert difference(net, twin, 192, size, size) < 1e-4
