"""Outside the sandbox: one notebook in a process of its own, and its judge in another, each inside bubblewrap.

It sees the system's libraries, Python, the package and its own files: no home, no other submission, no gradebook and
no network. A crash, a hang or an exit costs a notebook only the cell that did it: the rest runs again without it.
"""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import psutil

LIMIT = 900  # seconds for a notebook
CELL_LIMIT = 120  # seconds for a cell; then it is interrupted
START, GRACE = 120, 5  # seconds that the start may take; and after which a cell that is not interrupted is killed
MEMORY, DISK = 8 * 2**30, 2**30  # bytes of all its processes together; bytes of its files
TOLD = 2**26  # bytes that a notebook may tell
OWN, FILES = "/notebook-at-work", "/notebook-files"  # in the sandbox; no folder of the machine may be beneath them
MACHINE = (  # PyTorch asks for the processor; /proc has all else
    "/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts", "/etc/localtime",
    "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu",
)  # fmt: skip
WORKER, APART = (Path(__file__).with_name(f"{name}.py") for name in ("worker", "apart"))
MISSING = (
    "{}. It keeps what strangers wrote from your files: apt-get install bubblewrap, or see what the page For teachers "
    "says under Protected. UNSAFE=1 runs it with your rights."
)


def unsafe():
    """Whether the teacher does without bubblewrap; exits where there is none and nobody said so.

    UNSAFE=1 runs a notebook with the teacher's rights; UNSAFE=user as another user, in a container of its own.
    """
    if os.environ.get("UNSAFE") in ("1", "user"):
        return True
    if reason := _unprotected():
        sys.exit(MISSING.format(reason))
    return False


@cache
def _unprotected():
    """Why bubblewrap does not run here; an empty text where it does."""
    if not shutil.which("bwrap"):
        return "bubblewrap is missing"
    line = ["bwrap", "--unshare-net", "--ro-bind", "/", "/", "true"]
    tried = subprocess.run(line, capture_output=True, encoding="utf-8", env=os.environ | {"LC_ALL": "C"})
    return f"bubblewrap does not run here ({tried.stderr.strip()})" if tried.returncode else ""


def command(files):
    """bubblewrap and the worker inside it; `files` is the folder of what the student handed in, or None."""
    worker = [sys.executable, str(WORKER)]
    if unsafe():
        return worker
    line = ["bwrap", "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-net", "--unshare-ipc"]
    line += ["--unshare-uts", "--unshare-cgroup-try"]
    if os.getuid():
        line += ["--unshare-user", "--cap-drop", "ALL"]
    line += ["--size", str(DISK // 4), "--perms", "1777", "--tmpfs", "/tmp"]
    for path in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(path):
            line += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            line += ["--ro-bind", path, path]
    package = str(Path(find_spec("d2lnets").origin).parent)
    for path in dict.fromkeys((*MACHINE, sys.base_prefix, sys.prefix, package, str(WORKER), str(APART))):
        for parent in reversed(Path(path).parents[:-1]):
            line += ["--perms", "0755", "--dir", str(parent)]
        line += ["--ro-bind-try", path, path]
    if files:
        line += ["--ro-bind", str(files), FILES]
    line += ["--dev", "/dev", "--size", str(DISK // 4), "--perms", "1777", "--tmpfs", "/dev/shm"]
    line += ["--remount-ro", "/dev"]
    line += ["--size", str(DISK), "--tmpfs", OWN, "--remount-ro", "/", "--chdir", OWN]
    return line + worker


def run(cells, checks, files=None, cell_limit=CELL_LIMIT):
    """Run the code cells of a notebook, then its checks.

    Args:
        cells: sources.
        checks: by id, the source of a check.
        files: a folder with what was handed in.

    Returns:
        outputs: a list for each cell; verdicts: by id, (passed, message); remarks: what went wrong.
    """
    unchecked = dict.fromkeys(checks, (False, "It was not checked: the time of the notebook was over."))
    told = {"outputs": [[] for _ in cells], "verdicts": unchecked, "remarks": []}
    job = {"cells": dict(enumerate(cells)), "checks": checks, "cell_limit": cell_limit}
    end = time.monotonic() + int(os.environ.get("LIMIT") or LIMIT)
    while time.monotonic() < end:
        at, why = _once(job, files, end, told)
        if not why:
            break
        if at in checks:  # no second try, and no pass
            told["verdicts"][at] = False, f"It {why} while it was checked."
            job["checks"] = {id: source for id, source in job["checks"].items() if id != at}
            continue
        told["remarks"].append(f"it {why}" if at is None else f"cell {at + 1} {why}")
        if job["cells"].pop(at, None) is None:
            break
    return told


def _once(job, files, end, told, wire=None, beside=()):
    """One run of the student's process, then of its judge: fills `told`; what ended it, and how, or an empty text.

    The judge has no cells, but the end of a wire to a process that runs beside it.
    """
    at, rest, read_bytes, safe, cells, user = None, b"", 0, not unsafe(), job.get("cells"), 10**6 + 2 * os.getpid()
    wire, far = (wire, None) if wire else socket.socketpair()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as own, far or nullcontext():
        place = OWN if safe else own
        given = job | ({} if cells is None else {"cells": [*cells.items()]}) | {
            "wire": wire.fileno(), "memory": MEMORY, "disk": DISK,
            "folder": place, "files": (FILES if safe else str(files)) if files else None,
            "user": user + (cells is None) if os.getuid() == 0 and os.environ.get("UNSAFE") != "1" else 0,
        }  # fmt: skip
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": place, "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONDONTWRITEBYTECODE": "1",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline", "IPYTHONDIR": f"{place}/.ipython",
        }  # fmt: skip
        with wire:
            process = subprocess.Popen(
                command(files), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env=environment, cwd=own, start_new_session=True, pass_fds=[wire.fileno()],
            )  # fmt: skip
        try:
            with suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(json.dumps(given).encode())
            deadline = time.monotonic() + START
            while (wait := min(deadline, end) - time.monotonic()) > 0:
                if sum(map(_memory, (process.pid, *beside))) > MEMORY:
                    return at, f"took more than {MEMORY >> 30} GB of memory"
                if not select.select([process.stdout], [], [], min(wait, 0.5))[0]:
                    continue
                news = os.read(process.stdout.fileno(), 2**16)
                read_bytes += len(news)
                if not news or read_bytes > TOLD:
                    return at, "put out too much" if news else "ended the process"
                *lines, rest = (rest + news).split(b"\n")
                for line in lines:
                    of, kind, text = clean(json.loads(line))
                    if kind == "done" and cells is None:
                        return None, ""
                    if kind == "done":
                        questions = {name: each for name, each in job.items() if name != "cells"}
                        return _once(questions, None, end, told, far, [process.pid])
                    if kind == "begins":
                        at, deadline = of, time.monotonic() + int(text) + GRACE
                    _note(told, cells is None, of, kind, text)
            return at, "was still running when its time was over"
        except (ValueError, TypeError, LookupError, RecursionError):
            return at, "said what the worker does not say"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()


def _note(told, judge, of, kind, text):
    """Keep what was told of a cell or, by the judge, of a check."""
    if kind == "remark":
        told["remarks"] += [text[:500]] if text[:500] not in told["remarks"] else []
    elif judge and kind in ("passed", "failed"):
        told["verdicts"][of] = kind == "passed", text[:5000]
    elif not judge and kind == "begins":
        told["outputs"][of] = []
    elif not judge:
        stream = {"output_type": "stream", "name": "stdout", "text": text}
        picture = {"output_type": "display_data", "data": {kind: text}, "metadata": {}}
        told["outputs"][of].append(stream if kind == "stdout" else picture)


def clean(value):
    """A value of JSON whose texts every file can hold: no half characters."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _memory(pid):
    """Bytes of a process and all that it began."""
    total = 0
    with suppress(psutil.Error):
        for each in [process := psutil.Process(pid), *process.children(recursive=True)]:
            with suppress(psutil.Error):
                total += each.memory_info().rss
    return total
