"""Convolutions whose kernels are larger than their maps, as a CPU computes them fastest."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from d2lnets.training import parallel

MANY_WEIGHTS = 2**20


class SmallMaps(TorchFunctionMode):
    """In this ``with`` block large kernels over small maps are computed in float32, and not in channels-last.

    ResNet-18 at 28×28 ends in maps of 2×2 and 1×1, over which a 3×3 kernel sees mostly padding. In 16 bits and
    channels-last PyTorch's library for CPUs, oneDNN, computes them more slowly, and the casts of that many weights come
    on top. With few weights (GoogLeNet at 28×28) it is the other way round.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.conv2d:
            images, weight, *rest = args
            if weight.shape[-1] > images.shape[-1] and weight.numel() >= MANY_WEIGHTS:
                if parallel.processes() == 1:  # several have set up their exchange for the layout that there was
                    weight.data = weight.data.contiguous()
                with torch.autocast("cpu", enabled=False):
                    return func(images.float().contiguous(), weight, *rest, **(kwargs or {}))
        return func(*args, **(kwargs or {}))
