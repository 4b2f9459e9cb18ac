"""What the book cites is in its references, and what is there is cited."""

import re

import pytest
from helpers import ROOT

BOOK = ROOT / "book"
PAGES = [path for end in ("*.ipynb", "*.md") for path in BOOK.rglob(end)]


def cited(text):
    """The keys of a page's citations, of captions too."""
    return {key.strip() for keys in re.findall(r"\{cite[\w:]*\}`([^`]+)`", text) for key in keys.split(",")}


def entries(text):
    return re.findall(r"(?m)^@\w+\{([^,\s]+),", text)


@pytest.fixture(scope="module")
def keys():
    return entries((BOOK / "references.bib").read_text(encoding="utf-8"))


def test_every_citation_has_its_entry_and_every_entry_a_citation(keys):
    found = set().union(*(cited(path.read_text(encoding="utf-8")) for path in PAGES))
    assert found == set(keys), f"without an entry {found - set(keys)}, without a citation {set(keys) - found}"
    assert len(set(keys)) == len(keys)


def test_citations_and_entries_are_found():
    assert cited("{cite}`a2015b, c2016d` and {cite:t}`e2017f`, not `g2018h`") == {"a2015b", "c2016d", "e2017f"}
    assert entries("@misc{a2015b,\n  year = {2015},\n}\n\n@article{c2016d,\n}") == ["a2015b", "c2016d"]
