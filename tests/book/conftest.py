"""A browser, and the built book on a server."""

import pytest
from helpers import BROWSER, lacking, served
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        lacking("Chromium or Chrome", "install one, for example with apt-get install chromium-headless-shell")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=BROWSER, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site():
    with served() as address:
        yield address
