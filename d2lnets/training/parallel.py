"""One training in several processes, as if in one: batches, batch norm and sums over all of them."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import TqdmWarning

if TYPE_CHECKING:
    from accelerate import Accelerator


def start(device: torch.device, precision: str = "no", compile: bool = False) -> "Accelerator":
    """An ``accelerate.Accelerator`` for a device, and for the processes that a launcher started."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # it looks for notebook widgets, which nobody needs
        from accelerate import Accelerator  # takes a moment to import, and only training needs it

    finish()
    if device.type == "cuda" and device.index is not None and not _launched():
        torch.cuda.set_device(device)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=precision,
        dynamo_backend="inductor" if compile else "no",
        gradient_accumulation_steps=1,
    )
    if accelerator.device.type != device.type:
        raise ValueError(f"cannot train on {device}: the device here is {accelerator.device}")
    return accelerator


def finish() -> None:
    """Let go of Accelerate's state, which all of a process shares: the next training may be on another device."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def _launched():
    return "LOCAL_RANK" in os.environ


def processes() -> int:
    """How many there are; 1 without a launcher."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the process that writes files and shows progress."""
    return rank() == 0


def share(batch: torch.Tensor) -> torch.Tensor:
    """This process's part of a batch, such that every example is in exactly one part.

    Shapes: (N, ...) -> (about N / processes, ...).
    """
    return batch[rank() :: processes()] if processes() > 1 else batch


def total(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of `tensor` over all processes."""
    if processes() > 1:
        distributed.all_reduce(tensor)
    return tensor


def differs(numbers: list[int]) -> bool:
    """Whether any of these numbers is not the same in all processes."""
    if processes() == 1:
        return False
    gathered: list[list[int] | None] = [None] * processes()
    distributed.all_gather_object(gathered, numbers)
    return any(each != numbers for each in gathered)


class _Total(torch.autograd.Function):
    """`total` with a gradient: what one process computes from the sum concerns the inputs of all."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return total(x.clone())

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        return total(gradient.clone())


class _Joint:
    """Put before a batch norm class: its means and variances are those of all processes' examples.

    ``nn.SyncBatchNorm`` does that too, but refuses CPUs.
    """

    def forward(self, x):
        if not (self.training or self.running_mean is None):
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        dims = [0, *range(2, x.dim())]  # all but the channels
        column = (-1, *[1] * (x.dim() - 2))
        count = total(torch.tensor(x.numel() // x.shape[1], device=x.device))
        if count < 2:
            raise ValueError(f"batch norm needs more than one value per channel to train, got shape {tuple(x.shape)}")
        mean = _Total.apply(wide.sum(dims)) / count
        variance = _Total.apply((wide - mean.view(column)).square().sum(dims)) / count
        if self.training and self.running_mean is not None:
            with torch.no_grad():
                self.num_batches_tracked += 1
                weight = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, weight)
                self.running_var.lerp_(variance * count / (count - 1), weight)
        y = (wide - mean.view(column)) * (variance.view(column) + self.eps).rsqrt()
        if self.affine:
            y = y * self.weight.view(column) + self.bias.view(column)
        return y.to(x.dtype)


class _JointBatchNorm1d(_Joint, nn.BatchNorm1d):
    pass


class _JointBatchNorm2d(_Joint, nn.BatchNorm2d):
    pass


class _JointBatchNorm3d(_Joint, nn.BatchNorm3d):
    pass


_JOINT = {
    nn.BatchNorm1d: _JointBatchNorm1d,
    nn.BatchNorm2d: _JointBatchNorm2d,
    nn.BatchNorm3d: _JointBatchNorm3d,
}


@contextmanager
def joint(net: nn.Module) -> Iterator[None]:
    """Inside the ``with`` block a network's batch norms are over all processes.

    Raises:
        ValueError: a batch norm is of a kind of its own, so that nobody knows how.
    """
    norms = []
    if processes() > 1:
        norms = [each for each in net.modules() if isinstance(each, _BatchNorm) and type(each) is not nn.SyncBatchNorm]
    for norm in norms:
        if type(norm) not in _JOINT:
            name = type(norm).__name__
            raise ValueError(f"cannot train {name} in several processes: use nn.BatchNorm2d, or one process")
    kinds = [type(norm) for norm in norms]
    for norm, kind in zip(norms, kinds):
        norm.__class__ = _JOINT[kind]
    try:
        yield
    finally:
        for norm, kind in zip(norms, kinds):
            norm.__class__ = kind
