"""Make an nbgrader course from the book: ``python -m course.book DIR [residual_block:1,2,7]``.

DIR gets ``course.toml``, which a teacher edits, ``nbgrader_config.py``, a notebook for each chapter of an assignment
in ``source/``, the same for students in ``release/``, and ``gradebook.db``. Students in ``roster.csv`` are entered.
"""

import csv
import datetime
import hashlib
import re
import secrets
import symtable
import sys
import tomllib
from functools import cache
from pathlib import Path

import nbformat
import student_edition
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from student_edition import BOOK

from course import grading

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
    names, kept = named(sources)[0], []
    for cell in reversed(notebook.cells[: notebook.cells.index(wanted[-1]["text"])]):
        if cell.cell_type == "code" and not cell.id.startswith(("solution", "exercise", "check")):
            read, made = named([cell.source])
            if names & made or cell.id in ("colab", "setup"):
                names |= read
                kept.insert(0, cell)
    return kept


def hidden(check, secret):
    """The cell of a check with its hidden test: what is seen, then other inputs; a failure says what was wrong."""
    call, seed = check.removesuffix(")"), int(hashlib.sha256(secret.encode()).hexdigest()[:7], 16) + 1  # 0 is seen
    return (
        f"{check}\n### BEGIN HIDDEN TESTS\nfor seed in (0, {seed}):\n"
        f"    verdict = {call}, seed=seed)\n    assert verdict.passed, verdict.message\n### END HIDDEN TESTS"
    )


def entry(new, source, id, points=None, solution=False):
    """A cell as nbgrader wants it: with points, or to be written by the student, or both."""
    graded = points is not None
    marks = {"schema_version": 3, "grade_id": id, "grade": graded, "solution": solution, "task": False}
    marks |= {"locked": graded and not solution} | ({"points": points} if graded else {})
    return new(source, id=id, metadata={"nbgrader": marks})


def assignment_notebook(wanted, secret):
    """One notebook of an assignment: `wanted` is a table ``[[assignment.notebook]]`` of course.toml."""
    chapter, cards, words = wanted["chapter"], wanted.get("cards", []), wanted.get("words", [])
    known = exercises().get(chapter)
    if not known:
        sys.exit(f"course: there is no chapter {chapter!r} with exercises; there are {', '.join(exercises())}")
    if missing := [n for n in [*wanted["exercises"], *words] if n not in known]:
        sys.exit(f"course: {chapter} has no exercise {missing[0]}; it has {', '.join(map(str, known))}")
    main = chapters()[chapter]
    questions = {cell.id: cell for cell in main.cells if cell.source.startswith("**Predict.**")}
    if missing := [card for card in cards if card not in questions]:
        sys.exit(f"course: {chapter} has no card {missing[0]!r}; it has {', '.join(questions)}")
    heading = re.search(r"^# (.+)", main.cells[0].source, re.MULTILINE)[1]
    cells = {"": new_markdown_cell(TITLE.format(title=heading), id="title")}
    chosen = {n: known[n] for n in wanted["exercises"]}
    for name in dict.fromkeys(each["notebook"] for each in chosen.values()):
        for cell in needed(chapters()[name], [each for each in chosen.values() if each["notebook"] == name]):
            more = "-more" if cell.id in [each.id for each in cells.values()] else ""
            cells.setdefault(cell.source, new_code_cell(cell.source, id=f"{cell.id}{more}", metadata=cell.metadata))
    cells = list(cells.values())
    for card in cards:
        cells += [questions[card], entry(new_markdown_cell, CARD, f"card-{card}", 1, solution=True)]
    for number, each in chosen.items():
        text = each["text"].source
        test = hidden(each["check"].source, f"{secret} {chapter} {number}")
        cells += [
            new_markdown_cell(text[text.index(f"**{number}.") :], id=f"text-{number}"),
            entry(new_code_cell, each["exercise"].source, f"exercise-{number}", solution=True),
            entry(new_code_cell, test, f"check-{number}", wanted.get("points", 1)),
        ]
        if number in words:
            cells.append(entry(new_markdown_cell, WORDS.format(number=number), f"words-{number}", 1, solution=True))
    return new_notebook(cells=cells, metadata=main.metadata)


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


def main(folder, assign=""):
    folder = Path(folder).expanduser().resolve()
    if BOOK in (folder, *folder.parents):
        sys.exit(f"course: {folder} is in the book; name another folder: make course DIR=term")
    made = ", ".join(make(folder, assign))
    print(f"{made}: for students in {folder / 'release'}; what to hand in, and when: {folder / 'course.toml'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
