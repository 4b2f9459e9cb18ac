"""Inside the sandbox: run one notebook's cells, then judge its answers, and tell both, a line each.

What a student wrote runs in the same process as the checks, since they look at live objects. So before each check
all that it changed is put back, the checks are made anew of code that was read before, a change while it is judged is
no pass, what is told is sealed, and an audit hook (which Python cannot take out again) keeps it from the frames,
objects and memory of the judge.
"""

import builtins
import hashlib
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
from types import FunctionType, ModuleType

import d2lnets

PROCESSES = 128
SHOWN = 20_000  # characters of what a cell prints; ten times as many of a picture
KINDS = ("text/html", "image/svg+xml", "image/png", "image/jpeg", "text/plain")  # of outputs, the best first
GUARDED = (
    "builtins", "collections", "contextlib", "copy", "d2lnets", "functools", "inspect", "itertools", "math", "numbers",
    "numpy", "operator", "random", "threading", "time", "torch", "traceback",
)  # fmt: skip
LATE = ("torch._C.", "torch.distributed", "torch.compiler")  # classes that PyTorch fills late; no check uses them
NEVER = (
    "gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys.addaudithook", "sys._current_exceptions",
    "sys.settrace", "sys.setprofile",
)  # fmt: skip
WATCHED = (
    *NEVER, "compile", "object.__getattr__", "object.__setattr__", "object.__delattr__", "code.__new__",
    "sys._getframe", "sys._current_frames", "sys.monitoring.register_callback", "marshal.loads",
)  # fmt: skip
FRAMES = ("tb_frame", "gi_frame", "cr_frame", "ag_frame")
HAND_OVER = ("walk_tb", "walk_stack", "_walk_tb_with_full_positions", "<lambda>")  # the last is logging.currentframe
_PLACES = (sys.prefix, sys.base_prefix, os.path.dirname(d2lnets.__file__))
LOADED = sys.modules
LIBRARY = (*{f"{place}{os.sep}" for each in _PLACES for place in (each, os.path.realpath(each))}, "<frozen")


def main():
    job = json.loads(sys.stdin.buffer.read())
    tell = teller(os.dup(1), bytes.fromhex(job.pop("key")))
    with open(os.devnull, "r+b") as nothing:
        for descriptor in range(3):
            os.dup2(nothing.fileno(), descriptor)
    try:
        work(job, tell)
    except Exception as error:
        tell(None, "remark", f"the worker failed: {_said(error)}")
        raise


def teller(out, key):
    """A function that tells (at, kind, text): of C functions only, which nobody can replace, and sealed with a key."""
    write, show, seal, join = os.write, ascii, hashlib.blake2b, "".join

    def tell(at, kind, text):
        body = show((at, join(("", kind)), join(("", text)))).encode()
        write(out, seal(body, key=key).hexdigest().encode() + b" " + body + b"\n")

    return tell


def work(job, tell):
    """The cells, then the checks."""
    _enter(job)
    from IPython.core.interactiveshell import InteractiveShell

    importlib.import_module("d2lnets.checks")  # before anything of the student's

    InteractiveShell.enable_gui = lambda self, gui=None: None  # there is no window
    InteractiveShell.ask_exit = lambda self: sys.exit()
    InteractiveShell._tee = lambda self, channel: nullcontext()  # it would keep all that is printed
    shell, cell_limit = InteractiveShell.instance(colors="nocolor"), job["cell_limit"]
    fresh, raised = maker(), {}
    kept = state([(name, each) for name, each in LOADED.items() if name.partition(".")[0] in GUARDED])
    as_it_was = [(names, names.copy()) for names in (vars(builtins), globals())]

    def back():
        """This module and Python's own names as they were; of syntax only, since no name can be trusted yet."""
        for now, before in as_it_was:
            now.update(before)
            for name in [*now]:
                if name not in before:
                    del now[name]

    _signals(cell_limit)
    sys.addaudithook(guard())
    sys.path.insert(0, job["folder"])  # not before: a module of theirs may be called as one that is imported above
    for number, source in job["cells"]:
        tell(number, "begins", f"{cell_limit}")
        outputs, error = run_cell(shell, source, cell_limit)
        for kind, text in outputs:
            tell(number, kind, text)
        if error is not None:
            text = " ".join(_said(error).split())[:300]
            tell(number, "remark", f"cell {number + 1} raised {text}")
            raised |= dict.fromkeys(re.findall(r"^\s*(?:def|class) (\w+)", source, re.MULTILINE), text)
    for id, source in job["checks"].items():
        tell(id, "begins", f"{3 * cell_limit}")
        back()
        changed = restore(kept)
        modules = fresh()
        trusted = {"checks": modules["d2lnets.checks"], "torch": modules["torch"], "__builtins__": builtins}
        during = [*kept, *state(modules.items())]
        passed, message = judged(source, {**shell.user_ns, **trusted}, raised, 3 * cell_limit)
        back()
        if tampered := restore(during):
            passed, message = False, f"While it was checked, it changed {tampered[0]}: for a person to look at."
        elif changed:
            tell(id, "remark", f"it changed {', '.join(changed[:3])}, which was put back")
        tell(id, "passed" if passed else "failed", message)
    tell(None, "done", "")


def maker():
    """A function that makes the checks, and copies of the modules that they use, as they are now: nothing is imported.

    It returns all these modules by name.
    """
    names = [name for name in LOADED if name.startswith("d2lnets.checks")]
    codes = {name: LOADED[name].__spec__.loader.get_code(name) for name in names}
    known = {name: vars(each).copy() for name, each in LOADED.items() if isinstance(each, ModuleType)}
    name_of = {id(each): name for name, each in LOADED.items()}

    def fresh():
        made = {}

        def load(name):
            if name not in made:
                module = made[name] = ModuleType(name)
                if name not in codes:
                    vars(module).update(known[name])
                else:
                    module.__file__ = known[name]["__file__"]
                    module.__builtins__ = known["builtins"] | {"__import__": take}
                    exec(codes[name], vars(module))
            return made[name]

        def take(name, globals=None, locals=None, fromlist=(), level=0):
            module = load(name)
            for each in fromlist or ():
                if f"{name}.{each}" in codes:
                    setattr(module, each, load(f"{name}.{each}"))
            return module if fromlist else load(name.partition(".")[0])

        load("d2lnets.checks")
        for name in names:
            for each, value in vars(load(name)).copy().items():
                if id(value) in name_of:
                    setattr(made[name], each, load(name_of[id(value)]))
        return made

    return fresh


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


def _signals(limit):
    """An alarm interrupts; and no other handler of a signal, since it would be given the judge's frame."""

    def stop(*_):
        raise TimeoutError(f"still running after {limit} seconds")

    signal.signal(signal.SIGALRM, stop)
    signal.signal = importlib.import_module("_signal").signal = lambda number, handler: signal.getsignal(number)


@contextmanager
def interrupted(seconds):
    """TimeoutError in the ``with`` block after so many seconds, and again each second until it ends."""

    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    except TimeoutError:
        pass  # in between
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def judged(source, names, raised, limit):
    """Whether the code of a check, hidden test included, runs through; and what it says."""
    try:
        with interrupted(limit):
            exec(compile(source, "<check>", "exec"), names)
            said = names.get("verdict")
            if said is not None and said.passed is not True:
                return False, str(said.message)
            return True, str(said.message) if said is not None else ""
    except NameError as error:
        if error.name in raised:
            return False, f"Its cell raised {raised[error.name]}"
        return False, f"Not handed in: {error.name} is not defined."
    except BaseException as error:
        return False, _said(error).removeprefix("AssertionError: ")
    return False, "It was still running when its time was over."


def _said(error):
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # of the error's own text
        return f"{type(error).__name__}: "


def state(modules):
    """What modules hold, (name, module) each, and the classes in them: where, what, and its names."""
    held = [(name, each, vars(each).copy()) for name, each in modules if isinstance(each, ModuleType)]
    classes = {id(value): value for _, _, names in held for value in names.values() if isinstance(value, type)}
    classes = [each for each in classes.values() if not f"{each.__module__}.".startswith(LATE)]
    return held + [(each.__qualname__, each, dict(vars(each))) for each in classes]


def restore(held):
    """Put back what is no longer as it was; the names of that."""
    changed = []
    for where, what, names in held:
        now = vars(what)
        for name, value in names.items():
            counts = callable(value) or isinstance(value, (property, classmethod, staticmethod, ModuleType))
            counts = counts or where.startswith("d2lnets")  # whose constants are the references'
            counts = counts and f"{where}.{name}" != "torch.Storage"  # it goes with the default dtype
            if counts and now.get(name) is not value and not _lazy(now.get(name), name):
                setattr(what, name, value)
                changed.append(f"{where}.{name}")
        if isinstance(what, type):
            for name in [*now]:
                if name not in names and callable(now[name]) and not _lazy(now[name], name):
                    delattr(what, name)
                    changed.append(f"{where}.{name}")
    return changed


def _lazy(value, name):
    """Whether a library has put it there itself, as PyTorch does when a part of it is imported late."""
    return type(value) is FunctionType and value.__code__.co_filename.startswith(LIBRARY) and value.__name__ == name


def guard():
    """An audit hook that refuses to student code what leads to frames, objects and memory that are not its own."""
    watched, never, frames, library = frozenset(WATCHED), frozenset(NEVER), FRAMES, LIBRARY
    readers = re.compile(r"[/\\](traceback|inspect)\.py$|[/\\](IPython|stack_data|executing|torch|d2lnets)[/\\]").search
    through = re.compile(r"[/\\]inspect\.py$|[/\\]ctypes[/\\]").search
    to_the_stack = re.compile(r"[/\\](inspect|traceback|utils[/\\]frame)\.py$").search
    hand_over = frozenset(HAND_OVER)
    busy, frame_at, ident, starts = set(), sys._getframe, __import__("_thread").get_ident, str.startswith

    def passes_on(code, event):
        passing = to_the_stack if event == "sys._getframe" else through
        return passing(code.co_filename) or (code.co_name in hand_over and starts(code.co_filename, library))

    def hook(event, args):
        if not (event in watched or starts(event, "ctypes.")) or ident() in busy:
            return
        busy.add(ident())
        try:
            frame = frame_at(1)
            file = frame.f_code.co_filename
            while frame and passes_on(frame.f_code, event):
                frame = frame.f_back
            theirs = frame is not None and not starts(frame.f_code.co_filename, library)
            if event == "compile":  # under a name that would be taken for the library's
                refused = theirs and args[1] is not None and starts(args[1], library)
            elif event == "object.__getattr__":
                refused = args[1] in frames and (theirs or not readers(file))
            elif event == "sys._current_frames":
                refused = theirs or not file.endswith("judging.py")
            else:
                refused = theirs or event in never
        finally:
            busy.discard(ident())
        if refused:
            raise RuntimeError(f"{event} is not open to a notebook that is graded")

    return hook


if __name__ == "__main__":
    main()
