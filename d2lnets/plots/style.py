"""One style for all figures: colours, sizes, lines.

Narrow enough for a phone, the colour-blind safe palette of Okabe and Ito, and differences in shape or line style
too, so that figures survive black-and-white print.
"""

from contextlib import contextmanager

import matplotlib.pyplot as plt

BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#6b6b6b"


WIDTH = 5.6  # inches


STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 144,
    "font.size": 9.5,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


@contextmanager
def figure(height, columns=1, path=None):
    """A figure in the book's style, `height` inches high; shown or, with a path, saved after the ``with`` block."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, columns, figsize=(WIDTH, height))
        yield axes
        if path is None:
            plt.show()
        else:
            figure.savefig(path)
            plt.close(figure)
