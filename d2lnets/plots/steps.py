"""What happens within a training step: speeds, the time of an operation, a trace, gradients, memory."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.patches import Rectangle

from d2lnets.plots.style import BLUE, FAMILIES, GREEN, GREY, ORANGE, RED, figure, looks
from d2lnets.training.bench import Span


def plot_speeds(rows: Mapping[str, Mapping[str, float]], label: str = "images a second") -> None:
    """A row for each name, and in it a mark for each of a few ways, on a logarithmic axis.

    Args:
        rows: for each name the number that each way reaches; all have the same ways.
    """
    ways = list(next(iter(rows.values())))
    with figure(0.9 + 0.24 * len(rows)) as axis:
        for place, (name, reached) in enumerate(rows.items()):
            network = any(family in name for family in FAMILIES)
            color = looks([name])[name].color if network else BLUE
            axis.plot([min(reached.values()), max(reached.values())], [place, place], color=GREY, lw=1.2, zorder=1)
            for way, mark, fill in zip(ways, "os^D", ("white", color, color, color)):
                axis.plot(reached[way], place, mark, mec=color, mfc=fill, ms=6)
        for way, mark, fill in zip(ways, "os^D", ("white", GREY, GREY, GREY)):
            axis.plot([], [], mark, mec=GREY, mfc=fill, ms=6, label=way)
        axis.set_yticks(range(len(rows)), rows)
        axis.set(xscale="log", xlabel=label, ylim=(len(rows) - 0.5, -0.5))
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.figure.legend(loc="outside upper center", ncols=len(ways), fontsize=8)


def plot_gaps(gaps: Sequence[float], label: str = "gap between the losses, nats") -> None:
    """A gap for every step, from the first, on a logarithmic axis."""
    with figure(2.4) as axis:
        axis.plot(range(1, len(gaps) + 1), gaps, "o-", color=BLUE, ms=4)
        axis.set(yscale="log", xlabel="step", ylabel=label)
        axis.locator_params("x", integer=True)


def plot_operation_times(sizes: Sequence[int], microseconds: Sequence[float]) -> None:
    """The time of one operation over the count of its numbers, both logarithmic; level lines at first, then a slope."""
    with figure(2.7) as axis:
        axis.plot(sizes, microseconds, "o-", color=BLUE, ms=4)
        axis.axhline(microseconds[0], color=GREY, ls=":", lw=1)
        axis.text(1, 0.8 * microseconds[0], " the launch", transform=axis.get_yaxis_transform(), va="top", ha="right")
        axis.set(xscale="log", yscale="log", xlabel="numbers in the tensor", ylabel="time, µs")
        axis.set_ylim(min(microseconds) / 3, None)


def plot_trace(spans: Sequence[Span], depths: int = 3) -> None:
    """A trace as profilers draw it: time to the right, and under each operation what it calls.

    Args:
        depths: how many rows, from the outermost on. The first row is named, and gives all others their colour.
    """
    parts = [span for span in spans if span.depth == 0]
    colors = {part.name: color for part, color in zip(parts, (GREY, BLUE, GREEN, ORANGE, RED))}
    with figure(0.9 + 0.35 * depths) as axis:
        for part in parts:
            for span in spans:
                if span.depth < depths and part.start <= span.start and span.end <= part.end:
                    alpha = 1 if span.depth == 0 else 0.75
                    place = (span.start, span.depth), span.end - span.start, 0.85
                    axis.add_patch(Rectangle(*place, fc=colors[part.name], ec="white", lw=0.3, alpha=alpha))
            axis.plot([], [], "s", color=colors[part.name], label=part.name)
        axis.set(xlim=(0, parts[-1].end), ylim=(depths, -0.1), xlabel="time, ms")
        axis.set_yticks([each + 0.42 for each in range(depths)], ["part", *["calls", "which call"][: depths - 1]])
        axis.grid(False)
        axis.figure.legend(loc="outside upper center", ncols=len(parts), fontsize=8)


def plot_magnitudes(gradients: torch.Tensor, scale: float) -> None:
    """How many gradients have which size, as they are and times `scale`, and where fp16 can hold them.

    Args:
        gradients: any shape; zeros are left out.
    """
    sizes = gradients[gradients != 0].abs().log2().flatten()
    smallest, largest = -24, 16  # the smallest number above zero is 2 ** -24, and 2 ** 16 is out of reach
    bins = list(range(int(sizes.min()) - 1, largest + 3))
    with figure(2.9) as axis:
        axis.axvspan(smallest - 1, largest, color=GREEN, alpha=0.15, lw=0)  # half the smallest still rounds up to it
        axis.text((smallest + largest) / 2, 1.01, "fp16", transform=axis.get_xaxis_transform(), ha="center")
        weight = torch.full_like(sizes, 100 / len(sizes))
        shifted = sizes + torch.tensor(scale).log2()
        for values, color, style, name in ((sizes, ORANGE, "-", "as they are"), (shifted, BLUE, "--", "scaled")):
            axis.hist(values, bins, weights=weight, histtype="step", color=color, ls=style, lw=1.4, label=name)
        axis.set(xlabel="log₂ of the gradient's size", ylabel="percent of them", xlim=(bins[0], bins[-1]))
        axis.legend(loc="upper right", fontsize=8)


def plot_step_memory(curves: Mapping[str, tuple[Sequence[float], Sequence[int]]]) -> None:
    """Bytes of tensors alive over one step, a curve for each name; a dot marks the peak.

    Args:
        curves: for each name milliseconds and bytes, as `bytes_of_tensors` gives them; drawn over the part of the step.
    """
    with figure(2.9) as axis:
        for (name, (times, sizes)), color, line in zip(curves.items(), (ORANGE, BLUE, GREEN), ("-", "--", "-.")):
            parts, mega = [each / times[-1] for each in times], [each / 1e6 for each in sizes]
            axis.step(parts, mega, line, where="post", color=color, lw=1.3, label=name)
            peak = max(range(len(mega)), key=mega.__getitem__)
            axis.plot(parts[peak], mega[peak], "o", color=color, ms=5)
        axis.set(xlabel="part of the step's time", ylabel="tensors alive, MB", xlim=(0, 1), ylim=(0, None))
        axis.legend(loc="upper left", fontsize=8)
