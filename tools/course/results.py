"""The table of returned notebooks: results.csv and results.html."""

import html
import re
from dataclasses import dataclass, field
from datetime import datetime

import nbformat
import numpy as np
import pandas as pd
from rapidfuzz import fuzz, process

ALIKE = 97  # per cent of the words of two answers: that is worth a look


@dataclass
class Row:
    """A notebook that came back."""

    name: str
    student: str
    attempt: int
    stamp: datetime
    notebook: dict | None = None
    chapters: dict = field(default_factory=dict)
    remarks: list = field(default_factory=list)
    modules: dict = field(default_factory=dict)  # what lay beside it: by name the content
    places: dict = field(default_factory=dict)  # by chapter, where nbgrader puts what it has judged

    def verdicts(self):
        """By column ("resnet18 2") what was said, and the remarks; of chapters that are judged so far."""
        said, remarks = {}, list(self.remarks)
        for chapter, path in self.places.items():
            if notebook := judged(path):
                remarks += notebook.metadata["d2lnets"]["remarks"]
                for cell in notebook.cells:
                    id = cell.metadata.get("nbgrader", {}).get("grade_id", "")
                    if id.startswith("check-"):
                        said[f"{chapter} {id[6:]}"] = cell.outputs[0].get("evalue", "passed")
        return said, remarks


def judged(path):
    """A notebook with verdicts, or None: a run that was stopped leaves some without."""
    notebook = nbformat.read(path, as_version=4) if path.exists() else None
    return notebook if notebook and "d2lnets" in notebook.metadata else None


def table(rows, passed_over):
    """A row for each notebook and for each file passed over, a column for each exercise."""
    twins, lines = alike(rows), []
    for row in rows.values():
        said, remarks = row.verdicts()
        for column, others in twins.get(row.name, {}).items():
            more = f" and {len(others) - 3} more" if len(others) > 3 else ""
            remarks.append(f"exercise {column} is nearly the same as in {', '.join(others[:3])}{more}")
        passed = sum(each == "passed" for each in said.values())
        first = {"notebook": row.name, "passed": passed, "of": len(said), "remarks": "; ".join(remarks)}
        lines.append(first | {column: text.replace("\n", " ") for column, text in said.items()})
    for name, why in passed_over.items():
        lines.append({"notebook": name, "passed": 0, "of": 0, "remarks": f"passed over: {why}"})
    columns = {column for line in lines for column in line} - {"notebook", "passed", "of", "remarks"}
    columns = sorted(columns, key=lambda column: (column.split()[0], int(column.split()[1])))
    return pd.DataFrame(lines, columns=["notebook", "passed", "of", *columns, "remarks"]).fillna("")


def alike(rows):
    """By notebook and exercise the others with nearly the same words: for a person to look at."""
    answers, found = {}, {}
    for row in rows.values():
        for cell in (row.notebook or {"cells": []})["cells"]:
            if match := re.fullmatch(r"exercise-(\d+)", cell["id"]):
                words = re.findall(r"\w+|[^\w\s]", re.sub(r"#.*", "", cell["source"]))
                if "NotImplementedError" not in words and len(words) > 40:  # short ones are alike by chance
                    answers.setdefault((*row.chapters, match[1]), []).append((row.name, words))
    for key, given in answers.items():
        names, words = zip(*given)
        for one, two in np.argwhere(process.cdist(words, words, scorer=fuzz.ratio) >= ALIKE):
            if one != two:
                found.setdefault(names[one], {}).setdefault(key[-1], []).append(names[two])
    return found


def overview(frame):
    """For each exercise: how many were judged and passed, how it separates, and the most frequent mistakes."""
    share, lines = frame["passed"] / frame["of"].clip(lower=1), []
    for column in frame.columns[3:-1]:
        given = frame.loc[frame[column] != "", column]
        right = given == "passed"
        apart = share[given.index][right].mean() - share[given.index][~right].mean()
        often = given[~right].map(_cause).value_counts().head(5)
        mistakes = "; ".join(f"{n}× {cause}" for cause, n in often.items())
        lines.append([column, len(given), right.sum(), "" if np.isnan(apart) else f"{apart:+.0%}", mistakes])
    heads = ["exercise", "judged", "passed", "who passed it, passed so much more of all", "mistakes"]
    return pd.DataFrame(lines, columns=heads)


def _cause(message):
    if "for a person to look at" in message:
        return "for a person to look at"
    message = re.sub(r"^For \(.*?\): ", "", message)
    found = re.search(r"Likeliest cause: (.+?)(?:\.?\s*Hint:|\.?$)", message)
    return found[1] if found else re.split(r"[.:]( |$)", message)[0][:80]


def write(rows, passed_over, folder):
    """results.csv and results.html."""
    frame = table(rows, passed_over)
    frame = frame.map(lambda cell: re.sub(r"[\x00-\x1f]+", " ", cell) if isinstance(cell, str) else cell)  # no new line
    safe = frame.map(lambda cell: re.sub(r"^(?=[=+\-@])", "'", cell) if isinstance(cell, str) else cell)  # no formulas
    safe.to_csv(folder / "results.csv", index=False, encoding="utf-8-sig")  # by the mark a spreadsheet sees UTF-8
    with pd.option_context("display.max_colwidth", None):
        tables = [each.map(_cell).to_html(index=False, escape=False, border=0) for each in (overview(frame), frame)]
    (folder / "results.html").write_text(PAGE.format(tables="\n".join(tables)), encoding="utf-8")


def _cell(text):
    if text == "passed":
        return '<span class="passed">✓</span>'
    short, text = html.escape(str(text)[:50]), html.escape(str(text))
    return text if len(text) < 60 else f"<details><summary>{short}…</summary>{text}</details>"


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
