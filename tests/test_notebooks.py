"""nbval compares what the notebooks print. Here: it would notice a change, and the notebooks are well kept."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "book").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text())


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def nbval(notebook, folder):
    (folder / "edited.ipynb").write_text(json.dumps(notebook))
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q", "-p", "no:cacheprovider", "."]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def up_to(notebook, text):
    """The notebook up to the first cell with `text` in an output."""
    cells = notebook["cells"]
    last = next(i for i, cell in enumerate(cells) if text in json.dumps(cell.get("outputs", []), ensure_ascii=False))
    return {**copy.deepcopy(notebook), "cells": copy.deepcopy(cells[: last + 1])}


def test_an_edited_number_is_noticed(tmp_path):
    chapter = json.loads(next(path for path in NOTEBOOKS if path.stem == "resnet18").read_text())
    honest = up_to(chapter, "11,178,378")
    assert nbval(honest, tmp_path).returncode == 0
    edited = json.loads(json.dumps(honest).replace("11,178,378", "11,178,379"))
    result = nbval(edited, tmp_path)
    assert result.returncode == 1 and "11,178,379" in result.stdout


def test_a_block_that_does_not_add_is_noticed(tmp_path):
    """The chapter itself goes red when `Residual` loses its addition."""
    chapter = json.loads(next(path for path in NOTEBOOKS if path.stem == "residual_block").read_text())
    cells = {cell["id"]: cell for cell in chapter["cells"]}
    saboteur = {
        **cells["setup"],
        "outputs": [],
        "source": cells["setup"]["source"]
        + [
            "\ndef without(self, x):\n",
            "    return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()\n",
            "d2lnets.Residual.forward = without\n",
        ],
    }
    result = nbval({**chapter, "cells": [saboteur, cells["identity"]]}, tmp_path)
    assert result.returncode == 1 and "torch.equal(block(x.relu()), x.relu())" in result.stdout


def test_every_cell_was_run_in_order_and_without_error(notebook):
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr", output


def test_cells_are_short_and_named(notebook):
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in code_cells(notebook):
        lines = [line.rstrip("\n") for line in cell["source"] if line.strip()]
        assert len(lines) <= 15, cell["id"]
        assert all(len(line) <= 77 for line in lines), cell["id"]  # what a page shows without scrolling


def test_few_cells_are_not_compared(notebook):
    ignored = [cell for cell in code_cells(notebook) if "nbval-ignore-output" in cell["metadata"].get("tags", [])]
    assert len(ignored) <= 5
    assert not any("nbval-skip" in cell["metadata"].get("tags", []) for cell in code_cells(notebook))


def test_no_path_of_the_machine_is_stored(notebook):
    home = str(Path(__file__).parent.parent)
    assert home not in json.dumps(notebook)


def test_pictures_have_alternative_text(notebook):
    for cell in code_cells(notebook):
        if any("image/png" in output.get("data", {}) for output in cell["outputs"]):
            assert len(cell["metadata"]["mystnb"]["image"]["alt"]) > 20, cell["id"]


def test_no_stored_output_is_a_warning_or_names_this_machine(notebook):
    for cell in code_cells(notebook):
        assert not [output for output in cell["outputs"] if output.get("name") == "stderr"], cell["id"]
        assert "/site-packages/" not in json.dumps(cell["outputs"]), cell["id"]
