"""What was measured: curves, scores, maps, images."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.patches import Polygon, Rectangle
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator
from torch import nn

from d2lnets.data import CLASSES, Split
from d2lnets.plots.style import BLUE, FAMILIES, GREEN, GREY, ORANGE, RED, STYLE, WIDTH, figure, looks
from d2lnets.tracing import Trace, show_shape
from d2lnets.training.evidence import Difference
from d2lnets.training.loop import eval_mode
from d2lnets.training.recipe import Recipe
from d2lnets.training.runs import Run


def show_images(split: Split, count: int = 10, taken_for: Sequence[int] | torch.Tensor | None = None) -> None:
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


def plot_runs(recorded: Sequence[Run], live: Run | None = None) -> None:
    """Accuracy by epoch: recorded runs of one network as mean and range over seeds, and a live run.

    Epochs of the live run count as fractions of the recorded ones, by the images that were seen.
    """
    series = {
        key: torch.tensor([[epoch[f"{key}_accuracy"] for epoch in run.epochs] for run in recorded])
        for key in ("train", "validation")
    }
    epochs = range(1, len(recorded[0].epochs) + 1)
    with figure(3.0) as axis:
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


def compare_runs(runs: Iterable[Run], path: Path | str | None = None) -> None:
    """Validation accuracy by epoch, mean and range over the seeds, of each network in `runs`.

    Args:
        path: save the figure there instead of showing it.
    """
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.network, len(run.epochs)), []).append(run)
    styles = looks(network for network, _ in groups)
    with figure(3.6, path=path) as axis:
        for (network, epochs), group in groups.items():
            color, _, _, line = styles[network]
            values = torch.tensor([[epoch["validation_accuracy"] for epoch in run.epochs] for run in group])
            axis.plot(range(1, epochs + 1), values.mean(0), line, color=color, label=network)
            axis.fill_between(range(1, epochs + 1), values.amin(0), values.amax(0), color=color, alpha=0.2, lw=0)
        axis.set(xlabel="epoch", ylabel="validation accuracy", xlim=(0, None))
        axis.locator_params("x", integer=True)
        axis.legend(loc="lower right", fontsize=8)


def show_feature_maps(net: nn.Module, image: torch.Tensor, channels: int = 8) -> None:
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
        left.plot(x, target, color=GREY, lw=4, alpha=0.45, label="$f^*$")
        for (family, values), (style, color) in zip(fits.items(), styles):
            left.plot(x, values, style[1:], color=color, label=family)
        left.set(xlabel="x", ylabel="f(x)", title="best function of $F_3$")
        left.legend(fontsize=8, loc="upper center")
        for (family, apart), (style, color) in zip(distances.items(), styles):
            right.plot(range(1, len(apart) + 1), apart, style, color=color, ms=5, label=family)
            right.set_xticks(range(1, len(apart) + 1), [f"$F_{k}$" for k in range(1, len(apart) + 1)])
        right.set(xlabel="function class", ylabel="distance to $f^*$", title="distance", ylim=(0, None))
        right.legend(fontsize=8)


def plot_degradation(runs: Sequence[Mapping[str, Any]], live: Sequence[Mapping[str, Any]] = ()) -> None:
    """Training error in the degradation experiment, a dot for each seed, and of live runs beside them."""
    names = list(dict.fromkeys(run["network"] for run in runs))
    with figure(3.0) as axis:
        for place, name in enumerate(names):
            errors = [run["train_error"] for run in runs if run["network"] == name]
            color, mark, *_ = looks([name])[name]
            shifts = [0.07 * (i - (len(errors) - 1) / 2) for i in range(len(errors))]
            axis.plot([place + shift for shift in shifts], errors, mark, color=color, ms=6)
            for run in live:
                if run["network"] == name:
                    axis.plot(place + 0.3, run["train_error"], "s", mec=RED, mfc="none", ms=6)
        axis.set_xticks(range(len(names)), names)
        axis.set(ylabel="training error", xlim=(-0.5, len(names) - 0.5), ylim=(0, 1))
        axis.grid(False, axis="x")
        for family in ("residual", "plain"):
            color, mark, *_ = looks([family])[family]
            axis.plot([], [], mark, color=color, label=f"recorded, {family}")
        if live:
            axis.plot([], [], "s", mec=RED, mfc="none", label="live, smaller budget")
        axis.legend(fontsize=8, loc="upper right")


def show_windows(image: torch.Tensor, windows: Mapping[str, torch.Tensor]) -> None:
    """Which pixels of an image one position sees: those that matter are framed, more of the color for more weight.

    Of the image, the part around them is shown.

    Args:
        image: (H, W).
        windows: for each title, a tensor (H, W) of how much each pixel matters, 0 for not at all.
    """
    around = sum(windows.values(), torch.zeros(())).nonzero()
    (top, left), (bottom, right) = (around.amin(0) - 5.5).tolist(), (around.amax(0) + 5.5).tolist()
    with figure(WIDTH / len(windows) + 0.25, columns=len(windows)) as axes:
        for axis, (title, weights) in zip(axes, windows.items()):
            axis.imshow(image.numpy(), cmap="gray_r", alpha=0.55)
            for row, column in weights.nonzero().tolist():
                color = (*to_rgb(ORANGE), 0.25 + 0.75 * (weights[row, column] / weights.max()).item())
                axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fc=color, ec=RED, lw=0.7))
            axis.set_title(title, fontsize=9)
            axis.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
            axis.spines[:].set(visible=True, color=GREY, lw=0.5)


def plot_gradients(panels: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    """Norm of the loss's gradient with respect to the weights of each convolution: a panel for each title.

    Args:
        panels: for each title, for each name in the legend, a tensor (seeds, convolutions) of norms. Drawn are the
            geometric mean over the seeds, and the range. The same names in all panels, in one order, but a panel
            may end early.
    """
    with figure(3.4, columns=len(panels)) as axes:
        for axis, (title, series) in zip(axes, panels.items()):
            styles = looks(series)
            for name, norms in series.items():
                color, _, _, line = styles[name]
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
            axis.set(title=title, xlabel="missing block", ylim=(0, 1))
            axis.grid(False, axis="x")
        axes[0].set_ylabel("accuracy")
        axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)


def plot_losses(runs: Mapping[str, Run], level: float | None = None, label: str = "") -> None:
    """Training loss by step: the mean of each epoch, at its middle.

    Args:
        runs: a `Run` for each name in the legend.
        level: a loss to draw as a level line, called `label`.
    """
    styles = looks(runs)
    with figure(3.0) as axis:
        for name, run in runs.items():
            color, marker, _, line = styles[name]
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


def plot_rate(recipes: Mapping[str, Recipe]) -> None:
    """The learning rate over a training, of a `Recipe` for each name in the legend."""
    with figure(2.4) as axis:
        for (name, recipe), color, line in zip(recipes.items(), (BLUE, ORANGE, GREEN), ("-", "--", ":")):
            progress = [i / 200 for i in range(201)]
            axis.plot(progress, [recipe.rate(each) for each in progress], line, color=color, label=name)
        axis.set(xlabel="part of all steps", ylabel="learning rate", xlim=(0, 1), ylim=(0, None))
        axis.legend()


def plot_range(rates: Sequence[float], losses: Sequence[float]) -> None:
    """A learning-rate range test: the loss of each step over its rate, up to one and a half times the first."""
    with figure(2.6) as axis:
        axis.plot(rates, losses, color=BLUE, lw=1)
        axis.set(xscale="log", xlabel="learning rate", ylabel="loss, nats", ylim=(0, 1.5 * losses[0]))


def plot_scores(rows: Mapping[str, Sequence[float]], label: str = "validation accuracy") -> None:
    """A row for each name, from the top down, and in it a dot for each run and a bar at their mean.

    Args:
        rows: the scores of the runs by name.
        label: what the scores are.
    """
    with figure(0.7 + 0.27 * len(rows)) as axis:
        for place, (name, scores) in enumerate(rows.items()):
            color, mark = ORANGE, "o"
            if any(family in name for family in FAMILIES):
                color, mark, *_ = looks([name])[name]
            axis.plot(scores, [place] * len(scores), mark, color=color, mec="black", mew=0.5, ms=6, alpha=0.9)
            axis.plot([sum(scores) / len(scores)], [place], "|", color="black", ms=13, mew=1.5)
        _name_rows(axis, rows, label)


def plot_differences(
    rows: Mapping[str, Difference], label: str = "difference of accuracy, points", least: float = -math.inf
) -> None:
    """A row for each difference, from the top down: its interval, its mean, and a dot for each seed.

    Blue where the interval leaves out zero, else grey.

    Args:
        least: a difference below it, in points, is an arrow with the number, so that the others can be seen.
    """
    with figure(0.7 + 0.27 * len(rows)) as axis:
        axis.axvline(0, color="black", lw=0.8)
        for place, row in enumerate(rows.values()):
            color = BLUE if row.is_clear else GREY
            low, mean, high = (100 * each for each in (row.low, row.mean, row.high))
            if mean < least:
                axis.annotate(
                    f"{mean:.1f}  ({low:.1f} to {high:.1f})", (least, place), (least + 0.12, place),
                    va="center", color=color, arrowprops={"arrowstyle": "->", "color": color},
                )  # fmt: skip
                continue
            axis.plot([100 * each for each in row.each], [place] * len(row.each), "o", color=color, alpha=0.35, ms=4)
            axis.plot([low, high], [place, place], color=color, lw=2)
            axis.plot([mean], [place], "s" if row.is_clear else "o", color=color, mec="black", mew=0.5, ms=6)
        if any(100 * row.mean < least for row in rows.values()):
            axis.set_xlim(least)
        _name_rows(axis, rows, label)


def _name_rows(axis, rows, label):
    axis.set_yticks(range(len(rows)), rows)
    axis.locator_params("x", nbins=6)
    axis.set(xlabel=label, ylim=(len(rows) - 0.4, -0.6))
    axis.grid(False, axis="y")


def plot_by_rate(curves: Mapping[str, Mapping[float, Sequence[float]]], label: str = "validation accuracy") -> None:
    """The scores of runs over the highest learning rate: a line through the means, and the range, for each name."""
    with figure(3.0) as axis:
        for (name, points), color, line in zip(curves.items(), (BLUE, ORANGE, GREEN), ("o-", "s--", "^:")):
            rates = sorted(points)
            scores = torch.tensor([[min(points[r]), sum(points[r]) / len(points[r]), max(points[r])] for r in rates])
            axis.fill_between(rates, scores[:, 0], scores[:, 2], color=color, alpha=0.15, lw=0)
            axis.plot(rates, scores[:, 1], line, color=color, ms=5, label=name)
        axis.set(xscale="log", xlabel="highest learning rate", ylabel=label)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.legend(fontsize=8)


def plot_costs(
    scores: Mapping[str, Sequence[float]], costs: Mapping[str, Mapping[str, float]], label: str = "test accuracy"
) -> None:
    """The scores of networks beside what each costs: a panel for each cost, a mark for each network.

    Args:
        scores: for each network the scores of its runs; drawn are their mean and range.
        costs: for each axis label, the cost of each network.
        label: what the scores are.
    """
    rows = math.ceil(len(costs) / 2)
    styles = looks(scores)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, 2, figsize=(WIDTH, 2.3 * rows + 0.7), sharey=True, squeeze=False)
        for axis, (name, of) in zip(axes.flat, costs.items()):
            for network, values in scores.items():
                color, mark, fill, _ = styles[network]
                mean = sum(values) / len(values)
                error = [[mean - min(values)], [max(values) - mean]]
                axis.errorbar(of[network], mean, error, fmt=mark, color=color, mec=color, mfc=fill, ms=6, label=network)
            axis.set(xlabel=name, xscale="log")
            axis.margins(x=0.15)
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k, 50M
            axis.xaxis.set_minor_locator(NullLocator())
        for row in axes:
            row[0].set_ylabel(label)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
        plt.show()


def plot_confusion(counts: torch.Tensor) -> None:
    """How many images of each class (rows) were taken for each class (columns), in percent of the row.

    Args:
        counts: (10, 10).
    """
    shares = 100 * counts / counts.sum(1, keepdim=True)
    with figure(WIDTH) as axis:
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
