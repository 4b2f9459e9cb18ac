"""Trainings, drawn while they run."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator
from torch import nn

from d2lnets.plots.style import GREY, STYLE, WIDTH, looks, vectors
from d2lnets.training.runs import Run

EVERY = 2.0  # seconds between two drawings
SMOOTH = 10  # steps whose mean is drawn


class Curves:
    """Loss and accuracy over the images seen, of trainings that go on and beside them of recorded ones.

    Pass it to `d2lnets.training.budget.Budget.train`, or its methods to `d2lnets.fit`. In a notebook the figure is
    drawn at the first step, then every two seconds, and stays as it is at the end; elsewhere nothing is shown.
    """

    def __init__(self, recorded: Mapping[str, Sequence[Run]]) -> None:
        """Args:
        recorded: for each name in the legend, runs of one network by one recipe: drawn are mean and range over seeds.
        """
        self.recorded = recorded
        self.steps: dict[str, list[tuple[int, float, float]]] = {}
        self.scores: dict[str, list[tuple[int, float]]] = {}
        self._handle: Any = None
        self._drawn = 0.0

    def start(self, network: str) -> None:
        """What follows is of this network."""
        self.name = network
        self.steps[network], self.scores[network] = [], []

    def after_step(self, images: int, loss: float, accuracy: float) -> None:
        """A step was done, the network having seen so many images."""
        self.steps[self.name].append((images, loss, accuracy))
        if time.monotonic() - self._drawn > EVERY:
            self._show()

    def after_epoch(self, run: Run, net: nn.Module) -> None:
        """An epoch was done, and scored."""
        self.scores[self.name].append((len(run.epochs) * run.examples, run.epochs[-1]["validation_accuracy"]))
        self._show()

    def _show(self) -> None:
        self._drawn = time.monotonic()
        if "inline" not in plt.get_backend():
            return
        from IPython.display import display

        bundle = vectors(self.figure())
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def figure(self) -> Figure:
        """The figure as it is now: training loss on the left, training and held-out accuracy on the right."""
        with plt.rc_context(STYLE):
            figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
            for (name, runs), (color, _, _, line) in zip(self.recorded.items(), looks(self.recorded).values()):
                self._draw_recorded(left, right, name, runs, color, line)
            for (name, steps), (color, _, _, line) in zip(self.steps.items(), looks(self.steps).values()):
                if len(steps) < SMOOTH:
                    continue
                numbers = torch.tensor(steps, dtype=torch.float64).unfold(0, SMOOTH, 1).mean(2)
                for axis, values in ((left, numbers[:, 1]), (right, numbers[:, 2])):
                    axis.plot(numbers[:, 0], values, color=color, ls=line, lw=0.8, label=f"{name}, now")
                right.plot(
                    *zip(*self.scores[name] or [(1, float("nan"))]), "s", color=color, mec="black", mew=0.5, ms=6
                )
            left.axhline(torch.tensor(10.0).log().item(), color=GREY, lw=1, ls=":")
            place = {"transform": left.get_yaxis_transform(), "ha": "center", "va": "bottom"}  # between now and then
            left.text(0.55, 2.33, "a guess", **place, fontsize=8, color=GREY)
            for axis in (left, right):
                axis.set(xscale="log", xlabel="images seen")
                axis.margins(x=0.06)
                axis.xaxis.set_major_locator(LogLocator())
                axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 10k
                axis.xaxis.set_minor_locator(NullLocator())
            left.set(ylabel="training loss, nats", ylim=(0, max(2.7, left.get_ylim()[1])))
            right.set(ylabel="accuracy", ylim=(0, 1))
            handles = left.get_legend_handles_labels()
            figure.legend(*handles, loc="outside lower center", ncols=2, fontsize=8)
        return figure

    def _draw_recorded(self, left, right, name, runs, color, line):
        seen = [(i + 1) * runs[0].examples for i in range(len(runs[0].epochs))]
        middle = [images - runs[0].examples / 2 for images in seen]  # a training loss is the mean of its epoch
        for axis, key, places in ((left, "train_loss", middle), (right, "validation_accuracy", seen)):
            values = torch.tensor([[epoch[key] for epoch in run.epochs] for run in runs])
            style = {"color": color, "ls": line, "marker": "o", "mfc": "white", "ms": 4}
            axis.plot(places, values.mean(0), **style, label=f"{name}, recorded")
            axis.fill_between(places, values.amin(0), values.amax(0), color=color, alpha=0.2, lw=0)
