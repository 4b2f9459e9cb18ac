"""The figures of the book, in one visual language.

All are narrow enough for a phone, use the colour-blind safe palette of Okabe and Ito, and differ in
shape or line style too, so that they survive black-and-white print.
"""

import itertools
import math
from contextlib import contextmanager

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from d2lnets.data import CLASSES
from d2lnets.tracing import show_shape
from d2lnets.training import eval_mode

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


def show_images(split, count=10, taken_for=None):
    """The first `count` images of a `Split` with the names of their classes, five in a row.

    Args:
        taken_for: for each image another class to name, the one that a network gave it.
    """
    rows = math.ceil(count / 5)
    with plt.rc_context(STYLE):
        _, axes = plt.subplots(rows, 5, figsize=(WIDTH, (1.35 if taken_for is None else 1.6) * rows), squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for i, (axis, image, label) in enumerate(zip(axes.flat, split.images[:count], split.labels)):
            axis.imshow(image[0].cpu().numpy(), cmap="gray_r")
            title = CLASSES[label] if taken_for is None else f"{CLASSES[label]}\nas {CLASSES[taken_for[i]]}"
            axis.set_title(title, fontsize=9)
        plt.show()


def draw_residual():
    """The residual block: with the identity as shortcut, and with a 1x1 convolution."""
    first, *rest = ["3×3 conv", "batch norm", "ReLU", "3×3 conv", "batch norm"]
    with _figure(4.4, columns=2) as axes:
        _draw_block(axes[0], "equal shape", [first, *rest])
        _draw_block(axes[1], "stride 2, more channels", [first + ", stride 2", *rest], ["1×1 conv\nstride 2"])


def draw_activation_orders():
    """The block of 2015 and the pre-activation block of 2016 (He et al. 2016b, Fig. 1)."""
    before = ["3×3 conv", "batch norm", "ReLU", "3×3 conv", "batch norm"]
    after = ["batch norm", "ReLU", "3×3 conv", "batch norm", "ReLU", "3×3 conv"]
    with _figure(4.7, columns=2) as axes:
        _draw_block(axes[0], "post-activation", before, slots=6)
        _draw_block(axes[1], "pre-activation", after, relu=False)


def draw_bottleneck():
    """Two 3x3 convolutions, the identity block and the convolutional block (He et al. 2016, Fig. 5).

    Channels are those of conv2_x, and of the first block of conv3_x. Narrow boxes work on few channels.
    """

    def branch(*convolutions):
        layers = [layer for conv in convolutions for layer in (conv, "batch norm", "ReLU")]
        return layers[:-1]  # the last ReLU comes after the sum

    wide, narrow = "3×3 conv\n256 → 256", "3×3 conv\n64 → 64"
    identity = branch("1×1 conv\n256 → 64", narrow, "1×1 conv\n64 → 256")
    changing = branch("1×1, stride 2\n256 → 128", "3×3 conv\n128 → 128", "1×1 conv\n128 → 512")
    with _figure(5.6, columns=3) as axes:
        _draw_block(axes[0], "two 3×3", branch(wide, wide), slots=8)
        _draw_block(axes[1], "identity block", identity, narrow=range(1, 6))
        _draw_block(axes[2], "convolutional block", changing, ["1×1 conv\nstride 2", "batch norm"], range(1, 6))


def draw_later_blocks():
    """The blocks of ResNeXt, SENet and ConvNeXt (Xie et al. 2017, Hu et al. 2018, Liu et al. 2022)."""

    def bottleneck(middle, *last):
        return ["1×1 conv", "batch norm", "ReLU", middle, "batch norm", "ReLU", "1×1 conv", "batch norm", *last]

    convnext = ["7×7 conv,\nby channel", "layer norm", "1×1 conv\n4 × width", "GELU", "1×1 conv"]
    with _figure(5.8, columns=3) as axes:
        _draw_block(axes[0], "ResNeXt", bottleneck("3×3 conv\nin groups"), slots=9)
        _draw_block(axes[1], "SENet", bottleneck("3×3 conv", "weigh\nchannels"))
        _draw_block(axes[2], "ConvNeXt", convnext, slots=9, relu=False)


def draw_inception():
    """The Inception block with the channels of inception_3a; narrow boxes reduce (Szegedy et al. 2015, Fig. 2b)."""
    paths = [
        [("1×1 conv\n192 → 64", 2.0)],
        [("1×1 conv\n192 → 96", 1.5), ("3×3 conv\n96 → 128", 2.0)],
        [("1×1 conv\n192 → 16", 1.5), ("5×5 conv\n16 → 32", 2.0)],
        [("3×3 max-pool\nstride 1", 2.0), ("1×1 conv\n192 → 32", 2.0)],
    ]
    with _figure(3.5) as axis:
        axis.set(xlim=(-1.1, 7.9), ylim=(-0.55, 5.3))
        axis.axis("off")
        axis.text(3.55, 5.05, "x, 192 channels", va="center", fontsize=8)
        axis.plot([3.4, 3.4], [5.2, 4.55], color="black", lw=1.2)
        for x, path in zip((0, 2.27, 4.53, 6.8), paths):
            heights = [3.5, 1.95] if len(path) == 2 else [2.725]
            _arrow(axis, [(3.4, 4.55), (x, 4.55), (x, heights[0] + 0.45)])
            for (text, width), y in zip(path, heights):
                _box(axis, x, y, text, BLUE if "conv" in text else GREY, width, height=0.85)
            for above, below in itertools.pairwise(heights):
                _arrow(axis, [(x, above - 0.43), (x, below + 0.45)])
            _arrow(axis, [(x, heights[-1] - 0.43), (x, 0.8)])
        _box(axis, 3.4, 0.5, "join on channels", GREEN, width=8.8, height=0.55)
        _arrow(axis, [(3.4, 0.22), (3.4, -0.45)])


def _draw_block(axis, title, layers, shortcut=(), narrow=(), slots=None, relu=True):
    """The layers of the branch from top to bottom, and the shortcut's, between x and the sum.

    Args:
        narrow: which layers of the branch get a narrower box.
        slots: how many layers there is room for, if more than are drawn.
        relu: whether the sum is clipped.
    """
    top = 2.5 + 1.1 * ((slots or len(layers)) - 1)  # of the first layer, if all slots are taken
    heights = [2.5 + 1.1 * i for i in reversed(range(len(layers)))]
    axis.set(xlim=(-1.05, 2.75), ylim=(-0.9, top + 1.5))
    axis.set_title(title, x=1.05 / 3.8)  # above the branch
    axis.axis("off")
    for i, (layer, y) in enumerate(zip(layers, heights)):
        color = BLUE if "×" in layer else GREY
        _box(axis, 0, y, layer, color, width=1.6 if i in narrow else 1.9)
    _arrow(axis, [(0, top + 1.4), (0, heights[0] + 0.4)])
    for above, below in itertools.pairwise(heights):
        _arrow(axis, [(0, above - 0.4), (0, below + 0.4)])
    _arrow(axis, [(0, 2.1), (0, 1.55)])
    _arrow(axis, [(0, 1.05), (0, 0.7 if relu else -0.75)])
    if relu:
        _box(axis, 0, 0.3, "ReLU", GREY)
        _arrow(axis, [(0, -0.1), (0, -0.75)])
    _arrow(axis, [(0, top + 0.9), (1.95, top + 0.9), (1.95, 1.3), (0.25, 1.3)], ORANGE)
    middle = (2.5 + top) / 2
    for i, layer in enumerate(shortcut):
        _box(axis, 1.95, middle + 1.25 * ((len(shortcut) - 1) / 2 - i), layer, ORANGE, width=1.55, height=1.0)
    if not shortcut:
        axis.text(2.1, middle, "x", va="center", style="italic", fontsize=11)
    circle = {"boxstyle": "circle,pad=0.12", "fc": "white", "ec": "black"}
    axis.text(0, 1.3, "+", ha="center", va="center", fontsize=12, bbox=circle)
    axis.text(0.15, top + 1.15, "x", va="center", style="italic", fontsize=11)
    axis.text(-0.15, 1.75, "F(x)", style="italic", ha="right", va="center")


def _box(axis, x, y, text, color, width=1.9, height=0.75):
    for fill in ("white", color + "22"):  # white first: lines end at the box
        corner = (x - width / 2, y - height / 2)
        style = "round,pad=0,rounding_size=0.12"
        axis.add_patch(FancyBboxPatch(corner, width, height, style, fc=fill, ec=color, zorder=3))
    axis.text(x, y, text, ha="center", va="center", fontsize=7.5, zorder=4)


def _arrow(axis, points, color="black"):
    """A line through `points` with a head at the last."""
    x, y = zip(*points)
    axis.plot(x, y, color=color, lw=1.2)
    axis.annotate(
        "", points[-1], points[-2], arrowprops={"arrowstyle": "-|>", "color": color, "shrinkA": 0, "shrinkB": 0}
    )


def draw_dense_block(in_channels=64, growth_rate=32, layers=4):
    """A dense block as rows of channels: each layer reads a whole row and appends to it (Huang et al. 2017, Fig. 1)."""
    widths = [in_channels + i * growth_rate for i in range(layers + 1)]
    scale, step = 6 / widths[-1], 1.75
    with _figure(1.05 * layers + 0.6) as axis:
        axis.set(xlim=(-1.75, 6.55), ylim=(-step * layers - 0.45, 0.45))
        axis.axis("off")
        for row, width in enumerate(widths):
            y, end = -step * row, scale * width
            axis.text(-0.15, y, f"{width} channels", ha="right", va="center", fontsize=8)
            _box(axis, scale * in_channels / 2, y, "x", ORANGE, scale * in_channels - 0.08, height=0.6)
            for i in range(row):
                center = scale * (widths[i] + growth_rate / 2)
                _box(axis, center, y, f"from {i + 1}", BLUE, scale * growth_rate - 0.08, height=0.6)
            if row < layers:
                below = end + scale * growth_rate / 2
                _arrow(axis, [(end, y), (below, y), (below, y - 0.5)])
                _box(axis, below, y - 0.85, f"layer {row + 1}: BN,\nReLU, 3×3", BLUE, 1.75, height=0.7)
                _arrow(axis, [(below, y - 1.2), (below, y - step + 0.3)])
                for kept in [in_channels / 2, *(each + growth_rate / 2 for each in widths[:row])]:
                    _arrow(axis, [(scale * kept, y - 0.3), (scale * kept, y - step + 0.3)], ORANGE)
                axis.text(scale * in_channels / 2 - 0.1, y - step / 2, "kept", ha="right", va="center", fontsize=8)


def plot_channels(trace):
    """Channels after every layer of a DenseNet's `Trace`: what entered the block, and what its layers appended."""
    kept, added, ticks, labels = [], [], [], []
    with _figure(3.0) as axis:
        for stage in trace:
            if len(stage.output_shape) < 3:
                continue  # the head
            dense = stage.name.startswith("dense")
            channels = stage.input_shape[0] if dense else stage.output_shape[0]
            grown = list(itertools.accumulate(layer.output_shape[0] for layer in stage.inside)) if dense else [0]
            if dense or not kept:
                ticks.append(len(kept) + (len(grown) - 1) / 2)
                labels.append(f"{stage.name}\n{show_shape(stage.output_shape[1:])}")
            kept += [channels] * len(grown)
            added += grown
            axis.text(len(kept) - 1, kept[-1] + added[-1] + 4, kept[-1] + added[-1], ha="center", fontsize=8)
        places = range(len(kept))
        axis.bar(places, kept, color=ORANGE + "88", ec=ORANGE, label="left the stem or a transition")
        axis.bar(places, added, bottom=kept, color=BLUE + "55", ec=BLUE, hatch="///", label="appended by the block")
        axis.set_xticks(ticks, labels)
        axis.grid(False, axis="x")
        axis.set(ylabel="channels", ylim=(0, 1.3 * max(map(sum, zip(kept, added)))))
        axis.legend(loc="upper left", ncols=2, fontsize=8)


def plot_memory(layers, peaks):
    """Bytes over the number of layers, both on logarithmic scales.

    Args:
        peaks: for each name in the legend a list of bytes, one for each of `layers`.
    """
    with _figure(3.0) as axis:
        for (label, values), (color, line) in zip(peaks.items(), ((ORANGE, "o-"), (BLUE, "s--"), (GREY, ":"))):
            axis.plot(layers, [value / 1e6 for value in values], line, color=color, ms=5, label=label)
        axis.set(xscale="log", yscale="log", xlabel="layers in the block", ylabel="memory at its peak, MB")
        axis.set_xticks(layers, layers)
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:g}")
        axis.legend(fontsize=8)


def plot_links(panels):
    """For each title, a matrix [layer, source] with a number for every link of a dense block; above the diagonal none.

    The sources of a layer are the block's input and the layers before it.
    """
    with _figure(WIDTH / len(panels) + 0.25, columns=len(panels)) as axes:
        for axis, (title, values) in zip(axes, panels.items()):
            count, strongest = len(values), max(values[i][j] for i in range(len(values)) for j in range(i + 1))
            for i, j in itertools.product(range(count), repeat=2):
                if j <= i:
                    strength = max(0.0, float(values[i][j] / strongest))
                    fill = (*to_rgb(BLUE), 0.75 * strength)
                    axis.add_patch(Polygon([(j, i), (j + 1, i), (j + 1, i + 1), (j, i + 1)], fc=fill, ec=BLUE, lw=0.8))
                    axis.text(j + 0.5, i + 0.5, f"{values[i][j]:.3f}", ha="center", va="center", fontsize=8)
            names = [str(i + 1) for i in range(count)]
            axis.set(xlim=(0, count), ylim=(count, 0), xlabel="source", title=title, aspect="equal")
            axis.set_xticks([i + 0.5 for i in range(count)], ["input", *names[:-1]])
            axis.set_yticks([i + 0.5 for i in range(count)], names)
            axis.grid(False)
            axis.spines[:].set_visible(False)
        axes[0].set_ylabel("layer")


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
        axis.locator_params("x", integer=True)
        axis.legend(loc="lower right", fontsize=8)


def show_feature_maps(net, image, channels=8):
    """What an image becomes, stage by stage: the first maps that leave each child of `net`, a row a stage.

    A map's numbers are scaled to its own largest magnitude: blue is positive, orange negative, white zero.

    Args:
        image: (1, C, H, W), as the network gets it.
    """
    rows, x = [], image
    with eval_mode(net), torch.no_grad():
        for name, stage in net.named_children():
            x = stage(x)
            if x.dim() == 4:
                rows.append((name, x[0]))
    colors = LinearSegmentedColormap.from_list("signed", [ORANGE, "white", BLUE])
    with plt.rc_context(STYLE):
        _, axes = plt.subplots(len(rows), channels + 1, figsize=(WIDTH, 0.72 * len(rows)), squeeze=False)
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.spines[:].set_visible(False)
        for (name, maps), (label, *cells) in zip(rows, axes):
            label.text(1, 0.5, f"{name}\n{show_shape(maps.shape)}", ha="right", va="center", fontsize=8)
            for axis, values in zip(cells, maps.cpu()):
                most = values.abs().max().clamp(min=1e-6)
                axis.imshow(values.numpy(), cmap=colors, vmin=-most, vmax=most)
                axis.spines[:].set(visible=True, color=GREY, lw=0.5)
        plt.show()


def draw_function_classes():
    """Six growing sets of functions and the target f*: nested, and not nested. A dot is the point nearest to f*."""
    star, radii = (4.2, 2.9), (0.55, 1.0, 1.45, 1.9, 2.35, 2.8)
    nested = [(0.35 * radius - 0.7, 0.2 * radius - 0.3) for radius in radii]
    wandering = [(-0.9, 0.1), (1.75, 0.6), (-0.6, 1.2), (1.0, -0.6), (-1.2, -0.9), (0.0, -1.2)]
    angles = (180, 0, 150, -20, 190, -60)  # of the labels on the circles, in degrees
    panels = (("nested", nested, [100] * 6, BLUE), ("not nested", wandering, angles, RED))
    with _figure(3.3, columns=2) as axes:
        for axis, (title, centers, angles, color) in zip(axes, panels):
            axis.set(xlim=(-3.8, 4.8), ylim=(-4.1, 3.9), title=title, aspect="equal")
            axis.axis("off")
            for number, (radius, (x, y), angle) in enumerate(zip(radii, centers, angles), 1):
                axis.add_patch(Circle((x, y), radius, fc=color + "12", ec=color, lw=0.6 + 0.15 * number))
                reach = radius / math.dist(star, (x, y))
                near = (x + reach * (star[0] - x), y + reach * (star[1] - y))
                axis.plot(*zip(near, star), ":", color=GREY, lw=0.8)
                axis.plot(*near, "o", color="black", ms=3, zorder=4)
                angle = math.radians(angle)
                axis.text(
                    x + radius * math.cos(angle),
                    y + radius * math.sin(angle),
                    f"$F_{number}$",
                    ha="center",
                    va="center",
                    fontsize=8,
                    bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none"},
                )
            axis.plot(*star, "*", color="black", ms=9, zorder=4)
            axis.text(star[0], star[1] + 0.3, "$f^*$", ha="center", va="bottom")


def plot_function_classes(x, target, fits, distances):
    """What was measured of growing families of function classes, each drawn in its own line style.

    Args:
        x, target: the points and the function that was fitted, both of shape (N,).
        fits: for each family the best function of its third class, of shape (N,).
        distances: for each family the distances of its classes to the target, in the target's unit.
    """
    styles = (("o-", BLUE), ("s--", RED))
    with _figure(2.9, columns=2) as (left, right):
        left.plot(x, target, color=GREY, lw=4, alpha=0.45, label="$f^*$")
        for (family, values), (style, color) in zip(fits.items(), styles):
            left.plot(x, values, style[1:], color=color, label=family)
        left.set(xlabel="x", ylabel="f(x)", title="best function of $F_3$")
        left.legend(fontsize=8, loc="upper center")
        for (family, values), (style, color) in zip(distances.items(), styles):
            right.plot(range(1, len(values) + 1), values, style, color=color, ms=5, label=family)
            right.set_xticks(range(1, len(values) + 1), [f"$F_{k}$" for k in range(1, len(values) + 1)])
        right.set(xlabel="function class", ylabel="distance to $f^*$", title="distance", ylim=(0, None))
        right.legend(fontsize=8)


def plot_degradation(runs, live=()):
    """Training error of the networks of `d2lnets.degradation`, a dot for each seed, and of live runs beside them."""
    names = list(dict.fromkeys(run["network"] for run in runs))
    with _figure(3.0) as axis:
        for place, name in enumerate(names):
            errors = [run["train_error"] for run in runs if run["network"] == name]
            mark, color = ("o", BLUE) if name.startswith("ResNet") else ("^", ORANGE)
            shifts = [0.07 * (i - (len(errors) - 1) / 2) for i in range(len(errors))]
            axis.plot([place + shift for shift in shifts], errors, mark, color=color, ms=6)
            for run in live:
                if run["network"] == name:
                    axis.plot(place + 0.3, run["train_error"], "s", mec=RED, mfc="none", ms=6)
        axis.set_xticks(range(len(names)), names)
        axis.set(ylabel="training error", xlim=(-0.5, len(names) - 0.5), ylim=(0, 1))
        axis.grid(False, axis="x")
        axis.plot([], [], "o", color=BLUE, label="recorded, residual")
        axis.plot([], [], "^", color=ORANGE, label="recorded, plain")
        if live:
            axis.plot([], [], "s", mec=RED, mfc="none", label="live, smaller budget")
        axis.legend(fontsize=8, loc="upper right")


def show_windows(image, windows):
    """Which pixels of an image one position sees: those that matter are framed, more of the color for more weight.

    Of the image, the part around them is shown.

    Args:
        image: (H, W).
        windows: for each title, a tensor (H, W) of how much each pixel matters, 0 for not at all.
    """
    around = sum(windows.values()).nonzero()
    (top, left), (bottom, right) = (around.amin(0) - 5.5).tolist(), (around.amax(0) + 5.5).tolist()
    with _figure(WIDTH / len(windows) + 0.25, columns=len(windows)) as axes:
        for axis, (title, weights) in zip(axes, windows.items()):
            axis.imshow(image.numpy(), cmap="gray_r", alpha=0.55)
            for row, column in weights.nonzero().tolist():
                color = (*to_rgb(ORANGE), 0.25 + 0.75 * (weights[row, column] / weights.max()).item())
                axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fc=color, ec=RED, lw=0.7))
            axis.set_title(title, fontsize=9)
            axis.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
            axis.spines[:].set(visible=True, color=GREY, lw=0.5)


def plot_gradients(panels):
    """Norm of the loss's gradient with respect to the weights of each convolution: a panel for each title.

    Args:
        panels: for each title, for each name in the legend, a tensor (seeds, convolutions) of norms. Drawn are the
            geometric mean over the seeds, and the range. The same names in all panels, in one order, but a panel
            may end early.
    """
    styles = list(zip((ORANGE, BLUE, GREEN), ("--", "-", (0, (1, 1)))))
    with _figure(3.4, columns=len(panels)) as axes:
        for axis, (title, series) in zip(axes, panels.items()):
            for (name, norms), (color, line) in zip(series.items(), styles):
                numbers = range(1, norms.shape[1] + 1)
                axis.plot(numbers, norms.log().mean(0).exp(), color=color, ls=line, label=name)
                axis.fill_between(numbers, norms.amin(0), norms.amax(0), color=color, alpha=0.2, lw=0)
            axis.set(title=title, xlabel="convolution, from the input", yscale="log")
        limits = [axis.get_ylim() for axis in axes]
        for axis in axes:
            axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        axes[0].set_ylabel("norm of the gradient")
        most = max(axes, key=lambda axis: len(axis.lines))
        most.figure.legend(*most.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)


def plot_removals(panels):
    """Accuracy of a trained network when one block is taken out: a panel for each network.

    Args:
        panels: for each title, a pair: the accuracy of the whole network, and for each name in the legend, the
            accuracy by the block that is missing.
    """
    styles = list(zip((ORANGE, BLUE), ("//", "")))
    with _figure(3.5, columns=len(panels)) as axes:
        for axis, (title, (whole, series)) in zip(axes, panels.items()):
            width = 0.8 / len(series)
            for i, ((name, values), (color, hatch)) in enumerate(zip(series.items(), styles)):
                places = [place + (i - (len(series) - 1) / 2) * width for place in range(len(values))]
                axis.bar(places, values.values(), width, fc=color + "aa", ec=color, hatch=hatch, label=name)
            axis.set_xticks(range(len(values)), values, rotation=45, ha="right", fontsize=8)
            axis.axhline(whole, color="black", lw=1.2, label="no block missing")
            axis.axhline(0.1, color=RED, lw=1.2, ls=":", label="chance, 10 classes")
            axis.set(title=title, xlabel="missing block", ylim=(0, 1))
            axis.grid(False, axis="x")
        axes[0].set_ylabel("accuracy")
        axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)


def plot_losses(runs, level=None, label=""):
    """Training loss by step: the mean of each epoch, at its middle.

    Args:
        runs: a `Run` for each name in the legend.
        level: a loss to draw as a level line, called `label`.
    """
    styles = itertools.cycle(zip((BLUE, ORANGE, GREEN, RED), ("-", "--", "-.", (0, (1, 1))), "osD^"))
    with _figure(3.0) as axis:
        for (name, run), (color, line, marker) in zip(runs.items(), styles):
            steps = math.ceil(run.examples / run.recipe["batch_size"])
            middles = [(i + 0.5) * steps for i in range(len(run.epochs))]
            losses = [epoch["train_loss"] for epoch in run.epochs]
            axis.plot(middles, losses, color=color, ls=line, marker=marker, ms=5, label=name)
        if level is not None:
            axis.axhline(level, color=GREY, lw=1, ls=":")
            place = axis.get_yaxis_transform()  # x in fractions of the axis
            axis.text(0.01, level, label, transform=place, va="bottom", color=GREY)
        axis.set(xlabel="steps", ylabel="training loss, nats", xlim=(0, None), ylim=(0, 1.1 * axis.get_ylim()[1]))
        axis.legend(loc="lower left", fontsize=8)


def plot_rate(recipes):
    """The learning rate over a training, of a `Recipe` for each name in the legend."""
    with _figure(2.4) as axis:
        for (name, recipe), color, line in zip(recipes.items(), (BLUE, ORANGE, GREEN), ("-", "--", ":")):
            progress = [i / 200 for i in range(201)]
            axis.plot(progress, [recipe.rate(each) for each in progress], line, color=color, label=name)
        axis.set(xlabel="part of all steps", ylabel="learning rate", xlim=(0, 1), ylim=(0, None))
        axis.legend()


def plot_scores(rows, label="validation accuracy", base=None):
    """A row for each name, from the top down, and in it a dot for each run and a bar at their mean.

    Args:
        rows: the scores of the runs by name.
        label: what the scores are.
        base: the name of a row that the others are compared with: its range is a band over all rows.
    """
    with _figure(0.7 + 0.27 * len(rows)) as axis:
        if base is not None:
            axis.axvspan(min(rows[base]), max(rows[base]), color=BLUE, alpha=0.2, lw=0)
        for place, (name, scores) in enumerate(rows.items()):
            color, mark = (BLUE, "s") if name == base else (ORANGE, "o")
            axis.plot(scores, [place] * len(scores), mark, color=color, mec="black", mew=0.5, ms=6, alpha=0.9)
            axis.plot([sum(scores) / len(scores)], [place], "|", color="black", ms=13, mew=1.5)
        axis.set_yticks(range(len(rows)), rows)
        axis.locator_params("x", nbins=5)
        axis.set(xlabel=label, ylim=(len(rows) - 0.4, -0.6))
        axis.grid(False, axis="y")


def plot_costs(scores, costs, label="test accuracy"):
    """The scores of networks beside what each costs: a panel for each cost, a mark for each network.

    Args:
        scores: for each network the scores of its runs; drawn are their mean and range.
        costs: for each axis label, the cost of each network.
        label: what the scores are.
    """
    rows = math.ceil(len(costs) / 2)
    styles = list(zip((BLUE, ORANGE, GREEN, RED, GREY) * 2, "os^DvPX<>*"))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, 2, figsize=(WIDTH, 2.3 * rows + 0.7), sharey=True, squeeze=False)
        for axis, (name, of) in zip(axes.flat, costs.items()):
            for (network, values), (color, mark) in zip(scores.items(), styles):
                mean = sum(values) / len(values)
                error = [[mean - min(values)], [max(values) - mean]]
                axis.errorbar(
                    of[network], mean, error, fmt=mark, color=color, mec="black", mew=0.5, ms=6, label=network
                )
            axis.set(xlabel=name, xscale="log")
            axis.margins(x=0.15)
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k, 50M
            axis.xaxis.set_minor_locator(NullLocator())
        for row in axes:
            row[0].set_ylabel(label)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
        plt.show()


def plot_confusion(counts):
    """How many images of each class (rows) were taken for each class (columns), in percent of the row.

    Args:
        counts: (10, 10).
    """
    shares = 100 * counts / counts.sum(1, keepdim=True)
    with _figure(WIDTH) as axis:
        axis.imshow(shares.fill_diagonal_(0).numpy(), cmap=LinearSegmentedColormap.from_list("", ["white", BLUE]))
        for row, column in itertools.product(range(10), repeat=2):
            share = shares[row, column].item()
            if share >= 0.5:
                dark = share > shares.max().item() / 2
                axis.text(column, row, f"{share:.0f}", ha="center", va="center", color="white" if dark else "black")
        axis.set_xticks(range(10), CLASSES, rotation=45, ha="right")
        axis.set_yticks(range(10), CLASSES)
        axis.set(xlabel="taken for", ylabel="class")
        axis.grid(False)
