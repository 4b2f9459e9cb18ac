"""An autograder for Gradescope: ``python -m course.gradescope COURSE ASSIGN`` makes the archive to upload.

It holds a course with the one assignment and no students, and of this repository the package, this folder and the
chapter. On the platform, setup.sh installs what they need, and ``run_autograder`` takes what is in ``submission/`` as
at home, with the same checks, hidden tests and limits, and writes ``results/results.json``.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat

from course import book, taking

ROOT = Path(__file__).parents[2]
SETUP = """#!/usr/bin/env bash
set -e
apt-get update && apt-get install -y python3-pip
PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install uv
export UV_PYTHON_INSTALL_DIR=/opt/python
python3 -m uv venv --python 3.12 /autograder/venv
python3 -m uv pip install --python /autograder/venv/bin/python --torch-backend cpu \\
    /autograder/source/book ipykernel -r /autograder/source/book/requirements-course.txt
"""
RUN = """#!/usr/bin/env bash
root="${AUTOGRADER:-/autograder}"
export UNSAFE="${UNSAFE:-user}"  # the container protects; the notebook runs as another user
PYTHONPATH="$root/source/book/tools" exec "${PYTHON:-$root/venv/bin/python}" -m course.gradescope "$root"
"""


def write(folder, assign):
    """The archive for ``residual_block:1,2,7`` of the course in `folder`; its path."""
    book.plan(folder)
    with tempfile.TemporaryDirectory() as own:
        source, ours = Path(own), Path(own) / "book"
        (source / "term").mkdir()
        shutil.copy(folder / "course.toml", source / "term")  # without the students, whom the gradebook knows
        (name,) = book.make(source / "term", assign)
        shutil.copytree(source / "term" / "release" / name, folder / "release" / name, dirs_exist_ok=True)
        for part in ("d2lnets", "tools/course"):
            shutil.copytree(ROOT / part, ours / part, ignore=shutil.ignore_patterns("__pycache__"))
        files = ["pyproject.toml", "README.md", "LICENSE", "requirements-course.txt", "tools/student_edition.py"]
        for path in (*(ROOT / file for file in files), *book.BOOK.rglob(f"{name}*.ipynb")):
            place = ours / path.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
        for script, text in (("setup.sh", SETUP), ("run_autograder", RUN)):
            (source / script).write_text(text, encoding="utf-8")
            (source / script).chmod(0o755)
        return shutil.make_archive(str(folder / f"gradescope-{name}"), "zip", source)


def grade(root):
    """On the platform: judge what is in ``submission/``; the content of ``results.json``."""
    (root / "source").chmod(0o700)  # the seed of the hidden tests is nothing for the notebook's eyes
    (released,) = root.glob("source/term/release/*/*.ipynb")
    said, remarks, tests = {}, [], []
    with tempfile.TemporaryDirectory() as own:
        course = shutil.copytree(root / "source" / "term", Path(own) / "term")
        shutil.copytree(root / "submission", Path(own) / "taken" / "all-submissions" / "student")  # a class of one
        rows, passed_over = taking.take(Path(own) / "taken", course)
        for row in rows.values():
            more, why = row.verdicts()
            said |= more
            remarks += [f"{Path(row.name).name}: {each}" for each in why]
    remarks += [f"{Path(name).name}: {why}" for name, why in passed_over.items()]
    for cell in nbformat.read(released, as_version=4).cells:
        if cell.id.startswith("check-"):
            number, most = cell.id[6:], cell.metadata.nbgrader.points
            message = said.get(f"{released.stem} {number}", "It was not checked.")
            passed = message == "passed"
            tests.append({
                "name": f"Exercise {number}", "score": most if passed else 0, "max_score": most,
                "output": "Passed." if passed else message, "status": "passed" if passed else "failed",
            })  # fmt: skip
    return {"tests": tests, "output": "\n".join(remarks or ([] if rows else ["no notebook was handed in"]))}


def main(folder, assign=None):
    folder = Path(folder).expanduser().resolve()
    if assign:
        print(f"{write(folder, assign)} is for Gradescope; {folder / 'release'} for students")
    elif assign == "":
        sys.exit("gradescope: which exercises? make gradescope ASSIGN=residual_block:1,2,7")
    else:  # on the platform
        (folder / "results").mkdir(exist_ok=True)
        (folder / "results" / "results.json").write_text(json.dumps(grade(folder), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
