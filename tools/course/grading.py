"""How nbgrader grades the course: what is done to a notebook that comes back, and its cells run in the sandbox."""

import math
import os
import re
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

import nbformat
from nbgrader import utils
from nbgrader.plugins import LateSubmissionPlugin
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets.config import Config

from course import sandbox


def configure(config, folder):
    """`config` of nbgrader for the course in `folder`."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls alembic
    directory = config.CourseDirectory
    directory.root = str(folder)
    directory.db_url = f"sqlite:///{folder / 'gradebook.db'}?timeout=120"  # several notebooks at a time
    config.GenerateAssignment.preprocessors = theirs(  # the book's own empty answers stay, in place of nbgrader's
        "LockCells", "ClearOutput", "CheckCellMetadata", "ComputeChecksums", "SaveCells", "ClearHiddenTests",
        "ComputeChecksums", "CheckCellMetadata",
    )  # fmt: skip
    config.Autograde.sanitize_preprocessors = [
        Complete,
        *theirs("ClearOutput", "DeduplicateIds", "OverwriteKernelspec", "OverwriteCells", "CheckCellMetadata"),
    ]
    config.Autograde.autograde_preprocessors = [
        Judge,
        *theirs("SaveAutoGrades", "AssignLatePenalties", "CheckCellMetadata"),
    ]
    config.AssignLatePenalties.plugin_class = Late
    config.ZipCollectApp.collector_plugin = "course.taking.Platforms"
    config.GenerateFeedback.preprocessors = [
        *theirs("GetGrades", "ClearHiddenTests"),
        "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
    ]
    return config


def theirs(*names):
    return [f"nbgrader.preprocessors.{name}" for name in names]


def api(folder):
    """nbgrader for the course in `folder`; it logs what is wrong, and nothing else."""
    from nbgrader.apps import NbGraderAPI

    made = NbGraderAPI(config=configure(Config(), folder))
    made.log.setLevel("CRITICAL")
    return made


def course_of(db_url):
    """The folder of the course, of which nbgrader tells a preprocessor only the gradebook."""
    return Path(re.fullmatch(r"sqlite:///(.+)/gradebook\.db.*", db_url)[1])


def root(resources):
    return course_of(resources["nbgrader"]["db_url"])


class Late(LateSubmissionPlugin):
    """Takes the part that course.toml says (`late`) for each day begun after the deadline."""

    def late_submission_penalty(self, student_id, score, total_seconds_late):
        part = tomllib.loads((course_of(self.parent.db_url) / "course.toml").read_text(encoding="utf-8-sig")).get(
            "late", 0
        )
        return score * min(1, part * math.ceil(total_seconds_late / 86_400))


class Complete(NbGraderPreprocessor):
    """Give a notebook the graded cells of the assignment: by their ids, at the end where the student has none left."""

    def preprocess(self, nb, resources):
        nb.metadata.pop("widgets", None)  # Colab's have no state, without which there would be no page of feedback
        given = resources["nbgrader"]
        release = nbformat.read(root(resources) / "release" / given["assignment"] / f"{given['notebook']}.ipynb", 4)
        wanted = {cell.id: cell for cell in release.cells if "nbgrader" in cell.metadata}
        cells = []
        for cell in nb.cells:
            id = cell.metadata.pop("nbgrader", {}).get("grade_id") or cell.get("id")
            match = wanted.get(id)
            if match and match.cell_type == "code" != cell.cell_type and not match.metadata.nbgrader.locked:
                cell = nbformat.v4.new_code_cell(cell.source, id=id)  # an answer that a key press made text
            if match is None or match.cell_type != cell.cell_type:
                cells.append(cell)
                continue
            if match.metadata.nbgrader.locked and cell.source.strip() != match.source.strip():
                cells.append(nbformat.v4.new_code_cell(cell.source))  # perhaps the answer was written there
            cell.metadata.nbgrader = wanted.pop(id).metadata.nbgrader
            cells.append(cell)
        nb.cells = cells + [cell for cell in wanted.values() if cell.metadata.nbgrader.grade]
        return nb, resources


class Judge(NbGraderPreprocessor):
    """Run a notebook's cells, then its checks, in the sandbox; their outputs are what nbgrader counts."""

    def preprocess(self, nb, resources):
        given = resources["nbgrader"]
        code = [cell for cell in nb.cells if cell.cell_type == "code"]
        checks = {cell.metadata.nbgrader.grade_id: cell for cell in code if utils.is_grade(cell)}
        cells = [cell for cell in code if not utils.is_grade(cell)]
        sources = ["" if cell.source.startswith("# @title Solution") else cell.source for cell in cells]
        handed_in = root(resources) / "submitted" / given["student"] / given["assignment"]
        with tempfile.TemporaryDirectory() as beside:
            shutil.copytree(
                handed_in, beside, True, shutil.ignore_patterns("*.ipynb", "timestamp.txt"), dirs_exist_ok=True
            )
            told = sandbox.run(sources, {id: cell.source for id, cell in checks.items()}, beside)
        for number, cell in enumerate(cells):
            cell.outputs = [cleaned(output) for output in told["outputs"].get(number, [])]
        for id, cell in checks.items():
            passed, message = told["verdicts"].get(
                id, (False, "It was not checked: the time of the notebook was over.")
            )
            cell.outputs = [verdict(passed, message)]
        nb.metadata["d2lnets"] = {"remarks": told["remarks"]}
        return nb, resources


def verdict(passed, message):
    """The output of a check: an error counts for nbgrader as not passed."""
    if passed:
        return nbformat.v4.new_output("display_data", {"text/plain": f"Passed. {message}"})
    return nbformat.v4.new_output("error", ename="Not yet", evalue=message, traceback=[f"Not yet. {message}"])


def cleaned(output):
    """An output that the worker told, its texts such that a file can hold them."""
    if output["output_type"] == "stream":
        return nbformat.v4.new_output("stream", name="stdout", text=sandbox.clean(output["text"]))
    data = {
        str(kind): value if isinstance(value, dict) else sandbox.clean(value) for kind, value in output["data"].items()
    }
    return nbformat.v4.new_output("display_data", data)
