"""The state of a training, kept so that nothing is lost."""

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from d2lnets import parallel


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, or cannot be gone on from; the message says what to do."""


@dataclass
class Progress:
    """The place in a training: the epoch at hand, from 1, the steps done in it, and its sums so far."""

    epoch: int = 1
    step: int = 0
    examples: int = 0
    loss: float = 0.0
    correct: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class Checkpoint:
    """Weights, momentum, averaged weights, the record so far, and the place in the epoch, in one file.

    The file is in the safetensors format: tensors and JSON, nothing that is executed when it is read.
    It is written beside its place, flushed, and renamed, so that it is whole at any moment.

    Attributes:
        path: of the file; None keeps nothing.
        progress: the place in the training.
    """

    FORMAT = 1

    def __init__(self, path, run, net, optimizer, average=None, scaler=None):
        self.path = None if path is None else Path(path)
        self.run, self.net, self.optimizer, self.average, self.scaler = run, net, optimizer, average, scaler
        self.progress = Progress()
        self.saved = time.monotonic()

    @property
    def age(self):
        """Seconds since the last save."""
        return time.monotonic() - self.saved

    def save(self):
        """Write the file, in the first process.

        Raises:
            CheckpointError: it cannot be written. What was there before is intact.
        """
        self.saved = time.monotonic()
        if self.path is None or not parallel.is_first():
            return
        head = {
            "format": self.FORMAT,
            "run": asdict(self.run),
            "progress": asdict(self.progress),
            "scaler": self.scaler and self.scaler.state_dict(),
        }
        tensors = {name: tensor.contiguous() for name, tensor in self._tensors().items()}
        write(self.path, safetensors.torch.save(tensors, {"d2lnets": json.dumps(head, default=float)}))

    def load(self):
        """Restore what the file holds, if there is a file.

        Raises:
            CheckpointError: it cannot be read, or is of another training; nothing was changed.
        """
        if self.path is None or not self.path.exists():
            return
        head, tensors = self._read()
        run = head["run"]
        ours = asdict(self.run)
        differing = [
            f"{name} {there!r}, not {here!r}"
            for name, there, here in (
                *((name, run[name], ours[name]) for name in ("network", "seed", "examples", "parameters", "precision")),
                *((name, run["recipe"].get(name), value) for name, value in ours["recipe"].items()),
            )
            if there != here
        ]
        if differing:
            raise CheckpointError(
                f"{self.path} is of another training: {', '.join(differing)}. "
                "Go on with the settings it was begun with, or choose another file"
            )
        state = {"net": self.net.state_dict(), "average": self.average.state_dict() if self.average else {}}
        for part, content in state.items():
            for name, tensor in content.items():
                there = tensors.get(f"{part}/{name}")
                if there is None or there.shape != tensor.shape:
                    raise CheckpointError(
                        f"{self.path} is of another network: it has no {name} of shape {tuple(tensor.shape)}. "
                        "Go on with the network it was begun with, or choose another file"
                    )
        with torch.no_grad():
            for part, content in state.items():
                for name, tensor in content.items():
                    tensor.copy_(tensors[f"{part}/{name}"])
            for name, weight in self.net.named_parameters():
                if f"momentum/{name}" in tensors:
                    momentum = torch.empty_like(weight).copy_(tensors[f"momentum/{name}"])
                    self.optimizer.state[weight]["momentum_buffer"] = momentum
        if self.scaler and head["scaler"]:
            self.scaler.load_state_dict(head["scaler"])
        self.progress = Progress(**head["progress"])
        vars(self.run).update(run)

    def _tensors(self):
        tensors = {f"net/{name}": tensor for name, tensor in self.net.state_dict().items()}
        for name, weight in self.net.named_parameters():
            momentum = self.optimizer.state.get(weight, {}).get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum/{name}"] = momentum
        if self.average:
            tensors |= {f"average/{name}": tensor for name, tensor in self.average.state_dict().items()}
        return tensors

    def _read(self):
        try:
            with safetensors.safe_open(self.path, "pt") as file:
                head = json.loads(file.metadata()["d2lnets"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.path} is no checkpoint of d2lnets, or is cut off ({error}): move it away to start anew"
            ) from error
        if head.get("format") != self.FORMAT:
            raise CheckpointError(
                f"{self.path} has format {head.get('format')}, this version of d2lnets reads {self.FORMAT}: "
                "move it away to start anew"
            )
        return head, tensors


def write(path, content):
    """Write bytes to a file, so that it is whole or, as it was before, untouched.

    Raises:
        CheckpointError: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        kept = "what was saved before is intact" if path.exists() else "nothing was saved"
        raise CheckpointError(
            f"cannot write {path} ({error.strerror}); {kept}. Free some space or choose another folder, then resume"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
