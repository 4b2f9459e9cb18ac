"""Slides from a chapter, by nbconvert and reveal.js: ``python tools/slides.py function_classes``.

A slide has a figure, a formula, a list, a table or a short program with what it prints; a Predict card is a slide for
the question, and the answer lies below it. What the chapter says in between becomes the speaker's notes (key S). A
bench is a link to the page of the book. All that a slide needs lies beside it in ``_build/slides``.
"""

import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
from jinja2 import DictLoader
from nbconvert import SlidesExporter
from traitlets.config import Config

ROOT = Path(__file__).parent.parent
BOOK, OUT = ROOT / "book", ROOT / "_build" / "slides"
BENCH = re.compile(r'(?:^\(In a notebook .*\n\n)?<div class="lab" data-bench="(\w+)"></div>', re.MULTILINE)
CARD = "**Predict.**"
ANSWER = re.compile(r"<details>\n<summary>Answer</summary>\n\n(.+)\n\n</details>", re.DOTALL)
TEMPLATE = """{%- extends 'reveal/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}
<script>
MathJax = {
  loader: {load: ["core", "input/tex", "output/chtml"]},
  tex: {inlineMath: [["$", "$"]]},
  startup: {typeset: false}
};
</script>
<script defer src="mathjax/startup.js"></script>
{%- endblock -%}
{%- block html_head_css -%}<link rel="stylesheet" href="slides.css">{%- endblock -%}
{%- block footer_js -%}
<script src="reveal/dist/reveal.js"></script>
<script src="reveal/plugin/notes/notes.js"></script>
<script src="slides.js"></script>
{%- endblock -%}
"""


def cited(keys):
    """[He et al., 2016], from the book's references."""
    text, said = (BOOK / "references.bib").read_text(encoding="utf-8"), []
    for key in keys.split(","):
        entry = re.search(rf"@\w+{{{re.escape(key.strip())},(.*?)\n}}", text, re.DOTALL)[1]
        authors = re.search(r"author\s*=\s*{(.*?)},?\n", entry, re.DOTALL)[1].split(" and ")
        names = [name.partition(",")[0].strip("{} ") for name in authors]
        who = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
        said.append(f"{who}, {re.search(r'year *= *{?([0-9]+[a-z]?)', entry)[1]}")
    return f"[{'; '.join(said)}]"


def plain(text):
    """MyST's roles, formulas and links as nbconvert understands them."""
    formula = re.compile(r"```{math}\n(?::label:[^\n]*\n)?\n?(.*?)\n```", re.DOTALL)
    text = formula.sub(lambda found: f"$$ {' '.join(found[1].split())} $$", text)
    text = re.sub(r"{cite}`([^`]+)`", lambda found: cited(found[1]), text)
    text = re.sub(r"{numref}`[^`]+`", "the figure", text)
    text = re.sub(r"{eq}`[^`]+`", "the formula", text)
    return re.sub(r"\[([^]]*)\]\(([\w/]+)\.(?:ipynb|md)(#\S+)?\)", _linked, text)


def _linked(found):
    name, page, place = found[1], found[2], found[3] or ""
    return f"[{name or page.rpartition('/')[2].replace('_', ' ')}](../html/book/{page}.html{place})"


def shown(text, name):
    """What of a text goes on slides: a heading and the first sentence after it; formulas, lists, tables and benches."""
    text = BENCH.sub(lambda it: f"\n\n- [Open the bench *{it[1]}* in the book](../html/book/{name}.html)", text)
    kept, lead = [[]], ""
    for part in filter(None, map(str.strip, text.split("\n\n"))):
        if part.startswith("#"):
            kept.append([part])
        elif part.startswith(("$$", "- ", "1. ", "| ")):
            kept[-1] += [lead, part] if lead and lead not in kept[-1] else [part]
            lead = ""
            continue
        elif kept[-1] and kept[-1][-1].startswith("#"):
            kept[-1].append(part.partition("\n")[0])
        lead = part.rpartition("\n")[2]
    return ["\n\n".join(each) for each in kept if each]


def slides(notebook, name):
    """The cells of a chapter as those of its slides."""
    made, section, answering = [], "", False

    def add(kind, text):
        made.append(nbformat.v4.new_markdown_cell(text, metadata={"slideshow": {"slide_type": kind}}))

    for cell in notebook.cells:
        tags = set(cell.metadata.get("tags", []))
        if cell.id == "exercises-text":
            break
        if not (answering := answering and "answer" in tags) and "answer" in tags:
            add("subslide", "### Answer")
            answering = True
        if cell.cell_type == "markdown":
            text = plain(cell.source)
            section = next(reversed(re.findall(r"^## (.+)", text, re.MULTILINE)), section)
            if text.startswith(CARD):
                add("slide", text.replace(CARD, "## Predict\n\n", 1))
            elif answer := ANSWER.fullmatch(text):
                add("-", answer[1])
            else:
                for each in [text] if cell.id == "title-text" else shown(text, name):
                    add("-" if answering else "slide", each)
                add("notes", text)
        elif cell.outputs and not tags & {"remove-cell", "hide-cell"} and not cell.id.endswith("-claim"):
            picture = any("image/svg+xml" in output.get("data", {}) for output in cell.outputs)
            if not answering:
                add("slide", f"### {section or title(notebook)}")
            only = ["output-only"] if picture or tags & {"answer", "hide-input"} else []
            made.append(cell | {"metadata": {"slideshow": {"slide_type": "-"}, "tags": only}})
            if caption := cell.metadata.get("mystnb", {}).get("figure", {}).get("caption"):
                add("-", f"<small>{plain(' '.join(caption.split()))}</small>")
            printed = sum(output.get("text", "").count("\n") for output in cell.outputs)
            answering = answering and not picture and printed < 7  # else what follows has a slide of its own
    return nbformat.from_dict(
        {"cells": made, "metadata": notebook.metadata | {"title": title(notebook)}, "nbformat": 4, "nbformat_minor": 5}
    )


def title(notebook):
    return re.search(r"^# (.+)", notebook.cells[0].source, re.MULTILINE)[1]


def write(name):
    """The slides of a chapter, and what they need, in ``_build/slides``; their path."""
    path = BOOK / f"{name}.ipynb"
    if not path.exists():
        known = sorted(each.stem for each in BOOK.glob("*.ipynb"))
        sys.exit(f"slides: CHAPTER={name} must be one of {', '.join(known)}")
    reveal, mathjax = ROOT / "tools/node_modules/reveal.js", Path(find_spec("sphinx-mathjax-offline").origin).parent
    OUT.mkdir(parents=True, exist_ok=True)
    for part in (
        "dist/reveal.js",
        "dist/reveal.css",
        "dist/theme/white.css",
        "dist/theme/fonts/source-sans-pro",
        "plugin/notes",
    ):
        (OUT / "reveal" / part).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (reveal / part).is_dir() else shutil.copy
        copy(reveal / part, OUT / "reveal" / part, **({"dirs_exist_ok": True} if copy is shutil.copytree else {}))
    shutil.copytree(mathjax / "static" / "mathjax", OUT / "mathjax", dirs_exist_ok=True)
    for each in ("slides.css", "slides.js"):
        shutil.copy(ROOT / "tools" / each, OUT)
    config = Config()
    config.SlidesExporter.reveal_url_prefix, config.SlidesExporter.reveal_theme = "reveal", "white"
    config.TemplateExporter.exclude_input_prompt = config.TemplateExporter.exclude_output_prompt = True
    config.TagRemovePreprocessor.remove_input_tags = {"output-only"}
    config.TagRemovePreprocessor.enabled = True
    exporter = SlidesExporter(config=config, extra_loaders=[DictLoader({"slides.html.j2": TEMPLATE})])
    exporter.template_file = "slides.html.j2"
    html, _ = exporter.from_notebook_node(slides(nbformat.read(path, as_version=4), name))
    (OUT / f"{name}.html").write_text(html, encoding="utf-8")
    return OUT / f"{name}.html"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("slides: of which chapter? make slides CHAPTER=function_classes")
    print(f"The slides are ready. Open: {write(sys.argv[1])}")
