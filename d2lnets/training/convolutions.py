"""Convolutions as a CPU computes them fastest."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from d2lnets.training import parallel

MANY_CHANNELS = 512


class CPUConvolutions(TorchFunctionMode):
    """In this ``with`` block two kinds of convolution are computed otherwise, and alike but for rounding.

    - One that gives a single position is a matrix product of the weights that see the map. ResNet-18 at 28×28 ends in
      maps of 1×1, where eight of the nine weights of a 3×3 kernel see padding: their products and gradients are zero.
    - One in float32 that gives many channels is not computed in channels-last, in which PyTorch's library for CPUs,
      oneDNN, is slower at it.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is not F.conv2d or kwargs:  # `nn.Conv2d` gives no argument by name
            return func(*args, **(kwargs or {}))
        images, weight, *others = args
        if window := _window(*args):
            # The channels come last, as they lie in memory, so that nothing but the window is copied.
            seen = weight.permute(0, 2, 3, 1)[:, *window].flatten(1)
            return F.linear(images.permute(0, 2, 3, 1).flatten(1), seen, *others[:1])[:, :, None, None]
        many = len(weight) >= MANY_CHANNELS and weight.shape[-1] > 1
        if many and not torch.is_autocast_enabled("cpu") and weight.dtype == torch.float32:
            if parallel.processes() == 1:  # several have set up their exchange for the layout that there was
                weight.data = weight.data.contiguous()
            images = images.contiguous()
        return func(images, weight, *others)


def _window(images, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """The rows and the columns of a kernel that see the map, of which there is one position; None for other layers."""
    pairs = isinstance(stride, tuple) and isinstance(padding, tuple)
    if images.dim() != 4 or groups != 1 or dilation != (1, 1) or not pairs:
        return None
    ends = [
        (before, before + size)
        for size, kernel, step, before in zip(images.shape[2:], weight.shape[2:], stride, padding)
        if (size + 2 * before - kernel) // step == 0 and before + size <= kernel
    ]
    return [slice(*each) for each in ends] if len(ends) == 2 else None
