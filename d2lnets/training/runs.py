"""Training runs: what was done, on what, and what came out; as small JSON files."""

import base64
import json
import os
import platform
import sys
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from numbers import Real
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, Self

import torch
from tabulate import tabulate

from d2lnets.files import expanded, write
from d2lnets.training import parallel
from d2lnets.training.recipe import BOOK, Recipe

if TYPE_CHECKING:
    from d2lnets.training.checkpoint import Progress
    from d2lnets.training.loop import Score

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]  # asked for below

RECORDED = Path(__file__).parent / "recorded"
COMPARED = RECORDED / "networks.jsonl"
WATCHED = RECORDED.parent / "watched.json"  # twenty images whose answers are recorded after every epoch; test labels


def pack(numbers: torch.Tensor) -> str:
    """Whole numbers from 0 to 255, a tensor, as text: a byte each, compressed, in base 64."""
    return base64.b64encode(zlib.compress(numbers.to(torch.uint8).cpu().numpy().tobytes(), 9)).decode()


def unpack(text: str) -> torch.Tensor:
    """What `pack` packed, as a flat uint8 tensor."""
    return torch.frombuffer(bytearray(zlib.decompress(base64.b64decode(text))), dtype=torch.uint8)


@dataclass(repr=False)
class Run:
    """One training run.

    Attributes:
        network: its name; empty where `fit` got none.
        recipe: the fields of its `Recipe`.
        seed: of order, augmentation and, in a recorded run, of the initial weights.
        examples: training images an epoch.
        parameters: of the network.
        precision: ``"bf16"`` or ``"fp16"`` for mixed precision, ``"no"`` for float32.
        machine: processor, cores, threads of a process, processes, device, operating system.
        versions: of Python and the libraries.
        first_losses: the mean loss of each of the first steps, in nats.
        epochs: for each, ``train_loss`` and ``train_accuracy`` (means over the epoch's batches, as they
            were trained on, label smoothing included), ``validation_loss`` and ``validation_accuracy``
            (after it; None without validation images), ``seconds`` and ``cpu_seconds`` (of training,
            without validation); where ``tools/record.py`` watched it, ``watched``, what `pack` made of the ten
            probabilities, in 255ths, of twenty validation images, and ``train_error`` in eval mode.
        peak_memory: the largest size of the process while it trained, on an accelerator of the
            memory allocated there, in bytes.
        test: ``loss`` and ``accuracy`` on the test images, read once after the last epoch, or None.
        errors: for ``validation`` and ``test``, and for both with ``_mirrored`` (the mean of the logits of an image and
            its mirror image), what `pack` made of (prediction - label) mod 10 for every image: 0 where it is right.
    """

    network: str
    recipe: dict[str, Any]
    seed: int
    examples: int
    parameters: int
    precision: str
    machine: dict[str, str | int | None]
    versions: dict[str, str]
    first_losses: list[float] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    peak_memory: int = 0
    test: dict[str, float] | None = None
    errors: dict[str, str] = field(default_factory=dict)

    FORMAT = 3

    def add_epoch(self, progress: "Progress", score: "Score | None") -> None:
        """Append an epoch: its `Progress` at the end, and the `Score` on the validation images, or None."""
        self.epochs.append(
            {
                "train_loss": progress.loss / progress.examples,
                "train_accuracy": progress.correct / progress.examples,
                "validation_loss": score and score.loss,
                "validation_accuracy": score and score.accuracy,
                "seconds": progress.seconds,
                "cpu_seconds": progress.cpu_seconds,
            }
        )

    @property
    def seconds(self) -> float:
        """Of training, without validation."""
        return sum(epoch["seconds"] for epoch in self.epochs)

    @property
    def cpu_seconds(self) -> float:
        """Of training, over all threads and processes, without validation."""
        return sum(epoch["cpu_seconds"] for epoch in self.epochs)

    @property
    def images_per_second(self) -> float:
        """Of training, by the clock."""
        return self.examples * len(self.epochs) / self.seconds if self.epochs else 0.0

    def line(self, indent: int | None = None) -> str:
        """The run as JSON: a line of a ``.jsonl`` file, which `load_lines` reads; with `indent` a file for `load`."""
        content = {"format": self.FORMAT, **asdict(self)}
        return json.dumps(content, indent=indent, allow_nan=False, default=float) + "\n"

    def save(self, path: Path | str) -> None:
        """Write the run to a JSON file; the file is whole or not there."""
        write(expanded(path), self.line(indent=1).encode())

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is not a run, or of a later format than this version knows.
        """
        return cls._of(path, expanded(path).read_bytes())

    @classmethod
    def load_lines(cls, path: Path | str) -> list[Self]:
        """The runs of a ``.jsonl`` file, as ``tools/record.py`` writes it; see `load`."""
        return [cls._of(path, line) for line in expanded(path).read_bytes().splitlines()]

    @classmethod
    def _of(cls, path: Path | str, text: bytes) -> Self:
        try:
            content = json.loads(text)
            version = content.pop("format")
            run = cls(**content) if version == cls.FORMAT else None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a recorded run: {error!r}") from error
        if run is None:
            raise ValueError(f"{path} has format {version}; this version of d2lnets reads {cls.FORMAT}: update it")
        return run

    def _table(self, style):
        headers = ["epoch", "train loss", "train accuracy", "val loss", "val accuracy", "seconds"]
        rows = [
            [
                number,
                epoch["train_loss"],
                epoch["train_accuracy"],
                epoch["validation_loss"],
                epoch["validation_accuracy"],
                epoch["seconds"],
            ]
            for number, epoch in enumerate(self.epochs, 1)
        ]
        return tabulate(rows, headers, tablefmt=style, floatfmt=(*[".3f"] * 5, ".1f"), missingval="-")

    def __repr__(self) -> str:
        return self._table("simple")

    def _repr_html_(self):
        return self._table("html")


def load_runs(network: str, recipe: Recipe = BOOK, experiment: str = "networks") -> list[Run]:
    """The recorded runs of a network by a recipe, full trainings that ship with the package, one for each seed.

    `experiment` is one of `load_experiment`.

    Raises:
        ValueError: there are none; the message says of what there are.
    """
    everything = load_experiment(experiment)
    if runs := everything.get((network, recipe)):
        return runs
    recipes = sorted(str(other) for name, other in everything if name == network)
    if recipes:
        raise ValueError(f"no recorded runs of {network} by the recipe {recipe}; there are by {', '.join(recipes)}")
    known = ", ".join(sorted({name for name, _ in everything}))
    raise ValueError(f"no recorded runs of {network!r} in {experiment!r}; there are runs of {known}")


def load_experiment(*names: str) -> dict[tuple[str, Recipe], list[Run]]:
    """Recorded runs of experiments of ``tools/record.py``, by network and recipe, in the order of the seeds.

    Raises:
        ValueError: nothing is recorded of one of them.
    """
    found: dict[tuple[str, Recipe], list[Run]] = {}
    for name in names:
        path = RECORDED / f"{name}.jsonl"
        if not path.is_file():
            known = ", ".join(sorted(path.stem for path in RECORDED.glob("*.jsonl")))
            raise ValueError(f"nothing is recorded of {name!r}; there are {known}")
        for run in Run.load_lines(path):
            found.setdefault((run.network, Recipe(**run.recipe)), []).append(run)
    return {what: sorted(runs, key=lambda run: run.seed) for what, runs in found.items()}


def load_all(path: Path | str = COMPARED) -> list[Run]:
    """All runs of a folder of JSON files, as `Run.save` writes them, or of a ``.jsonl`` file of ``tools/record.py``.

    Raises:
        ValueError: there is no such folder or file, or it holds what is no run.
    """
    path = expanded(path)
    if path.is_dir():
        return [Run.load(each) for each in sorted(path.glob("*.json"))]
    if not path.is_file():
        raise ValueError(f"there is no folder, and no file, {path}")
    return Run.load_lines(path)


@dataclass(repr=False)
class Table:
    """Rows under headers, for people: plain text, and HTML in a notebook.

    Attributes:
        formats: for each column how its numbers are written, as in ``format``.
    """

    headers: list[str]
    rows: list[list[str | float | None]]
    formats: list[str]

    def _table(self, style):
        rows = [
            [format(cell, spec) if isinstance(cell, Real) else cell for cell, spec in zip(row, self.formats)]
            for row in self.rows
        ]
        right = ["right" if spec else "left" for spec in self.formats]
        return tabulate(rows, self.headers, tablefmt=style, missingval="-", colalign=right, disable_numparse=True)

    def __repr__(self) -> str:
        return self._table("simple")

    def _repr_html_(self):
        return self._table("html")


def compare(runs: Iterable[Run]) -> Table:
    """A `Table` of recorded runs, a row for each network and recipe, the most accurate first.

    Accuracies, seconds and memory are means over the seeds, s.d. is the standard deviation of the test accuracy.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.network, json.dumps(run.recipe)), []).append(run)
    rows: list[list[Any]] = []
    for (network, _), group in groups.items():
        tests = [run.test["accuracy"] for run in group if run.test]
        last: list[Any] = [run.epochs[-1]["validation_accuracy"] if run.epochs else None for run in group]
        rows.append(
            [
                network,
                str(Recipe(**group[0].recipe)),
                group[0].parameters,
                len(group),
                None if None in last else mean(last),
                mean(tests) if tests else None,
                stdev(tests) if len(tests) > 1 else None,
                mean(run.cpu_seconds for run in group),
                mean(run.images_per_second for run in group),
                mean(run.peak_memory for run in group) / 1e6,
            ]
        )
    headers = ["network", "recipe", "parameters", "seeds", "validation", "test", "s.d.", "CPU-s", "images/s", "peak MB"]
    formats = ["", "", ",", "d", ".4f", ".4f", ".4f", ",.0f", ",.0f", ",.0f"]
    rows.sort(key=lambda row: -(row[5] or 0))
    return Table(headers, rows, formats)


def start_peak_memory(device: torch.device) -> None:
    """Let `peak_memory` count from here, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int:
    """Most bytes in use at a time: on a GPU those allocated there, else the size of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    if resource is None:
        return 0  # Windows
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def machine(device: torch.device) -> dict[str, str | int | None]:
    """What this process runs on: processor, cores, threads, processes, device, operating system."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line for line in lines if line.startswith("model name")]
        processor = names[0].split(":")[1].strip() if names else processor
    return {
        "processor": processor or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": parallel.processes(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "system": platform.system(),
    }


def versions() -> dict[str, str]:
    """Of Python and the libraries that make the numbers."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in ("torch", "d2lnets")}
