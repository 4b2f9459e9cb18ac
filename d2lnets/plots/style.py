"""One style for all figures: colours, sizes, lines.

Narrow enough for a phone, the colour-blind safe palette of Okabe and Ito, and differences in shape or line style
too, so that figures survive black-and-white print.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt

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
LINES = ("-", "--", ":", "-.")
WIDTH = 5.6  # inches
STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 144,
    "font.size": 9.5,
    "grid.alpha": 0.3,
    "legend.frameon": False,
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
def figure(height: float, columns: int = 1, path: Path | str | None = None) -> Iterator[Any]:
    """A figure in the book's style, `height` inches high; shown or, with a path, saved after the ``with`` block."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, columns, figsize=(WIDTH, height))
        yield axes
        if path is None:
            plt.show()
        else:
            figure.savefig(expanded(path))
            plt.close(figure)
