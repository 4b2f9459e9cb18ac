"""An autograder for Gradescope: ``python -m course.gradescope --write ASSIGN COURSE`` makes the archive to upload.

It holds the package, this folder, and a course with the one assignment and no students. On the platform, setup.sh
installs what they need, and ``run_autograder`` grades the notebook in ``submission/`` with the same checks, hidden
tests and limits as at home, into ``results/results.json``.
"""

import argparse
import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import nbformat

TOOLS = Path(__file__).parent.parent
SETUP = """#!/usr/bin/env bash
set -e
apt-get update && apt-get install -y python3-pip
PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install uv
export UV_PYTHON_INSTALL_DIR=/opt/python
python3 -m uv venv --python 3.12 /autograder/venv
python3 -m uv pip install --python /autograder/venv/bin/python --torch-backend cpu \\
    /autograder/source/book ipykernel -r /autograder/source/requirements.txt
"""
RUN = """#!/usr/bin/env bash
root="${AUTOGRADER:-/autograder}"
export UNSAFE="${UNSAFE:-user}"  # the container protects; the notebook runs as another user
PYTHONPATH="$root/source" exec "${PYTHON:-$root/venv/bin/python}" -m course.gradescope "$root"
"""


def write(folder, assign):
    """The archive for ``residual_block:1,2,7`` of the course in `folder`; its path."""
    from course import book

    book.plan(folder)
    with tempfile.TemporaryDirectory() as own:
        course = Path(own)  # without the students, whom the gradebook in `folder` knows
        shutil.copy(folder / "course.toml", course)
        (name,) = book.make(course, assign)
        shutil.copytree(course / "release" / name, folder / "release" / name, dirs_exist_ok=True)
        path = folder / f"gradescope-{name}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            pack(archive, course)
    return path


def pack(archive, course):
    """All that the platform needs, in the places where its scripts look for it."""
    for path in sorted(course.rglob("*")):
        archive.write(path, Path("term") / path.relative_to(course))
    for script, text in (("setup.sh", SETUP), ("run_autograder", RUN)):
        entry = zipfile.ZipInfo(script)
        entry.external_attr = 0o100755 << 16
        archive.writestr(entry, text)
    root = TOOLS.parent
    archive.write(root / "requirements-course.txt", "requirements.txt")
    for each in (*sorted(TOOLS.glob("course/*.py")), TOOLS / "student_edition.py"):
        archive.write(each, each.relative_to(TOOLS))
    for each in ("pyproject.toml", "README.md", "LICENSE", *sorted((root / "d2lnets").rglob("*"))):
        if "__pycache__" not in str(each):
            archive.write(root / each, Path("book") / (root / each).relative_to(root))


def grade(root):
    """On the platform: judge what is in ``submission/``; the content of ``results.json``."""
    from course import results, taking

    (root / "source").chmod(0o700)  # the seed of the hidden tests is nothing for the notebook's eyes
    (released,) = root.glob("source/term/release/*/*.ipynb")
    name = released.stem
    cells = [cell.metadata.get("nbgrader", {}) for cell in nbformat.read(released, as_version=4).cells]
    points = {each["grade_id"]: each["points"] for each in cells if each.get("grade_id", "").startswith("check-")}
    row, said = results.Row(name), {}
    files, passed_over = taking.unpack(root / "submission")
    row.remarks += [f"{file}: {why}" for file, why in passed_over.items() if not file.endswith((".py", ".txt"))]
    for file, content, _ in sorted(files, key=lambda each: each[2]):  # of several the newest
        try:
            row.notebook = taking.read(content)
        except ValueError as error:
            row.remarks.append(f"{file}: {error}")
    with tempfile.TemporaryDirectory() as own:
        course = shutil.copytree(root / "source" / "term", Path(own) / "term")
        if row.notebook:
            handed_in = shutil.copytree(root / "submission", course / "submitted" / "student" / name)
            (handed_in / f"{name}.ipynb").write_text(json.dumps(row.notebook), encoding="utf-8")
            if failed := taking.autograde(course, "student", name):
                row.remarks.append(failed)
            row.places[name] = course / "autograded" / "student" / name / f"{name}.ipynb"
            said, row.remarks = row.verdicts()
        else:
            row.remarks.append("no notebook was handed in")
    tests = []
    for check, most in points.items():
        number = check.removeprefix("check-")
        message = said.get(f"{name} {number}", "It was not checked.")
        passed = message == "passed"
        tests.append({
            "name": f"Exercise {number}", "score": most if passed else 0, "max_score": most,
            "output": "Passed." if passed else message, "status": "passed" if passed else "failed",
        })  # fmt: skip
    return {"tests": tests, "output": "\n".join(row.remarks)}


def main():
    parser = argparse.ArgumentParser(prog="gradescope", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="the autograder's folder on the platform, or a course")
    parser.add_argument("--write", metavar="ASSIGN", help="write the archive for residual_block:1,2,7 into the course")
    args = parser.parse_args()
    folder = args.folder.expanduser().resolve()
    if args.write is None:
        (folder / "results").mkdir(exist_ok=True)
        text = json.dumps(grade(folder), indent=1)
        (folder / "results" / "results.json").write_text(text, encoding="utf-8")
        return
    if not args.write:
        sys.exit("gradescope: which exercises? make gradescope ASSIGN=residual_block:1,2,7")
    print(f"{write(folder, args.write)} is for Gradescope; {folder / 'release'} for students")


if __name__ == "__main__":
    main()
