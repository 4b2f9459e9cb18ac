"""Drawings of blocks, networks and sets: nothing in them is measured."""

import itertools
import math

from matplotlib.patches import Circle, FancyBboxPatch, Polygon
from matplotlib.transforms import ScaledTranslation

from d2lnets.plots.style import BLUE, GREEN, GREY, ORANGE, PATHS, RED, WIDTH, figure
from d2lnets.tracing import Trace, show_shape


def draw_residual() -> None:
    """The residual block: with the identity as shortcut, and with a 1x1 convolution."""
    first, *rest = ["3×3 conv", "batch norm", "ReLU", "3×3 conv", "batch norm"]
    with figure(4.4, columns=2) as axes:
        _draw_block(axes[0], "equal shape", [first, *rest])
        _draw_block(axes[1], "stride 2, more channels", [first + ", stride 2", *rest], ["1×1 conv\nstride 2"])


def draw_activation_orders() -> None:
    """The block of 2015 and the pre-activation block of 2016 (He et al. 2016b, Fig. 1)."""
    before = ["3×3 conv", "batch norm", "ReLU", "3×3 conv", "batch norm"]
    after = ["batch norm", "ReLU", "3×3 conv", "batch norm", "ReLU", "3×3 conv"]
    with figure(4.7, columns=2) as axes:
        _draw_block(axes[0], "post-activation", before, slots=6)
        _draw_block(axes[1], "pre-activation", after, relu=False)


def draw_paths() -> None:
    """Three residual blocks in a row, and below them the eight paths through them (Veit et al. 2016, Fig. 1)."""
    top, plus = 9.3, {"boxstyle": "circle,pad=0.1", "fc": "white", "ec": "black"}
    paths = sorted(itertools.product((False, True), repeat=3), key=lambda taken: (sum(taken), taken[::-1]))
    with figure(4.2) as axis:
        axis.set(xlim=(-2.9, 7.3), ylim=(-0.5, 10.8))
        axis.axis("off")
        axis.text(-2.9, top, "three blocks", va="center", fontsize=8)
        _arrow(axis, [(-0.3, top), (7.2, top)], BLUE)
        for row, taken in enumerate(paths):
            _arrow(axis, [(-0.3, 7 - row), (7.2, 7 - row)], BLUE if all(taken) else ORANGE)
        for y, text in ((7, "no branch"), (5, "one"), (2, "two"), (0, "all: the only one\nof a plain network")):
            axis.text(-2.9, y, text, va="center", fontsize=8)
        for number in range(3):
            x = 0.9 + 2.4 * number
            _box(axis, x, top, str(number + 1), BLUE, 0.9, 0.75)
            _arrow(axis, [(x - 0.8, top), (x - 0.8, top + 1), (x + 0.9, top + 1), (x + 0.9, top + 0.25)], ORANGE)
            axis.text(x + 0.9, top, "+", ha="center", va="center", fontsize=9, bbox=plus)
            for row, taken in enumerate(paths):
                if taken[number]:
                    _box(axis, x, 7 - row, str(number + 1), BLUE, 0.9, 0.66)


def draw_bottleneck() -> None:
    """Two 3x3 convolutions, the identity block and the convolutional block (He et al. 2016a, Fig. 5).

    Channels are those of conv2_x, and of the first block of conv3_x. Narrow boxes work on few channels.
    """

    def branch(*convolutions):
        layers = [layer for conv in convolutions for layer in (conv, "batch norm\nReLU")]
        return [*layers[:-1], "batch norm"]  # the last ReLU comes after the sum

    wide, narrow = "3×3 conv\n256 → 256", "3×3 conv\n64 → 64"
    identity = branch("1×1 conv\n256 → 64", narrow, "1×1 conv\n64 → 256")
    changing = branch("1×1, stride 2\n256 → 128", "3×3 conv\n128 → 128", "1×1 conv\n128 → 512")
    with figure(4.7, columns=3) as axes:
        _draw_block(axes[0], "two 3×3", branch(wide, wide), slots=6)
        _draw_block(axes[1], "identity block", identity, narrow=range(1, 4))
        _draw_block(axes[2], "convolutional block", changing, ["1×1 conv\nstride 2", "batch norm"], range(1, 4))


def draw_later_blocks() -> None:
    """The blocks of ResNeXt, SENet, MobileNetV2 and ConvNeXt (Xie 2017, Hu 2018, Sandler 2018, Liu 2022)."""

    def bottleneck(first, middle, *last):
        return [first, "batch norm", "ReLU", middle, "batch norm", "ReLU", "1×1 conv", "batch norm", *last]

    convnext = ["7×7 conv,\nby channel", "layer norm", "1×1 conv\nto 4 times", "GELU", "1×1 conv"]
    by_channel = bottleneck("1×1 conv\nto 6 times", "3×3 conv,\nby channel")
    few = range(1, 6)  # the layers on few channels
    with figure(5.8, columns=4, width=7.2) as axes:
        _draw_block(axes[0], "ResNeXt", bottleneck("1×1 conv\nto half", "3×3 conv\nin groups"), (), few, 9)
        _draw_block(axes[1], "SENet", bottleneck("1×1 conv\nto a quarter", "3×3 conv", "weigh\nchannels"), (), few)
        _draw_block(axes[2], "MobileNetV2", by_channel, slots=9, relu=False)
        _draw_block(axes[3], "ConvNeXt", convnext, slots=9, relu=False)


def draw_processes(processes: int = 3) -> None:
    """A step of data parallelism: a batch in shares, copies of the network, one mean of their gradients."""
    middle, width = processes - 1, 2 * processes - 0.2
    with figure(4.0) as axis:
        axis.set(xlim=(-1.05, 2 * processes - 0.95), ylim=(-0.05, 6.6))
        axis.axis("off")
        _box(axis, middle, 6.2, "a batch of images", ORANGE, width, height=0.6)
        _box(axis, middle, 2.05, "mean of all gradients (all-reduce)", GREEN, width, height=0.6)
        for process in range(processes):
            x = 2.0 * process
            for y, text, color in (
                (5.1, f"share {process}", ORANGE),
                (4.1, f"network,\ncopy {process}", BLUE),
                (3.1, "its gradient", GREY),
                (1.0, "the same step", BLUE),
            ):
                _box(axis, x, y, text, color, 1.7, height=0.62)
            for start, end in ((5.9, 5.43), (4.79, 4.43), (3.79, 3.43), (2.79, 2.37), (1.75, 1.33)):
                _arrow(axis, [(x, start), (x, end)])
            axis.text(x, 0.2, f"process {process}", ha="center", va="center", fontsize=8)


def draw_inception() -> None:
    """The Inception block with the channels of inception_3a (Szegedy et al. 2015, Fig. 2b).

    A color a path; in the bar at the end each path is as wide as its channels. Narrow boxes reduce.
    """
    paths = [
        (64, [("1×1 conv\n192 → 64", 2.0)]),
        (128, [("1×1 conv\n192 → 96", 1.5), ("3×3 conv\n96 → 128", 2.0)]),
        (32, [("1×1 conv\n192 → 16", 1.5), ("5×5 conv\n16 → 32", 2.0)]),
        (32, [("3×3 max-pool\nstride 1", 2.0), ("1×1 conv\n192 → 32", 2.0)]),
    ]
    total, left = sum(width for width, _ in paths), -1.0
    with figure(3.7) as axis:
        axis.set(xlim=(-1.1, 7.9), ylim=(-0.95, 5.3))
        axis.axis("off")
        axis.text(3.55, 5.05, "x, 192 channels", va="center", fontsize=8)
        axis.plot([3.4, 3.4], [5.2, 4.55], color="black", lw=1.2)
        for x, (width, path), color in zip((0, 2.27, 4.53, 6.8), paths, PATHS):
            heights = [3.5, 1.95] if len(path) == 2 else [2.725]
            _arrow(axis, [(3.4, 4.55), (x, 4.55), (x, heights[0] + 0.45)], color)
            for (text, wide), y in zip(path, heights):
                _box(axis, x, y, text, color, wide, height=0.85)
            for above, below in itertools.pairwise(heights):
                _arrow(axis, [(x, above - 0.43), (x, below + 0.45)], color)
            share = 8.8 * width / total
            middle = left + share / 2
            _arrow(axis, [(x, heights[-1] - 0.43), (x, 1.2), (middle, 1.2), (middle, 0.6)], color)
            _box(axis, middle, 0.3, "", color, share - 0.04, height=0.55)
            left += share
        axis.text(3.6, -0.35, "join on channels", va="center", fontsize=8)
        _arrow(axis, [(3.4, 0.02), (3.4, -0.75)])


def _draw_block(axis, title, layers, shortcut=(), narrow=(), slots=None, relu=True):
    """The layers of the branch from top to bottom, and the shortcut's, between x and the sum.

    Args:
        narrow: which layers of the branch get a narrower box.
        slots: how many layers there is room for, if more than are drawn.
        relu: whether the sum is clipped.
    """
    heights = [2.5 + 1.1 * i for i in reversed(range(len(layers)))]
    top = heights[0]
    spare = 1.1 * ((slots or len(layers)) - len(layers))  # stays empty below
    axis.set(xlim=(-1.05, 2.75), ylim=(-0.9 - spare, top + 1.5))
    axis.set_title(title, x=1.05 / 3.8)  # above the branch
    axis.axis("off")
    for i, (layer, y) in enumerate(zip(layers, heights)):
        color = BLUE if "×" in layer else GREY
        _box(axis, 0, y, layer, color, width=1.6 if i in narrow else 1.9)
    _arrow(axis, [(0, top + 1.4), (0, top + 0.4)])
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
    _lines(axis, x, y, text)


def _lines(axis, x, y, text):
    """Text around a place, each line in its middle: several in one would be set apart by the widths of another font."""
    lines = text.split("\n")
    for i, line in enumerate(lines):
        rise = 9.6 * ((len(lines) - 1) / 2 - i) / 72  # inches
        place = axis.transData + ScaledTranslation(0, rise, axis.figure.dpi_scale_trans)
        axis.text(x, y, line, transform=place, ha="center", va="center", fontsize=8, zorder=4)


def _arrow(axis, points, color="black"):
    """A line through `points` with a head at the last."""
    x, y = zip(*points)
    axis.plot(x, y, color=color, lw=1.2)
    axis.annotate(
        "", points[-1], points[-2], arrowprops={"arrowstyle": "-|>", "color": color, "shrinkA": 0, "shrinkB": 0}
    )


def draw_dense_block(in_channels: int = 64, growth_rate: int = 32, layers: int = 4) -> None:
    """A dense block as rows of channels: each layer reads a whole row and appends to it (Huang et al. 2017, Fig. 1)."""
    widths = [in_channels + i * growth_rate for i in range(layers + 1)]
    scale, step = 4 / widths[-1], 1.75
    with figure(1.05 * layers + 0.6) as axis:
        axis.set(xlim=(-0.95, 4.4), ylim=(-step * layers - 0.45, 0.45))
        axis.axis("off")
        for row, width in enumerate(widths):
            y, end = -step * row, scale * width
            axis.text(-0.12, y, f"{width}\nchannels", ha="right", va="center", fontsize=8)
            _box(axis, scale * in_channels / 2, y, "x", ORANGE, scale * in_channels - 0.08, height=0.6)
            for i in range(row):
                center = scale * (widths[i] + growth_rate / 2)
                _box(axis, center, y, f"from {i + 1}", BLUE, scale * growth_rate - 0.08, height=0.6)
            if row < layers:
                below = end + scale * growth_rate / 2
                _arrow(axis, [(end, y), (below, y), (below, y - 0.5)])
                _box(axis, below, y - 0.85, f"layer {row + 1}: BN,\nReLU, 3×3", BLUE, 1.25, height=0.7)
                _arrow(axis, [(below, y - 1.2), (below, y - step + 0.3)])
                for kept in [in_channels / 2, *(each + growth_rate / 2 for each in widths[:row])]:
                    _arrow(axis, [(scale * kept, y - 0.3), (scale * kept, y - step + 0.3)], ORANGE)
                axis.text(scale * in_channels / 2 - 0.1, y - step / 2, "kept", ha="right", va="center", fontsize=8)


def draw_network(trace: Trace) -> None:
    """A `Trace` as boxes, at most seven in a row, in the order of the stages.

    Height and depth of a box grow with the map's size, width with the channels: both on a root scale,
    or 512 channels of 3x3 would not fit beside one of 96x96. A row is two panels, which a phone stacks.
    """
    boxes = [_Box("input", trace.input_shape)]
    boxes += [_Box(stage.name, stage.output_shape) for stage in trace if stage.output_shape]
    each = math.ceil(len(boxes) / math.ceil(len(boxes) / 7))
    half = math.ceil(each / 2)
    rows = [(boxes[i : i + half], boxes[i + half : i + each]) for i in range(0, len(boxes), each)]
    tops = [max(box.height + box.depth for part in row for box in part) + 1 for row in rows]
    width = max(sum(box.slot for box in part) for row in rows for part in row)
    ratios = [top + 6 for top in tops]  # 6 below for the labels
    with figure(WIDTH * sum(ratios) / width / 2, 2, len(rows), WIDTH, height_ratios=ratios, squeeze=False) as axes:
        for places, row, top in zip(axes, rows, tops):
            for axis, part in zip(places, row):
                axis.axis("off")
                axis.set(xlim=(0, width), ylim=(-6, top))
                left = 0
                for box in part:
                    box.draw(axis, left)
                    left += box.slot


class _Box:
    """A stage's output in a network's drawing."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
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
        _lines(axis, left + self.slot / 2, -3.5, self.label)


def draw_function_classes() -> None:
    """Six growing sets of functions and the target f*: nested, and not nested. A dot is the point nearest to f*."""
    star, radii = (4.2, 2.9), (0.55, 1.0, 1.45, 1.9, 2.35, 2.8)
    nested = [(0.35 * radius - 0.7, 0.2 * radius - 0.3) for radius in radii]
    wandering = [(-0.9, 0.1), (1.75, 0.6), (-0.6, 1.2), (1.0, -0.6), (-1.2, -0.9), (0.0, -1.2)]
    apart = [180, 0, 150, -20, 190, -60]  # of the labels on the circles, in degrees
    panels = (("nested", nested, [100] * 6, BLUE), ("not nested", wandering, apart, RED))
    with figure(3.3, columns=2) as axes:
        for axis, (title, centers, angles, color) in zip(axes, panels):
            axis.set(xlim=(-3.8, 4.8), ylim=(-4.1, 3.9), title=title, aspect="equal")
            axis.axis("off")
            for number, (radius, (x, y), angle) in enumerate(zip(radii, centers, angles), 1):
                axis.add_patch(Circle((x, y), radius, fc=color + "12", ec=color, lw=0.6 + 0.15 * number))
                reach = radius / math.dist(star, (x, y))
                near = (x + reach * (star[0] - x), y + reach * (star[1] - y))
                axis.plot(*zip(near, star), ":", color=GREY, lw=0.8)
                axis.plot(*near, "o", color="black", ms=3, zorder=4)
                turn = math.radians(angle)
                axis.text(
                    x + radius * math.cos(turn),
                    y + radius * math.sin(turn),
                    f"$F_{number}$",
                    ha="center",
                    va="center",
                    fontsize=8,
                    bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none"},
                )
            axis.plot(*star, "*", color="black", ms=9, zorder=4)
            axis.text(star[0], star[1] + 0.3, "$f^*$", ha="center", va="bottom")
