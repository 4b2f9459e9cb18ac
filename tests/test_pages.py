"""The built pages in a real browser: no error, no other host, nothing cut off, and the chapter is there."""

import functools
import http.server
import re
import shutil
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import lacking
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
HTML = ROOT / "_build" / "html"
PAGES = re.findall(r"book/\w+", (ROOT / "_toc.yml").read_text())
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        lacking("Chromium or Chrome", "install one, for example with apt-get install chromium")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=BROWSER, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site():
    assert HTML.is_dir(), "no built book: run make book first"

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=HTML))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(
    scope="module",
    params=[(page, size, scheme) for page in PAGES for size in SIZES for scheme in ("light", "dark")],
    ids="-".join,
)
def visit(request, browser, site):
    """A page, opened and settled, with what it asked for and complained about."""
    page_name, size, scheme = request.param
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.requested, page.complaints = [], []
    page.on("request", lambda request: page.requested.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(f"{site}/{page_name}.html", wait_until="networkidle")
    yield page
    page.close()


def page_of(visit):
    """As in the table of contents: book/resnet18."""
    return urlsplit(visit.url).path.strip("/").removesuffix(".html")


def test_no_error_no_other_host_no_overflow(visit, site):
    assert visit.complaints == []
    assert {url for url in visit.requested if urlsplit(url).scheme != "data" and not url.startswith(site)} == set()
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
        "[...document.querySelectorAll('main img')].map(e => [e.src, e.alt, e.complete && e.naturalWidth])"
    )
    assert all(len(alt) > 20 and "_images" not in alt and width > 0 for _, alt, width in images), images
    if (ROOT / f"{page_of(visit)}.ipynb").exists() and "benchmarks" not in visit.url:
        assert images


def test_formulas_are_set(visit):
    if visit.locator(".math").count():
        visit.wait_for_selector("mjx-container")
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


def test_the_chapter_shows_what_was_trained(browser, site):
    page = browser.new_page()
    page.goto(f"{site}/book/resnet18.html")
    text = page.text_content("main")
    for shown in ("64×24×24", "11,178,378", "318,657,536", "seed 2: validation"):
        assert shown in text
    page.close()
