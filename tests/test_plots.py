"""Figures say what they should, and their texts stay apart and inside."""

from itertools import combinations

import matplotlib
import matplotlib.pyplot as plt
import pytest

import d2lnets
from d2lnets import plots
from d2lnets.data import SUBSET


@pytest.fixture
def drawn(monkeypatch):
    """Call with a function that draws; gives the figure."""
    matplotlib.use("agg")
    figures = []
    monkeypatch.setattr(plt, "show", lambda: figures.append(plt.gcf()))

    def draw(function, *arguments):
        function(*arguments)
        figures[-1].canvas.draw()
        return figures[-1]

    yield draw
    plt.close("all")


def texts(figure):
    return [text for axis in figure.axes for text in axis.texts if text.get_text()]


@pytest.mark.parametrize(
    "net, shape",
    [
        (d2lnets.resnet18(), (1, 96, 96)),
        (d2lnets.resnet18(small=True), (1, 28, 28)),
        (d2lnets.resnet50(), (3, 64, 64)),
        (d2lnets.densenet(), (1, 96, 96)),
        (d2lnets.googlenet(), (1, 96, 96)),
    ],
)
def test_a_network_is_drawn_with_every_stage_labelled_and_apart(drawn, net, shape):
    trace = d2lnets.trace_shapes(net, shape)
    figure = drawn(plots.draw_network, trace)
    labels = [text.get_text() for text in texts(figure)]
    expected = [("input", trace.input_shape), *((stage.name, stage.output_shape) for stage in trace)]
    assert labels == [f"{name}\n{'×'.join(map(str, shape))}" for name, shape in expected]
    boxes = [text.get_window_extent() for text in texts(figure)]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    page = figure.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 for box in boxes)


def test_the_blocks_of_a_stage_are_drawn_by_their_own_names(drawn):
    trace = d2lnets.trace_shapes(d2lnets.googlenet(), (1, 96, 96)).open("inception_3")
    labels = [text.get_text().splitlines()[0] for text in texts(drawn(plots.draw_network, trace))]
    assert labels == ["input", "inception_3a", "inception_3b", "max_pool"]


def test_the_residual_block_is_drawn_with_and_without_a_convolution_on_the_shortcut(drawn):
    left, right = drawn(plots.draw_residual).axes
    shortcuts = [[text.get_text() for text in axis.texts if "1×1" in text.get_text()] for axis in (left, right)]
    assert [len(found) for found in shortcuts] == [0, 1]


def test_runs_are_drawn_with_a_live_one_beside_them(drawn):
    recorded = d2lnets.load_runs("resnet18-small")
    axis = drawn(plots.plot_runs, recorded, recorded[0]).axes[0]
    assert axis.get_ylabel() == "accuracy" and "55,000 images" in axis.get_xlabel()
    assert len(axis.get_legend().get_texts()) == 3


def test_networks_are_compared_by_their_curves(drawn, tmp_path):
    runs = [*d2lnets.load_runs("resnet18-small"), *d2lnets.load_runs("fast-resnet")]
    axis = drawn(plots.compare_runs, runs).axes[0]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["resnet18-small", "fast-resnet"]
    plots.compare_runs(runs, tmp_path / "curves.png")
    assert plt.imread(tmp_path / "curves.png").shape[2] == 4


def test_images_carry_the_names_of_their_classes(drawn):
    data = d2lnets.load_fashion_mnist(SUBSET)
    figure = drawn(plots.show_images, data.test, 7)
    assert [axis.get_title() for axis in figure.axes][:7] == list(data.classes[:7])
