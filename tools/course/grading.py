"""How nbgrader grades the course: what is done to a notebook that comes back, and its cells run in the sandbox."""

import math
import os
import sys
import tomllib
from pathlib import Path

import nbformat
from nbgrader import utils
from nbgrader.apps import NbGraderAPI
from nbgrader.converters import Autograde, GenerateFeedback
from nbgrader.plugins import LateSubmissionPlugin
from nbgrader.preprocessors import ClearHiddenTests, NbGraderPreprocessor
from sqlalchemy.engine import make_url
from traitlets.config import Config

from course import sandbox


def configure(config, folder):
    """`config` of nbgrader for the course in `folder`: what differs from nbgrader's own."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls alembic
    config.CourseDirectory.root = str(folder)
    config.CourseDirectory.db_url = f"sqlite:///{folder / 'gradebook.db'}?timeout=120"  # several notebooks at a time
    config.ClearSolutions.enabled = False  # the book's own empty answers stay
    config.Execute.enabled = False  # Judge does it
    usual = Autograde()
    config.Autograde.sanitize_preprocessors = [Complete, *usual.sanitize_preprocessors]
    config.Autograde.autograde_preprocessors = [Judge, *usual.autograde_preprocessors]
    config.AssignLatePenalties.plugin_class = Late
    config.ZipCollectApp.collector_plugin = "course.taking.Platforms"
    config.GenerateFeedback.preprocessors = [*GenerateFeedback().preprocessors, ClearHiddenTests]
    return config


def api(folder):
    """nbgrader for the course in `folder`; it logs what is wrong, and nothing else."""
    made = NbGraderAPI(config=configure(Config(), folder))
    made.log.setLevel("CRITICAL")
    return made


def course_of(db_url):
    """The folder of the course, of which nbgrader tells a plugin only the gradebook."""
    return Path(make_url(db_url).database).parent


class Late(LateSubmissionPlugin):
    """Takes the part that course.toml says (`late`) for each day begun after the deadline."""

    def late_submission_penalty(self, student_id, score, total_seconds_late):
        plan = (course_of(self.parent.db_url) / "course.toml").read_text(encoding="utf-8-sig")
        return score * min(1, tomllib.loads(plan).get("late", 0) * math.ceil(total_seconds_late / 86_400))


class Complete(NbGraderPreprocessor):
    """Give a notebook the graded cells of the assignment: by their ids, at the end where the student has none left."""

    def preprocess(self, nb, resources):
        nb.metadata.pop("widgets", None)  # Colab's have no state, without which there would be no page of feedback
        given = resources["nbgrader"]
        release = course_of(given["db_url"]) / "release" / given["assignment"] / f"{given['notebook']}.ipynb"
        wanted = {cell.id: cell for cell in nbformat.read(release, 4).cells if "nbgrader" in cell.metadata}
        cells = []
        for cell in nb.cells:
            id = cell.metadata.pop("nbgrader", {}).get("grade_id") or cell.get("id")
            if match := wanted.pop(id, None):
                if match.metadata.nbgrader.locked and cell.source.strip() != match.source.strip():
                    cells.append(nbformat.v4.new_code_cell(cell.source))  # perhaps the answer was written there
                if match.cell_type == "code" != cell.cell_type:
                    cell = nbformat.v4.new_code_cell(cell.source, id=id)  # what a key press made text
                cell.metadata.nbgrader = match.metadata.nbgrader
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
        handed_in = course_of(given["db_url"]) / "submitted" / given["student"] / given["assignment"]
        told = sandbox.run(sources, {id: cell.source for id, cell in checks.items()}, handed_in)
        for cell, outputs in zip(cells, told["outputs"]):
            cell.outputs = [nbformat.from_dict(output) for output in outputs]
        for id, cell in checks.items():
            cell.outputs = [verdict(*told["verdicts"][id])]
        nb.metadata["d2lnets"] = {"remarks": told["remarks"]}
        return nb, resources


def verdict(passed, message):
    """The output of a check: an error counts for nbgrader as not passed."""
    if passed:
        return nbformat.v4.new_output("display_data", {"text/plain": f"Passed. {message}"})
    return nbformat.v4.new_output("error", ename="Not yet", evalue=message, traceback=[f"Not yet. {message}"])
