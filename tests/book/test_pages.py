"""The built pages in a real browser: no error, no other host, nothing cut off, and the chapter is there."""

import base64
import re
from pathlib import Path
from urllib.parse import urlsplit

import matplotlib
import pytest
from helpers import ROOT, foreign_requests, open_page, violations

PAGES = re.findall(r"book/[\w/]+", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
DEVICES = {"desktop": (1280, 900, "light"), "phone": (390, 844, "dark")}


@pytest.fixture(scope="module", params=PAGES)
def opened(request, browser, site):
    page = open_page(browser, f"{site}/{request.param}.html")
    yield page
    page.close()


@pytest.fixture(scope="module", params=DEVICES)
def visit(request, opened):
    """The page as a device shows it: opened once, for both."""
    width, height, scheme = DEVICES[request.param]
    opened.set_viewport_size({"width": width, "height": height})
    opened.emulate_media(color_scheme=scheme)
    opened.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
    return opened


def page_of(visit):
    """As in the table of contents: book/resnet18."""
    return urlsplit(visit.url).path.strip("/").removesuffix(".html")


def test_no_error_no_other_host_no_overflow(visit, site):
    assert visit.complaints == []
    assert foreign_requests(visit, site) == set()
    width = visit.viewport_size["width"]
    assert visit.evaluate("document.scrollingElement.scrollWidth") <= width
    too_wide = visit.evaluate(
        """width => [...document.querySelectorAll("main :is(img, p, li, table, pre, mjx-container)")]
            .filter(e => e.getBoundingClientRect().right > width + 1)
            .filter(e => { for (let p = e; p; p = p.parentElement)
                               if (["auto", "scroll", "hidden"].includes(getComputedStyle(p).overflowX)) return false;
                           return true })
            .map(e => e.outerHTML.slice(0, 100))""",
        width,
    )
    assert too_wide == []


def test_figures_have_alternative_text_and_load(visit):
    images = visit.evaluate(
        """[...document.querySelectorAll('main img')].map(e => [e.alt, e.complete && e.naturalWidth]).concat(
            [...document.querySelectorAll('main svg.whole')].map(e => [e.getAttribute("aria-label"), 1]))"""
    )
    assert all(len(alt) > 20 and "_images" not in alt and width > 0 for alt, width in images), images
    if (ROOT / f"{page_of(visit)}.ipynb").exists() and not re.search("benchmarks|exercises", visit.url):
        assert images


def test_the_lines_of_hatched_bars_are_seen(site):
    """In the page's colors, on a paler ground."""
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "_build/html/book").glob("*.html")]
    grounds = [ground for page in pages for ground in re.findall(r"<pattern\b[^>]*>\s*(<rect [^>]*>)", page)]
    assert len(grounds) >= 5 and all(re.search(r"fill: var\(--\w+\); fill-opacity: 0\.4", each) for each in grounds)


def test_a_chapter_has_a_figure_on_its_first_screen(visit):
    """Begun well within that of a laptop; whole within the first two of a phone."""
    if not (ROOT / f"{page_of(visit)}.ipynb").exists() or "exercises" in visit.url:
        return
    top, bottom = visit.evaluate(
        """() => [...document.querySelectorAll("main .vector svg")].map(e => e.getBoundingClientRect())
            .filter(box => box.height > 40).map(box => [box.top + scrollY, box.bottom + scrollY])[0]"""
    )
    width, height = visit.viewport_size.values()
    assert bottom <= 2 * height if width < 600 else top <= 0.6 * height


def test_on_paper_no_answer_and_no_figure_is_lost(visit):
    if visit.viewport_size["width"] < 600:
        return
    visit.emulate_media(media="print")
    visit.evaluate("dispatchEvent(new Event('beforeprint'))")
    lost = visit.evaluate(
        """[...document.querySelectorAll("article :is(svg.whole, pre, details > :not(summary), .predict, .cell)")]
            .filter(e => !e.closest(".lab") && (e.textContent.trim() || e.querySelector("img, svg")))
            .filter(e => e.getBoundingClientRect().height < 8 || getComputedStyle(e).animationName !== "none")
            .filter(e => getComputedStyle(e).display !== "inline").map(e => e.outerHTML.slice(0, 100))"""
    )
    theme = visit.evaluate("document.documentElement.dataset.theme")
    said = "e => getComputedStyle(e, '::before').content + getComputedStyle(e.firstElementChild).display"
    benches = visit.evaluate(f"[...document.querySelectorAll('.lab')].map({said})")
    visit.evaluate("dispatchEvent(new Event('afterprint'))")
    visit.emulate_media(media="screen")
    assert lost == [] and theme == "light"
    assert all("a bench of the live lab stands here" in each and each.endswith("none") for each in benches)


def test_axe_finds_nothing(visit):
    """With every fold open, as what is seen folded is seen then too; in the dark only the colours are others."""
    visit.add_style_tag(content="* { animation: none !important; transition: none !important }")
    dark = visit.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    visit.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    assert violations(visit, "article", {"runOnly": ["color-contrast"]} if dark else {}) == []
    visit.evaluate("document.querySelectorAll('details').forEach(each => { each.open = false })")


def test_formulas_are_set(visit):
    if visit.locator(".math").count():
        visit.wait_for_selector("mjx-container", state="attached")  # perhaps in a fold
    assert visit.locator("mjx-merror").count() == 0


def test_answers_are_folded(visit):
    """Of the exercises and predictions of a chapter; a click opens them."""
    answers = visit.locator("main details")
    if (ROOT / f"{page_of(visit)}.ipynb").exists() and "benchmarks" not in visit.url:
        assert answers.count() >= 5
    if answers.count():
        assert visit.locator("main details[open]").count() == 0
        answers.first.locator("summary").click()
        assert visit.locator("main details[open]").count() == 1
        answers.first.locator("summary").click()


def test_a_reader_with_a_wider_font_scrolls_no_more(visit):
    """DejaVu Sans, which Linux falls back to."""
    font = base64.b64encode(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf").read_bytes()).decode()
    face = f"@font-face {{ font-family: wide; src: url(data:font/ttf;base64,{font}) }}"
    style = visit.add_style_tag(content=f"{face} body :not(pre, pre *, i) {{ font-family: wide !important }}")
    visit.evaluate("document.fonts.load('16px wide')")
    assert visit.evaluate("document.fonts.check('16px wide')")
    assert visit.evaluate("document.scrollingElement.scrollWidth") <= visit.viewport_size["width"]
    style.evaluate("element => element.remove()")


def test_the_chapter_shows_what_was_trained(browser, site):
    page = browser.new_page()
    page.goto(f"{site}/book/resnet18.html")
    text = page.text_content("main")
    for shown in ("64×24×24", "11,178,378", "318,657,536", "seed 2: validation"):
        assert shown in text
    page.close()
