"""What is installed is what is meant: version, metadata, the archives that are built, the locked versions."""

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import metadata
from itertools import chain

import pytest
import yaml
from helpers import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import d2lnets
from d2lnets.__main__ import main


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


PROJECT = tomllib.loads(text("pyproject.toml"))["project"]


def test_there_is_one_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"d2lnets {d2lnets.__version__}\n"
    assert metadata("d2lnets")["Version"] == d2lnets.__version__
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["version"] == d2lnets.__version__
    assert [each["name"] for each in citation["authors"]] == [each["name"] for each in PROJECT["authors"]]
    assert re.search(rf"^## .*\b{re.escape(d2lnets.__version__)}\b", text("CHANGELOG.md"), re.M)


@pytest.mark.slow
def test_the_archives_have_the_package_and_nothing_else(tmp_path):
    """Built without a warning from a checkout: every file of the package, and no test."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="locale", check=True).stdout.splitlines()
    listed = [name for name in listed if (ROOT / name).is_file() and not name.startswith("book/")]
    for name in listed:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for build in ("build_sdist", "build_wheel"):
        command = [sys.executable, "-c", f"from setuptools import build_meta; build_meta.{build}('dist')"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="locale", check=True)
        said = [line for line in (done.stdout + done.stderr).splitlines() if re.search("warning|deprecat", line, re.I)]
        assert not [line for line in said if "byte-compiling is disabled" not in line]
    package = {name for name in listed if name.startswith("d2lnets/")}
    (wheel,) = tmp_path.glob("dist/*.whl")
    with zipfile.ZipFile(wheel) as file:
        assert {name for name in file.namelist() if ".dist-info/" not in name} == package
    (source,) = tmp_path.glob("dist/*.tar.gz")
    with tarfile.open(source) as file:
        names = {each.name.partition("/")[2] for each in file if each.isfile()}
    beside = {"LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}
    assert {name for name in names if not name.startswith("d2lnets.egg-info/")} == package | beside


def wanted():
    """Every requirement of the book, its tests and the package."""
    files = text("requirements.txt") + text("requirements-course.txt")
    lines = (line.partition("#")[0].strip() for line in files.splitlines())
    lines = [line for line in lines if line and not line.startswith("-e")]
    lines = chain(lines, PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    return [Requirement(line) for line in lines if not line.startswith("d2lnets")]


def test_the_lock_has_what_is_wanted_and_names_no_host():
    lines = [line for line in text("requirements.lock").splitlines() if not line.startswith("#")]
    locked = {}
    for line in lines:
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.+!]+( ; .+)?", line), line
        name, _, version = line.partition(" ;")[0].partition("==")
        locked.setdefault(name, []).append(version)
    for each in wanted():
        versions = locked.get(canonicalize_name(each.name), [])
        assert versions and all(map(each.specifier.contains, versions)), f"{each}: run make lock"


def test_the_workflow_locks_pushes_and_knows_the_address_in_every_step():
    job = yaml.safe_load(text(".github/workflows/book.yml"))["jobs"]["test"]
    assert "requirements.lock" in job["env"]["LOCK"] and "github.repository" in job["env"]["BOOK_REPO_URL"]
    pythons = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if "Python :: 3." in each]
    (step,) = (step for step in job["steps"] if "setup-python" in step.get("uses", ""))
    assert f"'{pythons[-1]}'" in step["with"]["python-version"]


def test_the_dev_container_runs_commands_that_exist_in_a_python_that_will_do():
    container = json.loads(text(".devcontainer/devcontainer.json"))
    python = re.search(r"python:(\d+)\.(\d+)$", container["image"])
    assert f"Programming Language :: Python :: {python[1]}.{python[2]}" in PROJECT["classifiers"]
    make, *targets = container["postCreateCommand"].split()
    assert make == "make" and targets
    for target in targets:
        assert re.search(rf"^{re.escape(target)}:", text("Makefile"), re.MULTILINE), target
    interpreter = container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert interpreter == "${containerWorkspaceFolder}/.venv/bin/python"
    assert "BIN := .venv/bin\n" in text("Makefile")
