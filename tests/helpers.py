"""What tests share."""

import copy
import http.server
import os
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parent.parent
HTML = ROOT / "_build" / "html"


def lacking(what, how_to_get_it):
    """Skip, saying what this machine lacks; in CI, where it must be there, fail."""
    message = f"no {what}: {how_to_get_it}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves the built book, and keeps no log."""

    def __init__(self, *args):
        super().__init__(*args, directory=HTML)

    def log_message(self, *args):
        pass


@contextmanager
def served(handler=QuietHandler):
    """The address of the built book, while it is served."""
    assert HTML.is_dir(), "no built book: run make book first"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


CHROMIUM = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
)  # the first needs the least time
BROWSER = next(filter(None, map(shutil.which, CHROMIUM)), None)


def open_page(browser, url, **options):
    """A page, opened and settled, that keeps what it asked for and what it complained about."""
    page = browser.new_page(**options)
    page.requested, page.complaints = [], []
    page.on("request", lambda request: page.requested.append(request.url))
    page.unanswered = set()
    page.on("request", lambda request: page.unanswered.add(request))
    page.on("requestfinished", lambda request: page.unanswered.discard(request))
    page.on("requestfailed", lambda request: page.unanswered.discard(request))
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(url)
    settle(page)
    return page


def settle(page):
    """Wait until a page has asked for nothing for a tenth of a second; networkidle waits for half a second."""
    quiet = 0
    while quiet < 4:
        page.wait_for_timeout(25)
        quiet = 0 if page.unanswered else quiet + 1


def foreign_requests(page, site):
    """What a page asked other hosts for."""
    return {url for url in page.requested if urlsplit(url).scheme not in ("data", "blob") and not url.startswith(site)}


def violations(page, place, options=None):
    """What axe finds wrong inside a place of the page; the theme around it is not ours.

    So that it ends in time, formulas, which MathJax draws, are a letter meanwhile, and code has each kind of word once.
    """
    page.add_script_tag(path=ROOT / "tools" / "node_modules" / "axe-core" / "axe.min.js")
    return page.evaluate(
        """async given => {
            const seen = new Set();
            const first = (word) => !seen.has(word.className) && seen.add(word.className);
            const words = (code) => [...code.querySelectorAll("span[class]")].filter(first).flatMap(e => [e, "\\n"]);
            const long = [...document.querySelectorAll("mjx-container, .highlight pre")];
            const parts = long.map(e => [...e.childNodes]);
            long.forEach(e => e.replaceChildren(...(e.matches("pre") ? words(e.cloneNode(true)) : ["x"])));
            const found = (await axe.run(...given)).violations.map(v => [v.id, v.nodes.map(n => n.html)]);
            long.forEach((e, i) => e.replaceChildren(...parts[i]));
            return found;
        }""",
        [place, {"resultTypes": ["violations"], **(options or {})}],
    )


def without(net, parts):
    """A copy of a network without what switches of `d2lnets.export.Switched` name, made without any switch."""
    cut = copy.deepcopy(net)
    for name in parts:
        layer, _, source = name.partition(".source")
        if source:  # the weights of a dense layer for what it is not to read
            block = cut.get_submodule(layer.rpartition(".")[0])
            edges = [0, *(each[0].num_features for each in block)]
            convolution = next(each for each in cut.get_submodule(layer) if isinstance(each, nn.Conv2d))
            convolution.weight.data[:, edges[int(source)] : edges[int(source) + 1]] = 0
        elif name.startswith("conv"):
            stage, number = name.split(".")
            cut.get_submodule(stage)[int(number)] = nn.Identity()
        else:
            cut.get_submodule(name).register_forward_hook(lambda layer, inputs, output: torch.zeros_like(output))
    return cut
