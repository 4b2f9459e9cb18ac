"""Outside the sandbox: one notebook in a process of its own, inside bubblewrap, with what it told.

It sees the system's libraries, Python, the package and its own files: no home, no other submission, no gradebook and
no network. A crash, a hang or an exit costs a notebook only the cell that did it: the rest runs again without it.
"""

import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import psutil

LIMIT = 900  # seconds for a notebook
CELL_LIMIT = 120  # seconds for a cell; then it is interrupted
START, GRACE = 120, 5  # seconds that the start may take; and after which a cell that is not interrupted is killed
MEMORY = 8 * 2**30  # bytes of all its processes together
DISK = 2**30  # bytes
OWN, FILES = "/notebook-at-work", "/notebook-files"  # in the sandbox; no folder of the machine may be beneath them
PROCESSOR = ("/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu")  # PyTorch asks; /proc has all else
TOLD = 2**26  # bytes that a notebook may tell
WORKER = Path(__file__).with_name("worker.py")
MISSING = (
    "{reason}. It keeps what strangers wrote from your files: apt-get install bubblewrap, or grade in "
    "a container (the page For teachers has the command). UNSAFE=1 runs it with your rights."
)

NAMESPACES = (
    ": whoever is not root needs user namespaces, which this system refuses. The administrator can allow them "
    "(sysctl kernel.unprivileged_userns_clone=1, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0), or grade"
)


def unsafe():
    """Whether the teacher does without bubblewrap; exits where there is none and nobody said so.

    UNSAFE=1 runs a notebook with the teacher's rights; UNSAFE=user as another user, in a container of its own.
    """
    if os.environ.get("UNSAFE") in ("1", "user"):
        return True
    if reason := _unprotected():
        sys.exit(MISSING.format(reason=reason))
    return False


@cache
def _unprotected():
    """Why bubblewrap does not run here; an empty text where it does."""
    if not shutil.which("bwrap"):
        return "bubblewrap is missing"
    english = os.environ | {"LC_ALL": "C"}
    tried = subprocess.run(
        ["bwrap", "--unshare-net", "--ro-bind", "/", "/", "true"], capture_output=True, encoding="utf-8", env=english
    )
    if tried.returncode == 0:
        return ""
    return f"bubblewrap does not run here ({tried.stderr.strip()}){NAMESPACES if os.getuid() else ''}"


def command(files):
    """bubblewrap and the worker inside it; `files`, a folder or None, is what the student handed in beside it."""
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
    machine = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts", "/etc/localtime", *PROCESSOR)
    for path in dict.fromkeys((*machine, sys.base_prefix, sys.prefix, package, str(WORKER))):
        for parent in reversed(Path(path).parents[:-1]):
            line += ["--perms", "0755", "--dir", str(parent)]
        line += ["--ro-bind-try", path, path]
    if files:
        line += ["--ro-bind", str(files), FILES]
    line += ["--dev", "/dev", "--size", str(DISK // 4), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
    line += ["--size", str(DISK), "--tmpfs", OWN, "--remount-ro", "/", "--chdir", OWN]
    return line + worker


def run(cells, checks, files=None, limit=None, cell_limit=None):
    """Run the code cells of a notebook, then its checks.

    Args:
        cells: sources.
        checks: by id, the source of a check.
        files: a folder with what was handed in beside the notebook.

    Returns:
        outputs: by the number of a cell; verdicts: by id, (passed, message); remarks: what went wrong.
    """
    told = {"outputs": {}, "verdicts": {}, "remarks": []}
    limit, cell_limit = limit or int(os.environ.get("LIMIT") or LIMIT), cell_limit or CELL_LIMIT
    skipped, end = [], time.monotonic() + limit
    while True:
        cell, why = _once(cells, checks, files, skipped, end, cell_limit, told)
        if not why:
            return told
        if isinstance(cell, str):  # a check: no second try, and no pass
            told["verdicts"][cell] = False, f"It {why} while it was checked."
            checks = {id: source for id, source in checks.items() if id != cell}
        else:
            told["remarks"].append(f"cell {cell + 1} {why}" if cell >= 0 else f"it {why}")
            skipped.append(cell)
        if cell == -1 or time.monotonic() > end:
            return told


def _once(cells, checks, files, skipped, end, cell_limit, told):
    """One run: fills `told`; the cell that ended it (a number, or the id of a check; -1: none) and how it did."""
    token, cell, rest, read_bytes = secrets.token_hex(), -1, b"", 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as own:
        safe = not unsafe()
        job = {
            "token": token, "cells": cells, "checks": checks, "skipped": skipped, "cell_limit": cell_limit,
            "folder": OWN if safe else own, "files": (FILES if safe else str(files)) if files else None,
            "user": 10**6 + os.getpid() if os.getuid() == 0 and os.environ.get("UNSAFE") != "1" else 0,
        }  # fmt: skip
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": job["folder"], "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONDONTWRITEBYTECODE": "1",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline", "IPYTHONDIR": f"{job['folder']}/.ipython",
        }  # fmt: skip
        process = subprocess.Popen(
            command(files), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment, cwd=own, start_new_session=True,
        )  # fmt: skip
        try:
            with suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(json.dumps(job).encode())
            deadline = time.monotonic() + START
            while True:
                wait = min(deadline, end) - time.monotonic()
                if wait <= 0:
                    return cell, "was still running when its time was over"
                if _memory(process.pid) > MEMORY:
                    return cell, f"took more than {MEMORY >> 30} GB of memory"
                if not select.select([process.stdout], [], [], min(wait, 0.5))[0]:
                    continue
                news = os.read(process.stdout.fileno(), 2**16)
                read_bytes += len(news)
                if not news:
                    return cell, "ended the process"
                if read_bytes > TOLD:
                    return cell, "put out too much"
                *lines, rest = (rest + news).split(b"\n")
                for line in lines:
                    if not line.startswith(token.encode()):
                        continue  # not the worker's
                    said = json.loads(line[len(token) :].decode("utf-8", "replace"))
                    if "done" in said:
                        return -1, ""
                    cell, deadline = _note(said, told, cell, deadline, cell_limit)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()


def _note(said, told, cell, deadline, cell_limit):
    """Keep what the worker said."""
    if "outputs" in said:
        told["outputs"][said["cell"]] = said["outputs"]
    elif "cell" in said:
        cell, factor = said["cell"], 1
        if isinstance(cell, str):
            cell, factor = cell.removeprefix("check "), 3
        deadline = time.monotonic() + factor * cell_limit + GRACE
    if "check" in said:
        told["verdicts"][said["check"]] = said["passed"] is True, clean(said["message"])
    if "remark" in said and clean(said["remark"]) not in told["remarks"]:
        told["remarks"].append(clean(said["remark"]))
    return cell, deadline


def clean(text):
    """Text that every file can hold: no half characters."""
    return str(text).encode("utf-8", "replace").decode()


def _memory(pid):
    """Bytes of a process and all that it began."""
    total = 0
    with suppress(psutil.Error):
        for each in [process := psutil.Process(pid), *process.children(recursive=True)]:
            with suppress(psutil.Error):
                total += each.memory_info().rss
    return total
