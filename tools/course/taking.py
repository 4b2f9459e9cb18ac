"""Check a folder of returned notebooks: ``python -m course.taking FOLDER [--course TERM]``.

Notebooks under any names, and .zip files of learning platforms, are given to nbgrader, as many at a time as there are
cores. ``results.csv`` and ``results.html`` go into FOLDER; the gradebook is that of TERM, or one in ``FOLDER/.course``.
Run again, it goes on where it was, and judges anew what has changed.
"""

import argparse
import csv
import hashlib
import io
import json
import os
import re
import sys
import time
import warnings
import zipfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path

import nbformat
from nbgrader.plugins.zipcollect import FileNameCollectorPlugin
from tqdm import tqdm

from course import book, grading, results, sandbox

LARGEST, MOST = 50 * 2**20, 10_000  # bytes of a file, files of an archive that are looked at
CELL = {"id", "cell_type", "metadata", "source"}
PLATFORMS = (  # how learning platforms name what they pack: the student, and the attempt
    re.compile(r"(?P<student>[^/]+)_(?P<number>\d+)_assignsubmission_(?:file|onlinetext)_?(?:/|$)"),  # Moodle
    re.compile(r"(?:.*/)?(?P<student>[^/_]+)(?P<late>_LATE)?_\d+_\d+_[^/]+?(?:-(?P<number>\d+))?\.\w+$"),  # Canvas
    re.compile(r"(?:.*/)?(?P<assignment>[^/]+)-submissions/(?P<student>[^/]+)/"),  # GitHub Classroom
)


def unpack(folder):
    """Every notebook below a folder and in its .zip files, (name, content, time), and why others are passed over."""
    found, passed_over = [], {}

    def look(name, content, stamp, depth=0):
        suffix = Path(name).suffix.lower()
        if suffix == ".zip":
            try:
                if depth > 3:
                    raise ValueError("an archive in an archive in an archive")
                with zipfile.ZipFile(content) as archive:
                    for entry in archive.infolist()[:MOST]:
                        inner = f"{name}/{entry.filename}"
                        if entry.is_dir() or "__MACOSX/" in inner:
                            continue
                        if entry.file_size > LARGEST:
                            passed_over[inner] = f"it is larger than {LARGEST >> 20} MB"
                            continue
                        when = datetime(*entry.date_time, tzinfo=UTC) if entry.date_time[1] else stamp
                        with archive.open(entry) as file:
                            look(inner, io.BytesIO(file.read()), when, depth + 1)
            except Exception as error:  # of a broken, locked or odd archive
                passed_over[name] = f"it cannot be unpacked ({error})"
        elif suffix == ".ipynb" or name.lower().endswith((".ipynb.txt", ".ipynb.json")):
            found.append((name, content.read(), stamp))
        elif suffix not in (".csv", ".html"):
            passed_over[name] = f"it is no notebook ({suffix or 'no ending'})"

    for path in sorted(folder.rglob("*")):
        name = sandbox.clean(os.fsencode(path.relative_to(folder)).decode("utf-8", "replace"))
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
            continue
        if path.is_symlink() or path.stat().st_size > 4 * LARGEST:
            passed_over[name] = "it is a link" if path.is_symlink() else "it is too large"
            continue
        with open(path, "rb") as file:
            look(name, file, datetime.fromtimestamp(path.stat().st_mtime, UTC))
    return found, passed_over


def student_of(name):
    """Who handed in, and the attempt: what a platform's name says; else each file is a student."""
    parts = name.removesuffix(".txt").removesuffix(".ipynb")
    for platform in PLATFORMS:
        if match := platform.search(name):
            said = match.groupdict()
            return said["student"], int(said.get("number") or 0)
    return parts, 0


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
    """The students of a course by what platforms call them: id, first and last name in both orders."""
    path, known = course / "roster.csv", {}
    if path.exists():
        with open(path, newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                first, last = row.get("first_name") or "", row.get("last_name") or ""
                for name in {letters(each) for each in (row["id"], first + last, last + first, row.get("email") or "")}:
                    known.setdefault(name, set()).add(row["id"].strip())
    return {name: ids.pop() for name, ids in known.items() if name and len(ids) == 1}


def slug(text):
    """A name for a folder: nbgrader takes no slashes, a locale not all letters, and what differs stays different."""
    encoding = sys.getfilesystemencoding()
    plain = re.sub(r"[^\w.@-]+", "_", text.encode(encoding, "replace").decode(encoding)).strip("._")
    return (
        plain if plain == text and len(plain) < 100 else f"{plain[:60]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    )


def read(content):
    """The notebook in a file's bytes; a ValueError that says why there is none."""
    try:
        notebook = nbformat.reads(content.decode("utf-8-sig"), as_version=4)
        for cell in notebook.cells:  # what editors add, or leave out, is no reason to read nothing
            code = {"outputs": [], "execution_count": None} if cell.cell_type == "code" else {}
            for name in cell.keys() - CELL - set(code or ("attachments",)):
                del cell[name]
            for name, value in code.items():
                cell.setdefault(name, value)
        if any("id" in cell for cell in notebook.cells):
            notebook.nbformat_minor = 5
        nbformat.validate(notebook)
    except Exception as error:
        raise ValueError(f"it cannot be read as a notebook ({type(error).__name__})") from None
    return json.loads(sandbox.clean(json.dumps(notebook, ensure_ascii=False)))


def chapters_of(notebook):
    """The exercises that a notebook has: by chapter their numbers."""
    sources = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    every = {word for source in sources for word in re.findall(r"\w+", source)}
    found = {}
    for chapter, wanted in book.exercises().items():
        numbers = [n for n, each in wanted.items() if each["name"] in every]
        if numbers:
            found[chapter] = numbers
    return found


def plan(folder, course, files):
    """Assignments in nbgrader for what came: rows by file name, each with its chapters, and submissions to judge."""
    rows, wanted = {}, {}
    for name, content, stamp in files:
        rows[name] = row = results.Row(name)
        try:
            row.notebook = read(content)
        except ValueError as error:
            row.remarks.append(str(error))
            continue
        row.stamp, row.chapters = stamp, chapters_of(row.notebook)
        if not row.chapters:
            row.remarks.append("it has no exercise of this book")
        for chapter, numbers in row.chapters.items():
            wanted.setdefault(chapter, set()).update(numbers)
    if course == folder / ".course":
        for chapter, numbers in sorted(wanted.items()):
            known = course / "source" / chapter / f"{chapter}.ipynb"
            asked = ",".join(map(str, sorted(numbers)))
            if not known.exists() or (course / f"{chapter}.asked").read_text(encoding="utf-8") != asked:
                book.make(course, f"{chapter}:{asked}")
                (course / f"{chapter}.asked").write_text(asked, encoding="utf-8")
    return rows, submit(course, rows)


def submit(course, rows):
    """Put the notebooks where nbgrader looks for them, the last attempt of each student: (student, assignment, row)."""
    places = {path.stem: path.parent.name for path in sorted(course.glob("release/*/*.ipynb"), reverse=True)}
    last, known = {}, roster(course)
    for row in rows.values():
        student, attempt = student_of(row.name)
        student = known.get(letters(student)) or slug(student)
        for chapter in row.chapters:
            if chapter not in places:
                row.remarks.append(f"the course has no exercises of {chapter}")
                continue
            key = student, places[chapter], chapter
            if key in last and (attempt, row.stamp) < last[key][0]:
                row.remarks.append("a later attempt counts")
                continue
            if key in last:
                last[key][1].remarks.append("a later attempt counts")
            last[key] = (attempt, row.stamp), row
    todo = {}
    for (student, assignment, chapter), (_, row) in last.items():
        folder = course / "submitted" / student / assignment
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(row.notebook, ensure_ascii=False)
        path = folder / f"{chapter}.ipynb"
        stamp = f"{row.stamp:%Y-%m-%d %H:%M:%S} UTC"
        judged = course / "autograded" / student / assignment / f"{chapter}.ipynb"
        if not path.exists() or path.read_text(encoding="utf-8") != text or not judged.exists():
            path.write_text(text, encoding="utf-8")
            (folder / "timestamp.txt").write_text(stamp, encoding="utf-8")
            todo[student, assignment] = True
        row.places[chapter] = judged
    return list(todo)


def autograde(course, student, assignment):
    """By nbgrader, in a process of its own; what went wrong, or nothing."""
    warnings.simplefilter("ignore")  # SQLAlchemy's, of nbgrader
    try:
        done = grading.api(course).autograde(assignment, student, force=True)
    except BaseException as error:
        return f"nbgrader raised {type(error).__name__}: {error}"[:300]
    return "" if done["success"] else "nbgrader could not grade it: " + str(done.get("error") or done.get("log"))[-300:]


def main():
    parser = argparse.ArgumentParser(prog="check-submissions", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--course", type=Path, help="a course that make course made (default: FOLDER/.course)")
    args = parser.parse_args()
    folder = Path(os.path.expanduser(args.folder))
    if folder == Path() or not folder.is_dir():
        sys.exit(f"check-submissions: {folder} is no folder of notebooks; name one: make check-submissions DIR=back")
    if not os.access(folder, os.W_OK):
        sys.exit(f"check-submissions: results.csv cannot be written into {folder}; copy it to a folder of your own")
    if not re.fullmatch(r"0*[1-9]\d*", os.environ.get("LIMIT") or "1"):
        sys.exit(
            f"check-submissions: LIMIT={os.environ['LIMIT']} must be a number of seconds for a notebook, 1 or more"
        )
    sandbox.unsafe()
    folder = folder.resolve()
    course = Path(os.path.expanduser(args.course)).resolve() if args.course else folder / ".course"
    if args.course and not (course / "gradebook.db").exists():
        sys.exit(f"check-submissions: {course} is no course; make one: make course DIR={args.course}")
    files, passed_over = unpack(folder)
    for name, why in passed_over.items():
        print(f"passed over: {name}: {why}")
    if not files:
        sys.exit(f"check-submissions: no notebook (.ipynb) is in {folder}")
    rows, todo = plan(folder, course, files)
    for row in rows.values():
        if len(row.chapters) > 1:
            print(f"{row.name} has exercises of {' and '.join(row.chapters)}: each is judged")
    results.write(rows, passed_over, folder)
    written = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = {pool.submit(autograde, course, *each): each for each in todo}
        try:
            for job in tqdm(as_completed(jobs), total=len(jobs), unit="notebook"):
                student, assignment = jobs[job]
                for row in rows.values():
                    if any(path.parts[-3:-1] == (student, assignment) for path in row.places.values()) and job.result():
                        row.remarks.append(job.result())
                if time.monotonic() - written > 20:
                    results.write(rows, passed_over, folder)
                    written = time.monotonic()
        except KeyboardInterrupt:
            results.write(rows, passed_over, folder)
            pool.shutdown(wait=False, cancel_futures=True)
            print(f"stopped; what is done is in {folder / 'results.csv'}, and the same command goes on", flush=True)
            os._exit(130)
    results.write(rows, passed_over, folder)
    print(f"results.csv and results.html are in {folder}")


if __name__ == "__main__":
    main()
