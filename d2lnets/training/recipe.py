"""How to train: the book's recipe, and that of *Dive into Deep Learning*."""

import math
from dataclasses import dataclass, fields
from numbers import Integral

import torch

from d2lnets.arguments import require_number, require_positive
from d2lnets.data import enlarge, normalize

CHOICES = {"decay": ("linear", "cosine", "none"), "optimizer": ("sgd", "adamw", "muon")}


@dataclass(frozen=True)
class Recipe:
    """How to train: everything but the network, the data and the seed.

    `Recipe()` is the book's recipe; `D2L` is the one of *Dive into Deep Learning*.

    Attributes:
        epochs: passes over the training images.
        batch_size: examples a step, over all processes.
        lr: highest learning rate.
        warmup: fraction of the steps in which the rate rises in a straight line from 0 to `lr`; 0 for none.
        decay: how the rate falls to 0 over the rest: ``"linear"``, ``"cosine"``, or ``"none"``.
        optimizer: ``"sgd"``, ``"adamw"`` (Loshchilov and Hutter 2019) or ``"muon"`` (Jordan et al. 2024: kernels by
            Muon, all other parameters by AdamW).
        momentum: of SGD in Nesterov's form, 0 for none; of Muon.
        weight_decay: of SGD: factor of the parameters that is added to their gradients. Of AdamW and Muon:
            every step takes this part of the parameters, times the rate, away.
        decay_all: weight decay also of biases and of batch norm's scales and shifts.
        label_smoothing: part of each label that is spread over all classes.
        shift: move each image by up to so many pixels in each direction (`shift_and_flip`).
        flip: mirror half of the images.
        normalize: pixels to mean 0 and standard deviation 1 (`normalize`); otherwise to the range 0 to 1.
        image_size: enlarge the images to so many pixels, bilinearly; None leaves them at 28.
        average: decay of the exponential moving average of weights, which is what is scored; None for none.
        flip_test: score the mean of the logits of an image and its mirror image.
        clip: largest norm of the gradient, which is scaled down to it; None for no limit.
        xavier: draw the weights of convolutions and linear layers anew, uniformly (Glorot and Bengio 2010).
        mixed_precision: compute in 16 bits where the device has them in hardware, see `precision`.
        score_test: train on all 60,000 images, and score the test images after every epoch, as d2l does
            (`FashionMNIST.without_validation`). Then no choice may be made by these scores.
    """

    epochs: int = 4
    batch_size: int = 128
    lr: float = 0.2
    warmup: float = 0.25
    decay: str = "linear"
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_all: bool = True
    label_smoothing: float = 0.1
    shift: int = 0
    flip: bool = True
    normalize: bool = True
    image_size: int | None = None
    average: float | None = None
    flip_test: bool = True
    clip: float | None = None
    xavier: bool = False
    mixed_precision: bool = True
    score_test: bool = False

    def __post_init__(self) -> None:
        require_positive(epochs=self.epochs, batch_size=self.batch_size)
        for name in ("lr", "clip"):
            require_number(getattr(self, name), name, above=0, optional=name != "lr")
        require_number(self.average, "average", above=0, below=1, optional=True)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("warmup", "momentum", "label_smoothing"):
            require_number(getattr(self, name), name, least=0, below=1)
        require_number(self.weight_decay, "weight_decay", least=0)
        for name in ("shift", "image_size"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, Integral) and int(value) >= (name == "image_size")):
                raise ValueError(f"{name} must be a whole number of pixels, got {value!r}")
        for field in fields(self):
            if field.type is bool and not isinstance(getattr(self, field.name), bool):
                raise ValueError(f"{field.name} must be True or False, got {getattr(self, field.name)!r}")

    def __str__(self) -> str:
        """How it departs from the recipe of this module that it is nearest to, as in ``d2l epochs=14``."""
        name, departures = min(
            (
                (name, [f.name for f in fields(self) if getattr(self, f.name) != getattr(base, f.name)])
                for name, base in RECIPES.items()
            ),
            key=lambda pair: len(pair[1]),
        )
        return " ".join([name, *(f"{each}={getattr(self, each)}" for each in departures)])

    def rate(self, progress: float) -> float:
        """The learning rate when the fraction `progress` of all steps is done."""
        if progress < self.warmup:
            return self.lr * (progress / self.warmup)
        left = (1 - progress) / (1 - self.warmup)
        return self.lr * {"linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2, "none": 1.0}[self.decay]

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 images as the network gets them, float32.

        Shapes: (N, 1, H, W) -> (N, 1, image_size, image_size).
        """
        images = normalize(images) if self.normalize else images.float() / 255
        return images if self.image_size is None else enlarge(images, self.image_size)


BOOK = Recipe()

D2L = Recipe(
    epochs=10,
    lr=0.01,
    warmup=0.0,
    decay="none",
    momentum=0.0,
    weight_decay=0.0,
    label_smoothing=0.0,
    shift=0,
    flip=False,
    normalize=False,
    image_size=96,
    flip_test=False,
    xavier=True,
    mixed_precision=False,
    score_test=True,
)
"""Zhang, Lipton, Li, Smola, *Dive into Deep Learning* 1.0.3, Sec. 8.6: plain SGD at a constant rate."""

PLAIN = Recipe(flip_test=False)  # what `evaluate` takes by default

RECIPES = {"book": BOOK, "d2l": D2L}
