"""What comes back, from a folder as it is to a table: any name, any archive, each file a row or a reason."""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from course import gradescope, results, taking
from helpers import lacking
from student_edition import chapters, for_students

from d2lnets.checks.wording import told

GOOD = {
    "exercise-1": "photo_shapes = [[64, 56, 56], [64, 56, 56], [128, 28, 28], [256, 14, 14], [512, 7, 7]]",
    "exercise-2": "block_parameters = 230_272",
}
MARKUP = "def block_parameters():\n    raise ValueError('<script>alert(1)</script> \udcff')"


def returned(source, *more):
    """A chapter of the student edition with two exercises done, and code of other chapters."""
    notebook = nbformat.from_dict(for_students(chapters()["resnet18"]))
    notebook.cells = [cell for cell in notebook.cells if re.fullmatch(r"setup|colab|(exercise|check)-[12]", cell.id)]
    for cell in notebook.cells:
        cell.source = (GOOD | {"exercise-2": source}).get(cell.id) or cell.source
    notebook.cells += [nbformat.v4.new_code_cell(each) for each in more]
    return json.dumps(notebook)


def archive(**files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return packed.getvalue()


def take(folder):
    """What ``make check-submissions`` says."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        taking.main(folder)
    return said.getvalue()


def from_colab(text):
    """As Colab saves it after a progress bar, with the student's own kernel."""
    notebook = json.loads(text)
    notebook["metadata"] |= {
        "kernelspec": {"name": "conda-env-mine", "display_name": "Python [conda env:mine]"},
        "widgets": {"application/vnd.jupyter.widget-state+json": {"a1": {"model_name": "HBoxModel", "state": {}}}},
    }
    return json.dumps(notebook)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Students, two of them with right answers; and what is no notebook."""
    if not find_spec("nbgrader"):
        lacking("nbgrader", "make course, or python -m pip install --requirement requirements-course.txt")
    if not shutil.which("bwrap"):
        lacking("bubblewrap", "apt-get install bubblewrap")
    folder = tmp_path_factory.mktemp("returned")
    two = "from draw import one\ndef share_of_terms(blocks, least, most):\n    return one"
    ada = "Ada Łoś_123_assignsubmission_file_"
    moodle = archive(
        **{f"{ada}/my résumé.IPYNB": "\ufeff" + returned(GOOD["exercise-2"], two), f"{ada}/draw.py": "one = 1"},
        **{"Eve Moss_124_assignsubmission_file_/mine.ipynb": "{"},
    )
    (folder / "week 1.zip").write_bytes(archive(**{"inner.zip": moodle, "__MACOSX/._x.ipynb": "x"}))
    (folder / os.fsdecode(b"=1+\xff.ipynb.txt")).write_text(
        from_colab(returned(MARKUP)), encoding="utf-8", errors="replace"
    )
    (folder / "broken.ipynb").write_text("{", encoding="utf-8")
    (folder / "empty.ipynb").write_text(json.dumps(nbformat.v4.new_notebook()), encoding="utf-8")
    (folder / "locked.zip").write_bytes(b"PK\3\4nonsense")
    (folder / "mine.py").write_text("x = 1", encoding="utf-8")
    (folder / ".said").write_text(take(folder), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def rows(folder):
    assert (folder / "results.csv").read_bytes().startswith(b"\xef\xbb\xbf")  # for spreadsheets
    with open(folder / "results.csv", newline="", encoding="utf-8-sig") as file:
        return {row["notebook"]: row for row in csv.DictReader(file)}


def test_every_file_has_a_row_or_a_reason(folder, rows):
    ada = rows["week 1.zip/inner.zip/Ada Łoś_123_assignsubmission_file_/my résumé.IPYNB"]
    assert ada["resnet18 1"] == ada["resnet18 2"] == "passed" and (ada["passed"], ada["of"]) == ("2", "3")
    assert "it changed" not in ada["remarks"]
    assert ada["residual_block 2"].startswith("For (9, 2, 4): 1 is too large")
    other = rows["'=1+\ufffd.ipynb.txt"]
    assert other["resnet18 1"] == "passed" and "ValueError: <script>" in other["resnet18 2"]
    assert "cannot be read as a notebook" in rows["broken.ipynb"]["remarks"]
    assert "no exercise of this book" in rows["empty.ipynb"]["remarks"]
    assert (
        "cannot be read (File is not a zip" in rows["locked.zip"]["remarks"]
        and "no notebook (.py)" in rows["mine.py"]["remarks"]
    )
    assert len(rows) == 7
    said = (folder / ".said").read_text(encoding="utf-8")
    assert "passed over: mine.py: it is no notebook (.py)" in said
    assert "has exercises of residual_block and resnet18: each is judged" in said


def test_the_page_shows_code_as_text(folder):
    page = (folder / "results.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in page and "<script" not in page


def test_a_stopped_run_goes_on_and_what_is_done_is_not_done_again(folder):
    (done,) = folder.glob(".course/autograded/*/residual_block/residual_block.ipynb")
    stopped = next(
        path
        for path in folder.glob(".course/autograded/*/resnet18/*.ipynb")
        if "script" in path.read_text(encoding="utf-8")
    )
    before = done.stat().st_mtime_ns
    notebook = nbformat.read(stopped, as_version=4)
    del notebook.metadata["d2lnets"]
    stopped.chmod(0o644)
    nbformat.write(notebook, stopped)
    shutil.copy(folder / "broken.ipynb", folder / "another.ipynb")
    take(folder)
    assert "another.ipynb" in (folder / "results.csv").read_text(encoding="utf-8")
    assert results.judged(stopped) and done.stat().st_mtime_ns == before


def refuses(monkeypatch, said, *args, **environment):
    with monkeypatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit, match=re.escape(said)):
            taking.main(*args)


def test_what_cannot_be_done_is_said_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder, environment, said in (
        (tmp_path / "somewhere", {}, "is no folder of notebooks"),
        ("~/somewhere", {}, f"{tmp_path}/somewhere is no folder"),
        (tmp_path, {"UNSAFE": "1"}, "no notebook (.ipynb) is in"),
        (tmp_path, {"LIMIT": "0"}, "LIMIT=0 must be a number of seconds"),
        (tmp_path, {"LIMIT": "ten"}, "LIMIT=ten must be a number of seconds"),
    ):
        refuses(monkeypatch, said, folder, **environment)
    refuses(monkeypatch, "is no course; make one: make course", tmp_path, tmp_path / "term", UNSAFE="1")
    monkeypatch.setattr(os, "access", lambda *a: False)
    refuses(monkeypatch, "cannot be written into", tmp_path)


def without_outputs(cell):
    del cell["outputs"], cell["execution_count"]


@pytest.mark.parametrize(
    "change, minor",
    [
        (lambda cell: None, 4),  # ids, and a format that has none
        (lambda cell: cell.update(outputExpanded=False), 5),
        (without_outputs, 5),
        (lambda cell: cell.update(cell_type="markdown"), 5),  # with the outputs of a code cell
        (lambda cell: cell.update(metadata={"id": cell.pop("id")}), 0),  # Colab's
    ],
)
def test_a_notebook_that_an_editor_left_invalid_is_read(change, minor):
    notebook = json.loads(returned(GOOD["exercise-2"])) | {"nbformat_minor": minor}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            change(cell)
    found = taking.read(json.dumps(notebook).encode())
    nbformat.validate(nbformat.from_dict(found))
    assert [cell["source"] for cell in found["cells"]] == [cell["source"] for cell in notebook["cells"]]
    assert minor == 0 or [cell["id"] for cell in found["cells"]] == [cell["id"] for cell in notebook["cells"]]


@pytest.mark.parametrize(
    "name, student, attempt",
    [
        ("CS1-Week 1-99.zip/Ada Lovelace_123_assignsubmission_file_/residual_block.ipynb", "Ada Lovelace", 123),
        ("CS1/Łoś Jan_77_assignsubmission_file/sub/residual block.ipynb", "Łoś Jan", 77),
        ("submissions.zip/lovelaceada_4123_998877_residual_block-2.ipynb", "lovelaceada", 2),
        ("submissions/lovelaceada_LATE_4123_998877_residual_block.ipynb", "lovelaceada", 0),
        ("week1-submissions/octo-cat/residual_block.ipynb", "octo-cat", 0),
        ("submissions.zip/evee_41_99_hw.zip/bobb_42_99_hw-7.ipynb", "evee", 0),  # what one packs as another's
        ("submissions.zip/evee_41_99_hw.zip/Bob B_9_assignsubmission_file_/hw.ipynb", "evee", 0),
        ("CS1.zip/Eve_2_assignsubmission_file_/Bob_9_assignsubmission_file_/hw.ipynb", "Eve", 2),
        ("CS1.zip/Eve_2_assignsubmission_file_/x.zip/bobb_42_99_hw-7.ipynb", "Eve", 2),
        ("CS1.zip/Eve_2_assignsubmission_file_/x.zip/x-submissions/bob/hw.ipynb", "Eve", 2),
        ("week1-submissions/eve/x-submissions/bob/hw.ipynb", "eve", 0),
        ("week1-submissions/CS1.zip/Ada_1_assignsubmission_file_/hw.ipynb", "Ada", 1),
        ("some where/my homework.ipynb", "some where/my homework", 0),
        ("s013.IPYNB.txt", "s013", 0),
    ],
)
def test_students_by_the_names_that_platforms_give(name, student, attempt):
    assert taking.student_of(name) == (student, attempt)


@pytest.mark.parametrize(
    "holder, made",
    [
        ("CS1-Week 1-99.zip/{}_{}_assignsubmission_file_/hw.ipynb", "eve.zip/Bob_9999_assignsubmission_file_/hw.ipynb"),
        ("submissions.zip/{}_{}_99_hw.ipynb", "submissions-2.zip/Bob_42_99_hw-99.ipynb"),
        ("week1-submissions/{}/hw-{}.ipynb", "eve.zip/x-submissions/Bob/hw.ipynb"),
        ("{}.ipynb", "eve.zip/x-submissions/Bob/hw.ipynb"),
        ("{}.ipynb", "Bob_42_99_hw-99.ipynb"),
    ],
)
def test_an_archive_that_a_student_made_is_not_taken_for_a_platforms(holder, made):
    names = [holder.format(name, number) for number, name in enumerate(("Ada", "Bob", "Eve"))]
    rows = taking.rows_of([(name, b"{}", None) for name in [*names, made]], {})
    assert rows[made].student == made and "Bob" in rows[made].remarks[-1] and "person" in rows[made].remarks[-1]
    assert len({row.student for row in rows.values()}) == 4
    assert all("person" not in str(rows[name].remarks) for name in names)
    again = [name.replace("week1", "again").replace(".zip", " again.zip") for name in names]  # all of them, once more
    students = {row.student for row in taking.rows_of([(n, b"{}", None) for n in {*names, *again}], {}).values()}
    assert len(students) == 3


def test_small_archives_of_several_platforms_count():
    names = ["CS1-Week 1-99.zip/Ada_1_assignsubmission_file_/hw.ipynb", "submissions.zip/Bob_2_99_hw.ipynb"]
    names += ["week1-submissions/Eve/hw.ipynb", *(f"student {number}/hw.ipynb" for number in range(9))]
    rows = taking.rows_of([(name, b"{}", None) for name in names], {})
    assert [rows[name].student for name in names[:3]] == ["Ada", "Bob", "Eve"]


def test_an_archive_that_one_made_costs_only_itself(tmp_path):
    many = archive(**{f"{number}.ipynb": "{}" for number in range(taking.MOST // 50)})
    bomb = archive(**{f"{number}.zip": many for number in range(3)})
    (tmp_path / "all.zip").write_bytes(archive(**{"eve.zip": bomb, "mallory.zip/x.ipynb": "{}", "bob.ipynb": "{}"}))
    found, passed_over = taking.unpack(tmp_path)
    assert len(found) < taking.MOST // 50 + 2 and found[-1][0] == "all.zip/bob.ipynb"
    assert "holds too much" in passed_over["all.zip/eve.zip"]


def test_a_name_makes_no_row_of_its_own(tmp_path):
    row = results.Row("a\r=1,3,3.ipynb", "a", 0, None)
    results.write({row.name: row}, {}, tmp_path)
    assert b"a =1,3,3.ipynb" in (tmp_path / "results.csv").read_bytes()


def test_folders_have_plain_names_and_stay_apart():
    assert taking.slug("ada.l@x.org") == "ada.l@x.org"
    assert len({taking.slug(each) for each in ("a b", "a_b", "a/b", "a:b", "../a b", "é" * 300)}) == 6
    assert all(
        not set("/\\ ") & set(taking.slug(each)) and len(taking.slug(each)) < 100 for each in ("../x y", "é" * 300)
    )


def test_a_name_becomes_a_folder_that_the_locale_can_write(monkeypatch):
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "gbk")
    folders = [taking.slug(name) for name in ("Ada Łoś", "Ada Łos", "王小明")]
    assert len({folder.encode("gbk") for folder in folders}) == 3 and folders[2] == "王小明"


def test_the_last_attempt_counts(tmp_path):
    release = tmp_path / "release" / "week1"
    release.mkdir(parents=True)
    (release / "resnet18.ipynb").write_text("", encoding="utf-8")
    rows = {}
    for number in (2, 1):
        name = f"lovelaceada_4123_998877_resnet18-{number}.ipynb"
        stamp = taking.datetime(2027, 1, 3 - number, tzinfo=taking.UTC)
        rows[name] = results.Row(name, *taking.student_of(name), stamp, {"n": number}, {"resnet18": [1]})
    assert taking.submit(tmp_path, rows) == {("lovelaceada", "week1"): [next(iter(rows.values()))]}
    assert json.loads((tmp_path / "submitted/lovelaceada/week1/resnet18.ipynb").read_text(encoding="utf-8")) == {"n": 2}
    assert [row.remarks for row in rows.values()] == [[], ["a later attempt counts"]]


def test_answers_that_are_nearly_the_same_are_listed():
    block = "class MyResidual(nn.Module):\n    " + "\n    ".join(f"x{i} = nn.Conv2d({i}, 8, 3)" for i in range(9))

    def row(name, source):
        notebook = {"cells": [{"id": "exercise-3", "source": source}]}
        return results.Row(name, name, 0, None, notebook, {"residual_block": [3]})

    rows = {
        n: row(n, s) for n, s in (("a", block), ("b", block + "  # mine"), ("c", block.replace("Conv2d", "Linear")))
    }
    assert results.alike(rows) == {"a": {"3": ["b"]}, "b": {"3": ["a"]}}


def test_the_feedback_has_verdict_and_hint_and_no_hidden_test(folder):
    from course import exports

    exports.main(folder / ".course")
    pages = sorted(folder.glob(".course/feedback/*/*/*.html"))
    assert len(pages) == 3
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    assert "is too large" in text and "Hint: " in text and "for seed in" not in text and "HIDDEN" not in text
    assert (folder / ".course" / "moodle.csv").read_text(encoding="utf-8").count("\n") == 3


def test_the_overview_counts_mistakes_and_says_what_separates():
    columns = ["notebook", "passed", "of", "resnet18 1", "resnet18 2", "remarks"]
    wrong = " ".join(told("3 is not right.", "the stem is not counted", "Count.").split("\n"))
    lines = [
        ["a", 2, 2, "passed", "passed", ""],
        ["b", 1, 2, "passed", wrong, ""],
        ["c", 0, 2, "3 is too small.", wrong, ""],
        ["d", 0, 1, "It cannot be judged apart, since it calls x.y: for a person to look at.", "", ""],
    ]
    said = results.overview(pd.DataFrame(lines, columns=columns))
    assert said.values.tolist() == [
        ["resnet18 1", 4, 2, "+75%", "1× 3 is too small; 1× for a person to look at"],
        ["resnet18 2", 3, 1, "+75%", "2× the stem is not counted"],
    ]


def test_gradescope_runs_the_archive_in_an_empty_folder(folder):
    """As that platform does: source, submission, then run_autograder, which leaves results.json."""
    path = gradescope.write(folder / ".course", "resnet18:1,2")
    with tempfile.TemporaryDirectory() as own, zipfile.ZipFile(path) as archive:
        root = Path(own)
        root.chmod(0o755)
        assert {"setup.sh", "run_autograder", "book/pyproject.toml"} <= set(archive.namelist())
        archive.extractall(root / "source")
        subprocess.run(["bash", "-n", root / "source" / "setup.sh"], check=True)
        shutil.copy(root / "source" / "run_autograder", root)
        places = {Path(sys.prefix), Path(sys.base_prefix)} | {*Path(sys.prefix).parents, *Path(sys.base_prefix).parents}
        other = os.getuid() == 0 and all(each.stat().st_mode & 1 for each in places)  # who sees this Python
        environment = {"AUTOGRADER": own, "PYTHON": sys.executable, "PATH": os.environ["PATH"]}
        mine = root / "submission" / "mine.ipynb"
        mine.parent.mkdir()
        spy = f"open({str(root / 'source/term/course.toml')!r})"
        mine.write_text(returned(MARKUP, spy), encoding="utf-8", errors="replace")
        environment |= {} if other else {"UNSAFE": "1"}
        subprocess.run(["bash", root / "run_autograder"], env=environment, check=True, cwd="/", timeout=300)
        wrong = json.loads((root / "results" / "results.json").read_text(encoding="utf-8"))
        mine.write_text("{", encoding="utf-8")
        broken = gradescope.grade(root)
    one, two = wrong["tests"]
    assert (one["name"], one["score"], one["max_score"], one["output"]) == ("Exercise 1", 1, 1, "Passed.")
    assert (two["score"], two["status"]) == (0, "failed") and "ValueError: <script>" in two["output"]
    assert ("Permission denied" in wrong["output"]) == other
    assert [each["score"] for each in broken["tests"]] == [0, 0]
    assert "cannot be read as a notebook" in broken["output"]
