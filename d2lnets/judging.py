"""How a check judges what a student wrote: run it safely, watch its layers, replay them in the right order.

A check gives the student's parameters random values, runs the module, and records each convolution,
batch norm and linear layer with the tensor that went in (`Recorder`). Then the reference, a short program
such as ``relu(norm(conv(x)) + x)``, runs with the student's own layers (`Replay`): wherever it needs a layer,
it takes the recorded one that has the right shape and had the same input. So names, order and style do not
matter. When the outputs differ, programs with a known mistake in them run in the same way; one that gives
the student's output names the cause.
"""

import ctypes
import html
import linecache
import os
import random
import sys
import threading
import time
import traceback
import warnings
from collections import Counter, deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True, repr=False)
class Verdict:
    """What a check found: true where the answer passed; shows its message in a notebook and as text."""

    passed: bool
    message: str

    def __bool__(self):
        return self.passed

    def __repr__(self):
        return f"{'Passed' if self.passed else 'Not yet'}. {self.message}"

    def _repr_html_(self):
        color, title = ("#2e9e5b", "Passed.") if self.passed else ("#d9822b", "Not yet.")
        lines = html.escape(self.message).replace("\n", "<br>")
        return (  # no background and no text color: it suits light and dark pages
            f'<div class="verdict" style="border-left: 0.3em solid {color}; padding: 0.3em 0.8em; '
            'overflow-wrap: anywhere">'
            f"<strong>{title}</strong> {lines}</div>"
        )


class Refused(Exception):
    """Ends a check with a verdict: what was expected and came, the likeliest cause, a hint."""

    def __init__(self, what, cause="", hint=""):
        if cause:
            cause = f"Cause {cause}." if cause.startswith("not found") else f"Likeliest cause: {cause}."
        lines = [what, cause, hint and f"Hint: {hint}"]
        super().__init__("\n".join(line for line in lines if line))


class Crashed(Refused):
    """The student's code raised an exception."""

    def __init__(self, doing, error):
        self.doing, self.error = doing, error
        line = _their_line(error)
        if isinstance(error, NotImplementedError) and "NotImplementedError" in line:
            self.what = f"Still to be written: {error}." if str(error) else f"Still to be written.{line}"
            super().__init__(self.what)
            return
        self.what = f"{doing[0].upper()}{doing[1:]}, your code raised {_one_line(error)}{line}."
        super().__init__(self.what, *explain(error))


class _TimeIsUp(BaseException):
    """Raised inside the student's thread; not an Exception, so that ``except Exception`` lets it pass."""


# Running it


def judge(work, limit):
    """The verdict of ``work()``, which returns a `Verdict` or raises `Refused`, after `limit` seconds if it hangs.

    It runs in a thread of its own, which can be left behind if it does not end, and in which exit() ends
    nothing else. Random states, default dtype and other global settings are as before afterwards.
    """
    outcome = []

    def run():
        try:
            outcome.append(work())
        except Refused as refused:
            outcome.append(Verdict(False, str(refused)))
        except _TimeIsUp:
            pass
        except BaseException as error:
            message = f"The check itself failed with {_one_line(error)}{_their_line(error)}."
            outcome.append(Verdict(False, message))

    thread = threading.Thread(target=run, daemon=True, name="check")
    with _global_state_kept():
        thread.start()
        try:
            _wait(thread, limit)
        finally:  # KeyboardInterrupt included
            where = _where_it_is(thread) if thread.is_alive() else ""
            _stop(thread)
    if outcome and not where:
        return outcome[0]
    message = (
        f"Your code was still running after {limit:g} seconds{where}.\nLikeliest cause: a loop or a wait without end.\n"
    )
    if thread.is_alive():
        return Verdict(False, message + "It could not be stopped: restart the kernel (or Python) before you go on.")
    return Verdict(False, message + "Hint: which condition ends the loop, and what makes it true?")


def _wait(thread, limit):
    """Until the thread ends, or has computed or idled for `limit` seconds; other processes' work is not its fault."""
    wall, cpu = time.monotonic(), time.process_time()
    used = deque(maxlen=6)  # of the last quarter of the limit
    while thread.is_alive():
        thread.join(limit / 20)
        used.append(time.process_time() - cpu)
        idle = len(used) == used.maxlen and used[-1] - used[0] < 1e-3 * limit / 4
        waited = time.monotonic() - wall
        if waited > 6 * limit or (waited > limit and (idle or used[-1] > limit)):
            return


def call(doing, function, *args, **kwargs):
    """``function(*args, **kwargs)``, the student's; whatever it raises becomes `Crashed`."""
    try:
        with torch.set_grad_enabled(torch.is_grad_enabled()):  # restored, if they change it
            return function(*args, **kwargs)
    except (_TimeIsUp, Refused):
        raise
    except BaseException as error:
        raise Crashed(doing, error) from None


def _stop(thread):
    for _ in range(20):
        if not thread.is_alive():
            return
        if hasattr(ctypes, "pythonapi"):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_TimeIsUp))
        thread.join(0.05)


def _deterministic(*strict):
    """PyTorch's flag, or with arguments set it (which imports its compiler, so only where it changes)."""
    if not strict:
        return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])


def _cudnn(*flags):
    if not flags:
        return torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = flags


GLOBAL = (  # how to read, how to set
    (lambda: [torch.get_num_threads()], torch.set_num_threads),
    (_deterministic, _deterministic),
    (_cudnn, _cudnn),
    (lambda: [torch.get_default_dtype()], torch.set_default_dtype),
)


@contextmanager
def _global_state_kept():
    before, states = [list(read()) for read, _ in GLOBAL], (random.getstate(), np.random.get_state())
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(1)  # on a busy machine several threads wait for each other
        torch.manual_seed(0)
        try:
            yield
        finally:
            for (read, write), values in zip(GLOBAL, before):
                if list(read()) != values:
                    write(*values)
            random.setstate(states[0])
            np.random.set_state(states[1])


_NOT_THEIRS = tuple(
    os.path.normcase(os.path.realpath(path)) + os.sep
    for path in (
        os.path.dirname(os.path.dirname(torch.__file__)),  # site-packages
        os.path.dirname(os.__file__),  # the standard library
        os.path.dirname(__file__),
    )
)


def _line_in(frames):
    """The deepest line that is neither of a library nor of this package."""
    for frame, number in reversed(list(frames)):
        code = frame.f_code
        path = code.co_filename
        if path.startswith("<frozen") or os.path.normcase(os.path.realpath(path)).startswith(_NOT_THEIRS):
            continue
        text = linecache.getline(path, number, frame.f_globals).strip()
        function = "" if code.co_name == "<module>" else f" of {code.co_name}"
        return f"line {number}{function}" + (f": {text}" if text else "")
    return ""


def _their_line(error):
    line = _line_in(traceback.walk_tb(error.__traceback__))
    return f"\nIn your {line}" if line else ""


def _where_it_is(thread):
    frame = sys._current_frames().get(thread.ident)
    line = _line_in(reversed(list(traceback.walk_stack(frame)))) if frame else ""
    return f", in your {line}" if line else ""


def _one_line(error):
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    text = text if len(text) <= 300 else text[:300] + " ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


EXPLANATIONS = (  # type, part of the text, the likeliest cause, a hint
    (SystemExit, "", "exit() or quit() is called, which a check has no use for", "Take the call out."),
    (KeyboardInterrupt, "", "the code raises KeyboardInterrupt itself", "Take the statement out."),
    (NotImplementedError, 'required "forward"', "the class has no method forward",
     "Is it there, spelled and indented right?"),
    (AttributeError, "before Module.__init__", "super().__init__() is not called, or not first",
     "What must the first line of the constructor of every nn.Module be?"),
    (AttributeError, "has no attribute", "a name is used that the constructor never sets",
     "Compare the names in forward with those in __init__, letter by letter."),
    (NameError, "", "a name that is not defined", "Is it misspelled, not imported, or lacking self.?"),
    (RecursionError, "", "a function or module calls itself without end", "Which call leads back to itself?"),
    (MemoryError, "", "it asks for more memory than there is", "Which number makes the tensor that large?"),
    (RuntimeError, "allocate memory", "it asks for more memory than there is",
     "Which number makes the tensor that large?"),
    (RuntimeError, "in-place operation", "the input itself is changed in place",
     "Let every step make a new tensor, instead of changing its input."),
    (RuntimeError, "inplace operation", "a tensor that the backward pass still needs is changed in place",
     "Use x = x + y in place of x += y, or nn.ReLU() without inplace=True."),
    (RuntimeError, "does not require grad", "the output is cut off from the parameters, as detach(), .data or "
     "torch.no_grad() do", "Where does your forward leave the graph of computations?"),
    (RuntimeError, "to have", "a layer was made for another number of channels than it receives",
     "Write down the number of channels after each step."),
    (RuntimeError, "running_mean should contain", "a batch norm was made for another number of channels than it gets",
     "Batch norm takes the channels of the tensor that it receives. Which are they at that place?"),
    (RuntimeError, "Sizes of tensors must match", "what is concatenated differs in more than the channels: a part has "
     "another stride, lacks padding, or is joined along the wrong dimension", "Print the shapes before the line."),
    (RuntimeError, "must match the size of tensor b", "the two tensors that are combined differ in shape",
     "Print both shapes before the line. What makes them equal when stride or channels change?"),
    (RuntimeError, "cannot be multiplied", "a matrix or linear layer was made for other features than it receives",
     "How many numbers per image reach it, and do they depend on the image's size?"),
    (RuntimeError, "Output size is too small", "the maps have shrunk to nothing: too many strides or pools",
     "Write down the size after each step."),
    (TypeError, "positional argument", "something is called with other arguments than it takes; where the method "
     "__init__ is missing or misspelled, the class takes none", "Compare the call with the def, one by one."),
    (TypeError, "NoneType", "a value is None: a method that returns nothing, or a layer that was not made",
     "Does every function end with return, and does every branch of an if set the layer?"),
    (TypeError, "not callable", "something that is no layer is called", "Is it a number or None, or a tuple?"),
)  # fmt: skip


def explain(error):
    """The likeliest cause of an exception and a hint; two empty strings if unknown."""
    for kind, part, cause, hint in EXPLANATIONS:
        if isinstance(error, kind) and part in str(error):
            return cause, hint
    return "", ""


# Watching it


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
    weight: torch.Tensor = None
    bias: torch.Tensor = None
    input: torch.Tensor = None
    geometry: dict = field(default_factory=dict)
    role: str = ""
    statistics: tuple = (None, None)
    before: tuple = (None, None)  # the statistics when it was called
    momentum: float = 0.1
    eps: float = 1e-5
    training: bool = False
    by_hand: bool = False
    results: dict = field(default_factory=dict)  # of the layer, computed once for all replays

    def __str__(self):
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

    def __init__(self, module):
        self.calls, self.names, self.output = [], set(), None
        self.mine = {p.data_ptr(): p for p in module.parameters() if not is_lazy(p)}

    def __torch_function__(self, func, types, args=(), kwargs=None):
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
            return Call("conv", tuple(weight.shape), **common, geometry={k: _pair(v) for k, v in geometry.items()})
        kernel = given["kernel_size"]
        stride = given.get("stride")
        geometry = {"kernel": kernel, "stride": kernel if stride in (None, [], ()) else stride}
        geometry["padding"] = given.get("padding", 0)
        return Call("pool", (name,), geometry={k: _pair(v) for k, v in geometry.items()})

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


def _pair(value):
    return tuple(value) * (2 // len(value)) if isinstance(value, (list, tuple)) else (value, value)


def _matrix(parameter):
    return tuple(side for side in parameter.shape if side != 1) if parameter.dim() > 1 else ()


# Replaying it


class Mismatch(Exception):
    """The student's code has no layer that could stand here."""


class Net:
    """What a reference program is written in."""

    place = ""  # where in a network, for the role of a layer

    def conv(self, role, x, out, kernel, stride=1, padding=None):
        padding = kernel // 2 if padding is None else padding
        geometry = {"stride": _pair(stride), "padding": _pair(padding), "dilation": (1, 1)}
        return self.convolved(x, (out, x.shape[1], kernel, kernel), geometry, stride, padding, role)

    def pool(self, kind, role, x, kernel, stride, padding=0, ceil_mode=False):
        return {"max": F.max_pool2d, "avg": F.avg_pool2d}[kind](x, kernel, stride, padding, ceil_mode=ceil_mode)


class Plan(Net):
    """Runs a program with zeros and without the work of convolutions, and lists the layers that it needs.

    (On the meta device PyTorch would import its compiler first, which takes seconds.)
    """

    def __init__(self, program, shape):
        self.calls, self.output = [], None
        with suppress(RuntimeError, IndexError), torch.no_grad():  # as far as it gets
            self.output = program(self, torch.zeros(shape))

    def planned(self, kind, role, shape, geometry):
        self.calls.append(Call(kind, shape, geometry=geometry, role=f"{self.place}{role}"))

    def convolved(self, x, shape, geometry, stride, padding, role):
        self.planned("conv", role, shape, geometry)
        return self._map(x, shape[0], shape[2], stride, padding)

    def pool(self, kind, role, x, kernel, stride, padding=0, ceil_mode=False):
        geometry = {"kernel": _pair(kernel), "stride": _pair(stride), "padding": _pair(padding)}
        self.planned("pool", role, (f"{kind}_pool2d",), geometry)
        return self._map(x, x.shape[1], kernel, stride, padding + (stride - 1) / 2 * ceil_mode)

    def _map(self, x, channels, kernel, stride, padding):
        sizes = [int((side + 2 * padding - kernel) // stride + 1) for side in x.shape[2:]]
        if min(sizes) < 1:
            raise RuntimeError("nothing is left of the map")
        return torch.zeros(()).expand(x.shape[0], channels, *sizes)

    def linear(self, role, x, out):
        self.planned("linear", role, (out, x.shape[1]), {})
        return torch.zeros(x.shape[0], out)

    def norm(self, role, x):
        self.planned("norm", role, (x.shape[1],), {})
        return x

    def norm_if_any(self, role, x):
        return x


class Replay(Net):
    """Runs a program with the layers that were recorded, each taken once.

    Where several recorded layers would do, `choices` says which; `path` tells how many there were.
    With ``lenient=True`` a layer of the right shape is taken whatever its input was.
    """

    def __init__(self, record, training, choices=(), lenient=False):
        self.record, self.training, self.choices, self.lenient = record, training, choices, lenient
        self.path, self.used, self.moved, self.unsure = [], [], [], False

    def convolved(self, x, shape, geometry, stride, padding, role):
        made, weight, bias = self.take("conv", role, shape, x, geometry)
        return self._once(made, x, stride, lambda: F.conv2d(x, weight, bias, stride, padding))

    def linear(self, role, x, out):
        return F.linear(x, *self.take("linear", role, (out, x.shape[1]), x, {})[1:])

    def _once(self, made, x, key, compute):
        """Computed once, where the input is the recorded one and no gradient is asked for."""
        known = made.kind in ("conv", "norm") and made.input is not None and made.input.shape == x.shape
        if self.lenient or torch.is_grad_enabled() or not known:
            return compute()
        if key not in made.results:
            made.results[key] = compute()
        return made.results[key]

    def _options(self, kind, shape, x, geometry, lenient=False):
        exact, others = [], []
        for made in self.record.calls:
            if made not in self.used and _fits(made, kind, shape):
                other_form = made.kind != kind or made.input is None  # nothing to compare
                by_hand = made.geometry != geometry and made.input is not None and made.input.shape != x.shape  # F.pad
                fits = other_form or by_hand or close(made.input, x)
                (exact if fits else others).append(made)
        return exact + others if lenient else exact

    def _choose(self, options, role):
        if not options:
            raise Mismatch(f"{self.place}{role}")
        chosen = self.choices[len(self.path)] if len(self.path) < len(self.choices) else 0
        self.path.append((chosen, len(options)))
        return options[chosen]

    def take(self, kind, role, shape, x, geometry):
        fitting = self._options(kind, shape, x, geometry, self.lenient)
        options = [(made, turned) for made in fitting for turned in _ways(made, shape)]
        made, turned = self._choose(options, role)
        self.used.append(made)
        weight = made.weight
        if tuple(weight.shape) != shape:
            weight = weight.reshape(made.shape)
            weight = (weight.T if turned else weight).reshape(shape)
        return made, weight, None if made.bias is None else made.bias.flatten()

    def norm(self, role, x):
        return self._normalize(self._choose(self._options("norm", (x.shape[1],), x, {}, self.lenient), role), x)

    def norm_if_any(self, role, x):
        found = self._options("norm", (x.shape[1],), x, {})
        by_hand = [made for made in found if made.by_hand]
        made = self._choose(found + [None] * (not found or bool(by_hand)), role)
        return x if made is None else self._normalize(made, x)

    def _normalize(self, made, x):
        self.used.append(made)
        if made.weight is None or made.bias is None:
            raise Mismatch("scale and shift of a batch norm")
        scale, shift = made.weight.flatten(), made.bias.flatten()
        mean, variance = (None if s is None else s.clone() for s in made.before)
        if not self.training and mean is None:
            self.unsure = made.by_hand
            raise Mismatch("running statistics of a batch norm")
        arguments = (x, mean, variance, scale, shift, self.training, made.momentum, made.eps)
        y = self._once(made, x, "norm", lambda: F.batch_norm(*arguments))
        if self.training and mean is not None:
            self.moved.append((made.weight.data_ptr(), (mean, variance)))
        return y


def _fits(made, kind, shape):
    if kind == "norm" or made.kind == "norm":
        return made.kind == kind and made.shape == shape
    if made.kind == kind:
        return made.shape == shape
    matrix = shape if kind == "linear" else shape[:2] if shape[2:] == (1, 1) else None
    if matrix is None or made.kind == "pool":
        return False
    if made.kind == "conv":
        return made.shape == (*matrix, 1, 1)
    return sorted(made.shape) == sorted(matrix)


def _ways(made, shape):
    """A product's matrix may be (out, in) or (in, out)."""
    if made.kind != "matrix":
        return [False]
    return [turned for turned in (False, True) if (made.shape[::-1] if turned else made.shape) == shape[:2]]


def replay(program, record, x, training, lenient=False):
    """The first way of running `program` with the recorded layers that gives the recorded output, or None."""
    choices = []
    for _ in range(1 if lenient else 50):  # ways tried; layers of one shape and one input are few
        attempt = Replay(record, training, choices, lenient)
        try:
            attempt.output = program(attempt, x)
            if lenient or close(record.output, attempt.output):
                return attempt
        except (Mismatch, RuntimeError, IndexError, ValueError):
            if attempt.unsure:
                return attempt
        path = attempt.path
        while path and path[-1][0] + 1 >= path[-1][1]:
            path.pop()
        if not path:
            return None
        choices = [chosen for chosen, _ in path[:-1]] + [path[-1][0] + 1]
    return None


def close(a, b, tolerance=1e-4, floor=1e-6):
    if a.shape != b.shape or a.numel() == 0:
        return a.shape == b.shape
    a, b = a.detach(), b.detach()
    return bool((a - b).abs().max() <= tolerance * b.abs().max() + floor)  # False where one is nan


def departs_at(program, record, x, training):
    """In words, the first layer that has another input than in `program`."""
    try:
        program(Replay(record, training), x)
    except Mismatch as role:
        return f"not found. The first difference: no layer has the input that {role} should have"
    except (RuntimeError, IndexError, ValueError):
        return "not found"
    return "not found. Every layer has the right input; what follows the last one differs"


def layers_of(calls):
    """Convolutions and linear layers, each with its geometry, to compare."""
    return Counter((c.shape, str(sorted(c.geometry.items()))) for c in calls if c.kind in ("conv", "linear", "matrix"))


def difference(planned, made, crashed=None):
    """In words, the first layer that departs from the plan; empty if none does.

    Args:
        crashed: None if the code ran to its end; else whether layers that were not called are worth a word.
    """
    for kinds in (("conv", "linear"), ("norm",), ("pool",)):
        plan = [p for p in planned if p.kind in kinds]
        left = [m for m in made if m.kind in (*kinds, *(["matrix"] if "conv" in kinds else []))]
        same = _same_geometry if kinds != ("norm",) else lambda p, m: True
        missing = []
        for p in plan:
            alike = [m for m in left if _fits(m, p.kind, p.shape)]
            peers = [q for q in plan if q.shape == p.shape]
            in_order = len(peers) == sum(_fits(m, p.kind, p.shape) for m in made)
            exact = alike[:1] if in_order else [m for m in alike if same(p, m)][:1]
            if exact and not same(p, exact[0]):
                return _departure(p, exact[0])
            if exact:
                left = [m for m in left if m is not exact[0]]
            else:
                missing.append(p)
        if missing and left and kinds != ("norm",):
            p = missing[0]
            m = max(left, key=lambda m: sum(a == b for a, b in zip(m.shape, p.shape)))
            return _departure(p, m) if m.shape == p.shape else f"{p.role} should be {p}; {m} came"
        if missing and crashed is not None:
            if crashed and "norm" not in kinds:
                return f"before that line, {missing[0].role} had not been called"
            continue
        if missing:
            place = missing[0].role.rpartition(", ")[0].split(", ")[0]
            whole = place and all(q in missing for q in plan if q.role.startswith(place))
            if len(missing) > 1 and not whole:
                return f"{missing[0].role} is missing, and {len(missing) - 1} more like it"
            return f"{place} is missing" if whole else f"{missing[0].role} is missing"
        if left and crashed is None and kinds == ("conv", "linear"):
            return f"{left[0]} is too many"
    return ""


def _same_geometry(p, m):
    return all(m.geometry.get(key, value) == value for key, value in p.geometry.items())


def _departure(p, m):
    for key, value in sorted(p.geometry.items()):  # dilation before the padding that makes up for it
        if m.geometry.get(key, value) != value:
            came, wanted = (v[0] if v[0] == v[1] else v for v in (m.geometry[key], value))
            return f"{p.role} has {key} {came}; {wanted} was expected"
    return ""


# The check of a module


def randomize(module, record):
    """Random weights, and random running statistics where batch norms were seen."""
    with torch.no_grad():
        for p in module.parameters():
            if p.dim() > 1 and _matrix(p)[1:]:
                p.normal_(0, (2 / p[0].numel()) ** 0.5)
            else:
                p.uniform_(-1.5, 1.5)
        for made in record.calls:
            mean, variance = made.statistics
            if mean is not None:
                mean.normal_()
                variance.uniform_(0.5, 2)


def observe(module, x, training, doing):
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
    if not isinstance(output, torch.Tensor):
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
