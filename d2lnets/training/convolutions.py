"""Convolutions as a CPU computes them fastest."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# Winograd's algorithm pays from so many channels in times channels out, windows in a batch, and multiplications saved.
# Less would gain little; and the layers of `fast_resnet` stay, number for number, what a plain loop computes.
MANY_PRODUCTS, MANY_WINDOWS, MUCH_SAVED = 96 * 128, 64, 2**27


class CPUConvolutions(TorchFunctionMode):
    """In this ``with`` block two kinds of convolution are computed otherwise, and alike but for rounding.

    - One whose every position sees the whole map is one matrix product of the weights that see something. ResNet-18 at
      28×28 ends in maps of 2×2 and 1×1, where eight of the nine weights of a 3×3 kernel see padding.
    - One of 3×3 between many channels, in 32 bits or more, is computed with fewer multiplications, by `winograd`.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is not F.conv2d or kwargs:  # `nn.Conv2d` gives no argument by name
            return func(*args, **(kwargs or {}))
        images, weight, *others = args
        if windows := _windows_of_the_whole(*args):
            return _as_product(images, weight, others[0], *windows)
        many_bits = not torch.is_autocast_enabled("cpu") and weight.dtype in (torch.float32, torch.float64)
        if many_bits and (size := _size_of_windows(*args)):
            return winograd(images, weight, others[0], size)
        return func(*args)


def _windows_of_the_whole(images, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """For the rows and for the columns of the result which part of a kernel sees the map; None if one sees not all."""
    pairs = isinstance(stride, tuple) and isinstance(padding, tuple)
    if images.dim() != 4 or groups != 1 or dilation != (1, 1) or not pairs:
        return None
    windows = []
    for size, kernel, step, border in zip(images.shape[2:], weight.shape[2:], stride, padding):
        starts = range(border, kernel - size - border - 1, -step)
        if not starts or starts[-1] < 0 or border + size > kernel:
            return None
        windows.append([slice(start, start + size) for start in starts])
    return windows


def _as_product(images, weight, bias, rows, columns):
    """The convolution as one matrix product, (N, H * W * C) times what each position sees of the weights.

    The channels come last, as they lie in memory, so that nothing but the weights seen is copied.
    """
    seen = _Seen.apply(weight, [*product(rows, columns)])
    biases = None if bias is None else bias.repeat(len(rows) * len(columns))
    results = F.linear(images.permute(0, 2, 3, 1).flatten(1), seen, biases)
    return results.view(len(images), len(rows), len(columns), len(weight)).permute(0, 3, 1, 2)


class _Seen(torch.autograd.Function):
    """What each position sees of the weights: (O, C, K, L) -> (positions * O, H * W * C)."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, windows: Sequence[tuple[slice, slice]]) -> torch.Tensor:
        ctx.shape, ctx.windows = weight.shape, windows
        return torch.cat([weight.permute(0, 2, 3, 1)[:, *window].flatten(1) for window in windows])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]  # one gradient
        out, channels, *kernel = ctx.shape
        weight = grad.new_zeros(out, *kernel, channels)
        for window, part in zip(ctx.windows, grad.chunk(len(ctx.windows))):
            seen = weight[:, *window]
            seen += part.view(seen.shape)
        return weight.permute(0, 3, 1, 2), None


def _size_of_windows(images, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """With windows of which size `winograd` multiplies least; None where it cannot be used, or would hardly gain."""
    if images.dim() != 4 or weight.shape[2:] != (3, 3) or groups != 1:
        return None
    products = len(weight) * weight.shape[1]
    if (stride, padding, dilation) != ((1, 1), (1, 1), (1, 1)) or products < MANY_PRODUCTS:
        return None

    def windows(size):
        return len(images) * _count(images.shape[2], size) * _count(images.shape[3], size)

    size = min((2, 3, 4), key=lambda size: windows(size) * (size + 2) ** 2)
    saved = windows(size) * products * (9 * size**2 - (size + 2) ** 2)
    return size if windows(size) >= MANY_WINDOWS and saved >= MUCH_SAVED else None


def _count(length, size):
    return -(-length // size)


def winograd(
    images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, size: int = 4
) -> torch.Tensor:
    """A 3×3 convolution with stride 1 and padding 1 by Winograd's algorithm (Lavin and Gray 2016).

    A window of size × size positions of the result takes (size + 2)² multiplications for a pair of channels in place
    of 9 size²: with 4, 36 in place of 144. The rest is additions, and a rounding error that is several times as large.

    Args:
        size: 2, 3 or 4.

    Shapes: (N, C, H, W), (O, C, 3, 3), (O,) -> (N, O, H, W), in channels-last.
    """
    of_images, of_weight, of_result = (each.to(weight.dtype) for each in _transforms(size))
    (batch, channels, height, width), out = images.shape, len(weight)
    down, across = _count(height, size), _count(width, size)
    points = (size + 2) ** 2
    if down == across == 1:  # the border of zeros need not be multiplied
        inside = of_images.view(points, size + 2, size + 2)[:, 1 : height + 1, 1 : width + 1].flatten(1)
        x = inside @ images.permute(2, 3, 0, 1).reshape(height * width, -1)
    else:
        x = of_images @ _Windows.apply(images, size)
    x = x.view(points, -1, channels)
    w = (of_weight @ weight.permute(2, 3, 0, 1).reshape(9, -1)).view(points, out, channels)
    y = (of_result @ _Products.apply(x, w).view(points, -1)).view(size, size, batch, down, across, out)
    y = y.permute(2, 3, 0, 4, 1, 5).reshape(batch, down * size, across * size, out)[:, :height, :width]
    return (y if bias is None else y + bias).permute(0, 3, 1, 2)


@cache
def _transforms(size):
    """Three matrices, in float64, for windows, kernels and results, the two dimensions of each flattened.

    A window and a kernel are read as polynomials, whose product is known by its values at size + 2 points, the last
    of them infinity.
    """
    points = torch.tensor([0.0, 1, -1, 2, -2][: size + 1], dtype=torch.float64)

    def values(length):
        """Of a polynomial with so many coefficients at the points: a matrix (size + 2, length)."""
        at_infinity = torch.eye(length, dtype=torch.float64)[-1:]
        return torch.cat([torch.linalg.vander(points, N=length), at_infinity])

    matrices = torch.linalg.inv(values(size + 2)).T, values(3), values(size).T
    return [torch.kron(each, each) for each in matrices]


class _Windows(torch.autograd.Function):
    """(N, C, H, W), a border of zeros around it -> (n², N * windows * C): overlapping windows of n × n, n = size + 2.

    PyTorch's own `unfold` does the same, but is slow backwards.
    """

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, size: int) -> torch.Tensor:
        ctx.shape, ctx.size = images.shape, size
        ends = [_count(length, size) * size + 1 - length for length in images.shape[2:]]
        padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, 1, ends[1], 1, ends[0]))
        windows = padded.unfold(1, size + 2, size).unfold(2, size + 2, size)
        return windows.permute(4, 5, 0, 1, 2, 3).reshape((size + 2) ** 2, -1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]  # one gradient
        (batch, channels, height, width), size = ctx.shape, ctx.size
        down, across = _count(height, size), _count(width, size)
        grad = grad.view(size + 2, size + 2, batch, down, across, channels)
        padded = grad.new_zeros(batch, down + 1, size, across + 1, size, channels)
        parts = (0, slice(size)), (1, slice(size, None))  # the first `size` rows of a window, and two of the next
        for (below, rows), (right, columns) in product(parts, repeat=2):
            part = grad[rows, columns].permute(2, 3, 0, 4, 1, 5)
            padded[:, below : down + below, : part.shape[2], right : across + right, : part.shape[4]] += part
        images = padded.view(batch, (down + 1) * size, (across + 1) * size, channels)
        return images[:, 1 : height + 1, 1 : width + 1].permute(0, 3, 1, 2), None


class _Products(torch.autograd.Function):
    """``x @ w.mT``, and the gradient of w lies in memory as w does: PyTorch's own has to be copied."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, w)
        return x @ w.mT

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]  # one gradient
        x, w = ctx.saved_tensors
        return grad @ w, grad.mT @ x
