"""The networks of others that ours are compared with, in tests and benchmarks."""

import matplotlib

matplotlib.use("agg")  # d2l must not look for a screen; notebooks started from here keep their own

import torch
import torchvision
from d2l import torch as d2l
from torch import nn


def d2l_resnet18(run=True):
    """ResNet-18 of Zhang et al., Sec. 8.6, from d2l's own blocks, which learn their sizes from the first batch."""

    def stage(channels, halve):
        return nn.Sequential(d2l.Residual(channels, halve, 2 if halve else 1), d2l.Residual(channels))

    stem = nn.Sequential(nn.LazyConv2d(64, 7, 2, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(10))
    net = nn.Sequential(stem, stage(64, False), stage(128, True), stage(256, True), stage(512, True), head)
    if run:
        net(torch.rand(2, 1, 96, 96))
    return net


def torchvision_net(name, first, **settings):
    """A torchvision network for one input channel; `first` names its first convolution."""
    net = getattr(torchvision.models, name)(num_classes=10, **settings)
    parent, _, attribute = first.rpartition(".")
    old = net.get_submodule(first)
    new = nn.Conv2d(1, old.out_channels, old.kernel_size, old.stride, old.padding, bias=old.bias is not None)
    setattr(net.get_submodule(parent), attribute, new)
    return net
