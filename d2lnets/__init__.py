"""Residual, Inception and dense networks, small and exact: the package under the book."""

from d2lnets import imagenet
from d2lnets.data import DataError, FashionMNIST, Split, batches, load_fashion_mnist
from d2lnets.densenet import DenseBlock, densenet, transition_block
from d2lnets.files import CheckpointError
from d2lnets.googlenet import Inception, googlenet
from d2lnets.imagenet import classify, load_torchvision
from d2lnets.networks import load_trained
from d2lnets.resnet import (
    Residual,
    cifar_resnet,
    convolutional_block,
    fast_resnet,
    identity_block,
    resnet18,
    resnet50,
    resnet_block,
)
from d2lnets.tracing import Trace, trace_shapes
from d2lnets.training.budget import Budget, budget
from d2lnets.training.loop import DivergedError, Interrupted, Score, evaluate, fit, pick_device
from d2lnets.training.recipe import D2L, Recipe
from d2lnets.training.runs import Run, compare, load_experiment, load_runs

__version__ = "0.2.0"  # pyproject.toml reads it here

__all__ = [
    "D2L",
    "Budget",
    "CheckpointError",
    "DataError",
    "DenseBlock",
    "DivergedError",
    "FashionMNIST",
    "Inception",
    "Interrupted",
    "Recipe",
    "Residual",
    "Run",
    "Score",
    "Split",
    "Trace",
    "batches",
    "budget",
    "cifar_resnet",
    "classify",
    "compare",
    "convolutional_block",
    "densenet",
    "evaluate",
    "fast_resnet",
    "fit",
    "googlenet",
    "identity_block",
    "imagenet",
    "load_experiment",
    "load_fashion_mnist",
    "load_runs",
    "load_torchvision",
    "load_trained",
    "pick_device",
    "resnet18",
    "resnet50",
    "resnet_block",
    "trace_shapes",
    "transition_block",
]
