"""What trainings give: curves, scores and differences, costs, confusions."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, FixedLocator, LogLocator, NullLocator

from d2lnets.data import CLASSES
from d2lnets.plots.style import BLUE, FAMILIES, GREEN, GREY, LINES, NARROW, ORANGE, RED, figure, looks
from d2lnets.training.evidence import Difference
from d2lnets.training.recipe import Recipe
from d2lnets.training.runs import Run


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
        axis.set(xlabel="epoch", ylabel="validation accuracy")
        axis.locator_params("x", integer=True)
        axis.legend(loc="lower right", fontsize=8)


def plot_training_errors(runs: Mapping[str, Sequence[Run]]) -> None:
    """The error on training and on validation images, in eval mode, by epoch: thin lines for the runs, and their mean.

    Args:
        runs: of each network, by one recipe, with a ``train_error`` for every epoch.
    """
    styles = looks(runs)
    with figure(3.2, columns=2, sharey=True) as axes:
        for axis, title in zip(axes, ("training", "validation")):
            for name, each in runs.items():
                color, _, _, line = styles[name]
                errors = torch.tensor([[_error(epoch, title) for epoch in run.epochs] for run in each])
                epochs = range(1, errors.shape[1] + 1)
                axis.plot(epochs, errors.T.numpy(), color=color, ls=line, lw=0.5, alpha=0.6)
                axis.plot(epochs, errors.mean(0), color=color, ls=line, label=name)
            recipe = runs[name][0].recipe
            peak = recipe["warmup"] * recipe["epochs"]
            if peak <= len(epochs):
                axis.axvline(peak, color=GREY, lw=1, ls=":")
                top = axis.get_xaxis_transform()
                place = peak + len(epochs) / 50
                axis.text(place, 0.98, "highest rate", transform=top, va="top", color=GREY, fontsize=8)
            axis.set(xlabel="epoch", ylabel="error", title=f"{title} images", xlim=(0, len(epochs)), ylim=(0, None))
            axis.tick_params(labelleft=True)  # each panel may stand alone
        axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)


def _error(epoch, images):
    return epoch["train_error"] if images == "training" else 1 - epoch["validation_accuracy"]


def plot_depths(networks: Mapping[str, tuple[int, float]], errors: str) -> None:
    """Errors over depth, on a logarithmic axis: a dot for each network, with its name and both numbers, in their order.

    Args:
        networks: of each, its layers and its error, in percent.
        errors: what they are.
    """
    with figure(2.6) as axis:
        layers, heights = zip(*networks.values())
        axis.plot(layers, heights, "o-", color=BLUE, lw=1, ms=6)
        for place, (name, point) in enumerate(networks.items()):
            above = place % 2 == 0
            label = f"{name}\n{point[0]} layers, {point[1]} %"
            axis.annotate(
                label, point, (5, 4) if above else (-5, -4), textcoords="offset points", fontsize=8,
                ha="left" if above else "right", va="bottom" if above else "top",
            )  # fmt: skip
        axis.set(xscale="log", xlabel="layers", ylabel=errors, xlim=(6, 220), ylim=(0, 1.3 * max(heights)))
        axis.xaxis.set_major_locator(FixedLocator([10, 20, 50, 100, 200]))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())


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
    """A row for each name, from the top down: a dot for each run, a bar at their mean, and at the end both as numbers.

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
            axis.plot([mean(scores)], [place], "|", color="black", ms=13, mew=1.5)
        _name_rows(axis, rows, label, map(_spread, rows.values()))


def _spread(scores):
    """Mean and standard deviation, to the same digit."""
    middle = f"{mean(scores):#.4g}"
    digits = len(middle.partition(".")[2])
    return f"{middle} ± {stdev(scores):.{digits}f}" if len(scores) > 1 else middle


def plot_differences(
    rows: Mapping[str, Difference], label: str = "difference of accuracy, points", least: float = -math.inf
) -> None:
    """A row for each difference, from the top down: its interval, a dot for each seed, and its mean, as a number too.

    Blue where the interval leaves out zero, else grey.

    Args:
        least: a difference below it, in points, is an arrow, so that the others can be seen.
    """
    with figure(0.7 + 0.27 * len(rows)) as axis:
        axis.axvline(0, color="black", lw=0.8)
        for place, row in enumerate(rows.values()):
            color = BLUE if row.is_clear else GREY
            low, middle, high = (100 * each for each in (row.low, row.mean, row.high))
            if middle < least:
                axis.annotate("", (least, place), (0.8 * least, place), arrowprops={"arrowstyle": "->", "color": color})
                continue
            axis.plot([100 * each for each in row.each], [place] * len(row.each), "o", color=color, alpha=0.35, ms=4)
            axis.plot([low, high], [place, place], color=color, lw=2)
            axis.plot([middle], [place], "s" if row.is_clear else "o", color=color, mec="black", mew=0.5, ms=6)
        if any(100 * row.mean < least for row in rows.values()):
            axis.set_xlim(least)
        _name_rows(axis, rows, label, [f"{100 * row.mean:+z.2f}".replace("-", "−") for row in rows.values()])


def _name_rows(axis, rows, label, numbers=()):
    axis.set_yticks(range(len(rows)), rows)
    for place, number in enumerate(numbers):
        where = {"xycoords": axis.get_yaxis_transform(), "textcoords": "offset points"}
        axis.annotate(number, (1, place), (6, 0), **where, va="center", fontsize=8, annotation_clip=False)
    ticks = 4 if max(map(len, rows)) < 28 else 3  # more would touch on a phone
    axis.locator_params("x", nbins=ticks)
    axis.set_xlabel(label, loc="right")  # names of rows leave little room, and a centred label would not fit
    axis.set_ylim(len(rows) - 0.4, -0.6)
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
        axis.locator_params("y", nbins=5)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.legend(fontsize=8)


def plot_by_labels(curves: Mapping[str, Mapping[int, Sequence[float]]]) -> None:
    """Test accuracy over the number of labels, of each name: a thin line for each seed, and one through the means.

    Args:
        curves: for each name and number of labels the accuracies, in the same order of seeds.
    """
    with figure(3.2) as axis:
        for (name, by_labels), color, mark, line in zip(curves.items(), (BLUE, ORANGE, GREY, GREEN), "o^sD", LINES):
            accuracies = torch.tensor(list(by_labels.values()))  # (numbers of labels, seeds)
            axis.plot(list(by_labels), accuracies.numpy(), color=color, ls=line, lw=0.6, alpha=0.6)
            axis.plot(list(by_labels), accuracies.mean(1), mark, color=color, ls=line, label=name)
        axis.set(xscale="log", xlabel="labels", ylabel="test accuracy", ylim=(0, 1))
        axis.set_xticks(list(by_labels), [f"{labels:,}" for labels in by_labels])
        axis.minorticks_off()
        axis.legend(loc="lower right")


def plot_scaling(panels: Mapping[str, Mapping[str, Mapping[int, tuple[float, float]]]]) -> None:
    """Images a second over the number of GPUs: a panel for each network, a band for each link.

    Args:
        panels: by network and link, for every number of GPUs the rate if no gradient travels while the GPUs compute,
            and the rate if all do. A dotted line is as many times the rate of one.
    """
    with figure(3.2, len(panels), squeeze=False) as axes:
        for axis, (network, links) in zip(axes.flat, panels.items()):
            for (name, rates), color, line in zip(links.items(), (BLUE, GREEN, RED), ("-", "--", "-.")):
                slow, fast = zip(*rates.values())
                axis.fill_between(list(rates), slow, fast, color=color, alpha=0.2, lw=0)
                axis.plot(list(rates), slow, line, color=color, label=name)
            numbers = list(rates)
            axis.plot(numbers, [number * slow[0] / numbers[0] for number in numbers], ":", color=GREY, lw=1)
            axis.set(xscale="log", yscale="log", xlabel="GPUs", ylabel="images/s", title=network)
            axis.xaxis.set_major_locator(FixedLocator(numbers[:: 1 + len(numbers) // 5]))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_locator(NullLocator())
            axis.yaxis.set_major_formatter(EngFormatter(sep=""))
        handles, labels = axes[0, 0].get_legend_handles_labels()
        axes[0, 0].figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)


def plot_steps(accuracies: Mapping[str, float], costs: Mapping[str, float], unit: str = "") -> None:
    """A network that is changed step by step: a row for each step with its accuracy, and a line from row to row.

    Args:
        accuracies: in percent, by step, from the top down; hollow where it is lower than before.
        costs: what is written beside the accuracy, with its unit.
    """
    with figure(0.7 + 0.3 * len(accuracies)) as axis:
        values = list(accuracies.values())
        axis.plot(values, range(len(values)), color=GREY, lw=1, zorder=1)
        for place, (name, accuracy) in enumerate(accuracies.items()):
            lower = place > 0 and accuracy < values[place - 1]
            axis.plot(accuracy, place, "o", color=BLUE, mfc="white" if lower else BLUE, ms=6)
            text = f"{accuracy:.1f}" + (f"  ({costs[name]:.3g}{unit})" if name in costs else "")
            ground = {"fc": "white", "ec": "none", "pad": 0.5}  # on which the line does not cross the text
            axis.annotate(
                text, (accuracy, place), (8, 0), textcoords="offset points", va="center", fontsize=8, bbox=ground
            )
        _name_rows(axis, accuracies, "accuracy, %")
        axis.set_xlim(None, max(values) + 0.6 * (max(values) - min(values)))


def plot_stream(sizes: Mapping[str, Sequence[float]]) -> None:
    """How large what flows past the blocks is: its root mean square after each block, a line for each network."""
    with figure(2.8) as axis:
        for (name, values), color, line in zip(sizes.items(), (BLUE, ORANGE, GREEN), ("o-", "s--", "^:")):
            axis.plot(range(len(values)), values, line, color=color, ms=4, label=name)
        axis.set(xlabel="blocks passed", ylabel="root mean square", ylim=(0, None))
        axis.locator_params("x", integer=True)
        axis.legend(fontsize=8)


def plot_costs(
    designs: Mapping[str, Mapping[str, Sequence[float]]],
    costs: Mapping[str, Mapping[str, float]],
    label: str = "test accuracy",
) -> None:
    """The scores of networks beside what each costs: a panel for each cost, a mark for each network.

    Args:
        designs: for each design its networks, which a line joins, and of each the scores of its runs; drawn are their
            mean and range.
        costs: for each axis label, the cost of each network.
        label: what the scores are.
    """
    rows, columns = math.ceil(len(costs) / 2), min(len(costs), 2)
    styles = looks(designs)
    with figure(2.3 * rows + 0.7, columns, rows, sharey=True, squeeze=False) as axes:
        for axis, (name, of) in zip(axes.flat, costs.items()):
            for design, networks in designs.items():
                color, mark, fill, line = styles[design]
                scores = torch.tensor([[min(each), sum(each) / len(each), max(each)] for each in networks.values()])
                low, middle, high = scores.double().T
                ranges = torch.stack([middle - low, high - middle])
                axis.errorbar([of[network] for network in networks], middle, ranges, marker=mark,
                              ls=line, color=color, mec=color, mfc=fill, ms=6, label=design)  # fmt: skip
            axis.set(xlabel=name, ylabel=label, xscale="log")
            axis.tick_params(labelleft=True)  # each panel may stand alone
            axis.margins(x=0.15)
            low, high = axis.get_xlim()
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 50 * low else (1, 3)))
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k, 50M
            axis.xaxis.set_minor_locator(NullLocator())
        for axis in axes.flat[len(costs) :]:
            axis.remove()
        axes[0, 0].figure.legend(
            *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8
        )


def plot_confusion(counts: torch.Tensor) -> None:
    """How many images of each class (rows) were taken for each class (columns), in percent of the row.

    Args:
        counts: (10, 10).
    """
    _matrix(100 * counts / counts.sum(1, keepdim=True), CLASSES, "class", "taken for")


def plot_overlap(wrong: Mapping[str, torch.Tensor]) -> None:
    """How many of the errors of each network (rows) another one (columns) makes too, in percent.

    Args:
        wrong: for each network, which of the same images it gets wrong, (N,) of bool.
    """
    errors = torch.stack(list(wrong.values())).double()
    _matrix(100 * errors @ errors.T / errors.sum(1, keepdim=True), list(wrong), "of the errors of", "also made by")


def _matrix(shares, names, rows, columns):
    """Squares with numbers, as blue as they are large; the diagonal says nothing."""
    count = len(names)
    with figure(NARROW - 0.1) as axis:
        most = shares.fill_diagonal_(0).max().item()
        for row, column in itertools.product(range(count), repeat=2):
            share = shares[row, column].item()
            axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fc=(*to_rgb(BLUE), share / most / 2), ec="none"))
            if share >= 0.5:  # on half of the blue, which leaves a number its contrast by day and by night
                axis.text(column, row, f"{share:.0f}", ha="center", va="center")
        axis.set_xticks(range(count), names, rotation=45, ha="right")
        axis.set_yticks(range(count), names)
        axis.set(xlabel=columns, ylabel=rows, xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5), aspect="equal")
        axis.grid(False)
