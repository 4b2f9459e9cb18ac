"""What happens to an input on its way through a network: one row a stage."""

import copy
import inspect
import math
import re
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

from d2lnets.sight import UNKNOWN, Digit, Window, field_of, sight_after, widest


@dataclass(frozen=True)
class TracedStage:
    """One row of a trace.

    Attributes:
        name: the child's name in the network.
        output_shape: without the batch, (C, H, W) or (features,); of the first tensor, where it returns several.
        parameters: trainable and frozen, weights and biases.
        multiply_adds: for one example, of convolutions, linear layers and other matrix products: half of what
            PyTorch's ``FlopCounterMode`` counts.
        receptive_field: side of the input square that one output position sees, in pixels, edges
            ignored; ``math.inf`` where it sees the whole input (after a global average pool), nan where
            it is not known (after upsampling). The widest, where it returns several tensors.
        input_shape: without the batch; of the first tensor.
        inside: the stages that this one is made of.
        ran: False for a child that the network has and did not run.
    """

    name: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: float
    input_shape: tuple[int, ...]
    inside: tuple["TracedStage", ...] = ()
    ran: bool = True

    @property
    def cells(self) -> list[str]:
        """The row as text."""
        if not self.ran:
            return [self.name, "not run", f"{self.parameters:,}", "", ""]
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
    """Follow one example through `net` in eval mode; nothing is computed, `net` is not touched, its hooks do not run.

    Each run of a child is a row, in the order in which they ran. A container that never runs itself, such as an
    ``nn.ModuleList``, gives way to its members. Parameters and multiply-adds of the rows add up to the network's:
    a parameter counts in the first row that has it; children that did not run follow the others; and what
    the network holds itself, or does between its children, is a last row, for example "VisionTransformer itself".

    Args:
        net: any ``nn.Module`` whose forward takes one tensor, and asks for its shape only, not for its numbers.
        input_shape: (C, H, W), without the batch.

    Returns:
        A `Trace` with output shape, parameters, multiply-adds and receptive field of each stage.

    Raises:
        ValueError: `input_shape` is not three positive integers, `net` does not accept it or cannot be traced.
    """
    if not isinstance(net, nn.Module):
        raise ValueError(f"net must be a network, an nn.Module, got {net!r}")
    shape = tuple(input_shape) if isinstance(input_shape, Sequence) else (input_shape,)
    if len(shape) != 3 or not all(isinstance(side, Integral) and side > 0 for side in shape):
        raise ValueError(f"input_shape must be three positive integers (C, H, W), got {input_shape!r}")
    shape = tuple(map(int, shape))  # NumPy's are integers too
    if any(nn.parameter.is_lazy(tensor) for tensor in (*net.parameters(), *net.buffers())):
        raise ValueError("the network has lazy layers without a shape: run one batch through it first")
    if any(isinstance(module, torch.jit.ScriptModule) for module in net.modules()):
        raise ValueError("the network is made of TorchScript, which cannot be followed: trace what it was made from")
    if any(re.match(r"torch\.ao\.nn\..*quantized", type(each).__module__) for each in net.modules()):
        raise ValueError("the network is quantized, which cannot be followed: trace the float network it was made from")
    net = getattr(net, "_orig_mod", net)  # of torch.compile
    twin = _twin_of(net)
    _check_inputs(twin)
    run = _Run(twin)
    try:
        with torch.no_grad(), torch.random.fork_rng(), run:
            run.call(twin, twin, run.start(_example(twin, shape)))
    except Exception as error:
        raise ValueError(_why_not(net, shape, run, error)) from error
    call, parameters = run.all.inside[0], sum(parameter.numel() for parameter in net.parameters())
    single = call.row(type(net).__name__, parameters, call.multiply_adds)
    return Trace(shape, tuple(_stages(call, run, "", set()) or [single]), parameters)


def _stages(outer, run, around, counted):
    """The rows for what ran inside a call; `around` is its name, `counted` are the parameters in rows before."""
    own = {id(parameter): parameter.numel() for parameter in outer.module.parameters()}
    names = defaultdict(list)
    for name, module in outer.module.named_modules(remove_duplicate=False):
        names[module].append(name)

    def shown(name):
        return f"{around}.{name}" if around and name.partition(".")[0].isdigit() else name

    def count(module):
        new = {id(parameter) for parameter in module.parameters()} & own.keys() - counted
        counted.update(new)
        return sum(own[each] for each in new)

    stages, times = [], Counter()
    for call in outer.inside:
        known = sorted(names[call.module] or [run.names[call.module]], key=lambda name: name.count("."))
        known = [name for name in known if name.count(".") == known[0].count(".")]
        name = shown(known[min(times[call.module], len(known) - 1)])  # a layer with two names runs under each
        times[call.module] += 1
        inside = _stages(call, run, name, {*counted})
        stages.append(call.row(name, count(call.module), call.multiply_adds, inside))
    for name, child in _idle(outer.module, set(times), run):
        stages.append(TracedStage(shown(name), (), count(child), 0, math.nan, (), ran=False))
    parameters = count(outer.module)
    work = outer.multiply_adds - sum(stage.multiply_adds for stage in stages)
    if stages and (parameters or work or not outer.inside):
        stages.append(outer.row(f"{type(outer.module).__name__} itself", parameters, work))
    return stages


def _idle(module, called, run, prefix=""):
    """Children that did not run and whose parameters nobody used, by name; of a container, its members."""
    for name, child in module.named_children():
        inside = set(child.modules())
        if child in called or name == "parametrizations":
            continue
        if inside & called or type(child).forward is nn.Module.forward:
            yield from _idle(child, called, run, f"{prefix}{name}.")
        elif not inside & run.ran and not {id(parameter) for parameter in child.parameters()} & run.used:
            yield prefix + name, child


# A twin without numbers


class _WithoutNumbers(TorchFunctionMode):
    """Where a tensor is to be copied, make one on the meta device: it has a shape, but no numbers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.__deepcopy__, torch.Tensor.clone):  # a parameter clones itself
            return args[0].detach().to("meta")
        return func(*args, **(kwargs or {}))


def _twin_of(net):
    """A copy on the meta device, in eval mode: running it costs and changes nothing.

    The caller's hooks stay behind, since they may not expect such tensors.
    """
    attributes = [item for module in net.modules() for item in vars(module).items()]
    memo = {id(it): type(it)() for name, it in attributes if name.endswith("_hooks") and isinstance(it, dict)}
    try:
        with _WithoutNumbers():
            return copy.deepcopy(net, {**memo}).eval()
    except Exception as error:
        raise ValueError(f"the network cannot be traced: {_uncopied(net, memo) or error}") from error


def _uncopied(net, memo):
    """Which attribute cannot be copied, in words."""
    for path, module in net.named_modules():
        for name, value in vars(module).items():
            try:
                with _WithoutNumbers():
                    copy.deepcopy(value if name != "_modules" else None, {**memo})
            except Exception:
                return f"its attribute {f'{path}.{name}'.strip('.')}, of type {type(value).__name__}, cannot be copied"
    return None


def _tensors(thing):
    """Those in nested containers, in order."""
    if isinstance(thing, torch.Tensor):
        return [thing]
    if is_dataclass(thing) and not isinstance(thing, type):
        thing = [getattr(thing, each.name) for each in fields(thing)]
    parts = thing.values() if isinstance(thing, Mapping) else thing if isinstance(thing, list | tuple) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def _shape(thing):
    return next((tuple(tensor.shape[1:]) for tensor in _tensors(thing)), ())


def _example(twin, shape):
    dtypes = [parameter.dtype for parameter in twin.parameters() if parameter.is_floating_point()]
    return torch.zeros(1, *shape, device="meta", dtype=dtypes[0] if dtypes else None)


# Why a network cannot be traced


def _check_inputs(twin):
    signature = inspect.signature(twin.forward)
    try:
        signature.bind(None)
    except TypeError:
        wants = [
            each.name
            for each in signature.parameters.values()
            if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        ]
        names = f" ({', '.join(wants)})" if wants else ""
        raise ValueError(
            f"the network cannot be traced: its forward wants {len(wants)} inputs{names}, and trace_shapes passes one"
        ) from None


def _why_not(net, shape, run, error):
    """The reason in the reader's terms, with the child in which it happened."""
    text, child = str(error).strip() or type(error).__name__, run.failed[1]
    frames = traceback.extract_tb(error.__traceback__)
    libraries = str(Path(torch.__file__).parent), __file__
    lines = [frame.line or "" for frame in frames if not frame.filename.startswith(libraries)]  # the network's own
    if re.search(r"meta(?!data)|unallocated storage|Tensor.__format__", text, re.IGNORECASE):
        return (
            f"the network cannot be traced: {f'the forward of {child!r}' if child else 'its forward'} looks at the "
            f"numbers in a tensor, and here there are only shapes: {lines[-1] if lines else text}"
        )
    where = f" (in {child!r})" if child else ""
    refused = f"the network does not accept an input of {show_shape(shape)}: "
    if not isinstance(error, RuntimeError):
        return f"{refused}{type(error).__name__}: {text}{where}"
    if lines and frames[-1].line == lines[-1] and lines[-1].startswith("raise"):
        return refused + text + where
    return refused + (_smallest(net, shape) or text.splitlines()[0] + where)


def _smallest(net, shape):
    """An image that is too small, or the wrong number of channels, in words."""
    twin, deadline = _twin_of(net), time.monotonic() + 2  # seconds
    for side in range(min(shape[1:]) + 1, 512):
        if time.monotonic() > deadline:
            break
        try:
            with torch.no_grad(), torch.device("meta"), redirect_stdout(None):
                twin(_example(twin, (shape[0], side, side)))
        except Exception:
            continue
        return f"the smallest that works is {show_shape((shape[0], side, side))}"
    first = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels != shape[0]:
        return f"its first convolution takes {first.in_channels} channels, not {shape[0]}"
    return None


# The run


@dataclass
class _Call:
    """One run of a module: what went in and out, what ran inside, and the operations that nothing inside did."""

    module: nn.Module | None
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    receptive_field: float = math.nan
    operations: int = 0
    inside: list["_Call"] = field(default_factory=list)

    @property
    def multiply_adds(self):
        return self.operations // 2 + sum(call.multiply_adds for call in self.inside)

    def row(self, name, parameters, multiply_adds, inside=()):
        return TracedStage(
            name, self.output_shape, parameters, multiply_adds, self.receptive_field, self.input_shape, tuple(inside)
        )


class _Run(TorchDispatchMode):
    """Follow a network through its modules, and through every operation of PyTorch.

    Notes which module runs inside which, counts operations as ``FlopCounterMode`` does, and keeps for every tensor
    its sight: what its numbers see of the image's rows, and of its columns, each a list of `Window`.
    """

    def __init__(self, twin: nn.Module) -> None:
        super().__init__()
        self.names = {module: name for name, module in twin.named_modules()}
        self.all = _Call(None)
        self.running = [self.all]
        self.ran: set[nn.Module] = set()
        self.used: set[int] = set()  # ids of parameters
        self.failed: tuple[Any, str] = None, ""  # an error, and the name of the module that raised it
        self.sights: dict[int, tuple] = {}  # by id: a tensor (kept, so that no other gets its id), and its sight
        self.sharing: dict[int, list] = defaultdict(list)  # by storage: the tensors on it
        for module, name in self.names.items():
            if "parametrizations" not in name.split("."):  # these make a weight, and belong to its layer
                module.forward = partial(self.call, module, module.forward)  # type: ignore[method-assign]

    def start(self, example):
        self.note(example, [[Window(0, 0, frozenset({Digit(d, 1, example.shape[d], 1)}))] for d in (-2, -1)])
        return example

    def call(self, module, forward, *args, **kwargs):
        if any(module is call.module for call in self.running):  # it calls itself
            return forward(*args, **kwargs)
        call = _Call(module, _shape((args, kwargs)))
        self.running[-1].inside.append(call)
        self.running.append(call)
        self.ran.add(module)
        try:
            output = forward(*args, **kwargs)
        except Exception as error:
            if error is not self.failed[0]:
                self.failed = error, self.names[module]
            raise
        finally:
            self.running.pop()
        call.output_shape = _shape(output)
        sides = [field_of(windows) for tensor in _tensors(output) for windows in self.sight(tensor)]
        call.receptive_field = widest(sides or [math.nan])
        return output

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if torch.is_inference_mode_enabled():  # there, whole layers come here
            with self:
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        given = {argument.name: argument.default_value for argument in func._schema.arguments}
        given |= dict(zip(given, args)) | kwargs
        tensors = _tensors((args, kwargs))
        self.used.update(map(id, tensors))
        before = [(tuple(tensor.shape), self.sight(tensor)) for tensor in tensors]
        if any(tensor.is_meta or any(sight) for tensor, (_, sight) in zip(tensors, before)):  # not only constants
            args, kwargs = tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
            if "device" in kwargs:
                kwargs["device"] = "meta"
        output = func(*args, **kwargs)
        if func.overloadpacket in flop_registry:
            self.running[-1].operations += flop_registry[func.overloadpacket](*args, **kwargs, out_val=output)

        made = _tensors(output)
        fixed = type(self.running[-1].module).__module__ == "torch.nn.modules.pooling"  # kernels, whatever the image
        rows, columns = (
            sight_after(func, given, [(s, sight[axis]) for s, sight in before], made, fixed) for axis in (0, 1)
        )
        for tensor, *sight in zip(made, rows, columns):
            self.note(tensor, sight)
        for argument in func._schema.arguments:
            if argument.alias_info and argument.alias_info.is_write and made:
                self.note(given[argument.name], self.sight(made[0]))
        return output

    def sight(self, tensor):
        """What a tensor sees; nothing, if it was there before the run."""
        if id(tensor) not in self.sights:
            others = [self.sights[id(other)][1] for other in self.sharing[_storage(tensor)]]
            self.note(tensor, [[UNKNOWN] if any(axis) else [] for axis in zip(*others)] or [[], []])
        return self.sights[id(tensor)][1]

    def note(self, tensor, sight):
        """Write down what a tensor sees. Where it saw something else, others on its storage have changed too."""
        sight = [[w if w.fits(tensor.shape) else UNKNOWN for w in windows] for windows in sight]
        sharing = self.sharing[_storage(tensor)]
        if id(tensor) not in self.sights:
            sharing.append(tensor)
        elif self.sights[id(tensor)][1] != sight:
            self.sights |= {id(other): (other, [[UNKNOWN], [UNKNOWN]]) for other in sharing}
        self.sights[id(tensor)] = tensor, sight


def _storage(tensor):
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):  # it has none, being sparse for example
        return id(tensor)
