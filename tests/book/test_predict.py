"""Predict cards: whole, nothing told before it is asked for, and on the page a choice that is kept."""

import copy
import json
import re

import folds
import predict
import pytest
from helpers import ROOT, open_page, violations

NOTEBOOKS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "book").rglob("*.ipynb")}
CARDS = [
    pytest.param(notebook["cells"], *card, id=f"{name}-{notebook['cells'][card[0]]['id']}")
    for name, notebook in NOTEBOOKS.items()
    for card in predict.cards(notebook["cells"])
]
PAGE = "book/residual_block.html"


def source(cell):
    return "".join(cell["source"])


@pytest.mark.parametrize("cells, place, answer, right", CARDS)
def test_no_answer_lies_in_the_open(cells, place, answer, right):
    """What the cells of a card print, and the words of its answer, are not in what stands beside it."""
    inside = [cells[i] for i in answer]
    printed = [
        line.strip()
        for cell in inside
        for output in cell.get("outputs", ())
        for line in "".join(output.get("text", "")).splitlines()
    ]
    told = re.findall(r"[\w ,'’-]{25,}", source(inside[-1])) + [line for line in printed if len(line) > 8]
    after = next((i for i, cell in enumerate(cells) if i > answer[-1] and source(cell).startswith("## ")), len(cells))
    beside = " ".join(source(cells[i]) for i in (place - 1, place, *range(answer[-1] + 1, after)))
    assert told and not [words for words in told if words.strip() in beside]
    assert all("assert" not in source(cells[i]) for i in (place - 1, place))


@pytest.mark.parametrize("cells, place, answer, right", CARDS)
def test_a_card_reads_well_in_a_notebook(cells, place, answer, right):
    """Its question ends with the choices; the answer is folded, and shows as Markdown in Colab too."""
    question, last = source(cells[place]), source(cells[answer[-1]])
    assert re.search(r"\n\n(- \*\*[A-D]\*\* .+\n?)+$", question)
    assert not re.search(r":::|```\{", question + last)
    assert not any(source(cells[i]).startswith("#") for i in answer)


def test_the_right_choice_is_not_always_the_same():
    for name, notebook in NOTEBOOKS.items():
        rights = [right for _, _, right in predict.cards(notebook["cells"])]
        assert len(rights) < 3 or len(set(rights)) > 1, name


def markdown(text, *tags):
    return {"id": "it", "cell_type": "markdown", "metadata": {"tags": list(tags)}, "source": text}


ASKED = markdown("**Predict.** How many?\n\n- **A** One.\n- **B** Two.")
TOLD = "<details>\n<summary>Answer</summary>\n\n**{}.** So it is.\n\n- **{}** is not.\n\n</details>"


@pytest.mark.parametrize(
    "cells, why",
    [
        ([ASKED], "needs an answer"),
        ([ASKED, markdown(TOLD.format("A", "B"))], "needs an answer"),  # not tagged
        ([ASKED, markdown("**A.** So it is.", "answer")], "needs an answer"),  # not folded
        ([ASKED, markdown(TOLD.format("A", "A"), "answer")], "a word on each wrong choice"),
        ([ASKED, markdown(TOLD.format("C", "B"), "answer")], "a word on each wrong choice"),
        ([markdown("**Predict.** How?\n\n- **B** One."), markdown(TOLD.format("B", "A"), "answer")], "two to four"),
    ],
)
def test_a_card_that_is_not_whole_ends_the_build(cells, why):
    with pytest.raises(ValueError, match=f"the card 'it' .*{why}"):
        predict.cards(cells)


def test_a_card_is_one_frame_around_its_cells():
    cells = [ASKED, {**markdown("1 + 1", "answer"), "cell_type": "code"}, markdown(TOLD.format("B", "A"), "answer")]
    assert predict.cards(cells) == [(0, range(1, 3), "B")]
    text = [json.dumps({"cells": copy.deepcopy(cells)})]

    class App:
        class env:
            doc2path = staticmethod(lambda name: f"{name}.ipynb")

    predict.frame(App, "it", text)
    framed = [source(cell) for cell in json.loads(text[0])["cells"]]
    assert framed[0] == '<div class="predict" id="it" data-right="B">' and framed[-1] == "</details>\n</div>"
    assert framed[2].startswith('<details class="reveal">') and framed[4].startswith("**B.** So it is.")


@pytest.mark.parametrize(
    "code, alone",
    [
        ("plots.draw_residual()", True),
        ("plots.compare_runs(runs)\nplots.plot_rate(\n    {}\n)", True),
        ("x = plots.draw_residual()", False),
        ("plots.draw_residual()\nassert True", False),
        ("print(1)", False),
        ("", False),
    ],
)
def test_calls_that_only_draw_are_known(code, alone):
    assert folds.only_draws(code) == alone


@pytest.mark.parametrize(
    "code, alone",
    [
        ("assert a < b", True),
        ("assert a < b\nprint('less')", True),
        ("print(a)\nassert a == 1\nassert b", True),
        ("print(a)", False),
        ("a = 1\nassert a", False),
        ("net.train()\nassert net.training", False),
    ],
)
def test_a_cell_that_only_checks_is_folded(code, alone):
    assert folds.only_checks(code) == alone


# In the browser


@pytest.fixture
def page(browser, site):
    page = open_page(browser, f"{site}/{PAGE}")
    yield page
    assert page.complaints == []
    page.close()


def cards(page):
    return page.locator("div.predict")


def choose(card, right):
    letter = card.get_attribute("data-right")
    other = "A" if letter != "A" else "B"
    card.locator(f"button[data-letter={letter if right else other}]").click()
    return letter, other


def test_one_chooses_and_sees_and_the_chapter_counts(page):
    assert page.locator(".tally").is_hidden() and cards(page).count() >= 4
    first, second = cards(page).nth(0), cards(page).nth(1)
    assert first.locator("details.reveal[open]").count() == 0
    letter, other = choose(first, right=False)
    assert first.locator("details.reveal[open]").count() == 1
    assert first.locator(".predict-verdict").inner_text() == f"You chose {other}. It is {letter}."
    assert first.locator("li.yours").inner_text().startswith(other)
    letter, _ = choose(second, right=True)
    assert second.locator(".predict-verdict").inner_text() == f"You chose {letter}. It is right."
    tally = page.locator(".tally")
    assert "You were right on 1 of 2." in tally.inner_text() and "wait for your choice" in tally.inner_text()
    link = tally.locator("a")
    assert link.count() == 1 and link.get_attribute("href") == f"#{first.get_attribute('id')}"

    page.reload(wait_until="networkidle")
    assert cards(page).nth(0).locator("button[aria-pressed=true]").get_attribute("data-letter") == other
    assert "You were right on 1 of 2." in page.locator(".tally").inner_text()
    page.get_by_role("button", name="Clear my choices").click()
    assert page.locator(".tally").is_hidden()
    page.reload(wait_until="networkidle")
    assert page.locator("button[aria-pressed=true]").count() == 0


def test_by_keyboard_and_without_choosing(page):
    card = cards(page).first
    card.locator("button").first.focus()
    page.keyboard.press("Enter")
    assert card.locator("button[aria-pressed=true]").count() == 1
    other = cards(page).nth(1)
    other.get_by_text("See the answer without choosing").click()
    assert other.locator("details.reveal[open]").count() == 1 and other.locator(".predict-verdict").is_hidden()


def test_all_right_is_said(page):
    for card in cards(page).all():
        choose(card, right=True)
    assert re.search(r"You were right on all \d\.$", page.locator(".tally p").first.inner_text())


def test_without_javascript_a_card_is_a_question_and_a_fold(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}/{PAGE}")
    card = cards(page).first
    assert card.locator("li").first.inner_text().startswith("A")
    card.get_by_text("See the answer").click()
    assert card.get_by_text("The last ReLU clips").is_visible()
    context.close()


def test_without_storage_the_page_forgets_and_works(browser, site):
    page = browser.new_page()
    page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('no') } })")
    page.goto(f"{site}/{PAGE}", wait_until="networkidle")
    choose(cards(page).first, right=True)
    assert "It is right." in cards(page).first.locator(".predict-verdict").inner_text()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_cards_that_were_answered(browser, site, scheme):
    page = open_page(browser, f"{site}/{PAGE}", color_scheme=scheme)
    for card in cards(page).all():
        choose(card, right=False)
    assert violations(page, "article") == []
    page.close()


def test_on_paper_every_fold_is_open(page):
    choose(cards(page).first, right=True)
    before = page.locator("article details[open]").count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("article details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("article details[open]").count() == before == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_figures_are_of_the_page(browser, site, scheme, width):
    """Text in the page's colour and font; on a phone each panel is as wide as the page, and drawn."""
    page = open_page(browser, f"{site}/{PAGE}", color_scheme=scheme, viewport={"width": width, "height": 800})
    text = page.locator(".vector text").first
    expected = page.locator("article p").first
    for name in ("color", "font-family"):
        own, theirs = (each.evaluate(f"e => getComputedStyle(e)['{name}']") for each in (text, expected))
        assert own == theirs
    figure = page.locator(".vector.stacks").first
    panels = figure.locator("> div > svg")
    if width > 600:
        assert panels.first.is_hidden() and figure.locator("svg.whole").bounding_box()["width"] > 500
    else:
        boxes = [panel.bounding_box() for panel in panels.all()]
        assert all(box["width"] > 250 for box in boxes) and boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"]
    ids = page.evaluate("[...document.querySelectorAll('.vector [id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    page.close()
