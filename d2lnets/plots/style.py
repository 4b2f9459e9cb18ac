"""One style for all figures: colours, sizes, lines.

Narrow enough for a phone, the colour-blind safe palette of Okabe and Ito, and differences in shape or line style
too, so that figures survive black-and-white print.
"""

import io
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox, BboxBase

from d2lnets.files import expanded

PALETTE = {  # on white, and on a dark page; tools/draw.py writes it for the style sheets
    "blue": ("#0072b2", "#56b4e9"),
    "orange": ("#e69f00", "#e69f00"),
    "green": ("#009e73", "#2fc79a"),
    "red": ("#d55e00", "#f08a4b"),
    "grey": ("#6b6b6b", "#a0a0a0"),
}
BLUE, ORANGE, GREEN, RED, GREY = (light for light, _ in PALETTE.values())
FAMILIES = {  # a network has one colour and mark everywhere, by what its name holds
    "plain": (ORANGE, "^"),
    "resnet": (BLUE, "o"),
    "residual": (BLUE, "o"),
    "googlenet": (GREEN, "s"),
    "densenet": (RED, "D"),
}
PATHS = (BLUE, ORANGE, GREEN, RED)  # the four of an Inception block, in every figure
LINES = ("-", "--", ":", "-.")
WIDTH = 5.6  # inches, of several panels side by side, which a phone stacks
NARROW = 4.2  # of a single panel, so that a phone can show it whole
STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 144,
    "font.size": 9.5,
    "grid.alpha": 0.3,
    "image.interpolation": "none",  # pixels stay pixels, at any size
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text, in the font of the page
    "svg.hashsalt": "d2lnets",  # the same file again
}


class Look(NamedTuple):
    """How a network is drawn."""

    color: str
    mark: str
    fill: str
    line: str


def looks(names: Iterable[str]) -> dict[str, Look]:
    """The `Look` of each network: colour and mark are its family's, fill and line tell those of one figure apart.

    What is no network gets what is left.
    """
    others = itertools.cycle(((GREY, "v"), (GREEN, "P"), (RED, "X"), (BLUE, "*"), (ORANGE, "p")))
    seen: dict[str, int] = {}
    found: dict[str, Look] = {}
    for name in names:
        family = next((each for each in FAMILIES if each in name.lower()), None)
        color, mark = next(others) if family is None else FAMILIES[family]
        fills = color, "white", f"{color}66"
        found[name] = Look(color, mark, fills[seen.get(color, 0) % len(fills)], LINES[len(found) % len(LINES)])
        seen[color] = seen.get(color, 0) + 1
    return found


@contextmanager
def figure(
    height: float,
    columns: int = 1,
    rows: int = 1,
    width: float | None = None,
    path: Path | str | None = None,
    **grid: Any,
) -> Iterator[Any]:
    """A figure in the book's style, shown or, with a path, saved after the ``with`` block.

    Args:
        height, width: in inches; without a width that of one panel, or of several.
        grid: more arguments of `matplotlib.pyplot.subplots`.
    """
    width = width or (NARROW if rows == columns == 1 else WIDTH)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(width, height), **grid)
        yield axes
        if path is not None:
            figure.savefig(expanded(path))
            plt.close(figure)
        elif "inline" in plt.get_backend():
            show_vectors(figure)
        else:
            plt.show()


def show_vectors(figure: Figure) -> None:
    """Show a figure in a notebook as vector graphics."""
    from IPython.display import display

    display(vectors(figure), raw=True)


def vectors(figure: Figure) -> dict[str, str]:
    """A figure as a notebook shows it, and closed: vector graphics; they say where panels lie, for pages to stack."""
    text = io.StringIO()
    with plt.rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Description": json.dumps(panels(figure))})
    plt.close(figure)
    svg = text.getvalue()
    return {"image/svg+xml": shorten(svg[svg.index("<svg") :]), "text/plain": "<Figure>"}


def shorten(svg: str) -> str:
    """The same picture with coordinates to a hundredth of a point; what it says stays."""

    def short(tag: re.Match[str]) -> str:
        return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", tag[0])

    return re.sub(r"<[^!?][^>]*>", short, svg)


def _seen(axis: Axes) -> BboxBase | None:
    """What of a panel is drawn; where its axis is off, that may be less high than its place."""
    whole = axis.get_tightbbox()
    if axis.axison or whole is None:
        return whole
    artists: list[Artist] = [*axis.patches, *axis.lines, *axis.texts, *axis.images]
    artists += [axis.title] if axis.get_title() else []
    boxes = [box for artist in artists if (box := artist.get_tightbbox()) and math.isfinite(box.height)]
    drawn = Bbox.union(boxes)  # an annotation without text may have none
    return Bbox.from_extents(whole.x0, drawn.y0, whole.x1, drawn.y1)


def panels(figure: Figure) -> list[list[int]]:
    """Left, top, width and height in points of up to four panels, and of the legend; none of a single panel."""
    if not 2 <= len(figure.axes) <= 4:
        return []
    figure.canvas.draw()
    boxes = [_seen(axis) for axis in figure.axes] + [legend.get_window_extent() for legend in figure.legends]
    extents = [list(box.extents) for box in boxes if box]
    for left, right in itertools.permutations(extents, 2):
        same_row = left[1] < right[3] and right[1] < left[3]
        if same_row and left[0] < right[0] < left[2]:  # a corner of one reaches into the other
            left[2] = right[0] = (left[2] + right[0]) / 2
    scale, top = 72 / figure.dpi, figure.bbox.height
    return [[round(scale * each) for each in (x0, top - y1, x1 - x0, y1 - y0)] for x0, y0, x1, y1 in extents]
