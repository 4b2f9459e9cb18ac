"""How long a chapter takes, by its words, code and exercises: ``python tools/reading_time.py`` writes it there.

Rates for prose that explains: 180 words and 20 lines of code a minute, half a minute for a choice, as much for a
figure, seven minutes for an exercise. All are estimates, and what they give is rounded to five minutes.
"""

import re
from pathlib import Path

import nbformat

BOOK = Path(__file__).parent.parent / "book"
LINE = re.compile(r"(?m)^\*\*Time:\*\* [^,;]*? to read(,[^,;]*? exercises)?")


def minutes(cells):
    """To read, and for the exercises, each to five minutes."""
    first = next((i for i, cell in enumerate(cells) if cell.id == "exercises-text"), len(cells))
    words = lines = stops = 0
    for cell in cells[:first]:
        if cell.cell_type == "markdown":
            words += len(re.findall(r"[\w’'-]+", re.sub(r"\$.*?\$|\]\(.*?\)|<.*?>", " ", cell.source)))
            stops += "**Predict.**" in cell.source
        elif not {"hide-cell", "hide-input", "remove-cell"} & set(cell.metadata.get("tags", ())):
            lines += len(cell.source.splitlines())
            stops += any("image/svg+xml" in output.get("data", {}) for output in cell.outputs)
    exercises = sum(cell.id.startswith("check-") for cell in cells)
    return to_five(words / 180 + lines / 20 + stops / 2), to_five(7 * exercises)


def to_five(number):
    return max(5, 5 * round(number / 5))


def said(cells):
    """As a chapter says it."""
    return "**Time:** {} minutes to read, {} for the exercises".format(*minutes(cells))


def main():
    for path in BOOK.glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = LINE.sub(said(notebook.cells), cell.source)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
