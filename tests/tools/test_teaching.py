"""For those who teach: the fork, the student edition, the buttons on the pages."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fork
import nbformat
import pytest
import yaml
from helpers import ROOT
from student_edition import chapters, for_students

EDITION = {name: for_students(notebook) for name, notebook in chapters().items()}


def run(script, *args, cwd=ROOT):
    command = [sys.executable, ROOT / "tools" / script, *args]
    return subprocess.run(command, capture_output=True, encoding="locale", cwd=cwd, timeout=600)


# The fork


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "book", tmp_path / "book", ignore=shutil.ignore_patterns("_static"))
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def test_no_place_names_another_repository():
    """Fails when `make fork` was not run, or one place was left behind."""
    named = fork.addresses()
    notebooks = {path.relative_to(ROOT).as_posix() for path in (ROOT / "book").rglob("*.ipynb")}
    assert {path for path, _ in named} == notebooks | {"book/index.md", "README.md"}
    found = {text for text in named.values() if text not in ("", "<this repository>")}
    assert len(found) <= 1, named
    assert not found or not {"", "<this repository>"} & set(named.values()), named
    if url := os.environ.get("BOOK_REPO_URL"):
        assert found == {url}, f"run make fork URL={url}"


def test_a_fork_changes_every_place_and_nothing_else(copy):
    url = "https://github.com/teacher/course-2027"
    before = {path: path.read_text(encoding="utf-8") for path in copy.rglob("*.ipynb")}
    fork.fork(f"{url}.git/", copy)
    assert set(fork.addresses(copy).values()) == {url}
    for path, text in before.items():
        changed = [(a, b) for a, b in zip(text.splitlines(), path.read_text(encoding="utf-8").splitlines()) if a != b]
        assert len(changed) == 1 and "REPOSITORY" in changed[0][0]
    fork.fork("https://gitlab.com/another", copy)
    assert set(fork.addresses(copy).values()) == {"https://gitlab.com/another"}


@pytest.mark.parametrize(
    "url, written",
    [
        ("git@github.com:you/course.git", "https://github.com/you/course"),
        ("ssh://git@github.com/you/course", "https://github.com/you/course"),
        ("/srv/course", "file:///srv/course"),
        ("~/course", "file:///home/you/course"),
        ("/srv/深度 学习", "file:///srv/%E6%B7%B1%E5%BA%A6%20%E5%AD%A6%E4%B9%A0"),
        ("https://gitlab.com/school/group/tree.git", "https://gitlab.com/school/group/tree"),
        *(
            (f"https://github.com/you/my.course{page}", "https://github.com/you/my.course")
            for page in (
                "/",
                ".git",
                ".git#main",
                "#readme",
                "?tab=readme-ov-file#readme",
                "/tree/main",
                "/blob/main/book/resnet18.ipynb",
                "/settings/pages",
                "/actions/",
            )
        ),
        ("http://www.GitHub.com/You/course/tree/main", "https://github.com/You/course"),
    ],
)
def test_other_forms_of_an_address(url, written, copy, monkeypatch):
    monkeypatch.setenv("HOME", "/home/you")
    fork.fork(url, copy)
    assert set(fork.addresses(copy).values()) == {written}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "teacher/course",
        "https://",
        'https://x.org/"a',
        "https://x.org/a b",
        "git@x:y",
        "github.com/you/course",
        "https://github.com/you",
        "https://github.com/you/",
        "https://github.com/orgs/school/repositories",
        "https://github.com/you/a b",
        "https://you.github.io/course",
        "https://gist.github.com/you/12345",
        "https://raw.githubusercontent.com/you/course/main/README.md",
        "https://colab.research.google.com/github/you/course/blob/main/book/resnet18.ipynb",
        "https://gitlab.com/school/course/-/tree/main",
        "https://gitlab.com/school/course#readme",
        "https://codeberg.org/you/course/src/branch/main",
        "https://bitbucket.org/you/course/src/main/",
        "https://git.school.edu/you/course/tree/main",
    ],
)
def test_a_bad_address_changes_nothing(url, copy):
    before = fork.addresses(copy)
    with pytest.raises(ValueError, match="an address like"):
        fork.fork(url, copy)
    assert fork.addresses(copy) == before


# The student edition


@pytest.mark.parametrize("name", EDITION)
def test_the_student_edition_has_no_solution_and_no_output(name):
    for cell in EDITION[name].cells:
        assert not re.search(r"# @title Solution|def solution|class Solution|a solution are folded", cell.source)
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None)


def test_the_student_edition_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "out"
    assert run("student_edition.py", "~/out").returncode == 0  # not every shell expands what stands after DIR=
    assert {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.ipynb")} == set(EDITION)
    again = run("student_edition.py", folder)
    assert again.returncode == 1 and "is there already" in again.stderr


# The buttons


def build(folder, **environment):
    """A book of one page and one notebook, with the configuration of this one; the notebook's page, and the log."""
    shutil.copy(ROOT / "_config.yml", folder)
    shutil.copytree(ROOT / "book" / "_extensions", folder / "book" / "_extensions")
    shutil.copytree(ROOT / "book" / "_static", folder / "book" / "_static")
    shutil.copy(ROOT / "book" / "references.bib", folder / "book")
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n  - file: book/one\n", encoding="utf-8"
    )
    front = "# Title\n\n::::{grid} auto\n\n% Run in Colab\n::::\n\n"
    front += "```bash\ngit clone <this repository> d2lnets-book && cd d2lnets-book\nmake book\n```\n"
    (folder / "book" / "index.md").write_text(front, encoding="utf-8")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# One")])
    nbformat.write(notebook, folder / "book" / "one.ipynb")
    outside = {name: value for name, value in os.environ.items() if not name.startswith("BOOK_REPO")}
    command = [Path(sys.executable).parent / "jupyter-book", "build", ".", "-W", "-n", "--keep-going"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, encoding="locale", env=outside | environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return (folder / "_build" / "html" / "book" / "one.html").read_text(encoding="utf-8"), done.stdout


COLAB = "https://colab.research.google.com/github/{}/blob/{}/book/one.ipynb"


def cloned_from(remote, folder):
    subprocess.run(["git", "init", "-q", folder], check=True)
    subprocess.run(["git", "-C", folder, "remote", "add", "origin", remote], check=True)


def test_buttons_follow_the_git_remote_and_the_environment(tmp_path):
    cloned_from("git@github.com:teacher/course.git", tmp_path)
    page, said = build(tmp_path, BOOK_REPO_BRANCH="spring")
    assert COLAB.format("teacher/course", "spring") in page and "No Colab" not in said
    front = (tmp_path / "_build" / "html" / "book" / "index.html").read_text(encoding="utf-8")
    first_chapter = COLAB.format("teacher/course", "spring").replace("one.ipynb", "function_classes.ipynb")
    assert re.search(rf'<a [^>]*href="{re.escape(first_chapter)}"[^>]*>[^<]*(<span>)?Run in Colab', front)
    assert all('<a href="https://github.com/teacher/course">Source</a>' in each for each in (page, front))
    assert "git clone https://github.com/teacher/course d2lnets-book" in re.sub("<[^>]+>", "", front)


def test_a_book_without_buttons_is_built_and_says_why(tmp_path):
    """As in a container that builds what belongs to another user, where git says nothing of the remote."""
    cloned_from("git@github.com:teacher/course.git", tmp_path)
    page, said = build(tmp_path, **ANOTHER_OWNER)
    assert "colab.research" not in page and "one.ipynb" in page  # the download
    assert "CC BY 4.0" in page and ">Source</a>" not in page
    front = (tmp_path / "_build" / "html" / "book" / "index.html").read_text(encoding="utf-8")
    assert "Run in Colab" not in front and "clone" not in front and "make" in front
    assert re.search(r"No Colab buttons: git says: .*dubious ownership.*safe\.directory.* set BOOK_REPO_URL=", said)


# What git itself tests with; and no settings of this machine, which may trust every folder.
ANOTHER_OWNER = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture
def launch(monkeypatch):
    for name in ("BOOK_REPO_URL", "BOOK_REPO_BRANCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.syspath_prepend(ROOT / "book" / "_extensions")
    return importlib.import_module("launch")


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/teacher/course",
        "https://github.com/teacher/course.git/",
        "https://teacher@github.com/teacher/course",
        "https://x-access-token:secret@github.com/teacher/course.git",
        "https://www.github.com/teacher/course",
        "https://GitHub.com/teacher/course",
        "ssh://git@github.com/teacher/course.git",
    ],
)
def test_forms_of_a_remote_on_github(remote, launch, tmp_path):
    cloned_from(remote, tmp_path)
    assert launch.address(tmp_path) == ("https://github.com/teacher/course", "")


def test_the_environment_goes_before_the_remote(launch, tmp_path, monkeypatch):
    cloned_from("https://github.com/teacher/course", tmp_path)
    monkeypatch.setenv("BOOK_REPO_URL", "https://github.com/teacher/fork")
    assert launch.address(tmp_path) == ("https://github.com/teacher/fork", "")


def test_reasons_why_there_is_no_button(launch, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert launch.address(tmp_path)[1].startswith("git says: fatal: not a git repository")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert launch.address(tmp_path) == (None, "git says: error: No such remote 'origin'")
    cloned_from("https://me:secret@gitlab.com/you/course", tmp_path)
    assert launch.address(tmp_path) == (None, "the git remote is not on GitHub")
    monkeypatch.setenv("PATH", "")
    assert launch.address(tmp_path)[1].startswith("git does not start")


@pytest.mark.parametrize("url", ["https://github.com/you/course/tree/main", "https://gitlab.com/you/course", "you"])
def test_an_address_that_colab_cannot_open_ends_the_build(url, launch, tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_REPO_URL", url)
    with pytest.raises(ValueError, match=r"BOOK_REPO_URL must be like https://github.com/owner/name"):
        launch.address(tmp_path)


# The workflow


def test_the_workflow_opens_no_door():
    """Actions are pinned to a commit; only the job that publishes may write, and only pages."""
    text = (ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    allowed = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    assert allowed == {"publish": {"pages": "write", "id-token": "write"}}
    used = re.findall(r"uses: (\S+)", text)
    assert used and all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action) for action in used)
    assert "pull_request_target" not in text and "secrets." not in text
    assert {"push", "schedule"} <= set(workflow[True])  # YAML reads the key "on" as true
    for step in workflow["jobs"]["test"]["steps"]:
        assert "${{" not in step.get("run", "")  # nothing from outside becomes a command
