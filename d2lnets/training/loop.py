"""Train a network on Fashion-MNIST and measure it: the loop, the score."""

import ctypes
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from d2lnets.data import FashionMNIST, Split, batch_indices, batches, draw_moves, moved, seeded
from d2lnets.training import parallel
from d2lnets.training.checkpoint import Checkpoint, Progress
from d2lnets.training.convolutions import CPUConvolutions
from d2lnets.training.graph import Graph
from d2lnets.training.needs import (
    count_classes,
    enough_memory,
    logits_of,
    require_network,
    require_split,
    require_trainable,
)
from d2lnets.training.optimizers import optimizers
from d2lnets.training.recipe import BOOK, PLAIN, Recipe
from d2lnets.training.runs import Run, machine, peak_memory, start_peak_memory, versions

SAVE_SECONDS = 120  # between two saves within an epoch
FIRST_LOSSES = 10  # so many are recorded, for a test that trains again
STEPS_AHEAD = 20  # an accelerator works on so many before their losses are read


class Score(NamedTuple):
    """Mean cross-entropy in nats, and the fraction of examples classified correctly."""

    loss: float
    accuracy: float


class DivergedError(FloatingPointError):
    """The loss became infinite or not a number."""


class Interrupted(KeyboardInterrupt):
    """A training was stopped by the user, after its state was saved."""


def pick_device(device: torch.device | str | None = None) -> torch.device:
    """`device` as a ``torch.device``; without one the accelerator (CUDA, MPS, ...) where there is one, else the CPU."""
    if device is not None:
        return torch.device(device)
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def precision(device: torch.device) -> str:
    """In what a network is best trained on a device: ``"bf16"``, ``"fp16"``, or ``"no"`` for float32.

    A CPU gets bf16 only with matrix units for it (Intel's AMX), unless ``ONEDNN_MAX_CPU_ISA`` in the environment
    switches them off; others compute it more slowly than float32.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    units = torch.cpu._is_amx_tile_supported() and ("AMX" in isa or isa in ("ALL", "DEFAULT"))
    return "bf16" if device.type == "cpu" and units else "no"


def fit(
    net: nn.Module,
    data: FashionMNIST,
    recipe: Recipe = BOOK,
    seed: int = 0,
    device: torch.device | str | None = None,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    steps: int | None = None,
    compile: bool = False,
    name: str = "",
    graph: bool = False,
    after_epoch: Callable[[Run, nn.Module], object] | None = None,
    after_step: Callable[[int, float, float], object] | None = None,
) -> Run:
    """Train `net` in place on ``data.train``; score ``data.validation`` after every epoch.

    With the same weights, `seed`, machine, threads and versions the numbers come out the same. Order,
    augmentation and what the network itself draws (dropout) depend on seed, epoch and step alone, and
    the caller's random state is left alone. ``TQDM_DISABLE=1`` in the environment hides the progress bar.

    Under ``accelerate launch`` or ``torchrun`` the processes share every batch, and train as one would.

    Args:
        data: has ``train`` and ``validation``, as `load_fashion_mnist` returns.
        device: see `pick_device`. The network stays there.
        checkpoint: a file for the state, written after every epoch and every two minutes; it must not be
            there yet, unless `resume`. With it, Ctrl-C (or SIGTERM) stops the training after the step at
            hand, and saves.
        resume: go on from `checkpoint`, or start if it is not there. On a CPU with the same number of
            threads the result equals that of an uninterrupted training, number for number.
        steps: stop after so many in all, before the recipe's end, with the weights as they are then.
        compile: with ``torch.compile``: first tens of seconds, then faster steps.
        name: the network's, for the record.
        graph: on a GPU, replay the step as one CUDA graph: small networks train several times as fast. Python code
            in the network (prints, hooks, branches) then runs in the first steps only.
        after_epoch: called with the `Run` so far and the network that is scored, after every epoch.
        after_step: called with the number of images seen, and the mean loss and accuracy of a step, once they are read.

    Returns:
        A `Run`: recipe, seed, machine, versions, and loss, accuracy and seconds of each epoch.

    Raises:
        CheckpointError: the checkpoint cannot be written or read, or is of another training.
        DivergedError: the loss became infinite or not a number; it names the step.
        Interrupted: a signal came; the state is in `checkpoint`.
        MemoryError: the device has too little memory.
        TypeError, ValueError: network or data are not what a training needs; no step was done.
    """
    require_trainable(net, data)
    try:
        with enough_memory(recipe, device):
            trainer = Trainer(net, recipe, seed, device, compile, graph)
            *_, run = trainer.training(data, checkpoint, resume, steps, name, after_epoch, after_step)
            return run
    finally:
        parallel.finish()


class Trainer:
    """The loop of `fit`: `step` is what happens to a batch, `training` what happens around the steps."""

    def __init__(
        self,
        net: nn.Module,
        recipe: Recipe = BOOK,
        seed: int = 0,
        device: torch.device | str | None = None,
        compile: bool = False,
        graph: bool = False,
    ) -> None:
        if recipe.xavier:
            draw_xavier(net)
        device = pick_device(device)
        if device.type == "cpu":
            keep_freed_memory()
        self.accelerator = parallel.start(device, precision(device) if recipe.mixed_precision else "no", compile)
        self.device = self.accelerator.device
        self.net, self.recipe, self.seed = net.to(self.device).to(memory_format=torch.channels_last), recipe, seed
        self.average, self.classes = None, 0
        if recipe.average is not None:
            self.average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True)
        # A scaled loss, as fp16 needs it, is looked at after every step: no graph.
        graphable = self.device.type == "cuda" and not compile and self.accelerator.scaler is None
        self.graph = Graph(self) if graph and graphable and parallel.processes() == 1 else None
        self.convolutions = CPUConvolutions() if self.device.type == "cpu" and not compile else nullcontext()
        # Accelerate changes what it prepares: it gets a shell, so that the network stays as it is.
        self.model, *self.optimizers = self.accelerator.prepare(
            nn.Sequential(net), *optimizers(net, recipe, graph=self.graph is not None)
        )

    def step(
        self, train: Split, batch: torch.Tensor, rate: float | torch.Tensor, draws: torch.Generator
    ) -> torch.Tensor:
        """Learn from the examples that `batch` numbers, with the learning rate `rate`.

        Args:
            draws: the generator of the augmentation.

        Returns:
            A tensor of two: the sum of the losses and the number classified correctly, in this process's share.
        """
        moves = self.draw_moves(len(batch), draws)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        return self.learn(train, batch, moves)

    def draw_moves(self, count: int, draws: torch.Generator) -> tuple[torch.Tensor, torch.Tensor] | None:
        """What the recipe's augmentation draws for so many examples; None without augmentation."""
        recipe = self.recipe
        return draw_moves(count, draws, recipe.shift, recipe.flip) if recipe.shift or recipe.flip else None

    def learn(self, train: Split, batch: torch.Tensor, moves: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
        """One step with the rate that the optimisers have; everything here can be captured in a CUDA graph."""
        images, labels = train.images[batch], train.labels[batch]
        if moves is not None:
            images = moved(images, *moves, self.recipe.shift)
        images, labels = self.recipe.prepare(parallel.share(images)), parallel.share(labels)
        with self.convolutions:
            logits = logits_of(self.model, images, self.classes)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing, reduction="sum")
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        self.accelerator.backward(loss * parallel.processes() / len(batch))  # gradients are averaged over processes
        if self.recipe.clip is not None:
            self.accelerator.clip_grad_norm_(self.net.parameters(), self.recipe.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        if self.average is not None:
            self._update_average()
        return torch.stack([loss.detach(), (logits.argmax(1) == labels).sum()])

    def _update_average(self):
        if self.graph and self.graph.capturing:  # update_parameters asks the device whether it is the first time
            pairs = zip(self.average.module.state_dict().values(), self.net.state_dict().values())
            means, now = zip(*((mean, each) for mean, each in pairs if mean.is_floating_point()))
            torch._foreach_lerp_(means, now, 1 - self.recipe.average)
        else:
            self.average.update_parameters(self.net)
        for mean, buffer in zip(self.average.module.buffers(), self.net.buffers()):
            if not buffer.is_floating_point():
                mean.copy_(buffer)  # whole numbers have no moving average

    def training(
        self,
        data: FashionMNIST,
        checkpoint: Path | str | None = None,
        resume: bool = False,
        steps: int | None = None,
        name: str = "",
        after_epoch: Callable[[Run, nn.Module], object] | None = None,
        after_step: Callable[[int, float, float], object] | None = None,
    ) -> Iterator[Run]:
        """Train to the recipe's end, or to `steps` steps; yield the `Run` so far while the device is at work."""
        recipe, net = self.recipe, self.net
        self.classes = count_classes(data.train, data.validation)
        train, validation = data.train.to(self.device), data.validation.to(self.device)
        run = Run(
            network=name,
            recipe=asdict(recipe),
            seed=self.seed,
            examples=len(train),
            parameters=sum(weight.numel() for weight in net.parameters()),
            precision=self.accelerator.mixed_precision,
            machine=machine(self.device),
            versions=versions(),
        )
        state = Checkpoint(checkpoint, run, net, self.optimizers, self.average, self.accelerator.scaler)
        state.open(resume)
        start_peak_memory(self.device)
        scored = net if self.average is None else self.average.module
        in_epoch = len(batch_indices(torch.arange(len(train)), recipe.batch_size))
        end = recipe.epochs * in_epoch
        done = in_epoch * (state.progress.epoch - 1) + state.progress.step
        quiet = {} if parallel.is_first() and sys.stderr else {"disable": True}  # pythonw has no stderr
        bar = tqdm(initial=done, total=end, unit="batch", delay=1, mininterval=0.5, leave=None, **quiet)
        with (
            bar,
            own_random_state(self.device),
            parallel.joint(net),
            stop_signal(checkpoint) as stop,
        ):
            for epoch in range(state.progress.epoch, recipe.epochs + 1):
                before = in_epoch * (epoch - 1)
                last = in_epoch if steps is None else min(steps - before, in_epoch)
                yield from self._epoch(train, state, before, last, stop, bar, after_step)
                if last < in_epoch:
                    self._save(state)
                    yield run
                    return
                score = evaluate(scored, validation, self.device, recipe) if len(validation) else None
                if score:
                    require_finite(score.loss, f"on the validation images after epoch {epoch}", recipe)
                run.add_epoch(state.progress, score)
                if after_epoch:
                    after_epoch(run, scored)
                state.progress = Progress(epoch + 1)
                self._save(state)
                if parallel.total(torch.tensor(float(stop.is_set()), device=self.device)):
                    raise Interrupted(
                        f"stopped after epoch {epoch}; {state.path} has the state, resume goes on from there"
                    )
        if self.average is not None:
            net.load_state_dict(scored.state_dict())
        yield run

    def _epoch(self, train, state, before, last, stop, bar, after_step):
        """Steps up to number `last` of this epoch, which `before` steps of earlier epochs precede."""
        now, recipe, run = state.progress, self.recipe, state.run
        order = torch.randperm(len(train), generator=seeded(self.seed, now.epoch))
        batches = batch_indices(order.to(self.device), recipe.batch_size)  # from a CPU each would wait for the queue
        ahead = 1 if self.device.type == "cpu" else STEPS_AHEAD
        self.net.train()
        if self.graph:
            rates = [recipe.rate((before + step + 0.5) / bar.total) for step in range(len(batches))]
            self.graph.start_epoch(train, batches, rates, now.epoch)
        while now.step < last:
            start, cpu_start = time.perf_counter(), time.process_time()
            done = now.step
            results = []
            for batch in batches[done : min(done + ahead, last)]:
                now.step += 1
                if self.graph and len(batch) == recipe.batch_size:
                    results.append(self.graph.step(now.step - 1))
                    continue
                draws = seeded(self.seed, now.epoch, now.step)
                own = seeded(self.seed, now.epoch, now.step, 1 + parallel.rank())  # for dropout, and no other process's
                torch.manual_seed(own.initial_seed())
                rate = recipe.rate((before + now.step - 0.5) / bar.total)
                if self.graph:
                    rate = torch.tensor(rate, device=self.device)
                results.append(self.step(train, batch, rate, draws))
            yield run
            # What the processes tell each other: results, whether one is to stop, and the time each spent.
            mine = torch.tensor([stop.is_set(), time.process_time() - cpu_start], device=self.device)
            *results, (stopped, cpu_seconds) = parallel.total(torch.stack([*results, mine])).tolist()
            now.seconds += time.perf_counter() - start
            now.cpu_seconds += cpu_seconds
            for step, (loss, correct) in enumerate(results, done + 1):
                examples = len(batches[step - 1])
                require_finite(loss, f"at step {step} of {len(batches)} in epoch {now.epoch}", recipe)
                now.examples += examples
                now.loss += loss
                now.correct += correct
                if len(run.first_losses) < FIRST_LOSSES:
                    run.first_losses.append(loss / examples)
                if after_step:
                    after_step((now.epoch - 1) * len(train) + now.examples, loss / examples, correct / examples)
            bar.set_description(f"epoch {now.epoch}/{recipe.epochs}", refresh=False)
            bar.set_postfix_str(
                f"loss {now.loss / now.examples:.3f}, accuracy {now.correct / now.examples:.3f}, "
                f"{now.examples / now.seconds:,.0f} images/s",
                refresh=False,
            )
            bar.n = before + now.step
            bar.update(0)
            if stopped or state.age > SAVE_SECONDS:
                self._save(state)
            if stopped:
                where = f"step {now.step} of {len(batches)} in epoch {now.epoch}"
                raise Interrupted(f"stopped after {where}; {state.path} has the state, resume goes on")

    def _save(self, state):
        """Save, unless the weights are beyond repair."""
        if not all(weight.isfinite().all() for weight in self.net.parameters()):
            where = f"epoch {state.progress.epoch}, step {state.progress.step}"
            raise DivergedError(f"a weight is not finite at {where}: start again with an lr below {self.recipe.lr:g}")
        state.run.peak_memory = max(state.run.peak_memory, peak_memory(self.device))
        state.save()


def keep_freed_memory() -> None:
    """Ask the C library not to return freed memory to the system, which zeroes it before it gives it again.

    Every step frees and allocates the same large tensors. Costs memory, up to the peak. Linux with glibc only.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        m_trim_threshold, m_mmap_max = -1, -4
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_mmap_max, 0)


def draw_xavier(net: nn.Module) -> None:
    """Draw the weights of convolutions and linear layers uniformly, as d2l does (Glorot and Bengio 2010).

    The caller's random state decides, and is left alone.
    """
    with torch.random.fork_rng(devices=[]):
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)


def require_finite(loss: float, where: str, recipe: Recipe) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss is {loss} {where}: start again from fresh weights, with an lr below {recipe.lr:g}"
        )


def own_random_state(device: torch.device) -> AbstractContextManager[None]:
    """Inside the ``with`` block random draws do not touch the caller's, on the CPU and on the device."""
    return torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else [])


@contextmanager
def stop_signal(checkpoint: Path | str | None) -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets inside the ``with`` block, where there is a checkpoint to save to."""
    stop = threading.Event()
    main = threading.current_thread() is threading.main_thread()
    signals = (signal.SIGINT, signal.SIGTERM) if checkpoint is not None and main else ()
    before = {each: signal.signal(each, lambda *_: stop.set()) for each in signals}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@torch.no_grad()
def evaluate(
    net: nn.Module,
    split: Split,
    device: torch.device | str | None = None,
    recipe: Recipe = PLAIN,
    batch_size: int | None = None,
) -> Score:
    """The `Score` of `net` on a split, in eval mode and float32; the network's mode is restored.

    Args:
        recipe: how images are prepared, and whether mirror images count too; by default they are
            normalised, and do not.
        batch_size: examples at a time; by default the recipe's, and on a GPU as many as have four million pixels.

    Raises:
        TypeError, ValueError: network or split are not what this needs, or the split is empty.
    """
    require_network(net)
    require_split(split, "split")
    if not len(split):
        raise ValueError("cannot evaluate on an empty split")
    device = pick_device(device)
    if batch_size is None:
        pixels = split.images.shape[-1] ** 2 if recipe.image_size is None else recipe.image_size**2
        batch_size = recipe.batch_size if device.type == "cpu" else max(recipe.batch_size, 4_000_000 // pixels)
    classes = count_classes(split)
    net.to(device)
    part = Split(parallel.share(split.images), parallel.share(split.labels)).to(device)
    sums = torch.zeros(2, device=device)
    with eval_mode(net), enough_memory(recipe, device):
        for images, labels in batches(part, batch_size, prepare=recipe.prepare):
            logits = logits_of(net, images, classes)
            if recipe.flip_test:
                logits = (logits + net(images.flip(-1))) / 2
            sums += torch.stack([F.cross_entropy(logits, labels, reduction="sum"), (logits.argmax(1) == labels).sum()])
    loss, correct = parallel.total(sums).tolist()
    return Score(loss / len(split), correct / len(split))


@contextmanager
def eval_mode(net: nn.Module) -> Iterator[nn.Module]:
    """Eval mode inside the ``with`` block; every module's own mode again after it."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield net
    finally:
        for module, mode in modes.items():
            module.training = mode
