"""Write the chapters to hand out, without solutions and outputs: ``python tools/student_edition.py FOLDER``."""

import os
import sys
from pathlib import Path

import nbformat

BOOK = Path(__file__).parent.parent / "book"
WITH_SOLUTIONS = "A hint and a solution are folded under each."
WITHOUT = "A hint is folded under each."


def chapters():
    """The notebooks with exercises, by name."""
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in sorted(BOOK.glob("*.ipynb"))}
    return {name: each for name, each in notebooks.items() if any(cell.id == "check-1" for cell in each.cells)}


def for_students(notebook):
    """The notebook without its solutions and outputs."""
    notebook.cells = [cell for cell in notebook.cells if not cell.id.startswith("solution-")]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        cell.source = cell.source.replace(WITH_SOLUTIONS, WITHOUT)
    return notebook


def main(folder):
    folder = Path(os.path.expanduser(folder))
    if folder.exists():
        sys.exit(f"student-edition: {folder} is there already, perhaps with somebody's work; name another: DIR=...")
    folder.mkdir(parents=True)
    for name, notebook in chapters().items():
        nbformat.write(for_students(notebook), folder / f"{name}.ipynb")
    print(f"{len(chapters())} chapters are in {folder}")


if __name__ == "__main__":
    main(sys.argv[1])
