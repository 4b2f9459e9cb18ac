"""What happens within a training step: speeds, the time of an operation, a trace, gradients, memory."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter

from d2lnets.plots.style import BLUE, FAMILIES, GREEN, GREY, ORANGE, RED, figure, looks
from d2lnets.training.bench import Span

MARKS = (("o", "empty"), ("s", "full"), ("^", "empty"), ("D", "full"))


def plot_speeds(
    rows: Mapping[str, Mapping[str, float]],
    label: str = "images a second",
    ways: Sequence[str] = (),
    log: bool = True,
) -> None:
    """A row for each name, and in it a mark for each of a few ways on a logarithmic axis; of a single way, bars.

    Args:
        rows: for each name the number that each of up to four ways reaches; not every row needs all ways.
        ways: in which order the marks go to them; by default that in which they come.
        log: False for an axis from zero.
    """
    ways = list(ways or dict.fromkeys(way for reached in rows.values() for way in reached))
    marks = dict(zip(ways, MARKS, strict=False))
    with figure(0.9 + 0.26 * len(rows) + 0.2 * (len(ways) > 2)) as axis:
        for place, (name, reached) in enumerate(rows.items()):
            color = looks([name])[name].color if any(family in name for family in FAMILIES) else BLUE
            if len(ways) == 1:
                (value,) = reached.values()
                axis.barh(place, value, 0.6, color=color)
                axis.annotate(f"{value:{',.0f' if value >= 100 else '.2g'}}", (value, place), (4, 0),
                              textcoords="offset points", va="center", fontsize=8)  # fmt: skip
                continue
            axis.plot([min(reached.values()), max(reached.values())], [place, place], color=GREY, lw=1.2, zorder=1)
            for way, value in reached.items():
                mark, fill = marks[way]
                axis.plot(value, place, mark, mec=color, mfc=color if fill == "full" else "white", ms=6)
        axis.set_yticks(range(len(rows)), rows)
        axis.set(xlabel=label, ylim=(len(rows) - 0.5, -0.5))
        if len(ways) > 1:
            axis.set_xscale("log" if log else "linear")
            for way, (mark, fill) in marks.items():
                axis.plot([], [], mark, mec=GREY, mfc=GREY if fill == "full" else "white", ms=6, label=way)
            axis.figure.legend(loc="outside upper center", ncols=2, fontsize=8)
        else:
            axis.grid(False, axis="y")
        if len(ways) == 1 or not log:
            axis.set_xlim(0, 1.15 * max(value for reached in rows.values() for value in reached.values()))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")


def plot_gaps(gaps: Sequence[float], label: str = "gap between the losses, nats") -> None:
    """A gap for every step, from the first, on a logarithmic axis."""
    with figure(2.4) as axis:
        axis.plot(range(1, len(gaps) + 1), gaps, "o-", color=BLUE, ms=4)
        axis.set(yscale="log", xlabel="step", ylabel=label)
        axis.locator_params("x", integer=True)
        axis.yaxis.set_major_formatter(lambda gap, _: f"{gap:.9f}".rstrip("0"))  # small exponents are not for phones


def plot_operation_times(sizes: Sequence[int], microseconds: Sequence[float]) -> None:
    """The time of one operation over the count of its numbers, both logarithmic; level lines at first, then a slope."""
    with figure(2.7) as axis:
        axis.plot(sizes, microseconds, "o-", color=BLUE, ms=4)
        axis.axhline(microseconds[0], color=GREY, ls=":", lw=1)
        axis.text(1, 0.8 * microseconds[0], " the launch", transform=axis.get_yaxis_transform(), va="top", ha="right")
        axis.set(xscale="log", yscale="log", xlabel="numbers in the tensor", ylabel="time, µs")
        axis.set_ylim(min(microseconds) / 3, None)
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 10k
        axis.yaxis.set_major_formatter("{x:,g}")


KINDS = {"convolution": ("conv", BLUE), "pooling": ("pool", ORANGE), "batch norm": ("norm", GREEN)}


def plot_trace(spans: Sequence[Span]) -> None:
    """A trace as profilers draw it, time to the right: the named parts, and under each the operations that it calls.

    Operations within these are left out. Colours tell kinds of operations apart.
    """
    parts = [span for span in spans if span.depth == 0]
    with figure(1.9) as axis:
        for part in parts:
            axis.add_patch(Rectangle((part.start, 0), part.end - part.start, 0.9, fc=f"{GREY}55", ec="white", lw=0.8))
            if part.end - part.start > 0.12 * parts[-1].end:
                axis.text((part.start + part.end) / 2, 0.45, part.name, ha="center", va="center", fontsize=8)
        for span in spans:
            if span.depth == 1:
                fits = (color for word, color in KINDS.values() if word in span.name.lower())
                place = (span.start, 1), span.end - span.start, 0.9
                axis.add_patch(Rectangle(*place, fc=next(fits, RED), lw=0))
        for name, color in (*((name, color) for name, (_, color) in KINDS.items()), ("others", RED)):
            axis.plot([], [], "s", color=color, label=name)
        axis.set(xlim=(0, parts[-1].end), ylim=(2, -0.1), xlabel="time, ms")
        axis.set_yticks([0.45, 1.45], ["parts", "operations"])
        axis.grid(False)
        axis.figure.legend(loc="outside upper center", ncols=4, fontsize=8, handletextpad=0.2, columnspacing=1)


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
        place = axis.get_xaxis_transform()
        axis.text(smallest - 0.5, 0.98, "range of fp16", transform=place, va="top", color=GREEN, fontsize=8)
        weight = torch.full_like(sizes, 100 / len(sizes))
        shifted = sizes + torch.tensor(scale).log2()
        for values, color, style, name in ((sizes, ORANGE, "-", "as they are"), (shifted, BLUE, "--", "scaled")):
            axis.hist(values, bins, weights=weight, histtype="step", color=color, ls=style, lw=1.4, label=name)
        axis.set(xlabel="log₂ of the gradient's size", ylabel="percent of them", xlim=(bins[0], bins[-1]))
        axis.set_ylim(0, 1.15 * axis.get_ylim()[1])
        axis.figure.legend(loc="outside upper center", ncols=2, fontsize=8)


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
        axis.figure.legend(loc="outside upper center", ncols=len(curves), fontsize=8)


def plot_roofline(layers: Mapping[str, tuple[float, float, float]]) -> None:
    """How fast layers compute over how often they use a byte, both logarithmic: a ring in 32 bits, a dot in 16.

    Args:
        layers: for each name the operations a byte, and the billions of operations a second in 32 and in 16 bits.
    """
    with figure(3.2) as axis:
        middle = max(a_byte for a_byte, *_ in layers.values()) ** 0.5
        for (name, (a_byte, *speeds)), color in zip(layers.items(), (BLUE, ORANGE, GREEN, RED)):
            axis.plot([a_byte, a_byte], speeds, color=color, lw=1.5, zorder=1)
            for speed, fill in zip(speeds, ("white", color)):
                axis.plot(a_byte, speed, "o", mec=color, mfc=fill, ms=6)
            where = {"xytext": (-9 if a_byte > middle else 9, 0), "textcoords": "offset points", "va": "center"}
            text = f"{name}\n{speeds[1] / speeds[0]:.1f} times as fast in 16 bits"
            axis.annotate(text, (a_byte, speeds[0]), **where, ha="right" if a_byte > middle else "left", fontsize=8)
        axis.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="billion operations a second")
        axis.margins(0.1)
