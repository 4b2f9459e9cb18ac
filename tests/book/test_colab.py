"""Play Colab: a fresh environment with its libraries, an empty folder, the package from a git address."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import fork
import nbformat
import pytest
from helpers import ROOT, lacking
from student_edition import chapters

NOT_IN_COLAB = re.compile(r"(__editable__.*)?_*d2lnets|torchinfo|__pycache__")
NO_INDEX = "package index that pip can reach", "connect to a network"


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """Its Python: sees the libraries of this one, but not d2lnets and torchinfo; has a module google.colab."""
    root = tmp_path_factory.mktemp("colab")
    venv.create(root / "venv", with_pip=True)
    python = root / "venv" / "bin" / "python"
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    subprocess.run([python, "-m", "pip", "uninstall", "-qy", "setuptools"], check=True)  # old, before Python 3.12
    libraries = root / "libraries"
    libraries.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not NOT_IN_COLAB.match(path.name):
            (libraries / path.name).symlink_to(path)
    (own / "libraries.pth").write_text(f"{libraries}\n")
    (own / "google" / "colab").mkdir(parents=True)
    (own / "google" / "colab" / "__init__.py").write_text("")
    return python


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The chapters of a fork of this repository."""
    root = tmp_path_factory.mktemp("fork")
    shutil.copytree(ROOT / "book", root / "book")
    fork.fork(f"file://{ROOT}", root)
    return root / "book"


def run(notebook, python, folder):
    """Run the notebook, alone in an empty folder, from a kernel of that Python; it with its outputs."""
    path = folder / "alone.ipynb"
    nbformat.write(notebook, path)
    command = [python, "-m", "nbconvert", "--to=notebook", "--execute", "--inplace", "--log-level=ERROR", path.name]
    environment = os.environ | {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return nbformat.read(path, as_version=4)


def text_of(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


def versions(python):
    """Of everything that is installed, by name."""
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    return {package["name"]: package["version"] for package in json.loads(listed.stdout)}


@pytest.fixture(scope="module")
def installed(colab, book, tmp_path_factory):
    """Colab after the set-up cell: versions before and after, and the cell."""
    ask = [colab, "-m", "pip", "install", "--quiet", "--dry-run", "torchinfo"]
    if subprocess.run(ask, capture_output=True).returncode:
        lacking(*NO_INDEX)
    before = versions(colab)
    notebook = nbformat.read(book / "resnet18.ipynb", as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.id == "colab"]
    notebook = run(notebook, colab, tmp_path_factory.mktemp("empty"))
    return before, versions(colab), notebook.cells[0]


def test_the_set_up_cell_is_the_same_everywhere():
    notebooks = [nbformat.read(path, as_version=4) for path in (ROOT / "book").glob("*.ipynb")]
    firsts = [next(cell for cell in notebook.cells if cell.cell_type == "code") for notebook in notebooks]
    assert {cell.id for cell in firsts} == {"colab"} and len({cell.source for cell in firsts}) == 1


def test_the_set_up_cell_does_nothing_elsewhere(tmp_path):
    (cell, *_) = [cell for cell in chapters()["resnet18"].cells if cell.id == "colab"]
    script = "import sys\nbefore = set(sys.modules)\n" + cell.source + "\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == done.stderr == "" and not list(tmp_path.iterdir())


def test_the_set_up_cell_installs_only_what_colab_lacks(installed):
    before, after, cell = installed
    assert {"d2lnets", "torchinfo"}.isdisjoint(before)
    assert after["d2lnets"]
    assert {name: after.get(name) for name in before} == before  # nothing replaced, torch and numpy least of all
    assert set(after) - set(before) == {"d2lnets", "torchinfo"}
    assert "No GPU" in text_of(cell) or "NVIDIA" in text_of(cell)


@pytest.mark.parametrize("name", chapters())
def test_a_chapter_runs_in_colab(name, installed, colab, book, tmp_path):
    notebook = nbformat.read(book / f"{name}.ipynb", as_version=4)
    notebook = run(notebook, colab, tmp_path)
    for cell in notebook.cells:
        if cell.id.startswith("solution-") and "checks.check" in cell.source:
            assert "Passed." in json.dumps(cell.outputs), cell.id


@pytest.mark.parametrize("python", ["3.11", "3.14"])
def test_the_package_can_be_installed_with(python, tmp_path):
    """From the oldest Python that it takes to the newest that PyTorch has files for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    where = ["--python-version", python, "--implementation", "cp", "--only-binary", ":all:", "--target", tmp_path]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", *where]
    done = subprocess.run([*command, *project["dependencies"]], capture_output=True, text=True)
    if "Could not fetch" in done.stderr or "connection" in done.stderr.lower():
        lacking(*NO_INDEX)
    assert done.returncode == 0, done.stderr
