"""Write the chapters to hand out, without solutions and outputs: ``python tools/student_edition.py FOLDER``."""

import os
import sys
from pathlib import Path

import nbformat

BOOK = Path(__file__).parent.parent / "book"
WITH_SOLUTIONS = "A hint and a solution are folded under each."
WITHOUT = "A hint is folded under each."


def chapters():
    """The notebooks with exercises, by name: ``resnet18``, ``exercises/residual_block_exercises``."""
    notebooks = {name_of(path): nbformat.read(path, as_version=4) for path in sorted(BOOK.rglob("*.ipynb"))}
    return {name: each for name, each in notebooks.items() if any(cell.id.startswith("check-") for cell in each.cells)}


def name_of(path):
    return path.relative_to(BOOK).with_suffix("").as_posix()


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
        path = folder / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(for_students(notebook), path)
    print(f"{len(chapters())} notebooks are in {folder}")


if __name__ == "__main__":
    main(sys.argv[1])
