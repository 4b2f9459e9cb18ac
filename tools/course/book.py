"""Make an nbgrader course from the book: ``python -m course.book DIR [--assign residual_block:1,2,7]``.

DIR gets ``course.toml``, which a teacher edits, ``nbgrader_config.py``, a notebook for each chapter of an assignment
in ``source/``, the same for students in ``release/``, and ``gradebook.db``. Students in ``roster.csv`` are entered.
"""

import argparse
import csv
import datetime
import hashlib
import os
import re
import secrets
import symtable
import sys
import tomllib
from functools import cache
from pathlib import Path

import nbformat
import student_edition
from student_edition import BOOK

TOOLS = Path(__file__).parent.parent
CHECK = re.compile(r"checks\.check_\w+\((?:.*, )?(\w+)\)")
CONFIG = """import sys
from pathlib import Path

sys.path.insert(0, {tools!r})
from course.grading import configure

configure(get_config(), Path(__file__).parent)  # noqa: F821  # nbgrader gives the name
"""
TITLE = """# {title}

Write each answer in place of the line that raises an error, run the cell, then the check below it.
Your answers are judged as the notebook stands at its end, with other inputs too.
Do not delete cells; add as many as you like."""
WORDS = "*Your answer to exercise {number}, in words, in place of this line.*"
CARD = "*Your choice, and why, in place of this line.*"


chapters = cache(student_edition.chapters)  # nothing here changes them


@cache
def exercises():
    """For each chapter its exercises: by number the notebook's name, the cells by kind, and the name to be written."""
    found = {}
    for name, notebook in chapters().items():
        cells = {cell.id: cell for cell in notebook.cells}
        chapter = name.removeprefix("exercises/").removesuffix("_exercises")
        for number in (int(each[6:]) for each in cells if re.fullmatch(r"check-\d+", each)):
            found.setdefault(chapter, {})[number] = {
                "notebook": name,
                "text": cells.get(f"exercise-{number}-text") or cells["exercises-text"],
                "exercise": cells[f"exercise-{number}"],
                "check": cells[f"check-{number}"],
                "solution": cells[f"solution-{number}"],
                "name": CHECK.fullmatch(cells[f"check-{number}"].source)[1],
            }
    return {chapter: dict(sorted(each.items())) for chapter, each in found.items()}


def named(sources):
    """The names that code takes from elsewhere, and those that it makes at its top level."""
    top = symtable.symtable("\n".join(sources), "cell", "exec")
    made = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    read, scopes = set(), [top]
    while scopes:
        scope = scopes.pop()
        read |= {each.get_name() for each in scope.get_symbols() if each.is_referenced() and each.is_global()}
        scopes += scope.get_children()
    return read - made, made


def needed(notebook, wanted):
    """The cells of a notebook that exercises need: those for Colab, the imports, and where their names are made."""
    sources = [cell.source for each in wanted for cell in (each["exercise"], each["check"], each["solution"])]
    names, kept = named(sources)[0], {"colab", "setup"}
    last = wanted[-1]["text"].id
    end = next(i for i, cell in enumerate(notebook.cells) if cell.id == last)
    for cell in reversed(notebook.cells[:end]):
        if (
            cell.cell_type == "code"
            and cell.id not in kept
            and not cell.id.startswith(("solution", "exercise", "check"))
        ):
            read, made = named([cell.source])
            if names & made:
                names |= read
                kept.add(cell.id)
    return [cell for cell in notebook.cells if cell.id in kept]


def hidden_seed(secret, chapter, number):
    """What the hidden test of an exercise draws from: never 0, which is what students see."""
    return int(hashlib.sha256(f"{secret} {chapter} {number}".encode()).hexdigest()[:7], 16) + 1


def hidden(check, seed):
    """The cell of a check with its hidden test: what is seen, then other inputs; a failure says what was wrong."""
    call = check.removesuffix(")")
    return (
        f"{check}\n### BEGIN HIDDEN TESTS\nfor seed in (0, {seed}):\n"
        f"    verdict = {call}, seed=seed)\n    assert verdict.passed, verdict.message\n### END HIDDEN TESTS"
    )


def entry(cell, grade_id, points=None, solution=False):
    """A cell as nbgrader wants it: with points, or to be written by the student, or both."""
    graded = points is not None
    cell = nbformat.from_dict({"metadata": {}, "cell_type": cell.cell_type, "source": cell.source})
    if cell.cell_type == "code":
        cell |= {"outputs": [], "execution_count": None}
    cell["id"] = grade_id
    cell.metadata.nbgrader = {
        "schema_version": 3, "grade_id": grade_id, "grade": graded, "solution": solution, "task": False,
        "locked": graded and not solution,
    }  # fmt: skip
    if graded:
        cell.metadata.nbgrader["points"] = points
    return nbformat.from_dict(cell)


def assignment_notebook(wanted, secret):
    """One notebook of an assignment: `wanted` is a table ``[[assignment.notebook]]`` of course.toml."""
    chapter, points = wanted["chapter"], wanted.get("points", 1)
    known = exercises().get(chapter)
    if not known:
        sys.exit(f"course: there is no chapter {chapter!r} with exercises; there are {', '.join(exercises())}")
    if missing := [n for n in [*wanted["exercises"], *wanted.get("words", [])] if n not in known]:
        sys.exit(f"course: {chapter} has no exercise {missing[0]}; it has {', '.join(map(str, known))}")
    book = chapters()
    main = book[chapter]
    heading = re.search(r"^# (.+)", main.cells[0].source, re.MULTILINE)[1]
    cells = [nbformat.v4.new_markdown_cell(TITLE.format(title=heading), id="title")]
    chosen = {n: known[n] for n in wanted["exercises"]}
    seen = set()
    for name in dict.fromkeys(each["notebook"] for each in chosen.values()):
        for cell in needed(book[name], [each for each in chosen.values() if each["notebook"] == name]):
            if cell.source not in seen:
                more = "-more" if cell.id in {each.id for each in cells} else ""
                blank = {"id": f"{cell.id}{more}", "outputs": [], "execution_count": None}
                cells.append(nbformat.from_dict(cell | blank))
                seen.add(cell.source)
    for card in wanted.get("cards", []):
        question = next((cell for cell in main.cells if cell.id == card and "**Predict.**" in cell.source), None)
        if question is None:
            every = [cell.id for cell in main.cells if cell.source.startswith("**Predict.**")]
            sys.exit(f"course: {chapter} has no card {card!r}; it has {', '.join(every)}")
        cells += [question, entry(nbformat.v4.new_markdown_cell(CARD), f"card-{card}", 1, solution=True)]
    for number, each in chosen.items():
        text = nbformat.v4.new_markdown_cell(each["text"].source, id=f"text-{number}")
        text.source = text.source[text.source.index(f"**{number}.") :]
        test = each["check"].copy()
        test.source = hidden(test.source, hidden_seed(secret, chapter, number))
        cells += [
            text,
            entry(each["exercise"], f"exercise-{number}", solution=True),
            entry(test, f"check-{number}", points),
        ]
        if number in wanted.get("words", []):
            answer = nbformat.v4.new_markdown_cell(WORDS.format(number=number))
            cells.append(entry(answer, f"words-{number}", 1, solution=True))
    return nbformat.v4.new_notebook(cells=cells, metadata=main.metadata)


def plan(folder):
    """What course.toml of a folder says; written first, with a seed and dates of its own, where there is none."""
    path = folder / "course.toml"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        weeks = {f"week{n}": datetime.date.today() + datetime.timedelta(weeks=n) for n in range(1, 5)}
        text = (Path(__file__).parent / "course.toml").read_text(encoding="utf-8")
        path.write_text(text.format(seed=secrets.token_hex(8), **weeks), encoding="utf-8")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        sys.exit(f"course: {path} is not TOML: {error}")


def only(assign, course):
    """The assignment of ``residual_block:1,2,7``."""
    chapter, _, numbers = assign.partition(":")
    if not re.fullmatch(r"\d+(,\d+)*", numbers):
        sys.exit(f"course: ASSIGN={assign} must be like residual_block:1,2,7")
    known = [each for each in course["assignment"] for it in each["notebook"] if it["chapter"] == chapter]
    wanted = {"chapter": chapter, "exercises": [int(n) for n in numbers.split(",")]}
    return {"name": chapter, "notebook": [wanted]} | ({"due": known[0]["due"]} if known and "due" in known[0] else {})


def make(folder, assign=None):
    """The course in `folder`, or one assignment of it: sources, releases, deadlines, students."""
    from course import grading

    course = plan(folder)
    (folder / "nbgrader_config.py").write_text(CONFIG.format(tools=str(TOOLS)), encoding="utf-8")
    todo = [only(assign, course)] if assign else course["assignment"]
    for each in todo:  # all of them first: a mistake in course.toml changes nothing
        each["made"] = {wanted["chapter"]: assignment_notebook(wanted, course["seed"]) for wanted in each["notebook"]}
    api = grading.api(folder)
    for each in todo:
        source = folder / "source" / each["name"]
        source.mkdir(parents=True, exist_ok=True)
        for name, notebook in each["made"].items():
            nbformat.write(notebook, source / f"{name}.ipynb")
        with api.gradebook as book:
            book.update_or_create_assignment(each["name"], duedate=each.get("due"))
        done = api.generate_assignment(each["name"], force=True)
        if not done["success"]:
            sys.exit(f"course: nbgrader did not make {each['name']}: {done.get('error') or done.get('log')}")
    enter_students(folder, api)
    return [each["name"] for each in todo]


def enter_students(folder, api):
    """The students of roster.csv (id, first_name, last_name, email), if it is there, into the gradebook."""
    roster = folder / "roster.csv"
    if not roster.exists():
        return
    with open(roster, newline="", encoding="utf-8-sig") as file, api.gradebook as book:
        for row in csv.DictReader(file):
            if not (row.get("id") or "").strip():
                sys.exit(f"course: {roster} needs a column id, filled in every row; it has {row}")
            fields = {name: row[name] for name in ("first_name", "last_name", "email") if row.get(name)}
            book.update_or_create_student(row["id"].strip(), **fields)


def main():
    parser = argparse.ArgumentParser(prog="course", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--assign", help="one assignment only: a chapter and its exercises")
    args = parser.parse_args()
    folder = Path(os.path.expanduser(args.folder)).resolve()
    if BOOK.parent in folder.parents and folder.parent == BOOK:
        sys.exit(f"course: {folder} is in the book; name another folder: make course DIR=term")
    made = make(folder, args.assign)
    print(
        f"{', '.join(made)}: for students in {folder / 'release'}; what to hand in, and when: {folder / 'course.toml'}"
    )


if __name__ == "__main__":
    main()
