"""What the tests of figures share."""

import matplotlib
import matplotlib.pyplot as plt
import pytest


@pytest.fixture
def drawn(monkeypatch):
    """Call with a function that draws; gives the figure."""
    matplotlib.use("agg")
    figures = []
    monkeypatch.setattr(plt, "show", lambda: figures.append(plt.gcf()))

    def draw(function, *arguments, **options):
        function(*arguments, **options)
        figures[-1].canvas.draw()
        return figures[-1]

    yield draw
    plt.close("all")
