"""Run what a student wrote, safely: in a thread with a time limit, with every global setting as before afterwards."""

import ctypes
import random
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch

from d2lnets.checks.wording import Crashed, Refused, Verdict, is_theirs, line_in, one_line, their_line, told

_Result = TypeVar("_Result")


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
            message = f"The check itself failed with {one_line(error)}{their_line(error)}."
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
    what = f"Your code was still running after {limit:g} seconds{where}."
    hint = "Which condition ends the loop, and what makes it true?"
    if thread.is_alive():
        hint = "It could not be stopped: restart the kernel (or Python) before you go on."
    return Verdict(False, told(what, "a loop or a wait without end", hint))


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
    """Raise in the thread until it ends, for up to two seconds: what is raised once can be caught."""
    if not thread.is_alive():
        return
    if sys.version_info >= (3, 12):
        with _raising_at_each_line(thread.ident):
            thread.join(2)
    elif hasattr(ctypes, "pythonapi"):
        with _turns_of(1e-6):  # so short that one exception meets another's handler
            ends = time.monotonic() + 2
            while thread.is_alive() and time.monotonic() < ends:
                if len(_stack(thread)) > 1:  # it stands there while this thread runs
                    ident, error = ctypes.c_ulong(thread.ident), ctypes.py_object(_TimeIsUp)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, error)
                time.sleep(0)  # gives way


@contextmanager
def _turns_of(seconds):
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def _raising_at_each_line(ident):
    """In what the student wrote, where the thread `ident` runs it."""

    def stop(code, *_):
        if threading.get_ident() == ident and is_theirs(code):
            raise _TimeIsUp

    watch, events = sys.monitoring, (sys.monitoring.events.LINE, sys.monitoring.events.JUMP)
    tool = next(tool for tool in range(6) if watch.get_tool(tool) is None)
    watch.use_tool_id(tool, "d2lnets.checks")
    for event in events:
        watch.register_callback(tool, event, stop)
    watch.set_events(tool, sum(events))
    try:
        yield
    finally:
        watch.set_events(tool, 0)
        for event in events:
            watch.register_callback(tool, event, None)
        watch.free_tool_id(tool)


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


def _where_it_is(thread):
    line = line_in(_stack(thread))
    return f", in your {line}" if line else ""


def _stack(thread):
    """The frames of the thread and their lines, from `judge`'s own function on, the deepest last."""
    frame = sys._current_frames().get(thread.ident)
    frames = list(traceback.walk_stack(frame)) if frame else []
    ours = [i for i, (frame, _) in enumerate(frames) if frame.f_code.co_qualname == "judge.<locals>.run"]
    return frames[ours[-1] :: -1] if ours else []
