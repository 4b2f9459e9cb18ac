"""Residual, Inception and dense networks, small and exact: the package under the book."""

from d2lnets.data import DataError, FashionMNIST, Split, batches, load_fashion_mnist
from d2lnets.resnet import Residual, resnet18, resnet_block
from d2lnets.runs import Run, load_runs
from d2lnets.tracing import Trace, trace_shapes
from d2lnets.training import DivergedError, Recipe, Score, evaluate, fit, pick_device

__all__ = [
    "DataError",
    "DivergedError",
    "FashionMNIST",
    "Recipe",
    "Residual",
    "Run",
    "Score",
    "Split",
    "Trace",
    "batches",
    "evaluate",
    "fit",
    "load_fashion_mnist",
    "load_runs",
    "pick_device",
    "resnet18",
    "resnet_block",
    "trace_shapes",
]
