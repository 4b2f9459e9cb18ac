"""The times that chapters give follow from their words, code, figures, cards and exercises."""

import nbformat
import pytest
import reading_time
from helpers import ROOT

CHAPTERS = [path for path in (ROOT / "book").glob("*.ipynb") if path.stem != "benchmarks"]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_says_how_long_it_takes(path):
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert f"{reading_time.said(cells)};" in text, "run python tools/reading_time.py"
