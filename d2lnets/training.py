"""Train a network on Fashion-MNIST and measure it: the recipe, the loop, the score."""

import math
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from numbers import Real
from typing import NamedTuple

import torch
from torch.nn import functional as F
from tqdm import tqdm

from d2lnets.arguments import require_positive
from d2lnets.data import batch_indices, batches
from d2lnets.runs import Run, machine, versions


@dataclass(frozen=True)
class Recipe:
    """How to train: everything but the network, the data and the seed.

    SGD with Nesterov momentum; the learning rate rises to `lr` over the first 30 % of the steps and
    falls to nearly zero over the rest, along cosines (``torch.optim.lr_scheduler.OneCycleLR``).

    Attributes:
        epochs: passes over the training images.
        batch_size: examples a step.
        lr: highest learning rate.
        momentum: of SGD.
        weight_decay: factor of the parameters that is added to their gradients.
        augment: shift by up to 2 pixels and mirror half of the images (`shift_and_flip`).
    """

    epochs: int = 6
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: bool = True

    def __post_init__(self):
        require_positive(epochs=self.epochs, batch_size=self.batch_size)
        for name, low, high in (("lr", 0, math.inf), ("momentum", 0, 1)):
            value = getattr(self, name)
            if not (isinstance(value, Real) and low < value < high):
                raise ValueError(f"{name} must be a number above {low} and below {high}, got {value!r}")
        if not (isinstance(self.weight_decay, Real) and 0 <= self.weight_decay < math.inf):
            raise ValueError(f"weight_decay must be a number of at least 0, got {self.weight_decay!r}")


class Score(NamedTuple):
    """Mean cross-entropy in nats, and the fraction of examples classified correctly."""

    loss: float
    accuracy: float


class DivergedError(FloatingPointError):
    """The loss became infinite or not a number."""


def pick_device(device=None):
    """`device` as a ``torch.device``; without one the accelerator (CUDA, MPS, ...) where there is one, else the CPU."""
    if device is not None:
        return torch.device(device)
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")


def fit(net, data, recipe=Recipe(), seed=0, device=None):
    """Train `net` in place on ``data.train``; score ``data.validation`` after every epoch.

    With the same weights, `seed`, machine and versions the numbers come out the same. The seed
    decides order and augmentation; what the network draws itself (dropout) follows it too, and the
    caller's random state is left alone. ``TQDM_DISABLE=1`` in the environment hides the progress bar.

    Args:
        data: has ``train`` and ``validation``, as `load_fashion_mnist` returns.
        device: see `pick_device`. The network stays there.

    Returns:
        A `Run`: recipe, seed, machine, versions, and loss, accuracy and seconds of each epoch.

    Raises:
        DivergedError: the loss became infinite or not a number; it names the step.
    """
    device = pick_device(device)
    net.to(device, memory_format=torch.channels_last)
    train, validation = data.train.to(device), data.validation.to(device)
    steps = len(batch_indices(torch.arange(len(train)), recipe.batch_size))
    optimizer = torch.optim.SGD(
        net.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.lr, total_steps=recipe.epochs * steps + 1, cycle_momentum=False
    )
    generator = torch.Generator().manual_seed(seed)
    run = Run(
        recipe=asdict(recipe),
        seed=seed,
        examples=len(train),
        parameters=sum(p.numel() for p in net.parameters()),
        machine=machine(device),
        versions=versions(),
    )
    with torch.random.fork_rng(), tqdm(total=recipe.epochs * steps, unit="batch", mininterval=0.5, leave=False) as bar:
        torch.manual_seed(seed)
        for epoch in range(1, recipe.epochs + 1):
            start, cpu_start = time.perf_counter(), time.process_time()
            net.train()
            seen = loss_sum = correct = 0
            for step, (images, labels) in enumerate(batches(train, recipe.batch_size, recipe.augment, generator), 1):
                logits = net(images)
                loss = F.cross_entropy(logits, labels)
                _require_finite(loss.item(), f"at step {step} of {steps} in epoch {epoch}", recipe)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()

                seen += len(labels)
                loss_sum += loss.item() * len(labels)
                correct += (logits.argmax(1) == labels).sum().item()
                bar.set_description(f"epoch {epoch}/{recipe.epochs}", refresh=False)
                bar.set_postfix_str(
                    f"loss {loss_sum / seen:.3f}, accuracy {correct / seen:.3f}, "
                    f"{seen / (time.perf_counter() - start):,.0f} examples/s",
                    refresh=False,
                )
                bar.update()
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
            score = evaluate(net, validation, device) if len(validation) else None
            if score:
                _require_finite(score.loss, f"on the validation images after epoch {epoch}", recipe)
            run.add_epoch(Score(loss_sum / seen, correct / seen), score, seconds, cpu_seconds)
    return run


def _require_finite(loss, where, recipe):
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss is {loss} {where}: start again from fresh weights, with an lr below {recipe.lr:g}"
        )


@torch.no_grad()
def evaluate(net, split, device=None, batch_size=1000):
    """The `Score` of `net` on a split, in eval mode; the network's mode is restored.

    Raises:
        ValueError: the split is empty.
    """
    if not len(split):
        raise ValueError("cannot evaluate on an empty split")
    device = pick_device(device)
    net.to(device)
    loss = correct = 0.0
    with eval_mode(net):
        for images, labels in batches(split.to(device), batch_size):
            logits = net(images)
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            correct += (logits.argmax(1) == labels).sum().item()
    return Score(loss / len(split), correct / len(split))


@contextmanager
def eval_mode(net):
    """Eval mode inside the ``with`` block; every module's own mode again after it."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield net
    finally:
        for module, mode in modes.items():
            module.training = mode
