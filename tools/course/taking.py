"""Check a folder of returned notebooks: ``python -m course.taking FOLDER [COURSE]``.

Notebooks under any names, and .zip files of learning platforms, are given to nbgrader, as many at a time as there are
cores. ``results.csv`` and ``results.html`` go into FOLDER; the gradebook is that of COURSE, or one in
``FOLDER/.course``. Run again, it goes on where it was, and judges anew what has changed.
"""

import hashlib
import json
import os
import re
import sys
import warnings
import zipfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import nbformat
from nbgrader.plugins.zipcollect import FileNameCollectorPlugin
from tqdm import tqdm

from course import book, grading, results, sandbox

LARGEST, MOST = 50 * 2**20, 10_000  # bytes of a file; files that are looked at of what an archive packs
UNIT, SHARES = 20 * 2**10, (20, 1)  # bytes to read count as a file; an archive as a whole may have 20 times as much
NOTEBOOK = r"\.(?i:ipynb)(\.txt|\.json)?$"
READ = rf"{NOTEBOOK}|(^|/)[A-Za-z][A-Za-z0-9_]*\.py$"
CELL, CODE = {"id", "cell_type", "metadata", "source"}, {"outputs": [], "execution_count": None}
PLATFORMS = (  # how learning platforms name what they pack: the student, and the attempt
    re.compile(r"(?P<student>[^/]+)_(?P<number>\d+)_assignsubmission_(?:file|onlinetext)_?(?:/|$)"),  # Moodle
    re.compile(r"(?<![^/])(?P<student>[^/_]+)(?:_LATE)?_\d+_\d+_[^/]+?(?:-(?P<number>\d+))?\.\w+(?:/|$)"),  # Canvas
    re.compile(r"[^/]+-submissions/(?P<student>[^/]+)(?<!\.zip)/"),  # GitHub Classroom
)


def unpack(folder):
    """What is below a folder and in its .zip files: notebooks and modules (name, content, time); why others are not."""
    found, passed_over, spent = [], {}, Counter()

    def look(name, opened, size, stamp, within=()):
        suffix, depth = Path(name).suffix.lower(), len(within)
        try:
            if size > LARGEST and (depth or suffix != ".zip"):
                passed_over[name] = f"it is larger than {LARGEST >> 20} MB"
            elif suffix == ".zip" and depth < 4:
                with opened() as file, zipfile.ZipFile(file) as archive:
                    for entry in archive.infolist():
                        owners, reads = (*within, name)[:2], re.search(rf"{READ}|\.(?i:zip)$", entry.filename)
                        spent.update(dict.fromkeys(owners, 50 + entry.file_size // UNIT if reads else 1))
                        if any(spent[owner] > share * MOST for owner, share in zip(owners, SHARES)):
                            passed_over[name] = "it holds too much: the rest of it was not looked at"
                            break
                        if not entry.is_dir() and "__MACOSX/" not in entry.filename:
                            when, inner = stamp, partial(archive.open, entry)
                            with suppress(ValueError):  # of a date that is none
                                when = datetime(*entry.date_time, tzinfo=UTC)
                            look(f"{name}/{entry.filename}", inner, entry.file_size, when, (*within, name))
            elif re.search(READ, name):
                with opened() as file:
                    found.append((name, file.read(), stamp))
            elif suffix not in (".csv", ".html"):
                passed_over[name] = f"it is no notebook ({suffix or 'no ending'})"
        except Exception as error:  # of a broken, locked or odd file
            passed_over[name] = f"it cannot be read ({error})"

    for path in sorted(folder.rglob("*")):
        name = sandbox.clean(os.fsencode(path.relative_to(folder)).decode("utf-8", "replace"))
        if path.is_symlink():
            passed_over[name] = "it is a link"
        elif path.is_file() and not re.search(r"(^|/)\.", name):
            look(
                name, partial(open, path, "rb"), path.stat().st_size, datetime.fromtimestamp(path.stat().st_mtime, UTC)
            )
    return found, passed_over


def of_platform(name):
    """The match of a name that a platform gave, or None."""
    matches = filter(None, (platform.search(name) for platform in PLATFORMS))
    return min(matches, key=lambda match: match.start("student"), default=None)  # the rest a student may have named


def student_of(name):
    """Who handed in, and the attempt: what a platform's name says; else each file is a student."""
    if match := of_platform(name):
        return match["student"], int(match.groupdict().get("number") or 0)
    return re.sub(NOTEBOOK, "", name), 0


def doubt(rows):
    """Whose work comes in two ways, of which one is an archive with fewer students: a student may have made that."""
    found = [(row, of_platform(row.name)) for row in rows.values()]
    held = [(row, letters(row.student), row.name[: match.start("student")] if match else None) for row, match in found]
    sizes = Counter(holder for _, holder in {(student, holder) for _, student, holder in held})
    most = {}
    for _, student, holder in held:
        most[student] = max(sizes[holder], most.get(student, 0))
    for row, student, holder in held:
        if holder is not None and sizes[holder] < most[student]:
            why = f"its name says {row.student}, but a student may have chosen it: for a person to look at"
            row.student, row.attempt, row.remarks = row.name, 0, [*row.remarks, why]


class Platforms(FileNameCollectorPlugin):
    """For ``nbgrader zip_collect``: whose a file of a learning platform's archive is, which notebook, and from when."""

    def _match(self, filename):
        place = Path(filename)
        extracted = next(each for each in place.parents if each.name == "extracted")
        course, inner = extracted.parents[2], place.relative_to(extracted)
        student, attempt = student_of(inner.as_posix())
        try:  # nbgrader unpacks without times
            with zipfile.ZipFile(extracted.parent / "archive" / f"{inner.parts[0]}.zip") as archive:
                stamp = datetime(*archive.getinfo("/".join(inner.parts[1:])).date_time)
        except (OSError, KeyError):  # no archive, or one in another
            stamp = datetime.fromtimestamp(place.stat().st_mtime)
        notebooks = [path.stem for path in course.glob("release/*/*.ipynb")]
        return {
            "student_id": roster(course).get(letters(student)) or slug(student),
            "file_id": next((each for each in notebooks if each in place.stem), place.stem),
            "timestamp": f"{stamp:%Y-%m-%d %H:%M:%S}.{min(attempt, 999_999):06}",  # of equal times the later attempt
        }


def letters(name):
    return "".join(filter(str.isalnum, name.casefold()))


def roster(course):
    """The students in the gradebook by what platforms call them: id, email, first and last name in both orders."""
    known = {}
    with grading.api(course).gradebook as gradebook:
        for each in gradebook.students:
            first, last = each.first_name or "", each.last_name or ""
            for name in {letters(text) for text in (each.id, each.email or "", first + last, last + first)}:
                known.setdefault(name, []).append(each.id)
    return {name: ids[0] for name, ids in known.items() if name and len(ids) == 1}


def slug(text):
    """A name for a folder: nbgrader takes no slashes, a locale not all letters, and what differs stays different."""
    encoding = sys.getfilesystemencoding()
    plain = re.sub(r"[^\w.@-]+", "_", text.encode(encoding, "replace").decode(encoding)).strip("._")
    if plain == text and len(plain) < 100:
        return plain
    return f"{plain[:60]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def read(content):
    """The notebook in a file's bytes; a ValueError that says why there is none."""
    try:
        notebook = nbformat.reads(content.decode("utf-8-sig"), as_version=4)
        ids = {None}
        for number, cell in enumerate(notebook.cells):  # what editors add, or leave out, is no reason to read nothing
            code = cell.cell_type == "code"
            id = cell.get("id") or cell.metadata.get("id")  # Colab's
            cell |= {"id": f"cell-{number}" if id in ids else id} | (CODE if code else {})
            ids.add(id)
            for name in cell.keys() - CELL - (CODE.keys() if code else {"attachments"}):
                del cell[name]
        notebook.nbformat_minor = 5
        nbformat.validate(notebook)
    except Exception as error:
        raise ValueError(f"it cannot be read as a notebook ({type(error).__name__})") from None
    return sandbox.clean(notebook)


def chapters_of(notebook):
    """The exercises that a notebook has: by chapter their numbers."""
    sources = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    words = set(re.findall(r"\w+", "\n".join(sources)))
    found = {}
    for chapter, wanted in book.exercises().items():
        if numbers := [n for n, each in wanted.items() if each["name"] in words]:
            found[chapter] = numbers
    return found


def rows_of(files, passed_over):
    """A row for each notebook by its name; with the modules beside it, if all notebooks there are one student's."""
    rows = {}
    for name, content, stamp in files:
        if not name.lower().endswith(".py"):
            row = rows[name] = results.Row(name, *student_of(name), stamp)
            try:
                row.notebook = read(content)
                row.chapters = chapters_of(row.notebook)
                row.remarks += [] if row.chapters else ["it has no exercise of this book"]
            except ValueError as error:
                row.remarks.append(str(error))
    doubt(rows)
    for name, content, _ in files:
        if name not in rows:
            folder, _, module = name.rpartition("/")
            beside = [row for row in rows.values() if row.name.rpartition("/")[0] == folder]
            if len({row.student for row in beside}) != 1:
                passed_over[name] = "it is no notebook (.py)"
            for row in beside if name not in passed_over else []:
                row.modules[module] = content
    return rows


def assign(course, rows):
    """In a course for this folder alone, each chapter is an assignment, with the exercises that came."""
    came = {}
    for row in rows.values():
        for chapter, numbers in row.chapters.items():
            came.setdefault(chapter, set()).update(numbers)
    for chapter, numbers in sorted(came.items()):
        book.make(course, f"{chapter}:{','.join(map(str, sorted(numbers)))}")


def submit(course, rows):
    """Put the last attempt of each student where nbgrader looks for it: rows to judge by (student, assignment)."""
    places = {path.stem: path.parent.name for path in sorted(course.glob("release/*/*.ipynb"), reverse=True)}
    last, todo, known = {}, {}, roster(course)
    for row in sorted(rows.values(), key=lambda row: (row.attempt, row.stamp)):
        for chapter in row.chapters:
            if chapter not in places:
                row.remarks.append(f"the course has no exercises of {chapter}")
                continue
            key = known.get(letters(row.student)) or slug(row.student), places[chapter], chapter
            if key in last:
                last[key].remarks.append("a later attempt counts")
            last[key] = row
    for (student, assignment, chapter), row in last.items():
        folder = course / "submitted" / student / assignment
        folder.mkdir(parents=True, exist_ok=True)
        row.places[chapter] = course / "autograded" / student / assignment / f"{chapter}.ipynb"
        files = row.modules | {f"{chapter}.ipynb": json.dumps(row.notebook, ensure_ascii=False).encode()}
        if [_put(folder / name, content) for name, content in files.items()].count(True):
            (folder / "timestamp.txt").write_text(f"{row.stamp:%Y-%m-%d %H:%M:%S} UTC", encoding="utf-8")
        elif results.judged(row.places[chapter]):
            continue
        todo.setdefault((student, assignment), []).append(row)
    return todo


def _put(path, content):
    """Write a file, and say whether that changed anything."""
    if path.exists() and path.read_bytes() == content:
        return False
    path.write_bytes(content)
    return True


def autograde(course, student, assignment):
    """By nbgrader, in a process of its own; what went wrong, or nothing."""
    warnings.simplefilter("ignore")  # SQLAlchemy's, of nbgrader
    try:
        done = grading.api(course).autograde(assignment, student, force=True)
    except BaseException as error:
        return f"nbgrader raised {type(error).__name__}: {error}"[:300]
    return "" if done["success"] else "nbgrader could not grade it: " + str(done.get("error") or done.get("log"))[-300:]


def take(folder, course=None):
    """Judge what is in a folder by a course, or by one of its own; rows by name, and why other files have none."""
    files, passed_over = unpack(folder)
    rows = rows_of(files, passed_over)
    for name, why in passed_over.items():
        print(f"passed over: {name}: {why}")
    for row in rows.values():
        if len(row.chapters) > 1:
            print(f"{row.name} has exercises of {' and '.join(row.chapters)}: each is judged")
    if not rows:
        return rows, passed_over
    if course is None:
        course = folder / ".course"
        assign(course, rows)
    todo = submit(course, rows)
    with grading.api(course).gradebook as gradebook:  # now, or two notebooks of one would do it at the same time
        for student, _ in todo:
            gradebook.update_or_create_student(student)
    with ProcessPoolExecutor() as pool:
        jobs = {pool.submit(autograde, course, *each): each for each in todo}
        try:
            for job in tqdm(as_completed(jobs), total=len(jobs), unit="notebook"):
                if failed := job.exception() or job.result():
                    for row in todo[jobs[job]]:
                        row.remarks.append(str(failed))
        except KeyboardInterrupt:
            results.write(rows, passed_over, folder)
            print(f"stopped; what is done is in {folder / 'results.csv'}, and the same command goes on", flush=True)
            os._exit(130)  # without waiting for notebooks that run
    results.write(rows, passed_over, folder)
    return rows, passed_over


def main(folder, course=""):
    folder, course = Path(folder or ".").expanduser(), Path(course).expanduser().resolve() if course else None
    limit = os.environ.get("LIMIT") or "1"
    if folder == Path() or not folder.is_dir():
        sys.exit(f"check-submissions: {folder} is no folder of notebooks; name one: make check-submissions DIR=back")
    if not os.access(folder, os.W_OK):
        sys.exit(f"check-submissions: results.csv cannot be written into {folder}; copy it to a folder of your own")
    if not re.fullmatch(r"0*[1-9]\d*", limit):
        sys.exit(f"check-submissions: LIMIT={limit} must be a number of seconds for a notebook, 1 or more")
    if course and not (course / "gradebook.db").exists():
        sys.exit(f"check-submissions: {course} is no course; make one: make course DIR={course}")
    sandbox.unsafe()
    if not take(folder.resolve(), course)[0]:
        sys.exit(f"check-submissions: no notebook (.ipynb) is in {folder}")
    print(f"results.csv and results.html are in {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
