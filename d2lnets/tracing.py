"""What happens to an input on its way through a network: one row a stage."""

import copy
import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torchinfo
from tabulate import tabulate
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Stage:
    """One row of a trace.

    Attributes:
        name: the child's name in the network.
        output_shape: without the batch, (C, H, W) or (features,).
        parameters: trainable and frozen, weights and biases.
        multiply_adds: for one example; one for each use of a convolution's or linear layer's weight.
        receptive_field: side of the input square that one output position sees, in pixels, edges
            ignored; ``math.inf`` where it sees the whole input (after a global average pool).
        input_shape: without the batch.
        inside: the stages that this one is made of.
    """

    name: str
    output_shape: tuple
    parameters: int
    multiply_adds: int
    receptive_field: float
    input_shape: tuple
    inside: tuple = ()

    @property
    def cells(self):
        """The row as text."""
        reach = "all" if math.isinf(self.receptive_field) else str(self.receptive_field)
        return [self.name, show_shape(self.output_shape), f"{self.parameters:,}", f"{self.multiply_adds:,}", reach]


@dataclass(frozen=True, repr=False)
class Trace:
    """The stages of a network for one input shape: a table to print, and a sequence to index.

    ``trace["conv3_x"]`` and ``trace[2]`` are stages; iterating gives them in order; ``trace.open("conv3_x")``
    is the trace of its blocks.
    """

    input_shape: tuple
    stages: tuple

    @property
    def parameters(self):
        """Of the whole network."""
        return sum(stage.parameters for stage in self.stages)

    @property
    def multiply_adds(self):
        """Of the whole network, for one example."""
        return sum(stage.multiply_adds for stage in self.stages)

    def __len__(self):
        return len(self.stages)

    def __iter__(self):
        return iter(self.stages)

    def __getitem__(self, key):
        if not isinstance(key, str):
            return self.stages[key]
        for stage in self.stages:
            if stage.name == key:
                return stage
        raise KeyError(f"no stage {key!r}; there are {', '.join(stage.name for stage in self.stages)}")

    def open(self, name):
        """The `Trace` of what is inside a stage, for example its blocks."""
        stage = self[name]
        if not stage.inside:
            raise ValueError(f"{name} is a single layer: there is nothing inside to show")
        return Trace(stage.input_shape, stage.inside)

    def _table(self, style):
        rows = [
            ["input", show_shape(self.input_shape), "", "", ""],
            *(stage.cells for stage in self.stages),
            ["total", "", f"{self.parameters:,}", f"{self.multiply_adds:,}", ""],
        ]
        headers = ["stage", "output", "parameters", "multiply-adds", "receptive field"]
        return tabulate(rows, headers, tablefmt=style, colalign=["left"] + ["right"] * 4, disable_numparse=True)

    def __repr__(self):
        return self._table("simple")

    def _repr_html_(self):
        return self._table("html")


def show_shape(shape):
    """(64, 24, 24) as "64×24×24"."""
    return "×".join(map(str, shape))


def trace_shapes(net, input_shape):
    """Follow one example through `net`; nothing is computed, and `net` is not touched.

    Args:
        net: any ``nn.Module``; each of its children that runs is a stage.
        input_shape: (C, H, W), without the batch.

    Returns:
        A `Trace` with output shape, parameters, multiply-adds and receptive field of each stage.

    Raises:
        ValueError: `input_shape` is not three positive integers, or `net` does not accept it.
    """
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
        raise ValueError(f"input_shape must be three positive integers (C, H, W), got {input_shape!r}")

    # A copy on the meta device has shapes but no numbers: running it costs and changes nothing.
    twin = copy.deepcopy(net).to("meta").eval()
    reach = {}
    for module in twin.modules():
        module.register_forward_hook(lambda module, args, output: reach.update({id(module): _reach_of(output)}))
    try:
        with _FollowReach(), torch.random.fork_rng():
            example = torch.zeros(1, *shape, device="meta")
            layers = torchinfo.summary(twin, input_data=example, device="meta", verbose=0).summary_list
    except RuntimeError as error:
        reason = _why_not(net, shape) or str(error.__cause__ or error).strip().splitlines()[0]
        raise ValueError(f"the network does not accept an input of {show_shape(shape)}: {reason}") from error
    finally:
        torchinfo.torchinfo.clear_cached_forward_pass()

    depth = 1 if any(layer.depth == 1 for layer in layers) else 0  # 0: `net` is a single layer
    return Trace(shape, tuple(_stages(layers, depth, reach)))


def _stages(layers, depth, reach, prefix=""):
    """The modules at one depth that ran, each with the modules inside it."""
    starts = [i for i, layer in enumerate(layers) if layer.depth == depth and layer.executed]
    for start, end in pairwise([*starts, len(layers)]):
        stage, *inside = layers[start:end]
        name = prefix + stage.var_name
        yield Stage(
            name=name,
            output_shape=tuple(stage.output_size[1:]),
            parameters=sum(p.numel() for p in stage.module.parameters()),
            multiply_adds=sum(map(_multiply_adds, layers[start:end])),
            receptive_field=reach[id(stage.module)].field,
            input_shape=tuple(stage.input_size[1:]),
            inside=tuple(_stages(inside, depth + 1, reach, name + ".")),
        )


def _why_not(net, shape):
    """The reason in the reader's terms: the wrong number of channels, or an image that is too small."""
    first = next((module for module in net.modules() if isinstance(module, torch.nn.Conv2d)), None)
    if first is not None and first.in_channels != shape[0]:
        return f"its first convolution takes {first.in_channels} channels, not {shape[0]}"
    twin = copy.deepcopy(net).to("meta").eval()
    for side in range(min(shape[1:]) + 1, 512):
        try:
            twin(torch.zeros(1, shape[0], side, side, device="meta"))
        except RuntimeError:
            continue
        return f"the smallest that works is {show_shape((shape[0], side, side))}"
    return None


def _multiply_adds(layer):
    """Uses of the weight: each output position uses all of it, once."""
    if isinstance(layer.module, (torch.nn.Conv2d, torch.nn.Linear)):
        return layer.module.weight.numel() * math.prod(layer.output_size[2:])
    return 0


@dataclass(frozen=True)
class _Reach:
    """How far one position of a map looks: `field` input pixels wide, `step` pixels to its neighbour."""

    field: float = 1
    step: int = 1

    def through(self, kernel, stride, dilation=1):
        return _Reach(self.field + dilation * (kernel - 1) * self.step, self.step * stride)


def _reach_of(tensor):
    return getattr(tensor, "_reach", _Reach())


class _FollowReach(TorchDispatchMode):
    """Write on every tensor how far its positions look into the input.

    Where paths meet (a sum, a concatenation), the widest counts.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        inputs = [_reach_of(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        if not inputs:
            return output
        widest = max(inputs, key=lambda reach: reach.field)
        name = func.overloadpacket.__name__
        if name == "convolution":
            _, weight, _, stride, _, dilation, *_ = args
            widest = widest.through(weight.shape[-1], stride[-1], dilation[-1])
        elif name in ("max_pool2d_with_indices", "avg_pool2d"):
            kernel = args[1]
            stride = args[2] if len(args) > 2 and args[2] else kernel
            widest = widest.through(kernel[-1], stride[-1])
        elif name in ("mean", "_adaptive_avg_pool2d", "adaptive_max_pool2d"):
            widest = _Reach(math.inf, widest.step)
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                tensor._reach = widest
        return output
