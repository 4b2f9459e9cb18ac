"""nbval compares what the notebooks print. Here: it would notice a change, and the notebooks are well kept."""

import copy
import json
import re
import subprocess
import sys

import pytest
import refresh
from helpers import ROOT

NOTEBOOKS = sorted((ROOT / "book").rglob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def figures(cell):
    return [output["data"] for output in cell["outputs"] if "image/svg+xml" in output.get("data", {})]


EDITED = "resnet18", "trace", "11,178,378", "11,178,379"  # a chapter, a cell, a number that it prints, another
BREAKS = {  # for each broken block: a chapter, the cell that turns red, what is put in the place of what
    "no addition": (
        "residual_block",
        "identity",
        "d2lnets.Residual.forward",
        "lambda self, x: self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()",
    ),
    "no last ReLU": (
        "residual_block",
        "identity",
        "d2lnets.Residual.forward",
        "lambda self, x: x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))",
    ),
    "stride 1": (
        "resnet18",
        "trace",
        "d2lnets.resnet.Residual",
        "lambda i, o, stride=1: d2lnets.Residual(i, o, True)",
    ),
    "stride on the wrong convolution": (
        "resnet50",
        "placement",
        "Bottleneck.__init__",
        "lambda self, i, f, k=3, s=None, v1_5=False, real=Bottleneck.__init__: real(self, i, f, k, s, not v1_5)",
    ),
    "no concatenation of paths": (
        "googlenet",
        "block-shapes",
        "d2lnets.Inception.forward",
        "lambda self, x: self.path1(x)",
    ),
    "no concatenation of layers": (
        "densenet",
        "block-shapes",
        "d2lnets.DenseBlock.forward",
        "lambda self, x: torch.cat([x, *(layer(x) for layer in self)], 1)[:, :17]",
    ),
}


def test_the_code_of_the_page_on_first_steps_learns_its_batch_by_heart(capsys):
    text = (ROOT / "book" / "first_steps.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(code, {})
    assert float(capsys.readouterr().out) < 0.01


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Of each broken block, and of "honest" and "edited": whether nbval passed its cell; and all that it printed.

    One notebook and kernel for all: the chapter's set-up, the break, the cell, what was there before.
    """
    folder = tmp_path_factory.mktemp("edited")
    cells, wanted = [], {}

    def add(name, stem, cell, target="_", replacement="None"):
        notebook = chapters[stem]
        there = {each["id"]: each for each in notebook["cells"]}
        sabotage, repair = (copy.deepcopy(there["setup"]) for _ in range(2))
        sabotage["source"] = [f"_ = None\nkept = {target}\n", f"{target} = {replacement}"]
        repair["source"], repair["outputs"] = [f"{target} = kept"], []
        sabotage["outputs"] = []
        cells.extend([there["setup"], sabotage, there[cell], repair])
        wanted[name] = len(cells) - 2

    chapters = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in NOTEBOOKS}
    for name, how in BREAKS.items():
        add(name, *how)
    stem, cell, number, another = EDITED
    add("honest", stem, cell)
    add("edited", stem, cell)
    cells[-2] = json.loads(json.dumps(cells[-2]).replace(number, another))
    for number, each in enumerate(cells):
        cells[number] = {**each, "id": f"cell-{number}"}
    (folder / "all.ipynb").write_text(json.dumps({**chapters[stem], "cells": cells}), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-rA", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="locale", timeout=300)
    assert done.returncode == 1, done.stdout
    found = re.findall(r"^(PASSED|FAILED) .*?::Cell (\d+)", done.stdout, re.MULTILINE)
    passed = {int(cell): verdict == "PASSED" for verdict, cell in found}
    assert all(ok for cell, ok in passed.items() if cell not in wanted.values()), done.stdout
    return {name: passed[cell] for name, cell in wanted.items()}, done.stdout


def test_an_edited_number_is_noticed(outcomes):
    passed, printed = outcomes
    assert passed["honest"] and not passed["edited"]
    assert EDITED[-1] in printed


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_block_turns_its_chapter_red(name, outcomes):
    assert not outcomes[0][name]


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
        if cell["id"] == "colab":
            continue  # no page shows it
        lines = [line.rstrip("\n") for line in cell["source"] if line.strip()]
        assert len(lines) <= 15, cell["id"]
        assert all(len(line) <= 77 for line in lines), cell["id"]  # what a page shows without scrolling


def test_metadata_is_what_refresh_leaves(notebook):
    assert notebook["metadata"] == refresh.METADATA
    assert {name for cell in notebook["cells"] for name in cell["metadata"]} <= refresh.CELL_METADATA


def test_few_cells_are_not_compared(notebook):
    """But figures, of which a number more or less would not tell whether they are right."""
    ignored = [cell for cell in code_cells(notebook) if "nbval-ignore-output" in cell["metadata"].get("tags", [])]
    assert sum(not figures(cell) for cell in ignored) <= 6
    assert all(cell in ignored for cell in code_cells(notebook) if figures(cell)), "run make refresh"
    assert not any("nbval-skip" in cell["metadata"].get("tags", []) for cell in code_cells(notebook))


def test_no_open_code_asserts_what_is_folded(notebook):
    """Where only the output is folded, to be predicted first, an assertion beside it would tell."""
    for cell in code_cells(notebook):
        if "hide-output" in cell["metadata"].get("tags", []):
            assert "assert" not in "".join(cell["source"]), cell["id"]


def test_what_is_to_be_predicted_is_folded(notebook):
    """The first output after a prediction, up to its answer, opens with a click."""
    asked = False
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            asked = "**Predict.**" in text or (asked and "<summary>Answer</summary>" not in text)
        elif asked and cell["outputs"]:
            assert {"hide-output", "hide-cell", "answer"} & set(cell["metadata"].get("tags", [])), cell["id"]
            asked = False


def test_no_path_of_the_machine_is_stored(notebook):
    home = str(ROOT)
    assert home not in json.dumps(notebook)


def test_pictures_have_alternative_text_and_the_pages_font(notebook):
    for cell in code_cells(notebook):
        if figures(cell):
            assert "#DejaVuSans" not in json.dumps(figures(cell)), "text became shapes"
            assert len(cell["metadata"]["mystnb"]["image"]["alt"]) > 20, cell["id"]


def test_no_stored_output_is_a_warning_or_names_this_machine(notebook):
    for cell in code_cells(notebook):
        assert not [output for output in cell["outputs"] if output.get("name") == "stderr"], cell["id"]
        assert "/site-packages/" not in json.dumps(cell["outputs"]), cell["id"]
