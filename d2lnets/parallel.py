"""One training in several processes, as if in one: batches, batch norm and sums over all of them."""

from contextlib import contextmanager

import torch
from torch import distributed, nn


def start(device, precision="no", compile=False):
    """An ``accelerate.Accelerator`` for a device type, and for the processes that a launcher started."""
    from accelerate import Accelerator  # takes a moment to import, and only training needs it
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # of a training before, perhaps on another device
    backend = "inductor" if compile else "no"
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=precision, dynamo_backend=backend)
    if accelerator.device.type != device.type:
        raise ValueError(f"cannot train on {device}: the device here is {accelerator.device}")
    return accelerator


def processes():
    """How many there are; 1 without a launcher."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_first():
    """Whether this is the process that writes files and shows progress."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def share(batch):
    """This process's part of a batch, such that every example is in exactly one part.

    Shapes: (N, ...) -> (about N / processes, ...).
    """
    return batch[distributed.get_rank() :: processes()] if processes() > 1 else batch


def total(tensor):
    """The sum of `tensor` over all processes."""
    if processes() > 1:
        distributed.all_reduce(tensor)
    return tensor


class _Total(torch.autograd.Function):
    """`total` with a gradient: what one process computes from the sum concerns the inputs of all."""

    @staticmethod
    def forward(ctx, x):
        return total(x.clone())

    @staticmethod
    def backward(ctx, gradient):
        return total(gradient.clone())


class JointBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the examples of all processes (``nn.SyncBatchNorm`` refuses CPUs).

    Shapes: (N, C, H, W) -> (N, C, H, W).
    """

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        count = total(torch.tensor(x.numel() / x.shape[1], device=x.device))
        mean = _Total.apply(wide.sum((0, 2, 3), keepdim=True)) / count
        variance = _Total.apply((wide - mean).square().sum((0, 2, 3), keepdim=True)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.flatten(), self.momentum)
            self.running_var.lerp_(variance.flatten() * count / (count - 1), self.momentum)
        scale = self.weight[:, None, None] * (variance + self.eps).rsqrt()
        return ((wide - mean) * scale + self.bias[:, None, None]).to(x.dtype)


@contextmanager
def joint(net):
    """Inside the ``with`` block a network's batch norms are over all processes."""
    norms = [m for m in net.modules() if type(m) is nn.BatchNorm2d] if processes() > 1 else []
    for norm in norms:
        norm.__class__ = JointBatchNorm2d
    try:
        yield
    finally:
        for norm in norms:
            norm.__class__ = nn.BatchNorm2d
