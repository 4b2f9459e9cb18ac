"""Training runs: what was done, on what, and what came out; as small JSON files."""

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

import torch
from tabulate import tabulate

RECORDED = Path(__file__).parent / "runs"


@dataclass(repr=False)
class Run:
    """One training run.

    Attributes:
        recipe: the fields of its `Recipe`.
        seed: of order, augmentation and, in a recorded run, of the initial weights.
        examples: training images an epoch.
        parameters: of the network.
        machine: processor, cores and threads used, device, operating system.
        versions: of Python and the libraries.
        epochs: for each, ``train_loss`` and ``train_accuracy`` (means over the epoch's batches, as they
            were trained on), ``validation_loss`` and ``validation_accuracy`` (after it; None without
            validation images), ``seconds`` and ``cpu_seconds`` (of training, without validation).
        network: its name, in a recorded run.
        test: ``loss`` and ``accuracy`` on the test images, read once after the last epoch, or None.
    """

    recipe: dict
    seed: int
    examples: int
    parameters: int
    machine: dict
    versions: dict
    epochs: list = field(default_factory=list)
    network: str = ""
    test: dict | None = None

    FORMAT = 1

    def add_epoch(self, train, validation, seconds, cpu_seconds):
        """Append an epoch's `Score` on the training and the validation images, and what it took."""
        self.epochs.append(
            {
                "train_loss": train.loss,
                "train_accuracy": train.accuracy,
                "validation_loss": validation and validation.loss,
                "validation_accuracy": validation and validation.accuracy,
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
            }
        )

    @property
    def seconds(self):
        """Of training, without validation."""
        return sum(epoch["seconds"] for epoch in self.epochs)

    def save(self, path):
        """Write the run to a JSON file; the file is whole or not there."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"format": self.FORMAT, **asdict(self)}, indent=1, allow_nan=False, default=float)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            temporary.write_text(content + "\n")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path):
        """Read what `save` wrote.

        Raises:
            ValueError: the file is not a run, or of a later format than this version knows.
        """
        try:
            content = json.loads(Path(path).read_text())
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

    def __repr__(self):
        return self._table("simple")

    def _repr_html_(self):
        return self._table("html")


def load_runs(network):
    """The recorded runs of a network, full trainings that ship with the package, one for each seed.

    Raises:
        ValueError: there are none; the message names the networks that have some.
    """
    runs = [Run.load(path) for path in sorted(RECORDED.glob("*.json"))]
    of_network = sorted((run for run in runs if run.network == network), key=lambda run: run.seed)
    if not of_network:
        known = ", ".join(sorted({run.network for run in runs})) or "no network"
        raise ValueError(f"no recorded runs of {network!r}; there are runs of {known}")
    return of_network


def machine(device):
    """What this process runs on: processor, cores, threads, device, operating system."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].split(":")[1].strip() if names else processor
    return {
        "processor": processor or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "system": platform.system(),
    }


def versions():
    """Of Python and the libraries that make the numbers."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in ("torch", "d2lnets")}
