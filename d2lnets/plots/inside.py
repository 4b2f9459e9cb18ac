"""What is inside networks: images, maps, channels, gradients, and the loss around their weights."""

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from matplotlib.colors import LinearSegmentedColormap, to_rgb, to_rgba
from matplotlib.patches import Polygon, Rectangle
from torch import nn

from d2lnets.data import CLASSES, Split
from d2lnets.googlenet import Inception
from d2lnets.plots.style import BLUE, GREEN, GREY, NARROW, ORANGE, PATHS, RED, WIDTH, figure, looks
from d2lnets.tracing import Trace, show_shape
from d2lnets.training.loop import eval_mode

SIGNED = LinearSegmentedColormap.from_list(  # orange below zero, blue above, each clearer the nearer to zero
    "signed", [(0, to_rgba(ORANGE)), (0.5, to_rgba(ORANGE, 0)), (0.5, to_rgba(BLUE, 0)), (1, to_rgba(BLUE))]
)


def show_images(
    split: Split,
    count: int = 10,
    taken_for: Sequence[int] | torch.Tensor | None = None,
    classes: Sequence[str] = CLASSES,
) -> None:
    """The first `count` images of a `Split` with the names of their classes, up to five in a row.

    Args:
        taken_for: for each image another class to name, the one that a network gave it.
        classes: their names.
    """
    rows, columns = math.ceil(count / 5), min(count, 5)
    height = (1.1 if taken_for is None else 1.3) * rows
    with figure(height, columns, rows, NARROW * columns / 5, squeeze=False) as axes:
        for axis in axes.flat:
            axis.axis("off")
        for i, (axis, image, label) in enumerate(zip(axes.flat, split.images[:count], split.labels)):
            axis.imshow(image[0].cpu().numpy(), cmap="gray_r")
            names = [classes[int(label)]] if taken_for is None else [classes[int(label)], classes[int(taken_for[i])]]
            axis.set_title("\nas ".join(names), fontsize=8)


def plot_stages(networks: Mapping[str, Trace]) -> None:
    """Where networks keep their parameters, to the left, and do their multiply-adds, to the right.

    Args:
        networks: a `Trace` for each title; a panel for each, a row for each stage from the input down.
    """
    tall = max(map(len, networks.values()))
    with figure(0.6 + 0.27 * tall, len(networks), squeeze=False) as axes:
        for axis, (title, trace) in zip(axes.flat, networks.items()):
            rows = [
                (100 * stage.parameters / trace.parameters, 100 * stage.multiply_adds / trace.multiply_adds)
                for stage in trace
            ]
            for place, shares in enumerate(rows):
                for side, share, color, hatch in zip((-1, 1), shares, (ORANGE, BLUE), ("//", "")):
                    axis.barh(place, side * share, 0.75, fc=color + "88", ec=color, hatch=hatch, lw=0.8)
                    align = "right" if side < 0 else "left"
                    axis.text(side * (share + 2), place, f"{share:.0f}", ha=align, va="center", fontsize=8)
            reach = 1.3 * max(map(max, rows))
            axis.axvline(0, color="black", lw=0.8)
            axis.set(xlim=(-reach, reach), ylim=(len(rows) - 0.4, -1.2), xticks=[])
            axis.set_yticks(range(len(rows)), [stage.name for stage in trace], fontsize=8)
            axis.set_title(title, fontsize=9.5)
            axis.text(-2, -0.75, "parameters, %", ha="right", fontsize=8)
            axis.text(2, -0.75, "multiply-adds, %", ha="left", fontsize=8)
            axis.tick_params(length=0)
            axis.grid(False)
            axis.spines[:].set_visible(False)


def plot_channels(trace: Trace) -> None:
    """Channels after every layer of a DenseNet's `Trace`: what entered the block, and what its layers appended."""
    kept: list[int] = []
    added, ticks, labels = [], [], []
    with figure(3.0) as axis:
        for stage in trace:
            if len(stage.output_shape) < 3:
                continue  # the head
            dense = stage.name.startswith("dense")
            channels = stage.input_shape[0] if dense else stage.output_shape[0]
            grown = list(itertools.accumulate(layer.output_shape[0] for layer in stage.inside)) if dense else [0]
            if dense or not kept:
                ticks.append(len(kept) + (len(grown) - 1) / 2)
                labels.append(f"{stage.name}\n{show_shape(stage.output_shape[1:])}" if dense else stage.name)
            kept += [channels] * len(grown)
            added += grown
            height, inside = kept[-1] + added[-1], {} if dense or len(kept) == 1 else {"rotation": 90, "va": "top"}
            axis.text(len(kept) - 1, height - 6 if inside else height + 4, height, ha="center", fontsize=8, **inside)
        places = range(len(kept))
        axis.bar(places, kept, color=ORANGE + "88", ec=ORANGE, label="left the stem or a transition")
        axis.bar(places, added, bottom=kept, color=BLUE + "55", ec=BLUE, hatch="///", label="appended by the block")
        axis.set_xticks(ticks, labels, fontsize=8)
        axis.get_xticklabels()[0].set_ha("right")  # the stem has one bar
        axis.grid(False, axis="x")
        axis.set(ylabel="channels", ylim=(0, 1.3 * max(map(sum, zip(kept, added)))))
        axis.legend(loc="upper left", fontsize=8)


def plot_memory(layers: Sequence[int], peaks: Mapping[str, Sequence[float]]) -> None:
    """Bytes over the number of layers, both on logarithmic scales.

    Args:
        peaks: for each name in the legend a list of bytes, one for each of `layers`.
    """
    with figure(3.0) as axis:
        for (label, values), (color, line) in zip(peaks.items(), ((ORANGE, "o-"), (BLUE, "s--"), (GREY, ":"))):
            axis.plot(layers, [value / 1e6 for value in values], line, color=color, ms=5, label=label)
        axis.set(xscale="log", yscale="log", xlabel="layers in the block", ylabel="memory at its peak, MB")
        axis.set_xticks(layers, layers)
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:g}")
        axis.legend(fontsize=8)


def plot_links(panels: Mapping[str, torch.Tensor | Sequence[Sequence[float]]]) -> None:
    """For each title, a matrix [layer, source] with a number for every link of a dense block; above the diagonal none.

    The sources of a layer are the block's input and the layers before it.
    """
    with figure(WIDTH / len(panels) + 0.25, columns=len(panels)) as axes:
        for axis, (title, values) in zip(axes, panels.items()):
            count, strongest = len(values), max(values[i][j] for i in range(len(values)) for j in range(i + 1))
            for i, j in itertools.product(range(count), repeat=2):
                if j <= i:
                    strength = max(0.0, float(values[i][j] / strongest))
                    fill = (*to_rgb(BLUE), 0.5 * strength)
                    axis.add_patch(Polygon([(j, i), (j + 1, i), (j + 1, i + 1), (j, i + 1)], fc=fill, ec=BLUE, lw=0.8))
                    axis.text(j + 0.5, i + 0.5, f"{values[i][j]:z.3f}", ha="center", va="center", fontsize=8)
            names = [str(i + 1) for i in range(count)]
            axis.set(xlim=(0, count), ylim=(count, 0), xlabel="source", ylabel="layer", title=title, aspect="equal")
            axis.set_xticks([i + 0.5 for i in range(count)], ["input", *names[:-1]])
            axis.set_yticks([i + 0.5 for i in range(count)], names)
            axis.grid(False)
            axis.spines[:].set_visible(False)


def show_feature_maps(net: nn.Module, image: torch.Tensor, channels: int = 8) -> None:
    """What an image becomes, stage by stage: the first maps that leave each child of `net`, a row a stage.

    A map's numbers are scaled to its own largest magnitude: blue is positive, orange negative, clear zero.

    Args:
        image: (1, C, H, W), as the network gets it.
    """
    rows, x = [], image
    with eval_mode(net), torch.no_grad():
        for name, stage in net.named_children():
            x = stage(x)
            if x.dim() == 4:
                rows.append((name, x[0]))
    with figure(0.75 * len(rows), channels, len(rows), NARROW, squeeze=False) as axes:
        for (name, maps), cells in zip(rows, axes):
            most = [each.abs().max().clamp(min=1e-6) for each in maps.cpu()]
            _row_of_maps(cells, f"{name}, {show_shape(maps.shape)}", maps.cpu(), SIGNED, [(-m, m) for m in most], GREY)


def _row_of_maps(axes, title, maps, colors, ranges, color):
    """Maps side by side under a title, as many as there are axes; the others stay empty."""
    axes[0].text(0, 1.1, title, transform=axes[0].transAxes, fontsize=8, in_layout=False)  # wider than its map
    for axis in axes:
        axis.axis("off")
    for axis, values, (low, high) in zip(axes, maps, ranges):
        axis.imshow(values.numpy(), cmap=colors, vmin=float(low), vmax=float(high))
        axis.axis("on")
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set(visible=True, color=color, lw=0.6)


def show_path_maps(block: Inception, x: torch.Tensor, channels: int = 8) -> None:
    """The first maps that each path of an Inception block adds to its output, in the path's color, zero clear.

    Args:
        x: (1, C, H, W), as the block gets it.
    """
    with eval_mode(block), torch.no_grad():
        paths = [path(x)[0].cpu() for path in (block.path1, block.path2, block.path3, block.path4)]
    first = 0
    with figure(0.75 * len(paths), channels, len(paths), NARROW, squeeze=False) as axes:
        for name, maps, cells, color in zip(("1×1", "3×3", "5×5", "max-pool"), paths, axes, PATHS):
            colors = LinearSegmentedColormap.from_list("path", [to_rgba(color, 0), to_rgba(color)])
            ranges = [(0, each.max().clamp(min=1e-6)) for each in maps]
            _row_of_maps(cells, f"{name}: channels {first} to {first + len(maps) - 1}", maps, colors, ranges, color)
            first += len(maps)


def show_answers(split: Split, maps: torch.Tensor) -> None:
    """For each image: the image; its class activation map for the answer, laid over it; the three likeliest classes.

    A map is blue where it speaks for the class and orange where it speaks against it, on one scale for all images.

    Args:
        split: the images, with their classes.
        maps: (N, classes, height, width), as `d2lnets.probes.class_maps` gives them.
    """
    chances = maps.mean((2, 3)).softmax(1)
    most = float(maps.abs().max())
    with figure(1.35 * len(maps), 3, len(maps), NARROW, squeeze=False) as axes:
        for (picture, over, bars), image, label, each, chance in zip(axes, split.images, split.labels, maps, chances):
            top = chance.topk(3)
            side = image.shape[-1]
            for axis, title in ((picture, CLASSES[label]), (over, f"for {CLASSES[top.indices[0]]}")):
                axis.imshow(image[0].cpu().numpy(), cmap="gray_r", alpha=1 if axis is picture else 0.35)
                axis.set(xticks=[], yticks=[])
                axis.set_title(title, fontsize=8)
                axis.grid(False)
                axis.spines[:].set(visible=True, color=GREY, lw=0.5)
            seen = each[top.indices[0]].cpu().numpy()
            over.imshow(
                seen, cmap=SIGNED, vmin=-most, vmax=most, alpha=0.7, extent=(-0.5, side - 0.5, side - 0.5, -0.5)
            )
            names = [CLASSES[index] for index in top.indices]
            fills = [GREEN if index == label else GREY for index in top.indices]
            bars.barh(names, top.values.tolist(), color=fills, height=0.5)
            for place, value in enumerate(top.values):
                bars.text(float(value) + 0.03, place, f"{value:.0%}", va="center", fontsize=8)
            bars.set(xlim=(0, 1.4), xticks=[], ylim=(2.6, -0.6))
            bars.tick_params(axis="y", labelsize=8, length=0)
            bars.set_title("answer", fontsize=8)
            bars.grid(False)
            bars.spines[:].set_visible(False)


def plot_function_classes(
    x: torch.Tensor, target: torch.Tensor, fits: Mapping[str, torch.Tensor], distances: Mapping[str, Sequence[float]]
) -> None:
    """What was measured of growing families of function classes, each drawn in its own line style.

    Args:
        x, target: the points and the function that was fitted, both of shape (N,).
        fits: for each family the best function of its third class, of shape (N,).
        distances: for each family the distances of its classes to the target, in the target's unit.
    """
    styles = (("o-", BLUE), ("s--", RED))
    with figure(2.9, columns=2) as (left, right):
        left.plot(x, target, color=GREY, lw=4, alpha=0.45, label="f*")
        for (family, values), (style, color) in zip(fits.items(), styles):
            left.plot(x, values, style[1:], color=color, label=family)
        left.set(xlabel="x", ylabel="f(x)", title="best function of F₃")
        left.legend(fontsize=8, loc="upper center")
        for (family, apart), (style, color) in zip(distances.items(), styles):
            right.plot(range(1, len(apart) + 1), apart, style, color=color, ms=5, label=family)
            right.set_xticks(range(1, len(apart) + 1), [f"$F_{k}$" for k in range(1, len(apart) + 1)])
        right.set(xlabel="function class", ylabel="distance to f*", title="distance", ylim=(0, None))
        right.legend(fontsize=8)


def plot_kinks(families: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Where the functions of each class may bend, on [0, 1]: for each family a panel, with a row for each class."""
    with figure(2.4, columns=len(families)) as axes:
        for axis, (family, classes), color in zip(axes, families.items(), (BLUE, RED)):
            axis.hlines(range(len(classes)), 0, 1, color=GREY, lw=1)
            for row, kinks in enumerate(classes):
                axis.plot(kinks, [row] * len(kinks), "o", color=color, ms=5)
            axis.set(title=family, xlabel="x", xlim=(0, 1), ylim=(len(classes) - 0.5, -0.5))
            axis.set_yticks(range(len(classes)), [f"$F_{row + 1}$" for row in range(len(classes))])
            axis.tick_params(axis="y", length=0)
            axis.spines["left"].set_visible(False)
            axis.grid(axis="x")
            axis.grid(False, axis="y")


def show_windows(image: torch.Tensor, windows: Mapping[str, torch.Tensor]) -> None:
    """Which pixels of an image one position of each path of an Inception block sees.

    Those that matter are framed, and have more of the path's color for more weight. Of the image, the part around them
    is shown.

    Args:
        image: (H, W).
        windows: for each title, a tensor (H, W) of how much each pixel matters, 0 for not at all.
    """
    around = sum(windows.values(), torch.zeros(())).nonzero()
    edges = torch.tensor(image.shape) - 0.5
    (top, left), (bottom, right) = (around.amin(0) - 5.5).clamp(min=-0.5), (around.amax(0) + 5.5).minimum(edges)
    with figure(WIDTH / len(windows) + 0.25, columns=len(windows)) as axes:
        for axis, (title, weights), color in zip(axes, windows.items(), PATHS):
            axis.imshow(image.numpy(), cmap="gray_r", alpha=0.55)
            for row, column in weights.nonzero().tolist():
                fill = (*to_rgb(color), 0.2 + 0.6 * (weights[row, column] / weights.max()).item())
                axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fc=fill, ec=color, lw=0.7))
            axis.set_title(title, fontsize=8)
            axis.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
            axis.spines[:].set(visible=True, color=GREY, lw=0.5)


def plot_gradients(panels: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    """Norm of the loss's gradient with respect to the weights of each convolution: a panel for each title.

    Args:
        panels: for each title, for each name in the legend, a tensor (seeds, convolutions) of norms. Drawn are the
            geometric mean over the seeds, and the range. The same names in all panels, in one order, but a panel
            may end early.
    """
    rows = math.ceil(len(panels) / 2)
    with figure(0.4 + 2.2 * rows, 2, rows, sharex=True, sharey="row", squeeze=False) as axes:
        for axis, (title, series) in zip(axes.flat, panels.items()):
            styles = looks(series)
            for name, norms in series.items():
                color, _, _, line = styles[name]
                numbers = range(1, norms.shape[1] + 1)
                axis.plot(numbers, norms.log().mean(0).exp(), color=color, ls=line, label=name)
                axis.fill_between(numbers, norms.amin(0), norms.amax(0), color=color, alpha=0.2, lw=0)
            axis.set_title(title, fontsize=9.5)
            axis.set(yscale="log", xlabel="convolution, from the input", ylabel="norm of the gradient")
            axis.tick_params(labelbottom=True, labelleft=True)  # each panel may stand alone
        axes[0, 0].figure.legend(
            *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8
        )


def plot_paths(shares: Mapping[str, torch.Tensor]) -> None:
    """Bars over the number of branches on a path, 0 to n: a set for each name, of shares (n + 1,)."""
    with figure(2.8) as axis:
        for (name, values), (color, hatch) in zip(shares.items(), ((GREY, "//"), (BLUE, ""))):
            axis.bar(range(len(values)), values, 0.85, fc=color + "55", ec=color, hatch=hatch, lw=0.8, label=name)
        axis.set(xlabel="branches on the path", ylabel="share")
        axis.grid(False, axis="x")
        axis.set_ylim(0, 1.25 * axis.get_ylim()[1])  # room for the legend above the bars
        axis.legend(fontsize=8)


def plot_likeness(curves: Mapping[str, Mapping[int, Sequence[float]]]) -> None:
    """Cosines of neighbouring gradients by depth: for each name the mean and range of the numbers at each depth."""
    styles = looks(curves)
    with figure(3.3) as axis:
        axis.axhline(0, color="black", lw=0.8)
        for name, by_depth in curves.items():
            color, mark, _, line = styles[name]
            values = torch.tensor(list(by_depth.values()))
            axis.fill_between(list(by_depth), values.amin(1), values.amax(1), color=color, alpha=0.2, lw=0)
            axis.plot(list(by_depth), values.mean(1), ls=line, marker=mark, color=color, ms=5, label=name)
        axis.set(xlabel="layers", ylabel="cosine of neighboring gradients", ylim=(-0.1, 1.05))
        axis.set_xticks(list(by_depth))
        axis.figure.legend(loc="outside lower center", ncols=2, fontsize=8)


def plot_slices(steps: Sequence[float], slices: Mapping[str, torch.Tensor]) -> None:
    """The loss along straight lines through the weights: a panel for each network, a line for each direction.

    Args:
        slices: for each network, (directions, steps).
    """
    styles = looks(slices)
    with figure(3.1, columns=len(slices), sharey=True) as axes:
        for axis, (name, lines) in zip(axes, slices.items()):
            axis.plot(steps, lines.T, color=styles[name].color, lw=1.2, alpha=0.85)
            axis.axhline(math.log(10), color=GREY, lw=1, ls=":", label="a guess")
            axis.set(title=name, xlabel="step, in norms of a kernel", ylabel="loss, nats", ylim=(0, None))
            axis.tick_params(labelleft=True)
        axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", fontsize=8)


def plot_removals(panels: Mapping[str, tuple[float, Mapping[str, Mapping[str, float]]]]) -> None:
    """Accuracy of a trained network when one block is taken out: a panel for each network.

    Args:
        panels: for each title, a pair: the accuracy of the whole network, and for each name in the legend, the
            accuracy by the block that is missing.
    """
    styles = list(zip((ORANGE, BLUE), ("//", "")))
    with figure(3.5, columns=len(panels)) as axes:
        for axis, (title, (whole, series)) in zip(axes, panels.items()):
            width = 0.8 / len(series)
            for i, ((name, values), (color, hatch)) in enumerate(zip(series.items(), styles)):
                places = [place + (i - (len(series) - 1) / 2) * width for place in range(len(values))]
                axis.bar(places, values.values(), width, fc=color + "aa", ec=color, hatch=hatch, label=name)
            axis.set_xticks(range(len(values)), values, rotation=45, ha="right", fontsize=8)
            axis.axhline(whole, color="black", lw=1.2, label="no block missing")
            axis.axhline(0.1, color=RED, lw=1.2, ls=":", label="chance, 10 classes")
            axis.set(title=title, xlabel="missing block", ylabel="accuracy", ylim=(0, 1))
            axis.grid(False, axis="x")
        axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
