"""Give back: ``python -m course.exports COURSE`` writes nbgrader's feedback pages, and grades for Moodle and Canvas.

Moodle and Canvas are export plugins of nbgrader too: ``nbgrader export --exporter course.exports.Canvas``.
"""

import csv
import sys
from pathlib import Path

from nbgrader.api import MissingEntry
from nbgrader.plugins import ExportPlugin

from course import grading


class Table(ExportPlugin):
    """A row for each student, a column for each assignment, rounded to hundredths; empty where nothing came."""

    def export(self, gradebook):
        assignments = [each for each in gradebook.assignments if not self.assignment or each.name in self.assignment]
        students = [each for each in gradebook.students if not self.student or each.id in self.student]
        rows = [[*self.columns, *(each.name for each in assignments)], *self.more(assignments)]
        for student in students:
            rows.append([*self.who(student), *(points(gradebook, each.name, student.id) for each in assignments)])
        with open(self.to or f"{self.name}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)

    def more(self, assignments):
        return []


class Moodle(Table):
    """For *Grades, Import, CSV file*: Moodle asks which column is whose; the students by ID number or email address."""

    name, columns = "moodle", ("ID number", "Email address", "First name", "Last name")

    def who(self, student):
        return student.id, student.email or "", student.first_name or "", student.last_name or ""


class Canvas(Table):
    """For *Grades, Import*: Canvas's five first columns, and what can be had at most in the second row."""

    name, columns = "canvas", ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")

    def more(self, assignments):
        return [["    Points Possible", "", "", "", "", *(f"{each.max_score:g}" for each in assignments)]]

    def who(self, student):
        name = ", ".join(filter(None, (student.last_name, student.first_name)))
        return name or student.id, "", student.id, student.email or student.id, ""


def points(gradebook, assignment, student):
    """What a student got, late work reduced; empty where nothing was handed in."""
    try:
        submission = gradebook.find_submission(assignment, student)
    except MissingEntry:
        return ""
    return f"{max(0, submission.score - submission.late_submission_penalty):.2f}"


def main(folder):
    """The feedback pages of all that was judged, and both tables."""
    course = Path(folder).expanduser().resolve()
    if not (course / "gradebook.db").exists():
        sys.exit(f"grades: {course} is no course; name one: make grades DIR=term")
    api = grading.api(course)
    for place in sorted(course.glob("autograded/*/*")):
        done = api.generate_feedback(place.name, place.parent.name, force=True)
        if not done["success"]:
            print(f"no feedback for {place.parent.name} in {place.name}: {done.get('error') or done.get('log')}")
    for exporter in (Moodle, Canvas):
        with api.gradebook as book:
            exporter(to=str(course / f"{exporter.name}.csv")).export(book)
    print(f"pages for students are in {course / 'feedback'}; grades in moodle.csv and canvas.csv of {course}")


if __name__ == "__main__":
    main(*sys.argv[1:])
