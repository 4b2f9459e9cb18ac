"""Check a folder of returned notebooks: ``python tools/check_submissions.py FOLDER [--limit SECONDS]``.

Each notebook runs in a process of its own, in an empty folder. Whenever one of its cells defines what an exercise
asks for, the check of the book's own notebook judges it. ``results.csv`` and ``results.html`` go into FOLDER.

A crash, a hang or an exit costs a notebook only the cell that did it: the rest is run again without that cell.
That is no protection against attacks: the code runs with your rights. Run what strangers wrote in a container.
"""

import argparse
import csv
import html
import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import nbformat
from student_edition import chapters
from tqdm import tqdm

LIMIT = 900  # seconds for a notebook
CELL_LIMIT = 120  # seconds for a cell; then it is interrupted
GRACE = 20  # seconds later it is killed; so long may the start take, too, after the limit of a cell
MEMORY, FILE_SIZE = 8 * 2**30, 2**30  # bytes that a notebook may have, and that a file of it may have
RUNNING = set()  # the processes of the notebooks at hand
CHECK = re.compile(r"checks\.check_\w+\((?:.*, )?(\w+)\)")


def exercises():
    """Of every chapter: for each exercise the name that is to be written, and the code that checks it."""
    found = {}
    for chapter, notebook in chapters().items():
        checks = {int(cell.id[6:]): cell.source for cell in notebook.cells if cell.id.startswith("check-")}
        found[chapter] = {number: (CHECK.fullmatch(checks[number])[1], checks[number]) for number in sorted(checks)}
    return found


# One notebook, from outside


def check(path, limit=LIMIT, cell_limit=CELL_LIMIT):
    """Run a notebook; a dictionary of its chapter, the verdicts by exercise, and remarks."""
    row = {"chapter": "", "verdicts": {}, "remarks": []}
    skipped, end = [], time.monotonic() + limit
    while True:
        cell, why = _run(path, row, skipped, end, cell_limit)
        if not why:
            return row
        row["remarks"].append(f"cell {cell} {why}" if cell else f"it {why}")
        if not cell or time.monotonic() > end:
            return row
        skipped.append(cell)


def _run(path, row, skipped, end, cell_limit):
    """Run a notebook once and fill its row; the number of the cell that ended it, and how it did."""
    token, cell, rest = secrets.token_hex(), 0, b""
    read, write = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        worker = subprocess.Popen(
            [sys.executable, __file__, "--worker", str(write), str(cell_limit), path.resolve(), *map(str, skipped)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "MPLBACKEND": "agg"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            pass_fds=[write],
            start_new_session=True,
        )
        os.close(write)
        RUNNING.add(worker.pid)
        with suppress(BrokenPipeError), worker.stdin as stdin:
            stdin.write(token.encode())
        try:
            deadline = time.monotonic() + cell_limit + GRACE
            while True:
                wait = min(deadline, end) - time.monotonic()
                if wait <= 0 or not select.select([read], [], [], wait)[0]:
                    return cell, "was still running when its time was over"
                news = os.read(read, 2**16)
                if not news:
                    return cell, "ended the process"
                *lines, rest = (rest + news).split(b"\n")
                for line in lines:
                    if not line.startswith(token.encode()):
                        continue  # not ours
                    told = json.loads(line[len(token) :])
                    if "done" in told:
                        return 0, ""
                    if "cell" in told:
                        cell, deadline = told["cell"], time.monotonic() + cell_limit + GRACE
                    if "exercise" in told:
                        row["verdicts"][told["exercise"]] = told["passed"], told["message"]
                    if "remark" in told and told["remark"] not in row["remarks"]:
                        row["remarks"].append(told["remark"])
                    row["chapter"] = told.get("chapter", row["chapter"])
        finally:
            os.close(read)
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            RUNNING.discard(worker.pid)
            worker.wait()


# One notebook, from inside


def work(write, cell_limit, path, *skipped):
    """Run the cells of a notebook and tell the verdicts, a JSON line each, to the file descriptor `write`."""
    token = sys.stdin.read()
    write = int(write)
    os.set_inheritable(write, False)

    def tell(**what):
        os.write(write, f"{token}{json.dumps(what)}\n".encode())

    _limit_resources()
    try:
        notebook = nbformat.read(path, as_version=4)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        cells = [(cell.source, cell.metadata.get("tags", [])) for cell in cells]
    except Exception as error:
        tell(remark=f"it cannot be read as a notebook ({type(error).__name__})")
        return tell(done=True)
    every = exercises()
    known = {name: _named(cells, wanted) for name, wanted in every.items()}
    chapter = max(known, key=known.get)
    if not known[chapter]:
        tell(remark="it has no exercise of this book")
        return tell(done=True)
    tell(chapter=chapter)

    from IPython.core.interactiveshell import InteractiveShell

    from d2lnets import checks

    shell, seen, kept = InteractiveShell.instance(), {}, _package()
    shell.ask_exit = sys.exit  # what exit() and quit() call
    for number, (source, tags) in enumerate(cells, 1):
        if str(number) in skipped or source.startswith("# @title Solution"):
            continue
        tell(cell=number)
        with _interrupted(int(cell_limit)):
            result = shell.run_cell(source)
        error = result.error_before_exec or result.error_in_exec
        raised = f"raised {type(error).__name__}: {error}"[:300]
        if error and "raises-exception" not in tags:
            tell(remark=f"cell {number} {raised}")
        for exercise, (name, test) in every[chapter].items():
            if name in shell.user_ns and shell.user_ns[name] is not seen.get(name):
                seen[name] = shell.user_ns[name]
                _restore(kept)
                verdict = eval(test, {"checks": checks, name: seen[name]})
                tell(exercise=exercise, passed=verdict.passed is True, message=str(verdict.message))
            elif error and name not in seen and re.search(rf"\b(def|class) {name}\b", source):
                tell(exercise=exercise, passed=False, message=f"Its cell {raised}")
    tell(done=True)


def _named(cells, wanted):
    """How many of the names that exercises ask for stand in the cells."""
    return sum(any(re.search(rf"\b{name}\b", source) for source, _ in cells) for name, _ in wanted.values())


def _limit_resources():
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextmanager
def _interrupted(seconds):
    """TimeoutError in the ``with`` block after so many seconds, and again each second until it ends."""

    def stop(*_):
        raise TimeoutError(f"still running after {seconds} seconds")

    try:
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, seconds, 1)
        yield
    except TimeoutError:
        pass  # in between
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _package():
    """What the modules of d2lnets hold: a notebook may have put something else in its place when it is judged."""
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "d2lnets"]
    return [(module, vars(module).copy()) for module in modules]


def _restore(kept):
    for module, names in kept:
        vars(module).update(names)


# All of them


def table(rows):
    """A header and a list of texts for each notebook: what is written to the files."""
    most = max((len(wanted) for wanted in exercises().values()), default=0)
    header = ["notebook", "chapter", "passed", "of", *range(1, most + 1), "remarks"]
    every, lines = exercises(), []
    for path, row in rows.items():
        wanted, verdicts = every.get(row["chapter"], {}), row["verdicts"]
        said = ["" if n not in wanted else _said(verdicts.get(n)) for n in range(1, most + 1)]
        passed = sum(ok for ok, _ in verdicts.values())
        lines.append([str(path), row["chapter"], passed, len(wanted), *said, "; ".join(row["remarks"])])
    return header, lines


def _said(verdict):
    if verdict is None:
        return "not handed in"
    return "passed" if verdict[0] else verdict[1].replace("\n", " ")


def write(rows, folder):
    """results.csv and results.html."""
    header, lines = table(rows)
    with open(folder / "results.csv", "w", newline="", encoding="utf-8") as file:
        # a spreadsheet takes what begins so for a formula
        safe = [[f"'{cell}" if str(cell).startswith(("=", "+", "-", "@")) else cell for cell in line] for line in lines]
        csv.writer(file).writerows([header, *safe])
    body = "".join(f"<tr>{''.join(map(_cell, line))}</tr>\n" for line in lines)
    head = "".join(f"<th>{cell}</th>" for cell in header)
    page = PAGE.format(head=head, body=body)
    (folder / "results.html").write_text(page, encoding="utf-8")


def _cell(text):
    if text == "passed":
        return '<td class="passed">✓</td>'
    text = str(text)
    if len(text) < 60:
        return f"<td>{html.escape(text)}</td>"
    return f"<td><details><summary>{html.escape(text[:50])}…</summary>{html.escape(text)}</details></td>"


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Results</title>
<style>
:root {{ color-scheme: light dark; font-family: sans-serif }}
table {{ border-collapse: collapse }}
th, td {{ border-bottom: 1px solid #8888; padding: 0.3em 0.6em; text-align: left; vertical-align: top }}
.passed {{ color: #2e9e5b; font-weight: bold }}
</style></head>
<body><h1>Results</h1><table><thead><tr>{head}</tr></thead><tbody>
{body}</tbody></table></body></html>
"""


def main():
    parser = argparse.ArgumentParser(prog="check-submissions", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=LIMIT, help="seconds for a notebook (default: %(default)s)")
    parser.add_argument("--cell-limit", type=int, default=CELL_LIMIT, help="for a cell (default: %(default)s)")
    args = parser.parse_args()
    if not hasattr(os, "killpg"):
        sys.exit("check-submissions: needs Linux or macOS, which can end a program that hangs; on Windows use WSL")
    args.folder = Path(os.path.expanduser(args.folder))
    if args.folder == Path() or not args.folder.is_dir():
        sys.exit(
            f"check-submissions: {args.folder} is no folder of notebooks; name one: make check-submissions DIR=back"
        )
    found = (path.relative_to(args.folder) for path in sorted(args.folder.rglob("*.ipynb")) if path.is_file())
    paths = [path for path in found if not any(part.startswith(".") for part in path.parts)]
    if not paths:
        sys.exit(f"check-submissions: no notebook (.ipynb) is in {args.folder}")
    rows, pool = {}, ThreadPoolExecutor(os.cpu_count())
    results = pool.map(lambda path: check(args.folder / path, args.limit, args.cell_limit), paths)
    try:
        for path, row in zip(paths, tqdm(results, total=len(paths), unit="notebook")):
            rows[path] = row
            write(rows, args.folder)
    except KeyboardInterrupt:
        for worker in RUNNING:
            os.killpg(worker, signal.SIGKILL)
        print(f"stopped; {len(rows)} of {len(paths)} notebooks are in {args.folder / 'results.csv'}", flush=True)
        os._exit(130)  # without waiting for the threads
    print(f"results.csv and results.html are in {args.folder}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(*sys.argv[2:])
    else:
        main()
