"""Run every chapter as Colab does, and compare what it prints with what is stored.

A fresh environment with the libraries of this one, an empty folder, the package from a git address. `make colab` runs
this file in an environment with the versions of tests/runtimes/. Where pip reaches no index to install from, the
chapters run in this environment.
"""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import tomllib
import venv
from pathlib import Path

import fork
import nbformat
import pytest
import yaml
from filelock import FileLock
from helpers import ROOT, QuietHandler, lacking
from student_edition import chapters

NOT_IN_COLAB = re.compile(r"(__editable__.*)?_*d2lnets|torchinfo|__pycache__|rfc3987")  # the last is slow to import
CHAPTERS = sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))
RUNTIMES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "runtimes").glob("*.txt")}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="session")
def colab(tmp_path_factory):
    """Its Python, which has a module google.colab, before the set-up cell and after: a `Colab`; made once for all."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # which the workers share
    with FileLock(root / "colab.lock"):
        colab = Colab(root / "colab")
        if not colab.folder.exists():
            colab.make()
    return colab


class Colab:
    """An environment that sees the libraries of this one, but not d2lnets and torchinfo, and a fork of the book."""

    def __init__(self, folder):
        self.folder, self.python, self.book = folder, folder / "venv" / "bin" / "python", folder / "fork" / "book"
        self.log = folder / "installed.json"

    def make(self):
        venv.create(self.folder / "venv")
        ask = [self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        own = Path(subprocess.run(ask, capture_output=True, encoding="locale", check=True).stdout.strip())
        libraries = self.folder / "libraries"
        libraries.mkdir()
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if not NOT_IN_COLAB.match(path.name):
                (libraries / path.name).symlink_to(path)
        (own / "libraries.pth").write_text(f"{libraries}\n", encoding="utf-8")
        (own / "google" / "colab").mkdir(parents=True)
        (own / "google" / "colab" / "__init__.py").write_text("", encoding="utf-8")
        shutil.copytree(ROOT / "book", self.book, ignore=shutil.ignore_patterns("_static"))
        fork.fork(ROOT.as_uri(), self.book.parent)
        fonts = [self.python, "-c", "import matplotlib.font_manager"]  # a first import that is slow would say so
        subprocess.run(fonts, capture_output=True, check=True)
        before = self.versions()
        ask = [self.python, "-m", "pip", "install", "--quiet", "--dry-run", "torchinfo"]
        if subprocess.run(ask, capture_output=True).returncode == 0:
            printed = self.set_up()
            self.log.write_text(json.dumps([before, self.versions(), printed]), encoding="utf-8")

    def set_up(self):
        """Run the set-up cell; what it printed."""
        setup = chapter(self.book, "resnet18").cells[1].source
        done = subprocess.run([self.python, "-c", setup], capture_output=True, encoding="locale", cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def versions(self):
        """Of everything that is installed, by name."""
        ask = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"
        listed = subprocess.run(
            [self.python, "-c", ask], capture_output=True, encoding="locale", cwd=self.folder, check=True
        )
        return json.loads(listed.stdout)

    @property
    def installed(self):
        """Versions before the set-up cell and after it; what it printed. None without an index."""
        return json.loads(self.log.read_text(encoding="utf-8")) if self.log.exists() else None


def chapter(book, name):
    return nbformat.read(book / f"{name}.ipynb", as_version=4)


def test_the_lowest_versions_are_the_bounds_of_the_package():
    python, *lowest = RUNTIMES["lowest"].splitlines()
    bounds = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["digits"]]
    assert lowest == sorted(bound.replace(">=", "==") for bound in bounds)
    assert python.startswith(f"# Python {PROJECT['requires-python'].removeprefix('>=')}:")


def test_every_notebook_is_run():
    companions = {path.stem.removesuffix("_exercises") for path in (ROOT / "book" / "exercises").glob("*.ipynb")}
    assert companions <= set(CHAPTERS)
    assert len(CHAPTERS) + len(companions) == len(list((ROOT / "book").rglob("*.ipynb")))


def test_every_runtime_and_the_newest_python_are_tried_every_week():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["test"]["steps"]
    (python,) = (step["with"]["python-version"] for step in steps if "setup-python" in str(step))
    newest = max(re.findall(r"Python :: (3[.]\d+)", str(PROJECT["classifiers"])), key=lambda name: int(name[2:]))
    assert f"'schedule' && '{newest}'" in python
    job = workflow["jobs"]["runtimes"]
    tried = {row["runtime"]: row["python"] for row in job["strategy"]["matrix"]["include"]}
    assert tried == {name: re.match(r"# Python ([\d.]+):", text)[1] for name, text in RUNTIMES.items()}
    assert not any("${{" in step.get("run", "") for step in job["steps"])  # nothing from outside becomes a command


def test_the_set_up_cell_is_the_same_everywhere():
    notebooks = [nbformat.read(path, as_version=4) for path in (ROOT / "book").rglob("*.ipynb")]
    firsts = [next(cell for cell in notebook.cells if cell.cell_type == "code") for notebook in notebooks]
    assert {cell.id for cell in firsts} == {"colab"} and len({cell.source for cell in firsts}) == 1


def test_the_set_up_cell_does_nothing_elsewhere(tmp_path):
    (cell, *_) = [cell for cell in chapters()["resnet18"].cells if cell.id == "colab"]
    script = "import sys\nbefore = set(sys.modules)\n" + cell.source + "\nassert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="locale", cwd=tmp_path, check=True
    )
    assert done.stdout == done.stderr == "" and not list(tmp_path.iterdir())


def test_the_set_up_cell_installs_only_what_colab_lacks(colab):
    if colab.installed is None:
        lacking("package index that pip can reach", "connect to a network")
    before, after, printed = colab.installed
    assert {"d2lnets", "torchinfo"}.isdisjoint(before)
    assert after["d2lnets"]
    assert {name: after.get(name) for name in before} == before  # nothing replaced, torch and numpy least of all
    assert set(after) - set(before) == {"d2lnets", "torchinfo"}
    assert "No GPU" in printed or "NVIDIA" in printed


@pytest.mark.parametrize(
    "address, words", [("", "Write the address of the book's repository"), ("file:///nowhere", "pip could not install")]
)
def test_the_set_up_cell_says_in_words_what_it_lacks(address, words, tmp_path):
    """A notebook shows neither a traceback nor a line of code."""
    out = played_in_colab(tmp_path, re.sub(r'(?<=REPOSITORY = ").*?(?=")', address, set_up_cell()))
    assert words in out and address in out
    assert "Traceback" not in out and "NoPackage" not in out and len(out.splitlines()) == 3


@pytest.mark.parametrize(
    "path, repository",
    [
        ("fileId=https%3A//github.com/you/course/blob/main/book/resnet18.ipynb", "https://github.com/you/course"),
        ("fileId=1dpMsjm5NNZ", None),  # from somebody's Drive
    ],
)
def test_the_set_up_cell_asks_colab_where_the_notebook_came_from(path, repository, tmp_path):
    class Sessions(QuietHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps([{"path": path}]).encode() if self.path == "/api/sessions" else b"")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sessions) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = {"COLAB_JUPYTER_IP": "127.0.0.1", "KMP_TARGET_PORT": str(server.server_port)}
        out = played_in_colab(tmp_path, set_up_cell(), where)
        server.shutdown()
    if repository:
        assert out.startswith(f"pip was asked for git+{repository}\n")
    else:
        assert "Write the address of the book's repository" in out


def set_up_cell():
    (cell, *_) = [cell for cell in chapters()["resnet18"].cells if cell.id == "colab"]
    return cell.source


def played_in_colab(folder, source, environment=()):
    """What the cell prints, with d2lnets out of sight, and a pip that is run for a file and else refuses."""
    script = f"""
import importlib.util, subprocess, sys, types, torch
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell()
sys.modules["google"] = sys.modules["google.colab"] = types.ModuleType("google.colab")
importlib.util.find_spec = lambda name: None
run = subprocess.run
def pip(command):
    if "file:" in command[-1]:
        return run(command)
    print("pip was asked for", command[-1])
    return types.SimpleNamespace(returncode=1)
subprocess.run = pip
assert shell.run_cell({source!r}).error_in_exec
"""
    command = [sys.executable, "-c", script]
    environment = os.environ | {"HOME": str(folder), "IPYTHONDIR": str(folder)} | dict(environment)
    taken = {"capture_output": True, "encoding": "locale", "errors": "replace"}  # git speaks as the machine does
    done = subprocess.run(command, **taken, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Between a chapter and its exercises: no name and no module of d2lnets is left, as if the kernel were new.
AFRESH = """
%reset -f
import sys
for name in [name for name in sys.modules if name.partition(".")[0] == "d2lnets"]:
    del sys.modules[name]
del name, sys
"""


def test_nothing_of_a_chapter_is_left_for_its_exercises():
    script = f"""
import sys, types
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell()
shell.run_cell("import sys\\nmine, name = 1, 2").raise_error()
sys.modules["d2lnets"] = sys.modules["d2lnets.probes"] = types
shell.run_cell({AFRESH.strip()!r}).raise_error()
assert not any(name.startswith("d2lnets") for name in sys.modules)
for gone in ("mine", "name", "sys"):
    assert shell.run_cell(gone).error_in_exec, gone
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_prints_in_colab_what_is_stored(name, colab, tmp_path):
    """It and its exercises, in a folder with nothing else."""
    book, python = (colab.book, colab.python) if colab.installed else (ROOT / "book", sys.executable)
    cells = []
    for stem in (name, f"exercises/{name}_exercises"):
        if (book / f"{stem}.ipynb").exists():
            notebook = chapter(book, stem)
            (setup,) = (cell for cell in notebook.cells if cell.id == "colab")
            setup.metadata.tags = [*setup.metadata.get("tags", []), "nbval-ignore-output"]  # names the GPU there
            cells += [nbformat.v4.new_code_cell(AFRESH.strip(), id="afresh"), *notebook.cells]
    for number, cell in enumerate(cells):
        cell.id = f"{number}-{cell.id}"[:64]
    nbformat.write(nbformat.from_dict(notebook | {"cells": cells[1:]}), tmp_path / f"{name}.ipynb")
    command = [python, "-m", "pytest", "-p", "nbval.plugin", "--nbval", "--nbval-current-env", "-q", "."]
    command += ["-p", "no:cacheprovider"]
    environment = os.environ | {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    environment.pop("PYTEST_ADDOPTS", None)
    if sys.version_info[:3] == (3, 13, 0):  # of which torch.compile says to leave it
        environment["PYTHONWARNINGS"] = "ignore:Guards may run slower:RuntimeWarning"
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="locale", timeout=1200)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
