"""Run notebooks, store what they print, and write when and on what: ``python tools/refresh.py [CHAPTER ...]``.

Where nothing changed but what is not compared (times, live trainings), the notebook stays as it was.
"""

import copy
import hashlib
import json
import os
import platform
import sys
import time
from collections import Counter
from datetime import date
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from student_edition import name_of
from tqdm import tqdm

from d2lnets.training.loop import pick_device
from d2lnets.training.runs import machine, versions

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "book"
STATE = Path(__file__).parent / "state.json"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_METADATA = {"tags", "mystnb", "cellView", "jupyter"}
os.environ["TQDM_DISABLE"] = "1"  # in the notebooks; here the bar has read its environment


def refresh(path, row):
    """Run a notebook from a fresh kernel; its row for the page of states, which was `row`."""
    stored = nbformat.read(path, as_version=4)
    notebook = copy.deepcopy(stored)
    start = time.perf_counter()
    client = NotebookClient(notebook, timeout=1200, record_timing=False, coalesce_streams=True)
    client.execute(cwd=BOOK)
    seconds = time.perf_counter() - start
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise ValueError(f"{path.name}, cell {cell.id}, is not stored: it says {output.text!r}")
    tidy(notebook)
    here = machine(pick_device())
    new = {
        "title": notebook.cells[0].source.splitlines()[0].removeprefix("# "),
        "date": date.today().isoformat(),
        "seconds": round(seconds),
        "cells": sum(cell.cell_type == "code" for cell in notebook.cells),
        "machine": f"{here['processor']}, {here['cores']} cores, {here['device']}",
        "versions": f"Python {platform.python_version()}, PyTorch {versions()['torch']}",
        "code": digest(notebook),
    }
    made_by = "machine", "versions", "code"
    if row and all(row.get(name) == new[name] for name in made_by) and compared(notebook) == compared(stored):
        return {**row, "title": new["title"]}
    nbformat.write(notebook, path)
    return new


def tidy(notebook):
    """Take out what kernels and editors leave behind, so that a change reads as a change; figures are not compared."""
    notebook.metadata = METADATA
    for cell in notebook.cells:
        cell.metadata = {name: value for name, value in cell.metadata.items() if name in CELL_METADATA}
        if draws(cell):
            cell.metadata["tags"] = sorted({*cell.metadata.get("tags", ()), "nbval-ignore-output"})


def draws(cell):
    """Whether a cell's output is a figure."""
    return any("image/svg+xml" in output.get("data", {}) for output in cell.get("outputs", ()))


def digest(notebook):
    """Of the code that made a notebook's outputs: its cells, and the package with its data."""
    files = sorted(path for path in (ROOT / "d2lnets").rglob("*") if path.suffix in (".py", ".json"))
    cells = [cell.source.encode() for cell in notebook.cells if cell.cell_type == "code"]
    parts = cells + [path.read_bytes() for path in files]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def compared(notebook):
    """The outputs that `make test` compares, and the pictures beside them."""
    ignored = "nbval-ignore-output"
    cells = [cell for cell in notebook.cells if draws(cell) or ignored not in cell.metadata.get("tags", [])]
    return [cell.get("outputs") for cell in cells]


def page(state):
    """The page of states, in Markdown."""
    lines = [
        "# State of the notebooks",
        "",
        "When the outputs of each notebook were made, on what, and how long all its cells took, the start included.",
        "`make refresh` runs the notebooks and writes this page; `make test` runs them again and compares.",
        "",
    ]
    made = [f"{row['machine']}; {row['versions']}" for row in state.values()]
    places = [place for place, _ in Counter(made).most_common()]
    lines += [f"{number}. {place}" for number, place in enumerate(places, 1)]
    lines += ["", "| chapter | made on | date | seconds | code cells |", "| :-- | --: | :-- | --: | --: |"]
    for (name, row), place in zip(state.items(), made):
        on, day = places.index(place) + 1, row["date"].replace("-", "\u2011")  # a hyphen that breaks no line
        lines.append(f"| [{row['title']}]({name}.ipynb) | {on} | {day} | {row['seconds']} | {row['cells']} |")
    return "\n".join(lines) + "\n"


def place_in_the_book(path):
    return (ROOT / "_toc.yml").read_text(encoding="utf-8").find(f"book/{name_of(path)}\n")


def main(chapters):
    every = {name_of(path): path for path in sorted(BOOK.rglob("*.ipynb"), key=place_in_the_book)}
    unknown = [name for name in chapters if name not in every]
    if unknown:
        sys.exit(f"refresh: no chapter {', '.join(unknown)}; there are {', '.join(every)}")
    state = json.loads(STATE.read_text(encoding="utf-8")) if STATE.exists() else {}
    for name in tqdm(chapters or every, unit="notebook"):
        state[name] = refresh(every[name], state.get(name))
        state = {name: state[name] for name in every if name in state}
        STATE.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
        (BOOK / "state.md").write_text(page(state), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
