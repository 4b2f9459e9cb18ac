"""What a machine can train in the time of a lesson: which form of a network, on how many images, for how long."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import Protocol

import torch
from torch import nn

from d2lnets.arguments import require_positive
from d2lnets.data import FashionMNIST, Split, batches
from d2lnets.networks import build
from d2lnets.training.loop import eval_mode, fit, pick_device
from d2lnets.training.recipe import BOOK, Recipe
from d2lnets.training.runs import Run

LESSONS = {  # the source's network, for a GPU; its form for a CPU, and how many images a core can take in a lesson
    "resnet18": ("resnet18-small", 500),
    "resnet50": ("resnet50-small-thin", 700),
    "googlenet": ("googlenet-small", 400),
    "googlenet-bn": ("googlenet-small-bn", 400),
    "densenet": ("densenet-small", 500),
}
MANY = 10_000  # from so many images on, the book's recipe is taken as it is


class Watch(Protocol):
    """What is told of a training while it runs, as `d2lnets.plots.Curves` is."""

    def start(self, network: str) -> None: ...

    def after_step(self, images: int, loss: float, accuracy: float) -> None: ...

    def after_epoch(self, run: Run, net: nn.Module) -> None: ...


@dataclass(frozen=True)
class Budget:
    """What is trained: `budget` makes one.

    Attributes:
        network: its name, see `d2lnets.load_trained`.
        device: where, as in ``"cpu"`` or ``"cuda"``.
        images: how many training images, the first; None for all 60,000, scored by the test images.
        recipe: how.
    """

    network: str
    device: str
    images: int | None
    recipe: Recipe

    def __str__(self) -> str:
        images = "all 60,000 images" if self.images is None else f"{self.images:,} images"
        size = self.recipe.image_size or 28
        steps = f"epochs: {self.recipe.epochs}, batches of {self.recipe.batch_size}"
        return f"{self.network} on {self.device}: {images} of {size}×{size}, {steps}"

    def part(self, data: FashionMNIST) -> FashionMNIST:
        """The images to train on, and under ``validation`` those to score by: at most 500, or all test images."""
        return data.without_validation() if self.images is None else data.take(self.images, 500)

    def train(self, data: FashionMNIST, watch: Watch | None = None, seed: int = 0) -> tuple[nn.Module, Run]:
        """Build the network and train it on its `part` of `data`.

        Args:
            watch: is told how it goes.
            seed: of the initial weights, the order and the augmentation.

        Returns:
            The network, and the `Run`; errors are those of `d2lnets.fit`.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = build(self.network)
        if watch:
            watch.start(self.network)
        run = fit(
            net,
            self.part(data),
            self.recipe,
            seed,
            self.device,
            name=self.network,
            graph=self.device.startswith("cuda"),
            after_epoch=watch.after_epoch if watch else None,
            after_step=watch.after_step if watch else None,
        )
        return net, run

    def beside(self, run: Run, recorded: Sequence[Run]) -> str:
        """A run of this budget and recorded runs, in a sentence: images seen, and the last accuracy in percent."""
        split = "test" if self.recipe.score_test else "validation"
        last = [each.test["accuracy"] if split == "test" and each.test else last_accuracy(each) for each in recorded]
        spread = f" ± {100 * stdev(last):.2f}" if len(last) > 1 else ""
        return (
            f"{run.network} saw {images_seen(run):,} images, and is right on {last_accuracy(run):.1%} ({split});\n"
            f"{recorded[0].network}, recorded, saw {images_seen(recorded[0]):,}, and is right on "
            f"{100 * mean(last):.2f}{spread} %."
        )

    @torch.no_grad()
    def answers(self, net: nn.Module, split: Split) -> torch.Tensor:
        """The class that the network gives each image, (N,), on the CPU; with `Recipe.flip_test` as in the scores."""
        found = []
        with eval_mode(net):
            for images, _ in batches(split.to(self.device), 100, prepare=self.recipe.prepare):
                logits = net(images)
                found.append((logits + net(images.flip(-1)) if self.recipe.flip_test else logits).argmax(1).cpu())
        return torch.cat(found)


def last_accuracy(run: Run) -> float:
    """On the held-out images, after the last epoch."""
    return run.epochs[-1]["validation_accuracy"]


def images_seen(run: Run) -> int:
    """Training images, counted again in every epoch."""
    return len(run.epochs) * run.examples


def budget(
    network: str, device: torch.device | str | None = None, images: int | None = None, epochs: int | None = None
) -> Budget:
    """What `device` can train of a chapter's network while a lesson goes on.

    On a GPU the network of the source, on all images, enlarged to 96x96, by the book's recipe. On a CPU its small form
    on so many images of 28x28 that one core needs a few seconds; in batches of 16, or there would be too few steps, and
    with a lower learning rate for them.

    Args:
        network: ``"resnet18"``, ``"resnet50"``, ``"googlenet"``, ``"googlenet-bn"`` or ``"densenet"``.
        device: see `d2lnets.pick_device`.
        images: train on so many, and not on as many as the device can; from 10,000 on by the book's recipe as it is.
        epochs: passes over them.

    Raises:
        ValueError: there is no such network, or a number is not positive.
    """
    if network not in LESSONS:
        raise ValueError(f"network must be one of {', '.join(LESSONS)}, got {network!r}")
    require_positive(**{name: n for name, n in {"images": images, "epochs": epochs}.items() if n is not None})
    where = pick_device(device)
    small, few = LESSONS[network]
    if where.type == "cuda":
        name, recipe = network, replace(BOOK, image_size=96, score_test=images is None)
    else:
        name, images = small, images or few
        recipe = BOOK if images >= MANY else replace(BOOK, epochs=2, batch_size=16, lr=0.05, flip_test=False)
    return Budget(name, str(where), images, recipe if epochs is None else replace(recipe, epochs=epochs))
