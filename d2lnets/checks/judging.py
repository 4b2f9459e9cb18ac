"""Run what a student wrote, safely, and say what came of it: the verdict, time limits, errors in their words."""

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
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

if TYPE_CHECKING:
    from d2lnets.checks.recording import Recorder

_Result = TypeVar("_Result")


@dataclass(frozen=True, repr=False)
class Verdict:
    """What a check found: true where the answer passed; shows its message in a notebook and as text."""

    passed: bool
    message: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
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

    def __init__(self, what: str, cause: str = "", hint: str = "") -> None:
        if cause:
            cause = f"Cause {cause}." if cause.startswith("not found") else f"Likeliest cause: {cause}."
        lines = [what, cause, hint and f"Hint: {hint}"]
        super().__init__("\n".join(line for line in lines if line))


class Crashed(Refused):
    """The student's code raised an exception."""

    record: "Recorder"  # of what ran before, where a module was observed

    def __init__(self, doing: str, error: BaseException) -> None:
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


def judge(work: Callable[[], Verdict], limit: float, seed: int = 0) -> Verdict:
    """The verdict of ``work()``, which returns a `Verdict` or raises `Refused`, after `limit` seconds if it hangs.

    It runs in a thread of its own, which can be left behind if it does not end, and in which exit() ends
    nothing else. Random states, default dtype and other global settings are as before afterwards; `seed` is where
    PyTorch's random numbers begin.
    """
    outcome: list[Verdict] = []

    def run() -> None:
        threading.current_thread()._target = None  # type: ignore[attr-defined]  # or their code finds `outcome` by it
        try:
            with torch._C.DisableTorchFunctionSubclass():  # a tensor of theirs does not say how it is compared
                outcome.append(work())
        except Refused as refused:
            outcome.append(Verdict(False, str(refused)))
        except _TimeIsUp:
            pass
        except BaseException as error:
            message = f"The check itself failed with {_one_line(error)}{_their_line(error)}."
            outcome.append(Verdict(False, message))

    thread = threading.Thread(target=run, daemon=True, name="check")
    with _global_state_kept(seed):
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


def call(doing: str, function: Callable[..., _Result], *args: object, **kwargs: object) -> _Result:
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
def _global_state_kept(seed):
    before, states = [list(read()) for read, _ in GLOBAL], (random.getstate(), np.random.get_state())
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(1)  # on a busy machine several threads wait for each other
        torch.manual_seed(seed)
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
        os.path.dirname(os.path.dirname(__file__)),  # this package
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


def explain(error: BaseException) -> tuple[str, str]:
    """The likeliest cause of an exception and a hint; two empty strings if unknown."""
    for kind, part, cause, hint in EXPLANATIONS:
        if isinstance(error, kind) and part in str(error):
            return cause, hint
    return "", ""
