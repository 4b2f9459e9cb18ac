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
<script type="module" src="slides.js"></script>
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
        said.append(f"{who}, {re.search(r'year *= *{?([0-9]+)', entry)[1]}")
    return f"[{'; '.join(said)}]"


def plain(text):
    """MyST's roles, formulas and links as nbconvert understands them."""
    text = re.sub(r"```{math}\n(?::label:.*\n)?\n?(.*?)\n```", r"$$\n\1\n$$", text, flags=re.DOTALL)
    text = re.sub(r"{cite}`([^`]+)`", lambda found: cited(found[1]), text)
    text = re.sub(r"{numref}`[^`]+`", "the figure", text)
    text = re.sub(r"{eq}`[^`]+`", "the formula", text)
    return re.sub(r"\[([^]]*)\]\(([\w/]+)\.(?:ipynb|md)(#\S+)?\)", _linked, text)


def _linked(found):
    name, page, place = found[1], found[2], found[3] or ""
    return f"[{name or page.rpartition('/')[2].replace('_', ' ')}](../html/book/{page}.html{place})"


def shown(text, name):
    """What of a text goes on a slide: heading, the first sentence after it, formulas, lists, tables, benches."""
    text = BENCH.sub(lambda it: f"- [Open the bench *{it[1]}* in the book](../html/book/{name}.html)", text)
    parts = [part for part in text.split("\n\n") if part.strip()]
    kept = []
    for part in parts:
        if part.startswith(("#", "$$", "- ", "1. ", "| ")):
            kept.append(part)
        elif kept and kept[-1].startswith("#"):
            kept.append(part.partition("\n")[0])
    return "\n\n".join(kept)


def slides(notebook, name):
    """The cells of a chapter as those of its slides."""
    made, section = [], ""

    def add(cell, kind, text=None):
        new = nbformat.from_dict(cell)
        new.metadata = nbformat.from_dict({"slideshow": {"slide_type": kind}, "tags": []})
        if text is not None:
            new = nbformat.v4.new_markdown_cell(text, metadata=new.metadata)
        made.append(new)
        return new

    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        below = "subslide" if "answer" in tags else "slide"
        if cell.id == "exercises-text":
            break
        if cell.cell_type == "markdown":
            text = plain(cell.source)
            if heading := re.search(r"^## (.+)", text, re.MULTILINE):
                section = heading[1]
            if text.startswith(CARD):
                add(cell, "slide", text.replace(CARD, "## Predict\n\n", 1))
            elif answer := ANSWER.fullmatch(text):
                add(cell, "subslide", f"### Answer\n\n{answer[1]}")
            elif cell.id == "title-text":
                add(cell, "slide", text)
            else:
                if on := shown(text, name):
                    add(cell, below, on)
                add(cell, "notes", text)
        elif cell.outputs and not {"remove-cell", "hide-cell"} & set(tags):
            picture = any("image/svg+xml" in output.get("data", {}) for output in cell.outputs)
            if picture or section:
                add(cell, below, f"### {section}" if section and below == "slide" else "")
            shows = add(cell, "-" if picture or section else below)
            if picture or "answer" in tags or "hide-input" in tags:
                shows.metadata.tags = ["output-only"]
            if caption := cell.metadata.get("mystnb", {}).get("figure", {}).get("caption"):
                add(cell, "-", f"*{plain(' '.join(caption.split()))}*")
    return nbformat.v4.new_notebook(cells=made, metadata=notebook.metadata | {"title": title(notebook)})


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
