"""Inside the sandbox, one of two processes: the student's runs a notebook's cells, and the judge asks for its answers.

What a student wrote may change anything in its own process, so what that one says counts only as what the cells put
out. Whether an answer is right says the judge, which runs nothing of theirs (`apart`).
"""

import importlib
import io
import json
import os
import re
import resource
import shutil
import signal
import sys
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

PROCESSES = 128
SHOWN = 20_000  # characters of what a cell prints; ten times as many of a picture
KINDS = ("text/html", "image/svg+xml", "image/png", "image/jpeg", "text/plain")  # of outputs, the best first


def main():
    job, out, write, dumps = json.loads(sys.stdin.buffer.read()), os.dup(1), os.write, json.dumps
    with open(os.devnull, "r+b") as nothing:
        for descriptor in range(3):
            os.dup2(nothing.fileno(), descriptor)

    def tell(at, kind, text):
        write(out, dumps((at, kind, text)).encode() + b"\n")

    try:
        (work if "cells" in job else judge)(job, tell)
    except Exception as error:
        tell(None, "remark", f"the worker failed: {_said(error)}")
        raise


def work(job, tell):
    """The student's: the cells, then answers to what the judge asks."""
    apart = importlib.import_module("apart")
    _enter(job)
    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell.enable_gui = lambda self, gui=None: None  # there is no window
    InteractiveShell.ask_exit = lambda self: sys.exit()
    InteractiveShell._tee = lambda self, channel: nullcontext()  # it would keep all that is printed
    shell, cell_limit = InteractiveShell.instance(colors="nocolor"), job["cell_limit"]
    sys.path.insert(0, job["folder"])  # not before: a module of theirs may be called as one that is imported above
    raised = {}
    for number, source in job["cells"]:
        tell(number, "begins", f"{cell_limit}")
        outputs, error = run_cell(shell, source, cell_limit)
        for kind, text in outputs:
            tell(number, kind, text)
        if error is not None:
            text = " ".join(_said(error).split())[:300]
            tell(number, "remark", f"cell {number + 1} raised {text}")
            raised |= dict.fromkeys(re.findall(r"^\s*(?:def|class) (\w+)", source, re.MULTILINE), text)
    tell(None, "done", "")
    apart.Witness(shell.user_ns, raised, interrupted).serve(apart.Wire(job["wire"]))


def judge(job, tell):
    """The judge: whether each answer passes, and what is said of it."""
    apart = importlib.import_module("apart")
    _enter(job)
    from d2lnets import checks

    names = apart.Names(checks, apart.Wire(job["wire"]))
    apart.patient(names)
    for id, source in job["checks"].items():
        tell(id, "begins", f"{3 * job['cell_limit']}")
        passed, message = judged(source, names)
        tell(id, "passed" if passed else "failed", message)
    tell(None, "done", "")


def _enter(job):
    """The folder, its files, the limits; and another user, where it is the administrator who grades."""
    folder = Path(job["folder"])
    if job["files"]:
        shutil.copytree(job["files"], folder, dirs_exist_ok=True, symlinks=True)
    os.chdir(folder)
    del sys.path[0]  # the book's tools
    for what, most in (("DATA", job["memory"]), ("FSIZE", job["disk"]), ("CORE", 0), ("NPROC", PROCESSES)):
        with suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, f"RLIMIT_{what}"), (most, most))
    if job["user"]:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, job["user"], job["user"], follow_symlinks=False)
        os.setgroups([])
        os.setgid(job["user"])
        os.setuid(job["user"])


def run_cell(shell, source, limit):
    """What a cell shows, (kind, text) each, and the exception that it raised."""
    from IPython.utils.capture import capture_output

    printed = Printed()
    before = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = printed
    try:
        with capture_output(stdout=False, stderr=False) as captured, interrupted(limit):
            result = shell.run_cell(source, store_history=True)
    finally:
        sys.stdout, sys.stderr = before
    outputs = [("stdout", printed.getvalue())] if printed.getvalue() else []
    for each in captured.outputs:
        kind = next((kind for kind in KINDS if isinstance(each.data.get(kind), str)), None)
        if kind and len(each.data[kind]) < 10 * SHOWN:
            outputs.append((kind, each.data[kind]))
    return outputs, result.error_before_exec or result.error_in_exec


class Printed(io.StringIO):
    """What is printed, up to a limit."""

    def write(self, text):
        return super().write(text) if self.tell() < SHOWN else len(text)


@contextmanager
def interrupted(seconds):
    """TimeoutError in the ``with`` block after so many seconds, and again each second until it ends."""

    def stop(*_):
        raise TimeoutError(f"still running after {seconds:g} seconds")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    except TimeoutError:
        pass  # in between
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def judged(source, names):
    """Whether the code of a check, hidden test included, runs through; and what it says."""
    try:
        names["verdict"] = None
        exec(compile(source, "<check>", "exec"), {}, names)
        said = names["verdict"]
        return said is None or said.passed is True, "" if said is None else str(said.message)
    except NameError as error:
        return False, f"Not handed in: {error}"
    except AssertionError as error:
        return False, f"{error}"
    except BaseException as error:
        return False, _said(error)


def _said(error):
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # of the error's own text
        return f"{type(error).__name__}: "


if __name__ == "__main__":
    main()
