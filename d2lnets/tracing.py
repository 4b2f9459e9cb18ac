"""What happens to an input on its way through a network: one row a stage."""

import copy
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torchinfo
from tabulate import tabulate
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class TracedStage:
    """One row of a trace.

    Attributes:
        name: the child's name in the network.
        output_shape: without the batch, (C, H, W) or (features,).
        parameters: trainable and frozen, weights and biases.
        multiply_adds: for one example; one for each use of a convolution's or linear layer's weight.
        receptive_field: side of the input square that one output position sees, in pixels, edges
            ignored; ``math.inf`` where it sees the whole input (after a global average pool), nan after
            upsampling.
        input_shape: without the batch.
        inside: the stages that this one is made of.
    """

    name: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: float
    input_shape: tuple[int, ...]
    inside: tuple["TracedStage", ...] = ()

    @property
    def cells(self) -> list[str]:
        """The row as text."""
        reach = {math.inf: "all"}.get(self.receptive_field, str(self.receptive_field).replace("nan", "?"))
        return [self.name, show_shape(self.output_shape), f"{self.parameters:,}", f"{self.multiply_adds:,}", reach]


@dataclass(frozen=True, repr=False)
class Trace:
    """The stages of a network for one input shape: a table to print, and a sequence to index.

    ``trace["conv3_x"]`` and ``trace[2]`` are stages; iterating gives them in order; ``trace.open("conv3_x")``
    is the trace of its blocks.
    """

    input_shape: tuple[int, ...]
    stages: tuple[TracedStage, ...]
    parameters: int  # of the whole network, each once

    @property
    def multiply_adds(self) -> int:
        """Of the whole network, for one example."""
        return sum(stage.multiply_adds for stage in self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    def __iter__(self) -> Iterator[TracedStage]:
        return iter(self.stages)

    def __getitem__(self, key: int | str) -> TracedStage:
        if not isinstance(key, str):
            return self.stages[key]
        for stage in self.stages:
            if stage.name == key:
                return stage
        raise KeyError(f"no stage {key!r}; there are {', '.join(stage.name for stage in self.stages)}")

    def open(self, name: int | str) -> "Trace":
        """The `Trace` of what is inside a stage, for example its blocks."""
        stage = self[name]
        if not stage.inside:
            raise ValueError(f"{name} is a single layer: there is nothing inside to show")
        return Trace(stage.input_shape, stage.inside, stage.parameters)

    def _table(self, style):
        rows = [
            ["input", show_shape(self.input_shape), "", "", ""],
            *(stage.cells for stage in self.stages),
            ["total", "", f"{self.parameters:,}", f"{self.multiply_adds:,}", ""],
        ]
        headers = ["stage", "output", "parameters", "multiply-adds", "receptive field"]
        return tabulate(rows, headers, tablefmt=style, colalign=["left"] + ["right"] * 4, disable_numparse=True)

    def __repr__(self) -> str:
        return self._table("simple")

    def _repr_html_(self):
        return self._table("html")


def show_shape(shape: Iterable[int]) -> str:
    """(64, 24, 24) as "64×24×24"."""
    return "×".join(map(str, shape))


def trace_shapes(net: nn.Module, input_shape: Sequence[int]) -> Trace:
    """Follow one example through `net`; nothing is computed, and `net` is not touched.

    Args:
        net: any ``nn.Module``; each of its children that runs is a stage.
        input_shape: (C, H, W), without the batch.

    Returns:
        A `Trace` with output shape, parameters, multiply-adds and receptive field of each stage.

    Raises:
        ValueError: `input_shape` is not three positive integers, or `net` does not accept it.
    """
    if not isinstance(net, nn.Module):
        raise ValueError(f"net must be a network, an nn.Module, got {net!r}")
    shape = tuple(input_shape) if isinstance(input_shape, Sequence) else (input_shape,)
    if len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
        raise ValueError(f"input_shape must be three positive integers (C, H, W), got {input_shape!r}")
    if any(nn.parameter.is_lazy(parameter) for parameter in net.parameters()):
        raise ValueError("the network has lazy layers without a shape: run one batch through it first")

    twin = _meta_twin(net)
    reaches: dict[int, list[_Reach]] = {}  # of each module, call by call
    for module in twin.modules():
        module.register_forward_hook(
            lambda module, args, output: reaches.setdefault(id(module), []).append(_reach_of(output))
        )
    try:
        with _FollowReach(), torch.random.fork_rng(), torch.device("meta"):
            example = _example(twin, shape)
            layers = torchinfo.summary(twin, input_data=example, device="meta", verbose=0).summary_list
    except RuntimeError as error:
        reason = _why_not(net, shape) or str(error.__cause__ or error).strip().splitlines()[0]
        raise ValueError(f"the network does not accept an input of {show_shape(shape)}: {reason}") from error
    finally:
        torchinfo.torchinfo.clear_cached_forward_pass()

    depth = 1 if any(layer.depth == 1 for layer in layers) else 0  # 0: `net` is a single layer
    return Trace(shape, tuple(_stages(layers, depth, reaches)), _count(net))


def _meta_twin(net):
    """A copy on the meta device has shapes but no numbers: running it costs and changes nothing."""
    twin = copy.deepcopy(net)
    for module in twin.modules():
        module._forward_hooks.clear()  # the caller's, which may not expect such tensors
    return twin.to("meta").eval()


def _example(twin, shape):
    dtypes = [parameter.dtype for parameter in twin.parameters() if parameter.is_floating_point()]
    return torch.zeros(1, *shape, device="meta", dtype=dtypes[0] if dtypes else None)


def _count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def _stages(layers, depth, reaches, around="", container=True):
    """The modules at one depth that ran, each with the modules inside it.

    The name of what is `around` them is put before a number, and before the members of a mere container.
    """
    starts = [i for i, layer in enumerate(layers) if layer.depth == depth]
    for start, end in pairwise([*starts, len(layers)]):
        stage, *inside = layers[start:end]
        name = stage.var_name
        if around and (container or name.isdigit()):
            name = f"{around}.{name}"
        if not stage.executed:  # a mere container, such as a ModuleList: its members count
            yield from _stages(inside, depth + 1, reaches, name)
            continue
        yield TracedStage(
            name=name,
            output_shape=tuple(stage.output_size[1:]),
            parameters=0 if stage.is_recursive else _count(stage.module),
            multiply_adds=sum(map(_multiply_adds, layers[start:end])),
            receptive_field=max(reaches[id(stage.module)].pop(0).field),
            input_shape=tuple(stage.input_size[1:]),
            inside=tuple(_stages(inside, depth + 1, reaches, name, container=False)),
        )


def _why_not(net, shape):
    """The reason in the reader's terms: an image that is too small, or the wrong number of channels."""
    twin, deadline = _meta_twin(net), time.monotonic() + 2  # seconds
    for side in range(min(shape[1:]) + 1, 512):
        if time.monotonic() > deadline:
            break
        try:
            with torch.device("meta"):
                twin(_example(twin, (shape[0], side, side)))
        except Exception:
            continue
        return f"the smallest that works is {show_shape((shape[0], side, side))}"
    first = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels != shape[0]:
        return f"its first convolution takes {first.in_channels} channels, not {shape[0]}"
    return None


def _multiply_adds(layer):
    """Uses of the weight: each output position of a convolution or linear layer uses all of it, once."""
    if isinstance(layer.module, nn.Linear):
        return layer.module.weight.numel() * math.prod(layer.output_size[1:-1])
    if isinstance(layer.module, nn.modules.conv._ConvTransposeNd):  # there it is the input's positions
        return layer.module.weight.numel() * math.prod(layer.input_size[2:])
    if isinstance(layer.module, nn.modules.conv._ConvNd):
        return layer.module.weight.numel() * math.prod(layer.output_size[2:])
    return 0


@dataclass(frozen=True)
class _Reach:
    """How far one position of a map looks, in height and width.

    `field` is in input pixels, inf for all of them and nan for unknown; `step` is the distance of
    neighbouring positions, in input pixels.
    """

    field: tuple = (1, 1)
    step: tuple = (1, 1)

    def through(self, kernel, stride, dilation):
        kernel, stride, dilation = ((*pair, *pair)[:2] for pair in (kernel, stride, dilation))
        return _Reach(
            tuple(f + d * (k - 1) * s for f, s, k, d in zip(self.field, self.step, kernel, dilation)),
            tuple(s * t for s, t in zip(self.step, stride)),
        )

    def everywhere(self, value=math.inf):
        return _Reach((value, value), self.step)


def _reach_of(tensor):
    return getattr(tensor, "_reach", _Reach())


class _FollowReach(TorchDispatchMode):
    """Write on every tensor how far its positions look into the input.

    Where paths meet (a sum, a concatenation), the widest counts.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        output = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        reach = max(map(_reach_of, tensors), key=lambda reach: reach.field, default=_Reach())
        name = func.overloadpacket.__name__
        if name == "convolution":
            _, weight, _, stride, _, dilation, transposed, *_ = args
            reach = reach.everywhere(math.nan) if transposed else reach.through(weight.shape[2:], stride, dilation)
        elif name in ("max_pool2d_with_indices", "avg_pool2d"):
            kernel = args[1]
            stride = args[2] if len(args) > 2 and args[2] else kernel
            dilation = args[4] if len(args) > 4 and name.startswith("max") else [1]
            reach = reach.through(kernel, stride, dilation)
        elif name.startswith("upsample"):
            reach = reach.everywhere(math.nan)
        elif _averages_over_the_map(name, args):
            reach = reach.everywhere()
        elif name in ("view", "_unsafe_view") and output.dim() == 2 and math.prod(tensors[0].shape[2:]) > 1:
            reach = reach.everywhere()  # flattened: the next layer sees all positions
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                tensor._reach = reach  # type: ignore[attr-defined]  # a name of our own
        return output


def _averages_over_the_map(name, args):
    if name == "mean" and len(args) > 1 and args[1]:
        return {dim % args[0].dim() for dim in args[1]} >= {2, 3}  # height and width
    return name in ("mean", "_adaptive_avg_pool2d")
