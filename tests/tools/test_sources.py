"""What holds for every Python file here."""

import ast
import os
import re
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT

SOURCES = [
    path
    for folder in ("d2lnets", "tools", "benchmarks", "tests", "book/_extensions")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "node_modules" not in path.parts
]


def without_encoding(source):
    """The lines of calls that read or write text in whatever encoding the locale has."""
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call) or any(word.arg in ("encoding", None) for word in call.keywords):
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", None))
        words = {word.arg: getattr(word.value, "value", None) for word in call.keywords}
        arguments = [getattr(argument, "value", None) for argument in call.args]
        if name == "open":
            place = 1 if isinstance(call.func, ast.Name) else 0  # open(path, mode), path.open(mode)
            mode = words.get("mode", arguments[place] if len(arguments) > place else "r")
            text = isinstance(mode, str) and re.fullmatch("[rwaxt+]+", mode)  # else binary, or a Trace is opened
        else:
            text = name in ("read_text", "write_text") or words.get("text") or words.get("universal_newlines")
        if text:
            yield call.lineno


@pytest.mark.parametrize(
    "line, found",
    [
        ("path.read_text()", True),
        ("Path('x').write_text('é', newline='')", True),
        ("open(path)", True),
        ("open(path, 'w', newline='')", True),
        ("path.open('a')", True),
        ("path.open()", True),
        ("subprocess.run(command, text=True)", True),
        ("path.read_text(encoding='utf-8')", False),
        ("open(path, 'rb')", False),
        ("path.open(mode='wb')", False),
        ("trace.open('stem')", False),
        ("subprocess.run(command, encoding='utf-8')", False),
    ],
)
def test_the_rule_finds_what_names_no_encoding(line, found):
    assert bool(list(without_encoding(line))) == found


def test_text_is_read_and_written_in_a_named_encoding():
    """Or a Chinese Windows, whose locale has GBK, reads other characters, or none."""
    places = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        for line in without_encoding(path.read_text(encoding="utf-8"))
    ]
    assert len(SOURCES) > 80 and not places, f'write encoding="utf-8" in {", ".join(places)}'


@pytest.mark.skipif(not f"{ROOT}{sys.prefix}".isascii(), reason="in such a locale no library is found under this path")
def test_tools_and_package_work_in_a_locale_of_ascii(tmp_path):
    """And where the locale's encoding is asked for at all, Python is told to make an error of it."""
    shutil.copytree(ROOT / "book", tmp_path / "book", ignore=shutil.ignore_patterns("_static"))
    shutil.copy(ROOT / "README.md", tmp_path)
    program = f"""
import locale, warnings
from pathlib import Path
import fork, refresh, student_edition, d2lnets
from d2lnets.training import bench
from d2lnets.training.runs import load_experiment
assert locale.getpreferredencoding(False) != "UTF-8", locale.getpreferredencoding(False)
warnings.simplefilter("error", EncodingWarning)
here = Path({str(tmp_path)!r})
assert fork.fork("https://github.com/you/course", here) > 10
assert set(fork.addresses(here).values()) == {{"https://github.com/you/course"}}
assert any("\\xd7" in name for name in bench.Benchmark().results)  # as in 28\\xd728
student_edition.main(here / "handout")
assert d2lnets.load_runs("resnet20") and load_experiment("degradation")
assert refresh.place_in_the_book(refresh.BOOK / "resnet18.ipynb") > 0
"""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT / "tools")}
    before = (tmp_path / "book" / "googlenet.ipynb").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-c", program],
        env=os.environ | ascii_only,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    after = (tmp_path / "book" / "googlenet.ipynb").read_text(encoding="utf-8")
    assert after == re.sub(r'(?<=REPOSITORY = \\")[^"\\]*', "https://github.com/you/course", before)


def test_what_a_terminal_cannot_show_is_a_question_mark():
    done = subprocess.run(
        [sys.executable, "-m", "d2lnets", "trace", "resnet20"],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        encoding="ascii",
    )
    assert done.returncode == 0 and "1?28?28" in done.stdout, done.stderr
