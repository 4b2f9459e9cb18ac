"""Curves are drawn while a training runs, in one figure of a notebook, and nowhere else."""

import matplotlib
import matplotlib.pyplot as plt
import pytest

import d2lnets
from d2lnets import plots
from d2lnets.plots import live

RECORDED = d2lnets.load_runs("resnet18-small")


@pytest.fixture
def trained(monkeypatch):
    """Curves that were told of two epochs of 12 steps of 100 images."""
    matplotlib.use("agg")
    monkeypatch.setattr(live, "EVERY", 1e9)

    def tell():
        curves = plots.Curves({"resnet18-small": RECORDED})
        curves.start("mine")
        for epoch, run in enumerate(RECORDED[:2]):
            for step in range(1, 13):
                curves.after_step(100 * (12 * epoch + step), 2.0 - step / 12, step / 24)
            curves.after_epoch(run, None)
        return curves

    yield tell
    plt.close("all")


def test_the_figure_has_the_recorded_runs_and_what_was_told(trained):
    left, right = trained().figure().axes
    recorded, mine = left.lines[:2]
    assert list(recorded.get_xdata()) == [27_500, 82_500, 137_500, 192_500]
    assert min(mine.get_xdata()) == 550 and len(mine.get_xdata()) == 15  # means of ten steps
    assert [line.get_label() for line in left.lines[:2]] == ["resnet18-small, recorded", "mine, now"]
    squares = right.lines[-1]
    assert list(squares.get_ydata()) == [run.epochs[-1]["validation_accuracy"] for run in RECORDED[:2]]


def test_outside_of_a_notebook_nothing_is_shown(trained, monkeypatch):
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: pytest.fail("shown"))
    trained()
    assert not plt.get_fignums()


def test_in_a_notebook_one_figure_is_drawn_again(trained, monkeypatch):
    shown = []

    class Handle:
        def update(self, bundle, raw):
            shown.append("again")

    def display(bundle, raw, display_id):
        assert raw and display_id and bundle["image/svg+xml"].startswith("<svg")
        shown.append("first")
        return Handle()

    monkeypatch.setattr(plt, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    monkeypatch.setattr("IPython.display.display", display)
    trained()
    assert shown[0] == "first" and set(shown[1:]) == {"again"} and len(shown) >= 2
    assert not plt.get_fignums()
