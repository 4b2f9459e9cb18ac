"""The table of returned notebooks: results.csv and results.html."""

import csv
import html
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import nbformat

ALIKE = 0.95  # of the words of two answers: that is worth a look


@dataclass
class Row:
    """A notebook that came back."""

    name: str
    notebook: dict | None = None
    stamp: object = None
    chapters: dict = field(default_factory=dict)
    remarks: list = field(default_factory=list)
    places: dict = field(default_factory=dict)  # by chapter, where nbgrader puts what it has judged

    def verdicts(self):
        """By column ("resnet18 2") what was said, and the remarks; of chapters that are judged so far."""
        said, remarks = {}, list(self.remarks)
        for chapter, path in self.places.items():
            if not path.exists():
                continue
            judged = nbformat.read(path, as_version=4)
            remarks += judged.metadata.get("d2lnets", {}).get("remarks", [])
            for cell in judged.cells:
                id = cell.metadata.get("nbgrader", {}).get("grade_id", "")
                if id.startswith("check-") and cell.outputs:
                    failed = cell.outputs[0].output_type == "error"
                    said[f"{chapter} {id[6:]}"] = cell.outputs[0].evalue if failed else "passed"
        return said, remarks


def table(rows):
    """A header and a list of texts for each notebook."""
    read = {name: row.verdicts() for name, row in rows.items()}
    columns = sorted({each for said, _ in read.values() for each in said}, key=_order)
    twins = alike(rows)
    lines = []
    for name, (said, remarks) in read.items():
        for column in sorted({column for column, _ in twins.get(name, [])}):
            others = [other for each, other in twins[name] if each == column]
            more = f" and {len(others) - 3} more" if len(others) > 3 else ""
            remarks.append(f"exercise {column} is nearly the same as in {', '.join(others[:3])}{more}")
        passed = sum(each == "passed" for each in said.values())
        lines.append(
            [name, passed, len(said), *(said.get(each, "").replace("\n", " ") for each in columns), "; ".join(remarks)]
        )
    return ["notebook", "passed", "of", *columns, "remarks"], lines


def _order(column):
    chapter, _, number = column.rpartition(" ")
    return chapter, int(number)


def alike(rows):
    """By notebook, (exercise, other notebook) where two answers have nearly the same words: for a person to look at."""
    answers = {}
    for name, row in rows.items():
        for cell in (row.notebook or {"cells": []})["cells"]:
            if match := re.fullmatch(r"exercise-(\d+)", cell.get("id") or ""):
                source = re.sub(r"#.*", "", cell["source"])
                words = tuple(re.findall(r"\w+|[^\w\s]", source))
                if "NotImplementedError" not in words and len(words) > 40:  # short ones are alike by chance
                    answers.setdefault((*row.chapters, match[1]), []).append(
                        (name, frozenset(zip(words, words[1:], words[2:])))
                    )
    found = {}
    for key, given in answers.items():
        for (one, a), (two, b) in combinations(given, 2):
            if len(a & b) >= ALIKE * len(a | b):
                found.setdefault(one, []).append((key[-1], two))
                found.setdefault(two, []).append((key[-1], one))
    return found


def write(rows, passed_over, folder):
    """results.csv and results.html."""
    header, lines = table(rows)
    lines += [[name, 0, 0, *[""] * (len(header) - 4), f"passed over: {why}"] for name, why in passed_over.items()]
    with open(Path(folder) / "results.csv", "w", newline="", encoding="utf-8-sig") as file:  # a spreadsheet sees UTF-8
        # a spreadsheet takes what begins so for a formula
        safe = [[f"'{cell}" if str(cell).startswith(("=", "+", "-", "@")) else cell for cell in line] for line in lines]
        csv.writer(file).writerows([header, *safe])
    tables = "".join(map(_html, (overview(header, lines), (header, lines))))
    (Path(folder) / "results.html").write_text(PAGE.format(tables=tables), encoding="utf-8")


def _html(made):
    header, lines = made
    body = "".join(f"<tr>{''.join(map(_cell, line))}</tr>\n" for line in lines)
    head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>\n"


def overview(header, lines):
    """For each exercise: how many were judged and passed, how it separates, and the most frequent mistakes."""
    said = []
    passed_of = {id(line): int(line[1]) / (int(line[2]) or 1) for line in lines}
    for place, column in list(enumerate(header))[3:-1]:
        given = [line for line in lines if line[place]]
        right = [line for line in given if line[place] == "passed"]
        wrong = [line for line in given if line[place] != "passed"]
        causes = Counter(_cause(line[place]) for line in wrong)
        apart = [sum(passed_of[id(line)] for line in each) / len(each) for each in (right, wrong) if each]
        separates = f"{apart[0] - apart[1]:+.0%}" if len(apart) == 2 else ""
        often = "; ".join(f"{n}× {cause}" for cause, n in causes.most_common(5))
        said.append([column, len(given), len(right), separates, often])
    return ["exercise", "judged", "passed", "who passed it, passed so much more of all", "mistakes"], said


def _cause(message):
    message = re.sub(r"^For \(.*?\): ", "", message)
    found = re.search(r"Likeliest cause: (.+?)(?:\.?\s*Hint:|\.?$)", message)
    return found[1] if found else re.split(r"[.:]( |$)", message)[0][:80]


def _cell(text):
    if text == "passed":
        return '<td class="passed">✓</td>'
    text = str(text)
    if len(text) < 60:
        return f"<td>{html.escape(text)}</td>"
    return f"<td><details><summary>{html.escape(text[:50])}…</summary>{html.escape(text)}</details></td>"


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Results</title>
<style>
:root {{ color-scheme: light dark; font-family: sans-serif }}
table {{ border-collapse: collapse; margin-bottom: 2em }}
th, td {{ border-bottom: 1px solid #8888; padding: 0.3em 0.6em; text-align: left; vertical-align: top }}
.passed {{ color: #2e9e5b; font-weight: bold }}
</style></head>
<body><h1>Results</h1>
{tables}</body></html>
"""
