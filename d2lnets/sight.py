"""What the numbers of a tensor see of an image, operation by operation: receptive fields, for `trace_shapes`."""

import math
from collections import defaultdict
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any

import torch


@dataclass(frozen=True)
class Digit:
    """A dimension of a tensor, or a factor of one, along which its numbers see one part of the image after another.

    ``index[dim] // inner % size`` is the place; neighbouring places are `step` pixels apart (nan: not known).
    """

    dim: int  # from the end, -1 is the last
    inner: int
    size: int
    step: float

    def __post_init__(self) -> None:
        if math.isnan(self.step):
            object.__setattr__(self, "step", math.nan)  # the same object: else two would differ


@dataclass(frozen=True)
class Window:
    """The rows (or the columns) of the image that the numbers of a tensor see.

    At place 0 from `low` to `high`, in pixels, edges ignored; from there it moves with the digits. A 3×3 convolution
    with stride 2 and padding 1 turns the rows of a 9×9 image into -1 to 1, with a digit along dim -2, size 5, step 2.
    inf: each number sees all; nan: not known. `whole`: the numbers at all places together see the whole image.
    """

    low: float
    high: float
    digits: frozenset[Digit] = frozenset()
    whole: bool = True

    def along(self, dims: Container[int]) -> set[Digit]:
        return {digit for digit in self.digits if digit.dim in dims}

    def fits(self, shape: Sequence[int]) -> bool:
        return all(-digit.dim <= len(shape) and digit.inner * digit.size <= shape[digit.dim] for digit in self.digits)

    def lost(self, shape: Sequence[int]) -> "Window":
        """Moving along the same dimensions, in some way."""
        digits = {Digit(digit.dim, 1, shape[digit.dim], math.nan) for digit in self.digits}
        return Window(math.nan, math.nan, frozenset(digits), self.whole) if digits else self

    def broadcast(self, before: Sequence[int], after: Sequence[int]) -> "Window":
        """Of numbers that are repeated where the shape was 1."""
        return replace(self, digits=frozenset(d for d in self.digits if before[d.dim] == after[d.dim]))

    def moved(self, places: Mapping[int, int]) -> "Window":
        """In other dimensions: `places` has the new ones of the old."""
        return replace(self, digits=frozenset(replace(d, dim=places[d.dim]) for d in self.along(places)))

    def viewed(self, before: Sequence[int], after: Sequence[int]) -> "Window":
        """In another shape, the numbers in the same order."""
        digits = set()
        for digit in self.digits:
            low = digit.inner * _apart(before, digit.dim)  # so many numbers from one place to the next,
            high = low * digit.size  # and so many until the places come again
            for dim in range(-len(after), 0):
                inner, outer = _apart(after, dim), _apart(after, dim) * after[dim]
                bottom, top = max(low, inner), min(high, outer)
                if bottom < top:
                    if bottom % low or bottom % inner or top % bottom or high % top or outer % top:
                        return UNKNOWN  # the places would not lie in rows
                    digits.add(Digit(dim, bottom // inner, top // bottom, digit.step * (bottom // low)))
            if digit.size == 1 and len(before) == len(after) and before[digit.dim] == after[digit.dim]:
                digits.add(digit)
        return replace(self, digits=frozenset(digits))

    def over(self, dims: Container[int] | None = None) -> "Window":
        """Seen from all places along `dims` (None: from everywhere) at once."""
        gone = self.digits if dims is None else self.along(dims)
        if gone and gone == self.digits and self.whole:
            return ALL
        ways = [(digit.size - 1) * digit.step for digit in gone]
        low, high = self.low + sum(min(way, 0) for way in ways), self.high + sum(max(way, 0) for way in ways)
        return replace(self, low=low, high=high, digits=self.digits - gone)

    def slide(
        self,
        before: Sequence[int],
        after: Sequence[int],
        dim: int,
        kernel: int = 1,
        stride: float = 1,
        dilation: int = 1,
        padding: int = 0,
        cut: bool = False,
    ) -> "Window":
        """Seen through `kernel` places that move along `dim`; `cut`: some places are left out."""
        here = self.along({dim})
        if not here or (kernel, stride, padding, after[dim]) == (1, 1, 0, before[dim]):
            return self
        digit = here.pop()
        if here or digit.size != before[dim] or math.isnan(digit.step):
            return replace(self.lost(after), whole=self.whole and not cut)
        ends = [-padding * digit.step, (dilation * (kernel - 1) - padding) * digit.step]
        digits = self.digits - {digit} | {replace(digit, size=after[dim], step=digit.step * stride)}
        return Window(self.low + min(ends), self.high + max(ends), digits, self.whole and not cut)


ALL = Window(-math.inf, math.inf)
UNKNOWN = Window(math.nan, math.nan, whole=False)


def _apart(shape, dim):
    """How many numbers lie from one to its neighbour along a dimension."""
    return math.prod(shape[len(shape) + dim + 1 :])


def _together(windows):
    """What is seen through all of them: those that move alike become one."""
    alike = defaultdict(set)
    for window in windows:
        alike[window.digits].add(window)
    return [ALL] if ALL in windows else [_union(digits, group) for digits, group in alike.items()]


def _union(digits, group):
    low, high = min(window.low for window in group), max(window.high for window in group)
    unknown = [window.low for window in group] + [digit.step for digit in digits if len(group) > 1]
    if any(map(math.isnan, unknown)):
        low = high = math.nan
    return Window(low, high, digits, any(window.whole for window in group))


def field_of(windows: Collection[Window]) -> float:
    """How many rows (or columns) one number sees; none, where there is no window."""
    if ALL in windows:
        return math.inf
    return math.nan if len(windows) > 1 else sum(window.high - window.low + 1 for window in windows)


def widest(fields: Collection[float]) -> float:
    return math.inf if math.inf in fields else math.nan if any(map(math.isnan, fields)) else max(fields)


# Operations by name: after these, as after those that PyTorch tags so, a number sees what those at its place saw,
POINTWISE = {"_prelu_kernel", "_to_copy", "alias", "detach", "expand", "hardswish", "lift_fresh", "log_sigmoid_forward"}
POINTWISE |= {"native_dropout", "rrelu_with_noise", "tril", "triu"}
# after these the numbers are the same, in the same order,
VIEWS = {"_reshape_alias", "_unsafe_view", "squeeze", "unsqueeze", "view"}
# after these one sees what all along some dimensions saw,
REDUCING = {"all", "amax", "amin", "aminmax", "any", "argmax", "argmin", "linalg_vector_norm", "logsumexp", "max"}
REDUCING |= {"mean", "median", "min", "norm", "prod", "std", "std_mean", "sum", "var", "var_mean"}
# and after these what some number saw, and which one is not known
MOVING = {"cumprod", "cumsum", "flip", "roll"}
RESIZING = {"channel_shuffle", "glu", "native_channel_shuffle", "pixel_shuffle", "pixel_unshuffle", "repeat"}


def sight_after(
    func: Any,
    given: dict[str, Any],
    sights: list[tuple[tuple[int, ...], list[Window]]],
    made: list[torch.Tensor],
    fixed: bool,
) -> list[list[Window]]:
    """What the numbers of each tensor in `made` see of the image's rows, or of its columns.

    Args:
        func: an operation.
        given: its arguments by name.
        sights: of the tensors among them, pairs of a shape and windows.
        fixed: whether its kernel would be as large if the image were larger.
    """
    windows = [window for _, seen in sights for window in seen]
    if not windows or not made:
        return [[] for _ in made]
    name = func.overloadpacket.__name__.removesuffix("_")  # in place or not
    (before, first), *others = sights
    after, n = tuple(made[0].shape), len(before)

    def changed(change):
        """`change` for the first tensor; the others count as a whole, such as a weight that is made of the image."""
        return [_together([*map(change, first), *(w.over() for _, seen in others for w in seen)])] * len(made)

    def pointwise(sights):
        return [window.broadcast(shape, after) for shape, seen in sights for window in seen]

    def from_end(dims):
        return sorted(dim % max(n, 1) - n for dim in ([dims] if isinstance(dims, int) else dims or range(n)))

    def without(dims):
        kept = [dim for dim in range(-n, 0) if dim not in dims]
        return {dim: place - len(kept) for place, dim in enumerate(kept)}

    def slide(window, dims, **sizes):
        for place, dim in enumerate(dims):
            here = {key: size[place % len(size)] if isinstance(size, list) else size for key, size in sizes.items()}
            window = window.slide(before, after, dim, **here)
        return window

    def part(window, dim, start, size, step=1):
        shape = [*before]
        shape[dim] = size
        cut = start >= step or start + size * step < before[dim]
        return window.slide(before, shape, dim, stride=step, padding=-start, cut=cut)

    def one(window, dim, place):
        return part(window, dim, place, 1).moved(without({dim}))

    if torch.Tag.pointwise in func.tags or name in POINTWISE:
        return [_together(pointwise(sights))] * len(made)
    if name.endswith("_like") or name.startswith("new_") or name in ("fill", "zero"):
        return [[]]
    dims = from_end(given.get("dim", given.get("dims")))
    dim: Any = dims[0] if dims else None
    match name:
        case "copy":
            return [pointwise(others)]
        case _ if name in VIEWS and math.prod(before) == math.prod(after):
            return changed(lambda window: window.viewed(before, after))
        case "permute":
            return changed(lambda window: window.moved({dim % n - n: to - n for to, dim in enumerate(given["dims"])}))
        case "transpose" | "t":
            a, b = from_end([given.get("dim0", 0), given.get("dim1", -1)])
            return changed(lambda window: window.moved({dim: dim for dim in range(-n, 0)} | {a: b, b: a}))
        case "slice":
            start, _, step = slice(given["start"], given["end"], given["step"]).indices(before[dim])
            return changed(lambda window: part(window, dim, start, after[dim], step))
        case "select":
            return changed(lambda window: one(window, dim, given["index"] % before[dim]))
        case "unbind":
            return [changed(partial(one, dim=dim, place=place))[0] for place in range(before[dim])]
        case "split" | "split_with_sizes" | "unsafe_split" | "unsafe_split_with_sizes":
            parts = [tensor.shape[dim] for tensor in made]
            starts = accumulate(parts, initial=0)
            return [changed(partial(part, dim=dim, start=a, size=size))[0] for a, size in zip(starts, parts)]
        case "cat" | "stack":
            at = given["dim"] % len(after)
            if name == "stack":
                longer = [(*shape[:at], 1, *shape[at:]) for shape, _ in sights]
                windows = [w.viewed(shape, new) for (shape, seen), new in zip(sights, longer) for w in seen]
            windows = [window.lost(after) if window.along({at - len(after)}) else window for window in windows]
            still = [window for window in windows if not window.digits]
            return [_together(windows if not still or _together(still)[0] in still else [*windows, UNKNOWN])]
        case "convolution":
            (weight, _), *_ = others
            kernel, channels = list(weight[2:]), {1 - len(weight)}
            places = range(-len(kernel), 0)
            if given["groups"] > 1 and any(window.along(channels) for window in first):
                return changed(lambda window: window.lost(after))
            if given["transposed"]:
                return changed(lambda window: window.over(channels).lost(after))
            sizes = {key: given[key] for key in ("stride", "dilation", "padding")}
            return changed(lambda window: slide(window.over(channels), places, kernel=kernel, **sizes))
        case "avg_pool2d" | "avg_pool3d" | "max_pool2d_with_indices" | "max_pool3d_with_indices":
            kernel, places = given["kernel_size"], range(-int(name[8]), 0)
            if not fixed and kernel == [before[dim] for dim in places]:  # F.avg_pool2d(x, x.shape[2:])
                return changed(lambda window: window.over(places))
            sizes = {key: given.get(key, 1) for key in ("padding", "dilation")}
            stride = given["stride"] or kernel
            return changed(lambda window: slide(window, places, kernel=kernel, stride=stride, **sizes))
        case "_adaptive_avg_pool2d" | "_adaptive_avg_pool3d" | "adaptive_max_pool2d" | "adaptive_max_pool3d":
            places = range(-int(name[-2]), 0)
            sides = [(before[dim], after[dim]) for dim in places]
            kernel = [max(-(-(i + 1) * old // new) - i * old // new for i in range(new)) for old, new in sides]
            stride = [math.nan if old % new else old // new for old, new in sides]
            to_one = [dim for dim in places if after[dim] == 1]
            return changed(lambda window: slide(window.over(to_one), places, kernel=kernel, stride=stride))
        case "constant_pad_nd" | "reflection_pad1d" | "reflection_pad2d" | "replication_pad1d" | "replication_pad2d":
            pad = given["pad" if "pad" in given else "padding"]
            places = range(-1, -1 - len(pad) // 2, -1)
            return changed(lambda window: slide(window, places, padding=pad[::2], cut=min(pad) < 0))
        case "native_layer_norm" | "_fused_rms_norm":
            return changed(lambda window: window.over(range(-len(given["normalized_shape"]), 0)))
        case "native_group_norm":
            return changed(lambda window: window.over(range(1 - n, 0)))
        case _ if "batch_norm" in name:
            of_the_batch = given.get("training", "with_update" in name)
            return changed(lambda window: window.over({*range(-n, 0)} - {1 - n} if of_the_batch else ()))
        case "_softmax" | "_log_softmax" | "_safe_softmax" | "sort" | "topk":
            return changed(lambda window: window.over(dims))
        case _ if name in REDUCING:
            places = without([] if given.get("keepdim") else dims)
            return changed(lambda window: window.over(dims).moved(places))
        case "mm" | "bmm" | "addmm" | "baddbmm":
            *bias, (_, left), (_, right) = sights
            return [_together([w.over({-1}) for w in left] + [w.over({-2}) for w in right] + pointwise(bias))]
        case _ if name in MOVING:
            return changed(lambda window: window.lost(after) if window.along(dims) else window)
        case _ if name in RESIZING or "upsample" in name:
            same = {dim: dim for dim in range(-n, 0) if before[dim] == after[dim]}
            return changed(lambda window: window if window.along(same) == window.digits else window.lost(after))
        case _:
            return [[ALL if ALL in windows else UNKNOWN]] * len(made)
