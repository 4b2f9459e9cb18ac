"""The state of a training, kept so that nothing is lost."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from d2lnets.files import CheckpointError, expanded, write
from d2lnets.training import parallel
from d2lnets.training.runs import Run


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
    """Weights, the optimisers' state, averaged weights, the record so far, and the place in the epoch, in one file.

    The file is in the safetensors format: tensors and JSON, nothing that is executed when it is read.
    It is written beside its place, flushed, and renamed, so that it is whole at any moment.

    Attributes:
        path: of the file; None keeps nothing.
        progress: the place in the training.
    """

    FORMAT = 2

    def __init__(
        self,
        path: Path | str | None,
        run: Run,
        net: nn.Module,
        optimizers: list[torch.optim.Optimizer],
        average: AveragedModel | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.path = None if path is None else expanded(path)
        self.run, self.net, self.optimizers, self.average, self.scaler = run, net, optimizers, average, scaler
        self.progress = Progress()
        self.saved = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since the last save."""
        return time.monotonic() - self.saved

    def save(self) -> None:
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
        tensors = {
            name: tensor.clone(memory_format=torch.contiguous_format)  # tied weights are one tensor under two names
            for name, tensor in self._tensors().items()
        }
        write(self.path, safetensors.torch.save(tensors, {"d2lnets": json.dumps(head, default=float)}))

    def open(self, resume: bool = False) -> None:
        """Begin: see that the file can be written, and restore what it holds if `resume`.

        Raises:
            CheckpointError: the folder cannot be written; there is a file although nothing is to be resumed; the
                file cannot be read, or is of another training. Nothing was changed.
            ValueError: there is nothing to resume from.
        """
        if self.path is None:
            if resume:
                raise ValueError("resume needs a checkpoint: the file to go on from")
            return
        there = self.path.exists()
        if there and not resume:
            raise CheckpointError(f"{self.path} is there already: resume goes on from it; or remove it to start anew")
        if parallel.is_first():
            write(self.path, None)
        if there:
            self._restore(*self._read())
        if parallel.differs([self.progress.epoch, self.progress.step]):
            raise CheckpointError(f"not all processes see the same {self.path}: choose a folder that all of them see")

    def _restore(self, head, tensors, progress):
        theirs, ours = head["run"], asdict(self.run)
        settings = {name: ours[name] for name in ("network", "seed", "examples", "parameters", "precision")}
        differing = [
            f"{name} {there!r}, not {here!r}"
            for name, here in (settings | ours["recipe"]).items()
            if (there := (theirs | theirs["recipe"]).get(name)) != here
        ]
        if differing:
            raise CheckpointError(
                f"{self.path} is of another training: {', '.join(differing)}. "
                "Go on with the settings it was begun with, or choose another file"
            )
        names = {weight: _eager(name) for name, weight in self.net.named_parameters()}
        wanted = self._weights()
        for name, tensor in wanted.items():
            if name not in tensors or tensors[name].shape != tensor.shape:
                raise CheckpointError(
                    f"{self.path} is of another network: it has no {name} of shape {tuple(tensor.shape)}. "
                    "Go on with the network it was begun with, or choose another file"
                )
        with torch.no_grad():
            for name, tensor in wanted.items():
                tensor.copy_(tensors[name])
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    for weight in group["params"]:
                        optimizer.state[weight].update(self._state(weight, names[weight], tensors, group))
        if self.scaler and head["scaler"]:
            self.scaler.load_state_dict(head["scaler"])
        self.progress = progress
        vars(self.run).update(theirs)

    @staticmethod
    def _state(
        weight: torch.Tensor, name: str, tensors: dict[str, torch.Tensor], group: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        """What the file has of an optimiser's state for a weight, where and how the optimiser keeps it."""
        prefix = f"optimizer/{name}/"
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        for key, value in state.items():
            if value.shape == weight.shape:
                state[key] = torch.empty_like(weight).copy_(value)  # in the memory format of the weight
            elif value.dim() or group.get("capturable"):
                state[key] = value.to(weight.device)
        return state

    def _weights(self):
        weights = {f"net/{_eager(name)}": tensor for name, tensor in self.net.state_dict().items()}
        if self.average:
            weights |= {f"average/{_eager(name)}": tensor for name, tensor in self.average.state_dict().items()}
        return weights

    def _tensors(self):
        tensors = self._weights()
        for name, weight in self.net.named_parameters():
            for optimizer in self.optimizers:
                state = optimizer.state.get(weight, {})
                kept = {key: value for key, value in state.items() if value is not None}
                tensors |= {f"optimizer/{_eager(name)}/{key}": value for key, value in kept.items()}
        return tensors

    def _read(self):
        try:
            with safetensors.safe_open(self.path, "pt") as file:
                head = json.loads(file.metadata()["d2lnets"])
                names = file.keys()
                tensors = {name: file.get_tensor(name) for name in names}
            if head["format"] == self.FORMAT:
                type(self.run)(**head["run"])
                return head, tensors, Progress(**head["progress"])
        except (safetensors.SafetensorError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.path} is no checkpoint of d2lnets, or is cut off ({error}): move it away to start anew"
            ) from error
        raise CheckpointError(
            f"{self.path} has format {head['format']}, this version of d2lnets reads {self.FORMAT}: "
            "move it away to start anew"
        )


def _eager(name):
    """A weight's name without what torch.compile puts into it: so a checkpoint is the same with and without it."""
    return name.replace("_orig_mod.", "")
