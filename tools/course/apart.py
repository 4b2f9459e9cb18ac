"""Judged apart: the student's process only answers, and what counts is said by the judge, another process.

The judge sends arguments and inputs. It gets numbers, texts, tensors and modules of known classes; of a module of
another class the list of PyTorch's functions that it calls, which the judge calls itself, with weights that only it
knows. A student may change all there is in the one process: who forges what it answers has to compute what is right.
"""

import builtins
import inspect
import io
import os
import re
import socket
import sys
from functools import cache
from numbers import Number
from unittest.mock import patch

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode, get_overridable_functions, resolve_name

from d2lnets.checks import judging, wording
from d2lnets.checks.examination import _as_written
from d2lnets.checks.values import plain

PLAIN = (type(None), bool, int, float, complex, str, torch.dtype, torch.device)
KNOWN = ("torch.nn.modules.", "d2lnets.")  # whose classes are the same on both sides
PARTS = ("_parameters", "_buffers", "_modules")
OF_ANY = {*vars(nn.Module())} - {"training"}
UNSAFE = (
    r"\._[^_]|set_|resize|sparse|quant|stor|numpy|hook|share|apply|map_|from_|reduce_ex|state|copy__|dlpack|array|"
    "backward|fbgemm|mkldnn|miopen|cudnn|bag|unpool|rnn|lstm|gru|ctc|unsafe|q_|pin_|load|ptr"
)
EXPLAINED = {kind.__name__: kind for kind, *_ in wording.EXPLANATIONS} | {"Unfit": wording.Refused}
wording._NOT_THEIRS += (os.path.dirname(os.path.realpath(__file__)),)  # what is here is no line of a student


class Unfit(wording.Refused):
    """What cannot be judged apart."""

    def __init__(self, why):
        super().__init__(f"It cannot be judged apart, since {why}: for a person to look at.")


class Wire:
    """Sends and receives data, and never code."""

    def __init__(self, descriptor):
        self.file = socket.socket(fileno=descriptor).makefile("rwb")

    def send(self, value):
        torch.save(value, packed := io.BytesIO())
        self.file.write(len(packed.getvalue()).to_bytes(8, "big") + packed.getvalue())
        self.file.flush()

    def receive(self):
        packed = io.BytesIO(self.file.read(int.from_bytes(self.file.read(8), "big")))
        try:
            return torch.load(packed, weights_only=True) if packed.getvalue() else None
        except Exception:
            raise Unfit("it answers with more than data") from None


def encode(value, keep, known=None):
    """A value as data; `keep` takes what only this side can have, and says under which number it is kept."""
    known, kind = {} if known is None else known, type(value)
    if kind in PLAIN:
        return value
    if isinstance(value, (list, tuple, range)):
        return (list if isinstance(value, list) else tuple)(encode(each, keep, known) for each in value)
    if kind.__module__ == "numpy" or isinstance(value, Number):
        return encode(plain(value), keep, known)
    if id(value) in known:
        return {"same": known[id(value)]}
    if isinstance(value, torch.Tensor):
        if value._backward_hooks:
            raise Unfit("a hook changes gradients")
        coded = {"tensor": value.detach().clone().as_subclass(torch.Tensor), "same": f"#{len(known)}"}
        known[id(value)] = coded["same"]
        return coded | {"parameter": isinstance(value, nn.Parameter) and value.requires_grad}
    if isinstance(value, nn.Module):
        return _encode_module(getattr(value, "_orig_mod", value), keep, known)  # of torch.compile
    if isinstance(value, slice):
        return {"slice": encode((value.start, value.stop, value.step), keep, known)}
    if not callable(value) or (isinstance(value, type) and not issubclass(value, nn.Module)):
        return {"object": getattr(value, "__name__", kind.__name__), "type": isinstance(value, type)}
    coded, empty = {"function": keep(value)}, inspect.Parameter.empty
    try:
        arguments = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return coded
    shown = [{} if p.default is empty else {"default": p.default if _is_plain(p.default) else ""} for p in arguments]
    return coded | {"arguments": [(p.name, int(p.kind), default) for p, default in zip(arguments, shown)]}


def _encode_module(module, keep, known):
    kind, lazy = type(module), any(map(is_lazy, (*module.parameters(), *module.buffers())))
    known[id(module)] = same = f"#{len(known)}"
    own = {name: each for name, each in vars(module).items() if name not in OF_ANY}
    coded = {"same": same, "own": own}
    for where in PARTS:
        parts = {} if lazy else vars(module)[where]
        coded[where] = {name: encode(part, keep, known) for name, part in parts.items()}
    hooks = any(each for name, each in vars(module).items() if "_hooks" in name)
    if _known(kind.__module__, kind.__qualname__) is kind and not (lazy or hooks) and _is_plain([*own.values()]):
        return coded | {"class": (kind.__module__, kind.__qualname__)}
    return coded | {"own": {"training": module.training, "lazy": lazy, "kept": keep(module)}}


def _known(module, name):
    found = getattr(sys.modules.get(module), name, None) if module.startswith(KNOWN) else None
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def _is_plain(value):
    return type(value) in PLAIN or (type(value) in (list, tuple) and all(map(_is_plain, value)))


def decode(coded, ask, known=None):
    """The value of data; `ask` reaches what only the other side has."""
    known = {} if known is None else known
    if type(coded) in (list, tuple):
        return type(coded)(decode(each, ask, known) for each in coded)
    if type(coded) in PLAIN:
        return coded
    if "object" in coded:
        made = type(str(coded["object"]), (), {})
        return ... if coded["object"] == "ellipsis" else made if coded["type"] else made()
    if "slice" in coded:
        return slice(*decode(coded["slice"], ask, known))
    if "function" in coded:
        return _function(coded, ask)
    if coded["same"] not in known and "tensor" in coded:
        tensor = coded["tensor"].as_subclass(torch.Tensor)
        known[coded["same"]] = nn.Parameter(tensor) if coded["parameter"] else tensor
    elif coded["same"] not in known:
        kind = _known(*coded["class"]) if "class" in coded else Taped
        made = known[coded["same"]] = kind.__new__(kind)
        nn.Module.__init__(made)
        own = {name: each for name, each in coded["own"].items() if name not in OF_ANY and _is_plain(each)}
        vars(made).update(own, ask=ask)
        for where in PARTS:
            vars(made)[where].update({name: decode(part, ask, known) for name, part in coded[where].items()})
    return known[coded["same"]]


def _function(coded, ask):
    def answer(*args, **kwargs):
        made = ask("call", coded["function"], encode(args, _stays), {k: encode(v, _stays) for k, v in kwargs.items()})
        if isinstance(made, dict) and "function" in made:
            raise Unfit("a function is returned")
        return decode(made, ask)

    if "arguments" in coded:
        made = [inspect.Parameter(name, kind, **default) for name, kind, default in coded["arguments"]]
        answer.__signature__ = inspect.Signature(made)
    return answer


def _stays(value):
    raise Unfit(f"a {type(value).__name__} would have to be sent")


def _named(module, args):
    """What a pass begins with, by name: its arguments, parameters and buffers."""
    held = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    return dict((*enumerate(args), *held))


class Tape(TorchFunctionMode):
    """Writes down PyTorch's functions with their arguments; a tensor by its name, or as what an earlier one made."""

    def __init__(self, module, args):
        self.steps, self.kept = [], [*args]
        self.known = {id(each): name for name, each in _named(module, args).items()}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        grad, name, kwargs = torch.is_grad_enabled(), resolve_name(func) or f"{func}", kwargs or {}
        given = encode([args, *kwargs.values()], _stays, seen := {**self.known})  # before it changes them
        made = func(*args, **kwargs)
        several = enumerate(made if isinstance(made, (list, tuple)) else [made])
        tensors = [(place, each) for place, each in several if isinstance(each, torch.Tensor)]
        if name in functions() and (tensors or re.search(r"[^_]_$|__set\w*__$", name)):  # what others make is constant
            self.steps.append((name, given[0], dict(zip(kwargs, given[1:])), grad))
            self.known = {id(each): (len(self.steps) - 1, place) for place, each in tensors} | seen
            self.kept += [made, args, kwargs]  # or another tensor gets the id of one
        return made


class Taped(nn.Module):
    """For the judge: a module of a class that only the other side has."""

    def forward(self, *args):
        given = [each.detach() for each in args]
        coded = self.ask("tape", self.kept, given, self.training, torch.is_grad_enabled(), self.lazy)
        if self.lazy:
            made, self.lazy = decode(coded["module"], self.ask), False
            for where in PARTS:
                vars(self)[where].update(vars(made)[where])
        known = _named(self, args)
        for number, (name, given, more, grad) in enumerate(coded["steps"]):
            more = {key: decode(each, None, known) for key, each in more.items()}
            with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
                made = functions()[name](*decode(given, None, known), **more)
            known |= {(number, i): each for i, each in enumerate(made if isinstance(made, (list, tuple)) else [made])}
        if "error" in coded:
            raise error_of(coded)
        return decode(coded["output"], None, known)


@cache
def functions():
    """PyTorch's functions by name: those that a class of tensors could override, without what reaches memory."""
    known = [each for several in get_overridable_functions().values() for each in several]
    known += [each for name, each in vars(nn.functional).items() if re.fullmatch(r"[a-z]\w+_", name)]  # in place
    return {name: each for each in known if (name := resolve_name(each)) and not re.search(UNSAFE, name)}


class Witness:
    """In the student's process: answers what is asked, and keeps what cannot be sent."""

    def __init__(self, names, raised, interrupted):
        self.names, self.raised, self.interrupted, self.kept, self.limit = names, raised, interrupted, [], 60

    def keep(self, value):
        self.kept.append(value)
        return len(self.kept) - 1

    def name(self, name):
        if name in self.names:
            return encode(self.names[name], self.keep)
        raise NameError(f"its cell raised {self.raised[name]}" if name in self.raised else f"{name} is not defined.")

    def begin(self, limit, seed):
        self.limit = limit
        torch.set_default_dtype(torch.float32)
        torch.manual_seed(seed)

    def call(self, at, args, kwargs):
        kwargs = {name: decode(each, None) for name, each in kwargs.items()}
        return encode(self.kept[at](*decode(args, None), **kwargs), self.keep)

    def tape(self, at, args, training, grad, lazy):
        module, coded = self.kept[at], {"output": None}
        if lazy:  # its layers are made first, which is no part of what it computes
            module.eval()(*(each.clone() for each in args))
            coded["module"] = encode(module, self.keep)
        own = patch.object(torch.autograd.Function, "apply", side_effect=Unfit("it computes a gradient in its own way"))
        with torch.set_grad_enabled(grad), own, Tape(module.train(training), args) as tape:
            try:
                coded["output"] = encode(module(*args), _stays, tape.known)
            except BaseException as error:
                coded |= failed(error)
        return coded | {"steps": tape.steps}

    def serve(self, wire):
        while asked := wire.receive():
            answer = {"error": "TimeoutError", "text": "", "line": ""}
            with self.interrupted(self.limit), _as_written():
                try:
                    answer = {"value": getattr(self, asked[0])(*asked[1:])}
                except BaseException as error:
                    answer = failed(error)
            wire.send(answer)


def failed(error):
    """An exception as data."""
    return {"error": type(error).__name__, "text": f"{error}"[:500], "line": wording.their_line(error)}


def error_of(coded):
    """The exception of data: of a class that the checks explain, or of one that is called the same."""
    error = (EXPLAINED.get(coded["error"]) or type(str(coded["error"]), (Exception,), {}))(coded["text"])
    error.line = str(coded["line"])
    return error


class Names(dict):
    """For the judge: what a check takes, from its own names, else from the other side."""

    def __init__(self, checks, wire):
        def ask(*asked):
            wire.send(asked)
            answer = wire.receive() or os._exit(1)  # the other side has ended
            if "error" in answer:
                raise error_of(answer)
            return answer["value"]

        super().__init__(checks=checks, torch=torch)
        self.ask = ask

    def __missing__(self, name):
        if name in vars(builtins):
            raise KeyError(name)
        return decode(self.ask("name", name), self.ask)


def patient(names, change=setattr):
    """The checks wait longer, since the work is another process's; and its lines are those of exceptions."""

    def judge(work, limit, seed=0):
        names.ask("begin", 3 * limit, seed)
        return judging.judge(work, 6 * limit, seed)

    change(names["checks"], "judge", judge)
    change(names["checks"].values, "judge", judge)
    change(wording, "their_line", lambda error: getattr(error, "line", ""))
