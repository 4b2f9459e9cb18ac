"""The course on nbgrader: what students get, and what becomes of what they hand in."""

import builtins
import copy
import csv
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from types import SimpleNamespace

import nbformat
import pytest
from course import book
from helpers import lacking


@pytest.fixture(scope="module")
def term(tmp_path_factory):
    """The four weeks, with a roster."""
    if not find_spec("nbgrader"):
        lacking("nbgrader", "make course, or python -m pip install --requirement requirements-course.txt")
    folder = tmp_path_factory.mktemp("course") / "term"
    folder.mkdir()
    (folder / "roster.csv").write_text("\ufeffid,first_name,last_name,email\nada,Ada,Łoś,ada@x.org\n", encoding="utf-8")
    book.make(folder)
    return folder


def cells(path):
    return {cell.id: cell for cell in nbformat.read(path, as_version=4).cells}


def test_a_plan_becomes_assignments_with_points_and_deadlines(term):
    from nbgrader.api import Gradebook

    course = tomllib.loads((term / "course.toml").read_text(encoding="utf-8"))
    with Gradebook(f"sqlite:///{term / 'gradebook.db'}") as grades:
        made = {each.name: each for each in grades.assignments}
        (student,) = grades.students
        assert (student.id, student.last_name, student.email) == ("ada", "Łoś", "ada@x.org")
        for each in course["assignment"]:
            assert made[each["name"]].duedate is not None
            assert made[each["name"]].max_score == sum(
                it["points"] * len(it["exercises"]) + len(it.get("words", [])) + len(it.get("cards", []))
                for it in each["notebook"]
            )
    assert len(made) == 4 and len(course["seed"]) == 16


def test_students_get_the_exercises_and_neither_solutions_nor_hidden_tests(term):
    course = tomllib.loads((term / "course.toml").read_text(encoding="utf-8"))
    known = book.exercises()
    released = sorted(term.glob("release/*/*.ipynb"))
    assert len(released) == sum(len(each["notebook"]) for each in course["assignment"])
    for path in released:
        text = path.read_text(encoding="utf-8")
        assert "HIDDEN" not in text and "seed=" not in text and course["seed"] not in text
        assert "Solution" not in text and "solution is folded" not in text
        for id, cell in cells(path).items():
            if id.startswith("check-"):
                assert cell.source == known[path.stem][int(id[6:])]["check"].source
                assert cell.metadata.nbgrader.grade and cell.metadata.nbgrader.locked
            if id.startswith(("words-", "card-")):
                assert cell.metadata.nbgrader.solution and cell.metadata.nbgrader.points == 1
    week = cells(term / "release" / "week1" / "residual_block.ipynb")
    assert "def zero(" in "".join(cell.source for cell in week.values())  # a name of the chapter that exercise 1 needs
    assert "degradation.plain" not in "".join(cell.source for cell in week.values())  # and not the rest of it
    assert week["text-1"].source.startswith("**1. Predict.**") and "card-identity-predict-text" in week


@pytest.mark.parametrize("chapter", book.exercises())
def test_the_cells_that_exercises_need_define_all_names(chapter):
    numbers = list(book.exercises()[chapter])
    notebook = book.assignment_notebook({"chapter": chapter, "exercises": numbers}, "secret")
    solutions = [each["solution"].source for each in book.exercises()[chapter].values()]
    made = book.named([cell.source for cell in notebook.cells if cell.cell_type == "code"])[1]
    missing = set().union(*(book.named([each])[0] for each in solutions)) - made - set(dir(builtins))
    assert not missing
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    seeds = re.findall(r"for seed in \(0, (\d+)\)", "".join(cell.source for cell in notebook.cells))
    assert len(set(seeds)) == len(numbers) and "0" not in seeds


def test_one_assignment_by_name(term):
    assert book.make(term, "residual_block:1,7") == ["residual_block"]
    ids = cells(term / "release" / "residual_block" / "residual_block.ipynb")
    assert [id for id in ids if id.startswith("check-")] == ["check-1", "check-7"]


@pytest.mark.parametrize(
    "assign, said",
    [
        ("resnet18", "must be like residual_block:1,2,7"),
        ("resnet19:1", "no chapter 'resnet19'"),
        ("resnet18:1,44", "resnet18 has no exercise 44; it has 1, 2"),
    ],
)
def test_what_cannot_be_made_is_said(term, assign, said):
    with pytest.raises(SystemExit, match=re.escape(said)):
        book.make(term, assign)


def test_a_mistake_in_the_plan_is_said(tmp_path):
    (tmp_path / "course.toml").write_text("name = course", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"course\.toml is not TOML"):
        book.make(tmp_path)


def test_grades_for_moodle_and_canvas(term, tmp_path):
    """In the columns that their imports ask for; empty where nothing was handed in, and late work reduced."""
    from course import exports
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{term / 'gradebook.db'}") as grades:
        submission = grades.update_or_create_submission("week1", "ada")
        for grade in submission.notebooks[0].grades:
            grade.auto_score = grade.max_score if grade.name in ("check-1", "check-2") else 0
        submission.notebooks[0].late_submission_penalty = 0.5
        grades.db.commit()
        for kind in (exports.Moodle, exports.Canvas):
            kind(to=str(tmp_path / kind.name), assignment=["week1", "week2"]).export(grades)
    with open(tmp_path / "moodle", newline="", encoding="utf-8") as file:
        head, ada = csv.reader(file)
    assert head == ["ID number", "Email address", "First name", "Last name", "week1", "week2"]
    assert ada == ["ada", "ada@x.org", "Ada", "Łoś", "5.50", ""]
    with open(tmp_path / "canvas", newline="", encoding="utf-8") as file:
        head, most, ada = csv.reader(file)
    assert head == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "week1", "week2"]
    assert most == ["    Points Possible", "", "", "", "", "11", "12"]
    assert ada == ["Łoś, Ada", "", "ada", "ada@x.org", "", "5.50", ""]
    with pytest.raises(SystemExit, match="is no course; name one: make grades DIR=term"):
        exports.main(tmp_path)


def test_zip_collect_takes_the_archives_of_platforms(term):
    """Nbgrader's own command: by the roster, the last of several attempts, each with the time it has in its archive."""
    archives = {
        "CS1-week1": ["Ada Łoś_123_assignsubmission_file_/residual_block.ipynb"],  # Moodle
        "submissions": ["bobb_LATE_7_9_residual_block-1.ipynb", "bobb_LATE_7_9_residual_block-2.ipynb"],  # Canvas
        "week1-submissions": ["octo-cat/residual_block.ipynb"],  # GitHub Classroom
    }
    folder = term / "downloaded" / "week1" / "archive"
    folder.mkdir(parents=True)
    for archive, names in archives.items():
        with zipfile.ZipFile(folder / f"{archive}.zip", "w") as file:
            for name in names:
                file.writestr(zipfile.ZipInfo(name, (2031, 5, 6, 7, 8, 10)), name)
    command = [sys.executable, "-m", "nbgrader", "zip_collect", "week1", "--log-level=ERROR"]
    subprocess.run(command, cwd=term, env=os.environ | {"PYTHONUTF8": "1"}, check=True)
    taken = {path.parents[1].name: path.read_text(encoding="utf-8") for path in term.glob("submitted/*/week1/*.ipynb")}
    assert taken == {
        "ada": archives["CS1-week1"][0],
        "bobb": archives["submissions"][1],
        "octo-cat": archives["week1-submissions"][0],
    }
    times = [path.read_text(encoding="utf-8") for path in term.glob("submitted/*/week1/timestamp.txt")]
    assert len(times) == 3 and all(each.startswith("2031-05-06 07:08:10") for each in times)


@pytest.mark.parametrize("late, days, taken", [(0.1, 0.2, 0.8), (0.1, 2.5, 2.4), (0.5, 9, 8), (0, 9, 0)])
def test_late_work_loses_a_part_for_each_day_begun(late, days, taken, tmp_path):
    from course.grading import Late

    (tmp_path / "course.toml").write_text(f"late = {late}", encoding="utf-8")
    found = Late.late_submission_penalty(
        SimpleNamespace(parent=SimpleNamespace(db_url=f"sqlite:///{tmp_path}/gradebook.db?timeout=1")),
        "ada",
        8,
        days * 86_400,
    )
    assert found == pytest.approx(taken)


def one_exercise(tmp_path, change):
    """A notebook of one exercise, released, and handed in after a change to its cells; and what nbgrader passes on."""
    answer = book.entry(nbformat.v4.new_code_cell, "answer = 1", "exercise-1", solution=True)
    check = book.entry(nbformat.v4.new_code_cell, "assert answer", "check-1", 2)
    place = tmp_path / "release" / "week1"
    place.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[answer, check]), place / "one.ipynb")
    given = {"db_url": f"sqlite:///{tmp_path}/gradebook.db?timeout=1", "assignment": "week1", "notebook": "one"}
    back = nbformat.v4.new_notebook(cells=[nbformat.from_dict(cell) for cell in change([answer, check])])
    return back, {"nbgrader": given}


@pytest.mark.parametrize(
    "change",
    [
        lambda cells: [*cells[:1], cells[0] | {"source": "wrong = 1"}, *cells[1:]],
        lambda cells: [*cells, cells[1]],
        lambda cells: [cells[0], nbformat.v4.new_markdown_cell(cells[1].source, id=cells[1].id)],
        lambda cells: cells[:1],
        lambda cells: [cells[0], cells[1] | {"source": "# no check"}],
    ],
    ids=["an answer copied", "a check copied", "a check made text", "a check deleted", "a check changed"],
)
def test_what_students_do_to_cells_leaves_each_check_once(change, tmp_path):
    from course.grading import Complete

    back, resources = one_exercise(tmp_path, change)
    made, _ = Complete().preprocess(copy.deepcopy(back), resources)
    ids = [cell.metadata.nbgrader.grade_id for cell in made.cells if "nbgrader" in cell.metadata]
    assert sorted(ids) == ["check-1", "exercise-1"]
    assert {cell.source for cell in back.cells} <= {cell.source for cell in made.cells}


@pytest.mark.parametrize("kind", [nbformat.v4.new_markdown_cell, nbformat.v4.new_raw_cell])
def test_an_answer_that_became_text_is_code_again(kind, tmp_path):
    from course.grading import Complete

    made, _ = Complete().preprocess(
        *one_exercise(tmp_path, lambda cells: [kind("answer = 1", id=cells[0].id), cells[1]])
    )
    assert [(cell.cell_type, cell.source) for cell in made.cells] == [("code", "answer = 1"), ("code", "assert answer")]
    nbformat.validate(made)
