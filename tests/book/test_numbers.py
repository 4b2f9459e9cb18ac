"""Every number in prose is one that a cell of the page has, its own question, or a line with a citation.

On a page without cells it is one of its code, of programs that it describes, or of a chapter that the line links to.
"""

import re
from functools import cache

import nbformat
import pytest
from helpers import ROOT
from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.myst_role import myst_role_plugin

from d2lnets.data import CLASSES

MARKDOWN = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin).use(myst_role_plugin).use(colon_fence_plugin)
PROSE_INSIDE = re.compile(r"\{(note|tip|warning|admonition|seealso|grid[\w-]*|dropdown|table|figure)\}")
PLACES = re.compile(  # years, what numbers a place, and what tools/reading_time.py writes
    r"\d+ minutes to read, \d+ for the exercises"
    r"|\b(19|20)\d\d\b"
    r"|\b([Ee]xercises?|[Ss]eeds?|Sections?|Tables?|footnote|where|Python|BY) [\d.]+(, [\d.]+)*(,? (and|to) [\d.]+)?"
)
SCALES = {"%": (1, 100), "million": (1, 1e-6), "billion": (1, 1e-9), "thousand": (1, 1e-3)}
IN_PROSE = re.compile(rf"(?<![\w.\-/×^])(\d[\d,]*(?:\.\d+)?)(?![\w\-×]|\.\d) ?({'|'.join(SCALES)})?")
IN_CODE = re.compile(r"\d[\d,_]*(?:\.\d+)?(?:e[+-]?\d+)?")
DATA = {60_000, 55_000, 5_000, 10_000, 4_600, 28, len(CLASSES)}  # images: all, to train, validate, test, that ship
LEVEL = {95}  # per cent, of all intervals here
NOTEBOOKS = sorted((ROOT / "book").rglob("*.ipynb"))
WRITTEN = ("state", "references")  # by programs
PAGES = sorted(path for path in (ROOT / "book").glob("*.md") if path.stem not in WRITTEN)
DESCRIBED = {"teachers": ("course.toml", "sandbox.py", "worker.py")}  # in tools/course


def unaccounted(cells):
    """The numbers of the Markdown cells that nothing accounts for, each with its line."""
    known = (DATA | LEVEL).union(*(values(text) for cell in cells if cell.cell_type == "code" for text in texts(cell)))
    asked = set()
    for cell in cells:
        if cell.cell_type != "markdown":
            continue
        question = "**Predict.**" in cell.source or re.match(r"exercise-\d+-text|exercises-text", cell.id)
        if question or "answer" not in cell.metadata.get("tags", ()):
            asked = values(cell.source) if question else set()
        for line in sentences(cell.source):
            for match in IN_PROSE.finditer(PLACES.sub(" ", line)):
                if CITED not in line and not is_one_of(known | asked | linked(line), *match.groups()):
                    yield match[0].strip(), LINK.sub("", line).strip()


CITED = "{cite}"
LINK = re.compile(r"\(to (\w+)\)")


def linked(line):
    """The numbers of the chapters that a line links to."""
    return set().union(*(numbers_of(stem) for stem in LINK.findall(line)))


@cache
def numbers_of(stem):
    """All that the cells of a chapter have."""
    (path,) = (path for path in NOTEBOOKS if path.stem == stem)
    cells = nbformat.read(path, as_version=4).cells
    return set().union(*(values(text) for cell in cells if cell.cell_type == "code" for text in texts(cell)))


def sentences(source):
    """The lines of Markdown without code, formulas, links; a table in one with the line above it."""
    lines, table = [""], False
    for token in MARKDOWN.parse(source):
        if token.type in ("table_open", "table_close"):
            table = token.type == "table_open"
        elif token.type in ("fence", "colon_fence") and PROSE_INSIDE.match(token.info):
            lines += sentences(re.sub(r"\A(:[\w-]+:.*\n)+", "", token.content))
        elif token.type == "inline":
            text = "".join(prose_of(child) for child in token.children)
            lines[-1:] = [f"{lines[-1]} {text}"] if table else [lines[-1], *text.splitlines()]
    return lines


def prose_of(token):
    if token.type == "myst_role":
        return CITED if token.meta["name"].startswith("cite") else " "
    if token.type == "link_open" and (chapter := re.match(r"(?:exercises/)?(\w+)\.ipynb", token.attrs["href"])):
        return f" (to {chapter[1]}) "
    return token.content if token.type == "text" else "\n" if token.type == "softbreak" else " "


def values(text):
    """All numbers in code or in what it prints."""
    return {float(found.replace(",", "").replace("_", "")) for found in IN_CODE.findall(text)}


def texts(cell):
    """A code cell and what it printed, the labels of its figures too."""
    yield cell.source
    for output in cell.outputs:
        yield output.get("text", "")
        for kind, data in output.get("data", {}).items():
            if kind.startswith("text/"):
                yield data
            elif kind == "image/svg+xml":
                yield " ".join(re.findall(r">([^<]+)<", data))


def is_one_of(known, number, unit):
    """Whether a number, as rounded as it is written, is a known one."""
    digits = number.replace(",", "")
    half = 0.5001 * 10.0 ** -len(digits.partition(".")[2])
    return any(abs(value * scale - float(digits)) <= half for value in known for scale in SCALES.get(unit, (1,)))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_number_in_prose_is_accounted_for(path):
    lines = [f"{number}: {line}" for number, line in unaccounted(nbformat.read(path, as_version=4).cells)]
    assert not lines, "print it in a cell, cite it, or leave it out:\n" + "\n".join(lines)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_number_of_a_page_is_accounted_for(path):
    text = path.read_text(encoding="utf-8")
    described = [
        (ROOT / "tools" / "course" / name).read_text(encoding="utf-8") for name in DESCRIBED.get(path.stem, ())
    ]
    code = nbformat.v4.new_code_cell("\n".join([*re.findall(r"```python\n(.*?)```", text, re.DOTALL), *described]))
    lines = [f"{number}: {line}" for number, line in unaccounted([code, nbformat.v4.new_markdown_cell(text)])]
    assert not lines, "link to the chapter that prints it, cite it, or leave it out:\n" + "\n".join(lines)


@pytest.mark.parametrize(
    "prose, right",
    [
        ("It has 4,810 weights.", True),
        ("It has 4,811 weights.", False),
        ("About 4.8 thousand weights, 12 % of all.", True),
        ("About 4.9 thousand weights.", False),
        ("13 % of all.", False),
        ("In the paper 13 % {cite}`he2016deep`.", True),
        ("ResNet-50 has `17` blocks, $n = 99$, and 60,000 images.", True),
        ("Of 60,001 images.", False),
        ("ResNet-18 has 11,178,378 parameters.", False),
        ("ResNet-18 has 11,178,378 parameters ([here](resnet18.ipynb)).", True),
    ],
)
def test_a_number_from_nowhere_is_found(prose, right):
    code = nbformat.v4.new_code_cell("print(weights)\nshare = 0.1204")
    code.outputs = [nbformat.from_dict({"output_type": "stream", "name": "stdout", "text": "4810\n"})]
    assert (not list(unaccounted([code, nbformat.v4.new_markdown_cell(prose)]))) is right


def test_an_answer_may_repeat_its_question_and_later_prose_may_not():
    question = nbformat.v4.new_markdown_cell("**Predict.** Of 72 images?\n\n- **A** ...")
    answer = nbformat.v4.new_markdown_cell("All 72.", metadata={"tags": ["answer"]})
    assert not list(unaccounted([question, answer]))
    assert list(unaccounted([question, answer, nbformat.v4.new_markdown_cell("All 72.")])) == [("72", "All 72.")]
