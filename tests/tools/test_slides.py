"""Slides: what is on them, from which chapter, and that they need nobody else."""

import re

import nbformat
import pytest
import slides
from helpers import BROWSER, lacking, open_page
from playwright.sync_api import sync_playwright

CHAPTERS = sorted(path.stem for path in slides.BOOK.glob("*.ipynb"))


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_card_is_a_question_with_its_answer_below(name):
    notebook = nbformat.read(slides.BOOK / f"{name}.ipynb", as_version=4)
    cells = slides.slides(notebook, name).cells
    kinds = [(cell.metadata.slideshow.slide_type, cell.source) for cell in cells]
    on = "\n".join(text for kind, text in kinds if kind != "notes")
    assert "# @title" not in on and "REPOSITORY" not in on and not re.search(r"{\w+}`|```{|class=.lab|<details", on)
    asked = [i for i, (_, text) in enumerate(kinds) if text.startswith("## Predict")]
    assert len(asked) == sum(cell.source.startswith(slides.CARD) for cell in notebook.cells)
    for place in asked:
        assert kinds[place][0] == "slide" and kinds[place + 1] == ("subslide", "### Answer")


def test_no_two_sources_are_cited_alike():
    keys = re.findall(r"@\w+{([^,]+),", (slides.BOOK / "references.bib").read_text(encoding="utf-8"))
    assert len({slides.cited(key) for key in keys}) == len(keys) > 50
    assert slides.cited("he2016deep, he2016identity") == "[He et al., 2016a; He et al., 2016b]"


def test_the_slides_of_the_first_meeting_fit_and_work_offline():
    """In a browser: no other host, no error, nothing beyond the edge, every figure and formula drawn."""
    if not BROWSER:
        lacking("Chromium or Chrome", "apt-get install chromium")
    path = slides.write("function_classes")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = open_page(browser, path.as_uri(), viewport={"width": 1280, "height": 720})
        page.wait_for_function("window.Reveal && Reveal.isReady()")
        assert not [url for url in page.requested if not url.startswith(("file:", "data:", "blob:"))]
        assert not page.complaints
        said = page.evaluate("""() => Reveal.getSlides().map((slide) => {
            Reveal.slide(...Object.values(Reveal.getIndices(slide)));
            const inner = [...slide.querySelectorAll("p, li, pre, td, img, svg, h2")];
            const boxes = inner.filter((it) => !it.closest(".notes")).map((it) => it.getBoundingClientRect());
            return [Math.max(...boxes.map((it) => it.right)), Math.max(...boxes.map((it) => it.bottom)),
                    Number(slide.style.zoom || 1), slide.querySelectorAll("mjx-merror").length];
        })""")
        browser.close()
    assert len(said) > 30
    for right, bottom, zoom, errors in said:
        assert right <= 1280 and bottom <= 720 and zoom > 0.6 and not errors, said
