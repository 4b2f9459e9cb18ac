"""Watch a module: which layer is used when, with which input."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from d2lnets.checks.judging import call
from d2lnets.checks.wording import Crashed, Refused


@dataclass(eq=False)
class Call:
    """One use of a layer: recorded from the student's code, or planned by the reference.

    Attributes:
        kind: "conv", "norm", "linear", "pool", or "matrix" (a product with a parameter, such as einsum).
        shape: of the weight; of a pool its name.
        geometry: of a convolution stride, padding, dilation; of a pool kernel, stride, padding.
        role: of a planned call, what it is in words.
        by_hand: a batch norm written out, of which only the scale and shift are known.
    """

    kind: str
    shape: tuple
    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    input: torch.Tensor | None = None
    geometry: dict[str, tuple[int, ...]] = field(default_factory=dict)
    role: str = ""
    statistics: tuple[torch.Tensor | None, ...] = (None, None)
    before: tuple[torch.Tensor | None, ...] = (None, None)  # the statistics when it was called
    momentum: float = 0.1
    eps: float = 1e-5
    training: bool = False
    by_hand: bool = False
    results: dict = field(default_factory=dict)  # of the layer, computed once for all replays

    def __str__(self) -> str:
        if self.kind == "norm":
            return f"a batch norm over {self.shape[0]} channels"
        if self.kind == "pool":
            return "a max-pool" if "max" in self.shape[0] else "an average-pool"
        if len(self.shape) != 4:
            return f"a linear layer from {self.shape[-1]} to {self.shape[0]} features"
        out, into, height, width = self.shape
        return f"a {height}×{width} convolution from {into} to {out} channels"


BATCH_NORM = ["input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"]


ARGUMENTS = {
    "conv2d": ["input", "weight", "bias", "stride", "padding", "dilation", "groups"],
    "batch_norm": ["input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps"],
    "linear": ["input", "weight", "bias"],
    "max_pool2d": ["input", "kernel_size", "stride", "padding"],
    "avg_pool2d": ["input", "kernel_size", "stride", "padding"],
}


PRODUCTS = {"einsum", "matmul", "tensordot", "bmm", "mm"}


class Recorder(TorchFunctionMode):
    """Inside the ``with`` block writes down which layer is used when, with which input."""

    def __init__(self, module: nn.Module) -> None:
        self.calls: list[Call] = []
        self.names: set[str] = set()
        self.output: torch.Tensor | None = None
        self.mine = {p.data_ptr(): p for p in module.parameters() if not is_lazy(p)}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").strip("_")
        self.names.add(name)
        if name == "pad" and (*args, *kwargs.values())[2:] and "constant" not in (*args, *kwargs.values())[2:3]:
            self.names.add("pad with pixels")
        with suppress(AttributeError, KeyError, TypeError):  # PyTorch says better what is wrong with the arguments
            if name in ARGUMENTS:
                order = BATCH_NORM if func is F.batch_norm else ARGUMENTS[name]
                self.calls.append(self._layer(name, dict(zip(order, args)) | kwargs))
            elif name in PRODUCTS:
                self.calls += [Call("matrix", _matrix(p), p) for p in self._parameters(args) if len(_matrix(p)) == 2]
            elif name in ("mul", "rmul", "imul", "add", "radd", "iadd", "sub"):
                for parameter in self._parameters(args):
                    self._vector("mul" in name, parameter)
        return func(*args, **kwargs)

    def _parameters(self, args):
        for arg in args:
            if isinstance(arg, (list, tuple)):
                yield from self._parameters(arg)
            elif isinstance(arg, torch.Tensor) and arg.numel() and arg.data_ptr() in self.mine:
                yield self.mine[arg.data_ptr()]

    def _layer(self, name, given):
        x, weight = given["input"], given.get("weight")
        common = {"weight": weight, "bias": given.get("bias"), "input": x.detach().clone()}
        if name == "batch_norm":
            statistics = given.get("running_mean"), given.get("running_var")
            return Call(
                "norm",
                (x.shape[1],),
                **common,
                statistics=statistics,
                before=tuple(None if s is None else s.detach().clone() for s in statistics),
                momentum=given.get("momentum", 0.1),
                eps=given.get("eps", 1e-5),
                training=given.get("training", False),
            )
        if name == "linear":
            return Call("linear", tuple(weight.shape), **common)
        if name == "conv2d":
            padding = given.get("padding", 0)
            if isinstance(padding, str):
                padding = [k // 2 * (padding == "same") for k in weight.shape[2:]]
            geometry = {"stride": given.get("stride", 1), "padding": padding, "dilation": given.get("dilation", 1)}
            return Call("conv", tuple(weight.shape), **common, geometry={k: pair(v) for k, v in geometry.items()})
        kernel = given["kernel_size"]
        stride = given.get("stride")
        geometry = {"kernel": kernel, "stride": kernel if stride in (None, [], ()) else stride}
        geometry["padding"] = given.get("padding", 0)
        return Call("pool", (name,), geometry={k: pair(v) for k, v in geometry.items()})

    def _vector(self, multiplied, parameter):
        """A scale and then a shift are a batch norm by hand; a shift alone is the bias of the last layer."""
        size = (parameter.numel(),)
        if multiplied:
            self.calls.append(Call("norm", size, parameter, by_hand=True))
            return
        for earlier in reversed(self.calls):
            if earlier.bias is None and earlier.kind != "pool" and parameter.numel() in earlier.shape[:2]:
                earlier.bias = parameter
                return


def pair(value: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(value) * (2 // len(value)) if isinstance(value, (list, tuple)) else (value, value)


def _matrix(parameter):
    return tuple(side for side in parameter.shape if side != 1) if parameter.dim() > 1 else ()


def randomize(module: nn.Module, record: Recorder) -> None:
    """Random weights, and random running statistics where batch norms were seen."""
    with torch.no_grad():
        for p in module.parameters():
            if p.dim() > 1 and _matrix(p)[1:]:
                p.normal_(0, (2 / p[0].numel()) ** 0.5)
            else:
                p.uniform_(-1.5, 1.5)
        for made in record.calls:
            mean, variance = made.statistics
            if mean is not None and variance is not None:
                mean.normal_()
                variance.uniform_(0.5, 2)


def observe(module: nn.Module, x: torch.Tensor, training: bool, doing: str) -> Recorder:
    """Run the student's module once; the `Recorder`, with the output and what can be said of it at once."""
    given = x.clone()  # in training mode not a leaf, so that it may be changed in place, and be caught
    record = Recorder(module)
    with torch.set_grad_enabled(training):
        module.train(training)
        try:
            with record:
                output = call(doing, module, given)
        except Crashed as crash:
            crash.record = record
            raise
    if type(output) not in (torch.Tensor, nn.Parameter):  # a tensor of their own may compare as it likes
        came = "None" if output is None else f"{type(output).__name__}"
        cause = "forward has no return" if output is None else "forward returns something else along with it or instead"
        raise Refused(f"{doing}: a tensor was expected; {came} came.", cause, "What stands after return in forward?")
    if output.dtype != torch.float32:
        raise Refused(f"{doing}: numbers of dtype float32, as the input's, were expected; {output.dtype} came.")
    if not torch.equal(given, x):
        raise Refused(
            f"{doing}: the input was to stay as it is; its numbers changed.",
            "the input is changed in place",
            "Look for +=, inplace=True, or a name that ends with _ applied to the input.",
        )
    record.output = output
    return record
