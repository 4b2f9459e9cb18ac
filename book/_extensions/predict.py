"""Predict cards: a question, its choices, and one reveal that holds everything that answers it.

In a notebook a card is a run of cells. A Markdown cell that begins with ``**Predict.**`` asks, and ends with a list
of choices, ``- **A** ...``; the cells after it that are tagged ``answer`` are the reveal. The last is Markdown: in a
``<details>`` for Jupyter, it begins with the right choice, ``**B.** ...``, and its list has a word on the others.
On the page the reveal is one fold, and predict.js makes buttons of the choices.
"""

import json
import re

QUESTION = "**Predict.**"
CHOICE = re.compile(r"^- \*\*([A-D])\*\* (.+)$", re.MULTILINE)
ANSWER = re.compile(r"<details>\n<summary>Answer</summary>\n\n\*\*([A-D])\.\*\* (.+)\n\n</details>", re.DOTALL)
REMARK = re.compile(r"^- \*\*([A-D])\*\*:? ", re.MULTILINE)


def cards(cells):
    """The cards of a notebook: for each the places of its question and of the cells of its reveal.

    Raises:
        ValueError: a card is not whole; the text says which and why.
    """
    found = []
    for place, cell in enumerate(cells):
        text = "".join(cell["source"])
        if cell["cell_type"] != "markdown" or not text.startswith(QUESTION) or not CHOICE.search(text):
            continue
        end = place + 1
        while end < len(cells) and "answer" in cells[end]["metadata"].get("tags", ()):
            end += 1
        last = "".join(cells[end - 1]["source"])
        answer = ANSWER.fullmatch(last)
        letters, remarks = [letter for letter, _ in CHOICE.findall(text)], REMARK.findall(last)
        if end == place + 1 or not answer:
            raise ValueError(
                f"the card {cell['id']!r} needs an answer: cells tagged answer, the last like {ANSWER.pattern}"
            )
        if letters != list("ABCD")[: len(letters)] or len(letters) < 2:
            raise ValueError(f"the card {cell['id']!r} needs two to four choices, A, B, ..., not {letters}")
        if sorted([answer[1], *remarks]) != letters:
            raise ValueError(
                f"the card {cell['id']!r} needs a word on each wrong choice of {letters}, not on {remarks}"
            )
        found.append((place, range(place + 1, end), answer[1]))
    return found


def frame(app, name, source):
    """Put the cards of a notebook between the tags that make them cards on the page."""
    if not app.env.doc2path(name).endswith(".ipynb"):
        return
    notebook = json.loads(source[0])
    cells = notebook["cells"]
    for place, answer, right in reversed(cards(cells)):
        last = cells[answer[-1]]
        last["source"] = ANSWER.sub(r"**\1.** \2", "".join(last["source"]))
        opened = f'<div class="predict" id="{cells[place]["id"]}" data-right="{right}">'
        begun = '<details class="reveal">\n<summary>See the answer</summary>'
        for at, tags in ((answer[-1] + 1, "</details>\n</div>"), (place + 1, begun), (place, opened)):
            cells.insert(at, {"id": f"predict-{place}-{at}", "cell_type": "markdown", "metadata": {}, "source": tags})
    source[0] = json.dumps(notebook)


def add_script(app, pagename, templatename, context, doctree):
    if '<div class="predict"' in context.get("body", ""):
        app.add_js_file("predict.js", type="module")


def setup(app):
    app.connect("source-read", frame)
    app.connect("html-page-context", add_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
