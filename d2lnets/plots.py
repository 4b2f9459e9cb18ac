"""The figures of the book, in one visual language.

All are narrow enough for a phone, use the colour-blind safe palette of Okabe and Ito, and differ in
shape or line style too, so that they survive black-and-white print.
"""

import itertools
import math
from contextlib import contextmanager

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import FancyBboxPatch, Polygon

from d2lnets.data import CLASSES
from d2lnets.tracing import show_shape

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
def _figure(height, columns=1, path=None):
    """A figure in the book's style, `height` inches high; shown or, with a path, saved after the ``with`` block."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, columns, figsize=(WIDTH, height))
        yield axes
        if path is None:
            plt.show()
        else:
            figure.savefig(path)
            plt.close(figure)


def show_images(split, count=10):
    """The first `count` images of a `Split` with the names of their classes, five in a row."""
    rows = math.ceil(count / 5)
    with plt.rc_context(STYLE):
        _, axes = plt.subplots(rows, 5, figsize=(WIDTH, 1.35 * rows), squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for axis, image, label in zip(axes.flat, split.images[:count], split.labels):
            axis.imshow(image[0].cpu().numpy(), cmap="gray_r")
            axis.set_title(CLASSES[label], fontsize=9)
        plt.show()


def draw_residual():
    """The residual block: with the identity as shortcut, and with a 1x1 convolution."""
    with _figure(4.4, columns=2) as axes:
        _draw_block(axes[0], "input and output of equal shape", None)
        _draw_block(axes[1], "stride 2, more channels", "1×1 conv\nstride 2")


def _draw_block(axis, title, shortcut):
    axis.set(xlim=(-1.2, 2.6), ylim=(-0.9, 8.6), title=title)
    axis.axis("off")
    layers = ["3×3 conv" + (", stride 2" if shortcut else ""), "batch norm", "ReLU", "3×3 conv", "batch norm"]
    heights = [6.9, 5.8, 4.7, 3.6, 2.5]
    for layer, y in zip(layers, heights):
        _box(axis, 0, y, layer, BLUE if "conv" in layer else GREY)
    _arrow(axis, [(0, 8.3), (0, 7.3)])
    for above, below in itertools.pairwise(heights):
        _arrow(axis, [(0, above - 0.4), (0, below + 0.4)])
    _arrow(axis, [(0, 2.1), (0, 1.55)])
    _arrow(axis, [(0, 1.05), (0, 0.7)])
    _arrow(axis, [(0, -0.1), (0, -0.75)])
    _arrow(axis, [(0, 7.8), (1.9, 7.8), (1.9, 1.3), (0.25, 1.3)], ORANGE)
    if shortcut:
        _box(axis, 1.9, 4.7, shortcut, ORANGE, width=1.15, height=1.0)
    else:
        axis.text(2.05, 4.7, "x", color=ORANGE, va="center", style="italic", fontsize=11)
    circle = {"boxstyle": "circle,pad=0.12", "fc": "white", "ec": "black"}
    axis.text(0, 1.3, "+", ha="center", va="center", fontsize=12, bbox=circle)
    _box(axis, 0, 0.3, "ReLU", GREY)
    axis.text(0.12, 8.35, "x", style="italic", fontsize=11)
    axis.text(-0.15, 1.75, "F(x)", style="italic", ha="right", va="center")


def _box(axis, x, y, text, color, width=1.9, height=0.75):
    for fill in ("white", color + "22"):  # white first: lines end at the box
        corner = (x - width / 2, y - height / 2)
        style = "round,pad=0,rounding_size=0.12"
        axis.add_patch(FancyBboxPatch(corner, width, height, style, fc=fill, ec=color, zorder=3))
    axis.text(x, y, text, ha="center", va="center", fontsize=8.5, zorder=4)


def _arrow(axis, points, color="black"):
    """A line through `points` with a head at the last."""
    x, y = zip(*points)
    axis.plot(x, y, color=color, lw=1.2)
    axis.annotate(
        "", points[-1], points[-2], arrowprops={"arrowstyle": "-|>", "color": color, "shrinkA": 0, "shrinkB": 0}
    )


def draw_network(trace):
    """A `Trace` as boxes, at most seven in a row, in the order of the stages.

    Height and depth of a box grow with the map's size, width with the channels: both on a root scale,
    or 512 channels of 3x3 would not fit beside one of 96x96.
    """
    boxes = [_Box("input", trace.input_shape), *(_Box(stage.name, stage.output_shape) for stage in trace)]
    each = math.ceil(len(boxes) / math.ceil(len(boxes) / 7))
    rows = [boxes[i : i + each] for i in range(0, len(boxes), each)]
    tops = [max(box.height + box.depth for box in row) + 1 for row in rows]
    width = max(sum(box.slot for box in row) for row in rows)
    height = sum(top + 6 for top in tops)  # 6 below for the labels
    with plt.rc_context(STYLE):
        _, axes = plt.subplots(
            len(rows), figsize=(WIDTH, WIDTH * height / width), height_ratios=[top + 6 for top in tops], squeeze=False
        )
        for axis, row, top in zip(axes.flat, rows, tops):
            axis.axis("off")
            axis.set(xlim=(0, width), ylim=(-6, top))
            left = 0
            for box in row:
                box.draw(axis, left)
                left += box.slot
        plt.show()


class _Box:
    """A stage's output in a network's drawing."""

    def __init__(self, name, shape):
        channels, *size = shape
        self.width, self.height = 0.85 * channels**0.4, 2 * (size or [1])[0] ** 0.5
        self.depth = 0.35 * self.height
        self.slot = max(self.width + self.depth, 12.5) + 0.8
        self.color = ORANGE if name == "input" else BLUE if size else GREEN
        short = name if name[-1].isdigit() else name.rpartition(".")[2]
        self.label = f"{short}\n{show_shape(shape)}"

    def draw(self, axis, left):
        x = left + (self.slot - self.width - self.depth) / 2
        front = [(x, 0), (x + self.width, 0), (x + self.width, self.height), (x, self.height)]
        back = [(x + self.depth, y + self.depth) for x, y in front]
        top = [front[3], front[2], back[2], back[3]]
        side = [front[1], back[1], back[2], front[2]]
        for face, alpha in ((front, "55"), (top, "33"), (side, "88")):
            axis.add_patch(Polygon(face, closed=True, fc=self.color + alpha, ec=self.color, lw=0.8))
        axis.text(left + self.slot / 2, -1, self.label, ha="center", va="top", fontsize=7.5)


def plot_runs(recorded, live=None):
    """Accuracy by epoch: recorded runs of one network as mean and range over seeds, and a live run.

    Epochs of the live run count as fractions of the recorded ones, by the images that were seen.
    """
    series = {
        key: torch.tensor([[epoch[f"{key}_accuracy"] for epoch in run.epochs] for run in recorded])
        for key in ("train", "validation")
    }
    epochs = range(1, len(recorded[0].epochs) + 1)
    with _figure(3.0) as axis:
        for key, color, line in (("train", BLUE, "--"), ("validation", ORANGE, "-")):
            values = series[key]
            axis.plot(epochs, values.mean(0), line, color=color, marker="o", ms=4, label=f"recorded, {key}")
            axis.fill_between(epochs, values.amin(0), values.amax(0), color=color, alpha=0.2, lw=0)
        if live is not None:
            seen = [(i + 1) * live.examples / recorded[0].examples for i in range(len(live.epochs))]
            accuracy = [epoch["validation_accuracy"] for epoch in live.epochs]
            axis.plot(seen, accuracy, ":", color=RED, marker="s", ms=5, label="live, validation")
        axis.set(xlabel=f"epochs of {recorded[0].examples:,} images", ylabel="accuracy", xlim=(0, None))
        axis.legend(loc="lower right")


def compare_runs(runs, path=None):
    """Validation accuracy by epoch, mean and range over the seeds, of each network in `runs`.

    Args:
        path: save the figure there instead of showing it.
    """
    groups = {}
    for run in runs:
        groups.setdefault((run.network, len(run.epochs)), []).append(run)
    lines = itertools.product(("-", "--", ":", "-."), (BLUE, ORANGE, GREEN, RED, GREY))
    with _figure(3.6, path=path) as axis:
        for ((network, epochs), group), (line, color) in zip(groups.items(), lines):
            values = torch.tensor([[epoch["validation_accuracy"] for epoch in run.epochs] for run in group])
            axis.plot(range(1, epochs + 1), values.mean(0), line, color=color, label=network)
            axis.fill_between(range(1, epochs + 1), values.amin(0), values.amax(0), color=color, alpha=0.2, lw=0)
        axis.set(xlabel="epoch", ylabel="validation accuracy", xlim=(0, None))
        axis.legend(loc="lower right", fontsize=8)
