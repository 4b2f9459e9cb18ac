"""A training step as one CUDA graph: the GPU is told once what to do, and then only to do it again."""

from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from d2lnets.data import Split, draw_moves, seeded

if TYPE_CHECKING:
    from d2lnets.training.loop import Trainer

WARM = 3  # steps before the capture, in which libraries choose their algorithms


@lru_cache(maxsize=64)
def moves(seed: int, epoch: int, sizes: tuple[int, ...], shift: int, flip: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What `draw_moves` draws for all batches of an epoch; the same for all trainings with this seed."""
    draws = [draw_moves(size, seeded(seed, epoch, step), shift, flip) for step, size in enumerate(sizes, 1)]
    return torch.cat([shifts for shifts, _ in draws], dim=1), torch.cat([mirrored for _, mirrored in draws])


class Graph:
    """Replays `Trainer.learn`. What differs from step to step lies on the device and is found by a counter there.

    Attributes:
        capturing: whether `learn` is being captured, and not run.
    """

    def __init__(self, trainer: "Trainer") -> None:
        self.trainer, self.device = trainer, trainer.device
        self.graph: torch.cuda.CUDAGraph | None = None
        self.capturing, self.warm = False, 0

    def start_epoch(self, train: Split, batches: list[torch.Tensor], rates: list[float], epoch: int) -> None:
        """Put on the device what the steps of an epoch need: order, augmentation, rates."""
        trainer = self.trainer
        torch.manual_seed(seeded(trainer.seed, epoch, 0, 1).initial_seed())  # for dropout
        tables = {"order": torch.cat(batches), "rates": torch.tensor(rates)}
        if trainer.recipe.shift or trainer.recipe.flip:
            sizes = tuple(map(len, batches))
            tables["shifts"], tables["mirrored"] = moves(
                trainer.seed, epoch, sizes, trainer.recipe.shift, trainer.recipe.flip
            )
        if self.graph is None and self.warm == 0:
            self.train = train
            self.lr = trainer.optimizers[0].param_groups[0]["lr"]
            self.range = torch.arange(trainer.recipe.batch_size, device=self.device)
            self.at = torch.zeros(1, dtype=torch.long, device=self.device)
            self.results = torch.zeros(len(batches), 2, device=self.device)
            self.tables = {name: table.to(self.device, copy=True) for name, table in tables.items()}
        else:
            for name, table in tables.items():
                self.tables[name].copy_(table)

    def step(self, number: int) -> torch.Tensor:
        """Do step `number` of the epoch, from 0; what `Trainer.learn` returned.

        Raises:
            RuntimeError: the step cannot be captured.
        """
        if self.graph is None and self.warm >= WARM:
            try:
                self._capture()
            except RuntimeError as error:  # of the end of the capture, where its middle failed: that is the context
                raise RuntimeError(
                    "the step cannot be one CUDA graph, as when the network asks the device for a number "
                    f"(if x.mean() > 0: ...); train it without graph: {error.__context__ or error}"
                ) from error
        if number == 0 or self.graph is None:
            self.at.fill_(number)
        if self.graph is None:
            self.warm += 1
            self._work()
        else:
            self.graph.replay()
        return self.results[number]

    def _work(self):
        index = self.at * len(self.range) + self.range
        moves = None
        if "shifts" in self.tables:
            moves = self.tables["shifts"][:, index], self.tables["mirrored"][index]
        self.lr.copy_(self.tables["rates"][self.at].squeeze())
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.lr
        result = self.trainer.learn(self.train, self.tables["order"][index], moves)
        self.results.index_copy_(0, self.at, result[None])
        self.at += 1

    def _capture(self):
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream())
        graph, self.capturing = torch.cuda.CUDAGraph(), True
        try:
            with torch.cuda.stream(stream):
                for optimizer in self.trainer.optimizers:
                    optimizer.zero_grad()  # gradients of the captured step get memory of their own
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    self._work()
                finally:
                    graph.capture_end()
        finally:
            self.capturing = False
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = graph
