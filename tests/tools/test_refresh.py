"""`make refresh` stores outputs, and leaves alone what did not change."""

import nbformat
import pytest
import refresh
from nbclient.exceptions import CellExecutionError


@pytest.fixture
def path(tmp_path):
    """A notebook with a cell that always prints the same, and one that tells the time."""
    notebook = nbformat.v4.new_notebook(metadata={"widgets": {}})
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# Title"),
        nbformat.v4.new_code_cell("print(2 + 2)", metadata={"ExecuteTime": {}, "tags": ["source"]}),
        nbformat.v4.new_code_cell("import time; time.perf_counter()", metadata={"tags": ["nbval-ignore-output"]}),
    ]
    path = tmp_path / "chapter.ipynb"
    nbformat.write(notebook, path)
    return path


def test_a_second_refresh_changes_nothing(path):
    row = refresh.refresh(path, None)
    assert row["title"] == "Title" and row["cells"] == 2
    first = path.read_bytes()
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[1].outputs[0].text == "4\n" and notebook.cells[2].outputs
    assert notebook.metadata == refresh.METADATA and notebook.cells[1].metadata == {"tags": ["source"]}
    assert refresh.refresh(path, row) == row
    assert path.read_bytes() == first


def test_a_changed_cell_is_run_and_stored(path):
    row = refresh.refresh(path, None)
    path.write_text(path.read_text(encoding="utf-8").replace("print(2 + 2)", "print(2 + 3)"), encoding="utf-8")
    new = refresh.refresh(path, row)
    assert new["code"] != row["code"]
    assert nbformat.read(path, as_version=4).cells[1].outputs[0].text == "5\n"


def test_an_output_that_changes_is_stored_though_the_code_is_the_same(path):
    row = refresh.refresh(path, None)
    path.write_text(path.read_text(encoding="utf-8").replace('"4\\n"', '"5\\n"'), encoding="utf-8")
    refresh.refresh(path, row)
    assert nbformat.read(path, as_version=4).cells[1].outputs[0].text == "4\n"


def test_a_cell_that_fails_leaves_the_notebook_as_it_was(path):
    path.write_text(path.read_text(encoding="utf-8").replace("print(2 + 2)", "1 / 0"), encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        refresh.refresh(path, None)
    assert path.read_bytes() == before


def test_a_warning_is_not_stored(path):
    """As where the whole data set is missing, which a chapter says on stderr and goes on."""
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("print(2 + 2)", "import sys; print('of 3,300', file=sys.stderr)"), encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"chapter\.ipynb, cell .*, is not stored: it says 'of 3,300"):
        refresh.refresh(path, None)
    assert path.read_bytes() == before
