"""Every term that a chapter introduces, in bold, is in the glossary, which is in order."""

import json
import re

import pytest
from helpers import ROOT

CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
EMPHASIS = {"plain56-thin is slow, not stuck", "its residual twin does not have this problem"}  # no terms
FORMS = {  # as a sentence needs it: as the glossary has it
    "vanishes": "vanishing gradient",
    "shattered": "shattered gradients",
    "residual function": "residual",
    "depthwise": "depthwise convolution",
    "kernels": "kernel (gpu)",
    "nested": "function class",
}


def terms(cells):
    """The bold words of Markdown cells that are neither a label, which ends with a mark, nor a choice of a card."""
    for cell in cells:
        if cell["cell_type"] == "markdown":
            for bold in re.findall(r"\*\*([^*\n]+(?:\*[^*\n]+\*[^*\n]*)*)\*\*", "".join(cell["source"])):
                if bold[-1] not in ".:?" and not re.fullmatch(r"[A-D]", bold) and bold not in EMPHASIS:
                    yield bold


def entries(page):
    """The terms that a glossary explains: what stands in bold at the beginning of its paragraphs."""
    _, _, glossary = page.partition("## Glossary")
    for paragraph in glossary.strip().split("\n\n"):
        yield [term.rstrip(".").lower() for term in re.findall(r"\*\*(.+?)\*\*", paragraph)]


def missing(cells, page):
    known = {term for terms in entries(page) for term in terms}
    plain = {bold: re.sub(r"\d+ % |`", "", bold).lower() for bold in terms(cells)}
    return [
        bold for bold, term in plain.items() if not {term, f"{term}s", term.removesuffix("s"), FORMS.get(term)} & known
    ]


@pytest.fixture(scope="module")
def notation():
    return (ROOT / "book" / "notation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_term_of_a_chapter_is_in_the_glossary(path, notation):
    lacking = missing(json.loads(path.read_text(encoding="utf-8"))["cells"], notation)
    assert not lacking, f"put it into book/notation.md, or, if it is no term, into EMPHASIS: {lacking}"


def test_the_glossary_is_in_order(notation):
    heads = [terms[0] for terms in entries(notation)]
    assert heads == sorted(heads) and len(set(heads)) == len(heads)


@pytest.mark.parametrize(
    "prose, lacking",
    [
        ("A **skip connection** and **feature maps**.", []),
        ("A 95 % interval: a **95 % confidence interval**. It **vanishes**.", []),
        ("A **hyperplane**.", ["hyperplane"]),
        ("**Time:** an hour.\n\n- **A** One.\n- **That it helps.** It may not.", []),
        ("**B.** Right, and a **hyperplane** is none.", ["hyperplane"]),
    ],
)
def test_a_term_without_an_entry_is_found(prose, lacking, notation):
    assert missing([{"cell_type": "markdown", "source": prose}], notation) == lacking
