"""The degradation experiment: plain and residual networks of two depths, small enough for minutes.

Reference: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, Sec. 4.2.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from d2lnets.data import FashionMNIST, Split
from d2lnets.files import expanded
from d2lnets.networks import build
from d2lnets.training.loop import evaluate, fit
from d2lnets.training.recipe import Recipe

RECORDED = Path(__file__).with_name("degradation.json")

NAMES = ("plain20-thin", "plain56-thin", "resnet20-thin", "resnet56-thin")  # half as wide as in the paper

RECIPE = Recipe(  # nothing that keeps the training error from zero: no augmentation, no label smoothing
    epochs=8, lr=0.1, weight_decay=1e-4, label_smoothing=0.0, flip=False, flip_test=False, mixed_precision=False
)


def halved(data: FashionMNIST, examples: int) -> FashionMNIST:
    """The first `examples` training and test images of Fashion-MNIST, squares of 2x2 pixels averaged.

    Shapes: images (N, 1, 28, 28) -> (N, 1, 14, 14), uint8. Nothing is left for validation.
    """
    data = data.take(examples)
    test = data.test[:examples]
    return replace(data, train=halve(data.train), validation=halve(data.validation[:0]), test=halve(test))


def halve(split: Split) -> Split:
    return Split(F.avg_pool2d(split.images.float(), 2).round().to(torch.uint8), split.labels)


def measure(
    network: str, data: FashionMNIST, seed: int = 0, recipe: Recipe = RECIPE, device: torch.device | str | None = None
) -> dict[str, Any]:
    """Train the network of that name, see `NAMES`, and measure it in eval mode.

    Args:
        data: as `halved` returns.
        seed: of the initial weights, which a plain network shares with its residual twin, and of the order.

    Returns:
        A dict with the fractions ``train_error`` and ``test_error``, ``last_epoch_error`` (of the training images
        as they were trained on, batch norm in training mode), and ``cpu_seconds`` of training.
    """
    torch.manual_seed(seed)
    net = build(network)
    run = fit(net, data, recipe, seed, device)
    return {
        "network": network,
        "seed": seed,
        "train_error": 1 - evaluate(net, data.train, device).accuracy,
        "last_epoch_error": 1 - run.epochs[-1]["train_accuracy"],
        "test_error": 1 - evaluate(net, data.test, device).accuracy,
        "cpu_seconds": run.cpu_seconds,
    }


def load(path: Path | str = RECORDED) -> dict[str, Any]:
    """What ``tools/degradation.py`` recorded: a dict with ``recipe``, ``examples``, ``machine``, ``versions``
    and ``runs``, a list of what `measure` returned."""
    return json.loads(expanded(path).read_text(encoding="utf-8"))
