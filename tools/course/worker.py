"""Inside the sandbox: run one notebook's cells, then judge its answers, and tell both, a JSON line each.

What a student wrote runs in the same process as the checks, since they look at live objects. So what it changed is
put back before it is judged, the checks are imported anew, a change while it is judged is no pass, and an audit hook
(which Python cannot take out again) keeps it from the frames, objects and memory of the judge.
"""

import builtins
import importlib
import io
import json
import os
import re
import resource
import shutil
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import d2lnets

MEMORY, FILE_SIZE, PROCESSES = 8 * 2**30, 2**30, 128  # bytes, bytes of a file, and how many
SHOWN = 20_000  # characters of what a cell prints; ten times as many of a picture
GUARDED = {
    "builtins", "collections", "contextlib", "copy", "d2lnets", "functools", "inspect", "itertools", "math", "numbers",
    "numpy", "operator", "random", "threading", "time", "torch", "traceback",
}  # fmt: skip
NEVER = {"gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys.addaudithook", "sys._current_exceptions"}
FRAMES = {"tb_frame", "gi_frame", "cr_frame", "ag_frame"}


def main():
    job = json.loads(sys.stdin.buffer.read())
    out = os.dup(1)
    with open(os.devnull, "r+b") as nothing:
        for descriptor in range(3):
            os.dup2(nothing.fileno(), descriptor)

    def tell(**what):
        os.write(out, f"{job['token']}{json.dumps(what)}\n".encode())

    try:
        work(job, tell)
    except Exception as error:
        tell(remark=f"the worker failed: {type(error).__name__}: {_text(error)}")
        raise


def work(job, tell):
    """The cells, then the checks."""
    _enter(job)
    from IPython.core.interactiveshell import InteractiveShell

    importlib.import_module("d2lnets.checks")  # before anything of the student's

    class Shell(InteractiveShell):
        def enable_gui(self, gui=None):
            """There is no window."""

        def ask_exit(self):
            sys.exit()

    shell = Shell.instance(colors="nocolor")
    kept, paths = state(), (sys.meta_path, sys.path_hooks, sys.path)
    lists = [list(each) for each in paths]
    sys.addaudithook(guard())
    raised = {}
    for number, source in enumerate(job["cells"]):
        if number in job["skipped"] or not source.strip():
            continue
        tell(cell=number)
        shown, error = run_cell(shell, source, job["cell_limit"])
        tell(cell=number, outputs=shown)
        if error is not None:
            text = " ".join(f"{type(error).__name__}: {_text(error)}".split())[:300]
            tell(remark=f"cell {number + 1} raised {text}")
            raised |= dict.fromkeys(re.findall(r"^\s*(?:def|class) (\w+)", source, re.MULTILINE), text)
    for id, source in job["checks"].items():
        tell(cell=f"check {id}")
        for each, names in zip(paths, lists):
            each[:] = names
        changed = restore(kept)
        checks, modules = fresh_checks()
        trusted = {"checks": checks, "torch": sys.modules["torch"], "__builtins__": builtins}
        during = state(modules)
        passed, message = judged(source, shell.user_ns | trusted, raised, job["cell_limit"])
        if tampered := restore(during):
            passed, message = False, f"While it was checked, it changed {tampered[0]}: for a person to look at."
        elif changed:
            tell(remark=f"it changed {', '.join(changed[:3])}, which was put back")
        kept = during
        tell(check=id, passed=passed, message=message)
    tell(done=True)


def fresh_checks():
    """The checks, imported anew, with modules of their own to look functions up in, and where no import finds them."""
    names = "d2lnets.checks"
    for name in [name for name in sys.modules if name.startswith(names)]:
        del sys.modules[name]
    checks = importlib.import_module(names)
    modules = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith(names)}
    for module in modules.values():
        for name, value in list(vars(module).items()):
            if isinstance(value, ModuleType) and not value.__name__.startswith(names):
                own = ModuleType(value.__name__)
                vars(own).update(vars(value))
                setattr(module, name, own)
    del d2lnets.checks
    return checks, modules


def _enter(job):
    """The folder, its files, the limits; and another user, where it is the administrator who grades."""
    folder = Path(job["folder"])
    if job["files"]:
        shutil.copytree(job["files"], folder, dirs_exist_ok=True, symlinks=True)
    os.chdir(folder)
    sys.path[0] = str(folder)  # the student's files, and none of the book's tools
    for what, most in (("DATA", MEMORY), ("FSIZE", FILE_SIZE), ("CORE", 0), ("NPROC", PROCESSES)):
        with suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, f"RLIMIT_{what}"), (most, most))
    if job["user"]:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, job["user"], job["user"], follow_symlinks=False)
        os.setgroups([])
        os.setgid(job["user"])
        os.setuid(job["user"])


def run_cell(shell, source, limit):
    """What a cell shows, as outputs of a notebook, and the exception that it raised."""
    from IPython.utils.capture import capture_output

    printed = Printed()
    before = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = printed
    try:
        with capture_output(stdout=False, stderr=False) as captured, interrupted(limit):
            result = shell.run_cell(source, store_history=True)
    finally:
        sys.stdout, sys.stderr = before
    outputs = [{"output_type": "stream", "name": "stdout", "text": printed.getvalue()}] if printed.getvalue() else []
    for each in captured.outputs:
        if len(str(each.data)) < 10 * SHOWN:
            outputs.append({"output_type": "display_data", "data": each.data, "metadata": {}})
    return outputs, result.error_before_exec or result.error_in_exec


class Printed(io.StringIO):
    """What is printed, up to a limit."""

    def write(self, text):
        return super().write(text) if self.tell() < SHOWN else len(text)


@contextmanager
def interrupted(seconds):
    """TimeoutError in the ``with`` block after so many seconds, and again each second until it ends."""

    def stop(*_):
        raise TimeoutError(f"still running after {seconds} seconds")

    signal.signal(signal.SIGALRM, stop)
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
        with interrupted(3 * limit):
            exec(compile(source, "<check>", "exec"), names)
            said = names.get("verdict")
            if said is not None and said.passed is not True:
                return False, str(said.message)
            return True, str(said.message) if said is not None else ""
    except NameError as error:
        if error.name in raised:
            return False, f"Its cell raised {raised[error.name]}"
        return False, f"Not handed in: {error.name} is not defined."
    except AssertionError as error:
        return False, _text(error)
    except BaseException as error:
        return False, f"{type(error).__name__}: {_text(error)}"
    return False, "It was still running when its time was over."


def _text(error):
    try:
        return str(error)
    except Exception:
        return ""


def state(more=()):
    """What the modules of the judge hold, and the classes in them: where, what, and its names."""
    modules = [
        (name, each) for name, each in (sys.modules | dict(more)).items() if name.partition(".")[0] in GUARDED and each
    ]
    held = [(name, each, vars(each).copy()) for name, each in modules if isinstance(each, ModuleType)]
    classes = {id(value): value for _, _, names in held for value in names.values() if isinstance(value, type)}
    late = ("torch._C.", "torch.distributed", "torch.compiler")  # PyTorch fills these late; no check uses them
    classes = {id: each for id, each in classes.items() if not f"{each.__module__}.".startswith(late)}
    return held + [(each.__qualname__, each, dict(vars(each))) for each in classes.values()]


def restore(held):
    """Put back what is no longer as it was; the names of that."""
    changed = []
    for where, what, names in held:
        now = vars(what)
        for name, value in names.items():
            if (
                now.get(name) is not value
                and (callable(value) or isinstance(value, DESCRIBED))
                and not _lazy(now.get(name), name)
            ):
                setattr(what, name, value)
                changed.append(f"{where}.{name}")
        if isinstance(what, type):
            for name in [
                name for name in now if name not in names and callable(now[name]) and not _lazy(now[name], name)
            ]:
                delattr(what, name)
                changed.append(f"{where}.{name}")
    return changed


def _lazy(value, name):
    """Whether a library has put it there itself, as PyTorch does when a part of it is imported late."""
    file = getattr(getattr(value, "__code__", None), "co_filename", "")
    return file.startswith(LIBRARY) and value.__name__ == name


DESCRIBED = (property, classmethod, staticmethod, ModuleType)


def guard():
    """An audit hook that refuses to student code what leads to frames, objects and memory that are not its own."""
    library = LIBRARY
    readers = re.compile(r"[/\\](traceback|inspect)\.py$|[/\\](IPython|stack_data|executing|torch|d2lnets)[/\\]")
    through = re.compile(r"[/\\]inspect\.py$|[/\\]ctypes[/\\]")
    busy, frame_at, ident = set(), sys._getframe, __import__("_thread").get_ident

    def hook(event, args):
        kind = event.partition(".")[0]
        watched = event in NEVER or kind == "ctypes" or event in WATCHED
        if not watched or ident() in busy:
            return
        busy.add(ident())
        try:
            frame = frame_at(1)
            file = frame.f_code.co_filename
            while frame and through.search(frame.f_code.co_filename):
                frame = frame.f_back
            theirs = frame is not None and not frame.f_code.co_filename.startswith(library)
            if event == "compile":
                refused = theirs and isinstance(args[1], str) and args[1].startswith(library)
            elif event == "object.__getattr__":
                walks = frame is not None and frame.f_code.co_name in ("walk_tb", "walk_stack")
                refused = args[1] in FRAMES and (
                    theirs or not readers.search(file) or (walks and _student(frame, library))
                )
            elif event == "sys._getframe":
                walks = frame is not None and frame.f_code.co_name == "walk_stack"
                refused = theirs or (walks and _student(frame, library))
            elif event == "sys._current_frames":
                refused = not file.endswith("judging.py")
            else:
                refused = theirs or event in NEVER
        finally:
            busy.discard(ident())
        if refused:
            raise RuntimeError(f"{event} is not open to a notebook that is graded")

    return hook


def _student(frame, library):
    return frame.f_back is not None and not frame.f_back.f_code.co_filename.startswith(library)


_PLACES = (sys.prefix, sys.base_prefix, os.path.dirname(d2lnets.__file__))
LIBRARY = (*{f"{place}{os.sep}" for each in _PLACES for place in (each, os.path.realpath(each))}, "<frozen")
WATCHED = {
    "compile", "object.__getattr__", "object.__setattr__", "object.__delattr__", "code.__new__", "sys._getframe",
    "sys._current_frames", "sys.settrace", "sys.setprofile", "sys.monitoring.register_callback",
}  # fmt: skip

if __name__ == "__main__":
    main()
