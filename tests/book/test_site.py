"""What the site has around its pages: descriptions, entrance, icons, and little to load."""

import gzip
import os
import re
import time
from urllib.parse import urlsplit

import pytest
import whole_site
from helpers import HTML, ROOT, QuietHandler, open_page, served

PAGES = re.findall(r"book/[\w/]+", (ROOT / "_toc.yml").read_text(encoding="utf-8"))


def text_of(name):
    assert HTML.is_dir(), "no built book: run make book first"
    return (HTML / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_a_description_of_its_own(name):
    description = re.search(r'<meta name="description" content="([^"]+)">', text_of(f"{name}.html"))[1]
    assert 20 < len(description) < 700 and "&lt;" not in description
    assert f'<meta property="og:description" content="{description}">' in text_of(f"{name}.html")


def test_there_is_a_picture_for_those_who_send_an_address():
    """A PNG of the size that is asked for; its width and height stand in bytes 16 to 23."""
    head = (HTML / "_static" / "social.png").read_bytes()[:24]
    assert head[1:4] == b"PNG" and (int.from_bytes(head[16:20]), int.from_bytes(head[20:24])) == (1200, 630)


def test_an_exercise_that_waits_is_an_invitation():
    """And what the check says in a notebook stays what it is."""
    page = text_of("book/residual_block.html")
    assert page.count('<div class="verdict invitation"><strong>Your turn.</strong> Still to be written:') == 3
    assert "Not yet." not in page and page.count("<strong>Passed.</strong>") == 3
    assert "Not yet. Still to be written" in (ROOT / "book" / "residual_block.ipynb").read_text(encoding="utf-8")


def test_the_entrance_and_the_page_for_the_lost_have_title_language_and_a_way_on():
    for name in ("index.html", "404.html"):
        page = text_of(name)
        assert '<html lang="en">' in page and "<title>Residual, Inception and Dense Networks</title>" in page
        assert re.search(r'<a href="book/index.html">', page)


FOLD = re.compile(r"<summary[^>]*>.*?</summary>", re.DOTALL)


def test_every_fold_has_a_name():
    """Those of the sidebar too, for who hears the page."""
    folds = [fold for path in (HTML / "book").glob("*.html") for fold in FOLD.findall(path.read_text(encoding="utf-8"))]
    assert len(folds) > 300
    assert [each for each in folds if "aria-label" not in each and not re.sub(r"<[^>]*>", "", each).strip()] == []


HEAVY = ("residual_block", "resnet50", "googlenet", "densenet")  # formulas and many figures


@pytest.mark.parametrize(
    "name, most", [("book/index", 200), ("book/lab", 200), *((f"book/{chapter}", 500) for chapter in HEAVY)]
)
def test_a_page_is_light(browser, site, name, most):
    """Kilobytes, gzipped as a server sends them, until the page is at rest; without the lab, which one starts."""
    page = browser.new_page()
    responses = []
    page.on("response", lambda response: responses.append(response))
    page.goto(f"{site}/{name}.html", wait_until="networkidle")
    sizes = {urlsplit(each.url).path: len(gzip.compress(each.body())) // 1000 for each in responses}
    assert sum(sizes.values()) <= most, sorted(sizes.items(), key=lambda item: -item[1])[:6]
    assert not any("fontawesome" in path for path in sizes)
    assert any("mathjax" in path for path in sizes) == (most == 500)
    page.close()


def test_every_icon_is_in_the_font(browser, site):
    page = open_page(browser, f"{site}/book/index.html")
    drawn = page.evaluate(
        """() => [...document.querySelectorAll("i.fa-solid, span.fa-solid")].map(icon => {
            const style = getComputedStyle(icon, "::before");
            return [style.content.replaceAll('"', ""), style.fontFamily] })"""
    )
    from fontTools.ttLib import TTFont

    font = TTFont(HTML / "_static" / "icons.woff").getBestCmap()
    assert len(drawn) > 5
    for content, family in drawn:
        assert ord(content) in font and "Font Awesome" in family
    page.close()


def test_a_small_page_is_whole():
    page = whole_site.small_page("A & B", "<p>Hello</p>")
    assert page.startswith("<!doctype html>") and "<title>A &amp; B</title>" in page and "<h1>A &amp; B</h1>" in page


def test_the_cards_are_numbered_as_the_chapters_are():
    cards = re.findall(
        r"grid-item-card\} (\d+)\. (.*)\n(?::.*\n)*?:link: (\w+)",
        text := (ROOT / "book" / "index.md").read_text(encoding="utf-8"),
    )
    assert len(cards) == text.count("grid-item-card") == 11
    for number, title, name in cards:
        assert f"<title>{number}. {title} &#8212;" in text_of(f"book/{name}.html")


@pytest.mark.parametrize(
    "words, chapter",
    [
        ("skip connection", "The residual block"),
        ("feature map", ""),
        ("residual", "The residual block"),
        ("bottleneck", "Bottlenecks and ResNet-50"),
        ("shattered gradients", "The residual block"),
    ],
)
def test_a_search_finds_the_chapter_first(browser, site, words, chapter):
    page = open_page(browser, f"{site}/search.html?q={words.replace(' ', '+')}")
    page.locator("#search-results li a").first.wait_for()
    page.wait_for_timeout(500)
    found = page.locator("#search-results li > a").all_inner_texts()
    assert re.match(r"\d+\. ", found[0]) and chapter in found[0], found[:5]
    page.close()


@pytest.fixture(scope="module")
def packed():
    """The site as most servers send it: text packed."""

    class Handler(QuietHandler):
        def do_GET(self):
            path = HTML / urlsplit(self.path).path.lstrip("/")
            if not path.is_file():
                return self.send_error(404)
            body = gzip.compress(path.read_bytes())
            self.send_response(200)
            self.send_header("Content-Type", self.guess_type(path))
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with served(Handler) as address:
        yield address


def test_the_first_figure_is_seen_soon(browser, packed):
    """On what browsers call slow 4G: 1.6 megabits a second, 150 ms to and fro, nothing kept from before."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    line = page.context.new_cdp_session(page)
    line.send("Network.enable")
    speed = {"downloadThroughput": 1.6e6 / 8, "uploadThroughput": 750e3 / 8, "latency": 150}
    line.send("Network.emulateNetworkConditions", {"offline": False, **speed})
    begin = time.monotonic()
    page.goto(f"{packed}/book/residual_block.html", wait_until="commit")
    page.wait_for_function(
        "document.querySelector('.vector')?.getBoundingClientRect().height > 100"
        " && performance.getEntriesByName('first-contentful-paint').length"
    )
    assert time.monotonic() - begin < 2.5
    page.close()


def test_a_page_is_built_where_a_style_has_changed(tmp_path):
    """Sphinx copies styles and scripts only then."""

    class App:
        confdir, outdir = tmp_path / "book", tmp_path / "html"

        class config:
            html_static_path, root_doc = ("styles",), "index"

    source, copy = App.confdir / "styles" / "a.css", App.outdir / "_static" / "a.css"
    for path in (source, copy):
        path.parent.mkdir(parents=True)
        path.write_text("", encoding="utf-8")
    os.utime(copy, (2, 2))
    for changed, expected in ((1, []), (3, ["index"])):
        os.utime(source, (changed, changed))
        assert whole_site.stale(App, None, set(), set(), set()) == expected
    copy.unlink()
    assert whole_site.stale(App, None, set(), set(), set()) == ["index"]
