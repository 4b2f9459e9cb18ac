"""A browser, and the built book on a server."""

import functools
import http.server
import threading

import pytest
from helpers import BROWSER, HTML, lacking
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        lacking("Chromium or Chrome", "install one, for example with apt-get install chromium")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-gpu"]
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
