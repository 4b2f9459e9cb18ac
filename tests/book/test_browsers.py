"""Firefox and WebKit: the pages, a card and a bench. Chromium has the other tests of this folder.

Both by Selenium; Firefox without its driver, which Debian does not have, over the protocol that it speaks itself.
`make browsers` opens every page, the other commands the front page, a chapter, and the lab.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from helpers import HTML, ROOT, QuietHandler, foreign_requests, lacking, served

EVERY = re.findall(r"book/[\w/]+", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
PAGES = EVERY if os.environ.get("EVERY_PAGE") else ["book/index", "book/residual_block", "book/lab"]
WATCH = """<script>
window.complaints = [];
addEventListener("error", (event) => complaints.push(event.message ?? event.target.outerHTML), true);
addEventListener("unhandledrejection", (event) => complaints.push(String(event.reason)));
console.error = (...words) => complaints.push(words.join(" "));
</script>"""
SETTLED = "document.readyState === 'complete' && !document.querySelector('.math:not(:has(mjx-container))')"


class Firefox:
    """Without a window, over WebDriver BiDi."""

    binaries, package = ("firefox-esr", "firefox"), "firefox-esr"

    def __init__(self, binary):
        from selenium.webdriver.remote.websocket_connection import WebSocketConnection

        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [binary, "--headless", "--remote-debugging-port", "0", "--profile", self.profile.name]
        home = os.environ | {"HOME": self.profile.name}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", env=home)
        (address,) = next(filter(None, (re.findall(r"ws://\S+", line) for line in self.process.stderr)))
        self.connection = WebSocketConnection(f"{address}/session", timeout=60, interval=0.05)
        self.send("session.new", capabilities={})
        self.context = self.send("browsingContext.getTree")["contexts"][0]["context"]

    def send(self, method, **parameters):
        reply = self.connection.send_cmd(method, parameters)
        assert "error" not in reply, reply
        return reply["result"]

    def resize(self, width, height):
        size = {"width": width, "height": height}
        self.send("browsingContext.setViewport", context=self.context, viewport=size)

    def open(self, url):
        self.send("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def value(self, expression):
        text = f"Promise.resolve({expression}).then((value) => JSON.stringify(value ?? null))"
        target = {"context": self.context}
        done = self.send("script.evaluate", expression=text, target=target, awaitPromise=True)
        assert done["type"] == "success", done
        return json.loads(done["result"]["value"])

    def stroke(self, selector):
        """Draw a line across an element, as a hand would."""
        x, y, width, height = self.value(BOX.format(selector))
        path = [(x + part * width, y + part * height) for part in (0.3, 0.5, 0.7)]
        moves = [{"type": "pointerMove", "x": int(a), "y": int(b)} for a, b in path]
        actions = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:], {"type": "pointerUp", "button": 0}]
        hand = [{"type": "pointer", "id": "hand", "actions": actions}]
        self.send("input.performActions", context=self.context, actions=hand)

    def close(self):
        self.connection.close()
        self.process.terminate()
        self.process.communicate()
        self.profile.cleanup()


class WebKit:
    """GTK's small browser, on a screen that nobody sees."""

    binaries, package = ("WebKitWebDriver",), "webkit2gtk-driver"

    def __init__(self, driver):
        from selenium import webdriver

        if not shutil.which("Xvfb"):
            lacking("Xvfb", "install one, for example with apt-get install xvfb")
        read, write = os.pipe()
        command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1600x1200x24", "-nolisten", "tcp"]
        self.screen = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
        os.close(write)
        with os.fdopen(read) as display:
            number = display.readline().strip()
        options = webdriver.WebKitGTKOptions()
        options.binary_location = str(next(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser")))
        options.add_argument("--automation")
        flags = {"DISPLAY": f":{number}", "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1"}
        service = webdriver.WebKitGTKService(driver, env=os.environ | flags | {"WEBKIT_DISABLE_COMPOSITING_MODE": "1"})
        self.driver = webdriver.WebKitGTK(options=options, service=service)
        self.driver.set_script_timeout(60)

    def resize(self, width, height):
        """The inside of the window; a phone's width by a frame, since windows have a least one."""
        for _ in range(2):
            inside = self.value("[innerWidth, innerHeight]")
            outside = self.driver.get_window_size()
            self.driver.set_window_size(outside["width"] + width - inside[0], outside["height"] + height - inside[1])

    def open(self, url):
        self.driver.get(url)

    def value(self, expression):
        text = f"Promise.resolve({expression}).then((value) => arguments[0](JSON.stringify(value ?? null)))"
        return json.loads(self.driver.execute_async_script(text))

    def stroke(self, selector):
        from selenium.webdriver.common.action_chains import ActionChains

        canvas = self.driver.find_element("css selector", selector)
        width, height = canvas.size["width"], canvas.size["height"]
        step = int(0.2 * width), int(0.2 * height)
        chain = ActionChains(self.driver).move_to_element_with_offset(canvas, -step[0], -step[1])
        chain.click_and_hold().move_by_offset(*step).move_by_offset(*step).release().perform()

    def close(self):
        self.driver.quit()
        self.screen.terminate()
        self.screen.wait()


BOX = """(() => {{
    const {{ x, y, width, height }} = document.querySelector("{}").getBoundingClientRect();
    return [x, y, width, height];
}})()"""


@pytest.fixture(scope="module", params=[Firefox, WebKit], ids=["firefox", "webkit"])
def browser(request):
    pytest.importorskip("selenium")
    binary = next(filter(None, map(shutil.which, request.param.binaries)), None)
    if binary is None:
        lacking(request.param.__name__, f"install it, for example with apt-get install {request.param.package}")
    browser = request.param(binary)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def watched():
    """The built book on a server; each page begins with a script that keeps what goes wrong in it."""

    class Handler(QuietHandler):
        def do_GET(self):
            path = HTML / self.path.partition("?")[0].lstrip("/")
            if path.suffix != ".html":
                return super().do_GET()
            page = path.read_text(encoding="utf-8").replace("<head>", f"<head>{WATCH}", 1).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

    with served(Handler) as address:
        yield address


def wait_for(browser, expression, seconds=60):
    end = time.monotonic() + seconds
    while not browser.value(f"!!({expression})"):
        assert time.monotonic() < end, f"still not so: {expression}"
        time.sleep(0.1)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_whole(page, browser, watched):
    """No error, no other host, all pictures there, nothing wider than the window, formulas set."""
    browser.resize(1280, 900)
    browser.open(f"{watched}/{page}.html")
    wait_for(browser, SETTLED)
    browser.requested = browser.value("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert foreign_requests(browser, watched) == set() and len(browser.requested) > 5
    assert browser.value("[...document.images].filter((e) => e.loading !== 'lazy' && !e.naturalWidth).length") == 0
    for width in (1280, 390):
        browser.resize(width, 900)
        assert browser.value("document.scrollingElement.scrollWidth - innerWidth") <= 0, width
        narrow = (
            "[...document.querySelectorAll('main .vector')].map((e) => [e.id, e.offsetWidth]).filter((e) => e[1] < 50)"
        )
        assert browser.value(narrow) == []
    assert browser.value("complaints") == []


def test_a_choice_is_kept_and_counted(browser, watched):
    browser.resize(1280, 900)
    browser.open(f"{watched}/book/residual_block.html")
    wait_for(browser, "document.querySelector('.predict button')")
    right = browser.value("document.querySelector('.predict').dataset.right")
    browser.value(f"document.querySelector('.predict button[data-letter={right}]').click()")
    assert browser.value("document.querySelector('.predict details.reveal').open")
    browser.open(f"{watched}/book/residual_block.html?again")
    wait_for(browser, "document.querySelector('.predict button[aria-pressed=true]')")
    assert "You were right on" in browser.value("document.querySelector('.tally').innerText")
    browser.value("document.querySelector('.tally button').click()")
    assert browser.value("complaints") == []


def test_a_network_answers_to_what_is_drawn(browser, watched):
    browser.resize(1280, 900)
    browser.open(f"{watched}/book/lab.html")
    bench = "document.querySelector('[data-bench=look]')"
    wait_for(browser, f"{bench}.querySelector('button')")
    browser.value(f"{bench}.querySelector('button').click()")
    said = f"{bench}.querySelector('.lab-verdict')?.textContent"
    wait_for(browser, f"/%. The label/.test({said})")
    centre = "{ block: 'center', behavior: 'instant' }"
    browser.value(f"{bench}.querySelector('canvas[tabindex]').scrollIntoView({centre})")
    browser.stroke("[data-bench=look] canvas[tabindex]")
    wait_for(browser, f"/Drawn on/.test({said})")
    assert browser.value("complaints") == []


def test_the_other_benches_answer_too(browser, watched):
    """A race of some steps, an epoch of either record, a link and a path taken out, and the bottleneck's width."""
    browser.resize(1280, 900)
    browser.open(f"{watched}/book/lab.html")

    def bench(name, does, first=""):
        place = f"document.querySelector('.lab[data-bench={name}]{first}')"
        wait_for(browser, f"{place}?.querySelector('button, input')")
        return f"{place}.{does}"

    def said(text, *where):
        name, *first = where
        wait_for(browser, f"/{text}/.test({bench(name, 'textContent', *first)})")

    networks = "[data-first=networks]"
    for where in (["race"], ["scrub"], ["scrub", networks], ["links"], ["paths"]):
        browser.value(bench(where[0], "querySelector('button').click()", *where[1:]))
    said("One step", "race")
    browser.value(bench("race", "querySelector('.lab-start').click()"))
    said("Step [1-9]", "race")
    browser.value(bench("race", "querySelector('.lab-start').click()"))
    for text, *where in (
        ("After epoch 80: plain56-thin is wrong on", "scrub"),
        ("After epoch 4: plain56 is wrong on", "scrub", networks),
        ("do 1.6 times its work", "bottleneck"),
    ):
        slider = bench(where[0], "querySelector('input[type=range]')", *where[1:])
        wait_for(browser, slider)
        browser.value(f"(({slider}).value = ({slider}).max, ({slider}).dispatchEvent(new Event('input')))")
        said(text, *where)
    for text, name in (("without dense1 1 ← input: 399", "links"), ("without 3a 1×1: 402", "paths")):
        box = bench(name, "querySelector('input[type=checkbox]')")
        wait_for(browser, box)
        browser.value(f"({box}).click()")
        said(text, name)
    assert browser.value("complaints") == []
