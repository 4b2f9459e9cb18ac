"""Convolutions whose kernels reach beyond the whole map, as a CPU computes them fastest."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class SmallMaps(TorchFunctionMode):
    """In this ``with`` block a convolution that gives a single position is one matrix product.

    It takes only those weights that see the map: ResNet-18 at 28×28 ends in maps of 1×1, where eight of the nine
    weights of a 3×3 kernel see padding, whose product is zero and whose gradient is zero.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.conv2d and (window := _window(*args, **(kwargs or {}))):
            images, weight, *bias = args[:3]
            # The channels come last, as they lie in memory, so that nothing but the window is copied.
            seen = weight.permute(0, 2, 3, 1)[:, *window].flatten(1)
            return F.linear(images.permute(0, 2, 3, 1).flatten(1), seen, *bias)[:, :, None, None]
        return func(*args, **(kwargs or {}))


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
