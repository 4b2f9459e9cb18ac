"""The figures of the notebooks as parts of the page: its fonts, its colours by day and by night, panels that stack.

A notebook stores a figure as vector graphics in black, white and the colours of `d2lnets.plots.style`, and in its
description where its panels lie. Here black, white and the palette become variables of the style sheets.
"""

import json
import re
from pathlib import Path

PALETTE = Path(__file__).parents[1] / "_static" / "palette.css"  # on light pages first; no import of torch for it
IMAGE = re.compile(r'<img (?=[^>]*src="[^"]*_images/([^"/]+\.svg)")[^>]*/?>')
ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
LIGHT = PALETTE.read_text(encoding="utf-8").partition("}")[0]
COLORS = {light: f"var(--{name})" for name, light in re.findall(r"--(\w+): (#\w+);", LIGHT)} | {
    "#000000": "currentColor",
    "black": "currentColor",
    "#ffffff": "var(--paper)",
    "white": "var(--paper)",
    "#b0b0b0": "var(--grid)",
}
COLOR = re.compile(rf"((?:fill|stroke)(?:: |=\"))({'|'.join(COLORS)})\b")
HATCHED = re.compile(r'(<pattern\b[^>]*>\s*<rect [^>]*)fill="(#\w+)"')  # as opaque as its lines, it would hide them
FAMILY = re.compile(r"font-family: [^;\"]*;? ?")
FONT = re.compile(r"(font: [^'\"]*?)'[^;\"]*")


def inline(svg, number, image):
    """The graphics to put into a page in place of an image.

    Args:
        svg: its text.
        number: of the figure on the page, so that names in it stay apart.
        image: the tag ``<img ...>``.
    """
    attributes = dict(ATTRIBUTE.findall(image))
    described = re.search(r"<dc:description>(.*?)</dc:description>", svg, re.DOTALL)
    panels = json.loads(described[1]) if described else []
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\b(id=")', rf"\1f{number}-", svg)
    svg = re.sub(r'((?:href=")#|url\(#)', rf"\1f{number}-", svg)
    svg = HATCHED.sub(r'\1style="fill: \2; fill-opacity: 0.4"', svg)
    svg = svg.replace("fill: #ffffff", "fill: none", 1)  # the ground: what casts a shadow at an edge is behind it
    svg = COLOR.sub(lambda found: found[1] + COLORS[found[2]], svg)
    svg = FONT.sub(r"\1var(--pst-font-family-base)", FAMILY.sub("", svg))
    head, body = re.match(r"<svg ([^>]*)>(.*)</svg>", svg, re.DOTALL).groups()
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head).groups()
    label = f'role="img" aria-label="{attributes.get("alt", "")}"'
    group = f'<g id="f{number}" fill="currentColor">{body}</g>'
    size = f'viewBox="0 0 {width} {height}" style="max-width: {1.65 * float(width):.0f}px"'
    whole = f'<svg class="whole" {size} {label}>{group}</svg>'
    stack = "".join(
        f'<svg viewBox="{left} {top - 1} {wide} {high + 2}" style="flex-basis: {beside(wide)}px" aria-hidden="true">'
        f'<use href="#f{number}"/></svg>'
        for left, top, wide, high in panels
    )
    how = " stacks" if stack else " scrolls" if float(width) > 320 else ""  # where the page is narrow
    focus = ' tabindex="0"' if how == " scrolls" else ""  # to scroll by keyboard
    return f'<div class="vector{how}"{focus}>{whole}{stack and f"<div>{stack}</div>"}</div>'


def beside(points):
    """The width of a panel on a phone, in pixels: two that are narrow stand side by side."""
    return round(min(1.35 * points, 167) if points < 150 else 1.6 * points)


def inline_all(app, pagename, templatename, context, doctree):
    if "body" not in context:
        return
    files = {name: Path(path) for path, name in getattr(app.builder, "images", {}).items()}
    numbers = iter(range(1, 1000))

    def replace(found):
        path = Path(app.srcdir, files[found[1]])
        return inline(path.read_text(encoding="utf-8"), next(numbers), found[0])

    context["body"] = IMAGE.sub(replace, context["body"])


def setup(app):
    app.connect("html-page-context", inline_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
