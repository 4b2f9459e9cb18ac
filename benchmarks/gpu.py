"""Measure the book on a GPU: ``make gpu``. Each line is in the file as soon as it is measured.

How long the book's networks take, and how well they do; what each step of the chapter on training brings; and d2l's own
loop beside `fit`, on one card in one run. ``--device cpu --part 0.01 --out FILE`` tries the program out.
"""

import argparse
import contextlib
import gc
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional as F

import d2lnets
from d2lnets.data import batch_indices, draw_moves, moved, seeded
from d2lnets.files import expanded
from d2lnets.networks import build
from d2lnets.training.bench import MEASURED, measured_on_gpu, peak_of_tensors
from d2lnets.training.loop import STEPS_AHEAD, Trainer, evaluate, fit, pick_device
from d2lnets.training.recipe import BOOK, Recipe
from d2lnets.training.runs import machine, versions

SEEDS = (0, 1, 2)
SOURCE = {"resnet18": 28, "googlenet-bn": 96, "densenet": 96}  # the source's networks, and the size that they get
SPEEDS = {"fast-resnet": 28, "resnet56": 28, "densenet-small": 28, "googlenet-bn": 96, "resnet50": 96}
STRETCH = 2_560  # images between two looks at the clock

LADDER = {  # the chapter's steps: what each changes, on top of those before it
    "plain": {},
    "data on the device": {"on_device": True},
    "loss read every 20 steps": {"read": 20},
    "TF32": {"tf32": True},
    "fp16, loss not scaled": {"bits": torch.float16, "scaled": False},
    "fp16, loss scaled": {"scaled": True},
    "bf16": {"bits": torch.bfloat16},
    "channels-last": {"channels_last": True},
    "compiled": {"compiled": True},
    "batch 512": {"compiled": False, "batch": 512},
    "batch 2048": {"batch": 2_048},
}


class Notes:
    """A file of JSON lines, begun anew: a line for each thing measured, written at once."""

    def __init__(self, path, device, seconds, only):
        self.path, self.device, self.only, self.failed = path.resolve(), device, only, 0  # d2l's loop works elsewhere
        self.start = time.monotonic()
        self.end = self.start + seconds
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
        self.add("machine", **machine(device), versions=versions(), cuda=torch.version.cuda, date=str(date.today()))

    def add(self, what, **numbers):
        line = json.dumps({"what": what, **numbers}, default=float)
        print(f"{time.monotonic() - self.start:6.1f} s  {line[:300]}", flush=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def attempt(self, work, *arguments, **named):
        """Do it, unless it is too late; write down what went wrong, and go on."""
        if work.__name__ not in self.only:
            return
        given = [*map(str, arguments), *(f"{name}={each}" for name, each in named.items())]
        what = {"work": work.__name__, "arguments": [each[:80] for each in given]}
        if time.monotonic() > self.end:
            self.add("left out", **what, why="late")
            return
        try:
            work(self, *arguments, **named)
        except Exception as error:
            self.failed += 1
            self.add("failed", **what, error=repr(error)[:2000])
        gc.collect()  # a trainer and its graph hold each other, and their memory
        torch.cuda.empty_cache()

    def steps(self, trainer, data):
        """Start some steps of a trainer after those before are done: yields how many images they take."""
        data = replace(data, validation=data.validation[:0])  # nothing is scored on the way
        count = trainer.recipe.batch_size * (STEPS_AHEAD if self.device.type == "cuda" else 1)
        for _ in trainer.training(data):
            yield min(count, len(data.train))

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def clock(self):
        """Seconds, when all work is done; on a CPU those of computing, since others may compute there too."""
        self.wait()
        return time.perf_counter() if self.device.type == "cuda" else time.process_time()

    def peak(self, work):
        """Most bytes that tensors made in ``work()`` have at once."""
        if self.device.type != "cuda":
            return peak_of_tensors(work)
        self.wait()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        self.wait()
        return torch.cuda.max_memory_allocated() - before


def rates(images, times):
    """Images/s of stretches of so many images, of which the first warms up: the median, lowest, highest."""
    each = [count / (end - start) for count, start, end in zip(images, times, times[1:])]
    each = each[1:] or each
    return {"images_per_second": median(each), "lowest": min(each), "highest": max(each)}


class Loop:
    """The loop of the chapter for one epoch by the book's recipe, with switches for the chapter's steps."""

    def __init__(self, name, recipe, data, device, seed, on_device=False, read=1, bits=None, scaled=True, tf32=False,
                 channels_last=False, compiled=False):  # fmt: skip
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        torch.manual_seed(seed)
        self.recipe, self.device, self.seed, self.read, self.bits = recipe, device, seed, read, bits
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.net = build(name).to(device, memory_format=self.layout).train()
        self.model = torch.compile(self.net) if compiled else self.net
        settings = {"momentum": recipe.momentum, "weight_decay": recipe.weight_decay, "nesterov": True}
        self.optimizer = torch.optim.SGD(self.net.parameters(), recipe.lr, **settings)
        self.scaler = torch.amp.GradScaler(device.type, enabled=bits == torch.float16 and scaled)
        self.train = data.train.to(device) if on_device else data.train
        order = torch.randperm(len(self.train), generator=seeded(seed, 1)).to(self.train.images.device)
        self.order = batch_indices(order, recipe.batch_size)

    def step(self, number):
        """Step `number` of the epoch, from 1; how many images it took."""
        recipe, batch = self.recipe, self.order[number - 1]
        moves = draw_moves(len(batch), seeded(self.seed, 1, number), pixels=0)
        x = recipe.prepare(moved(self.train.images[batch], *moves, pixels=0))
        x, y = x.contiguous(memory_format=self.layout).to(self.device), self.train.labels[batch].to(self.device)
        self.optimizer.param_groups[0]["lr"] = recipe.rate((number - 0.5) / len(self.order))
        with torch.autocast(self.device.type, self.bits, enabled=self.bits is not None):
            loss = F.cross_entropy(self.model(x), y, label_smoothing=recipe.label_smoothing)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if number % self.read == 0:
            loss.item()
        return len(batch)


def ladder(notes, name, data, seed, size=None):
    """Each step of the chapter on top of those before it: an epoch, timed and scored."""
    settings, flags = {}, (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    for title, change in LADDER.items():
        settings |= change
        if settings.get("bits") == torch.float16 and notes.device.type == "cpu":
            notes.add("left out", work="rung", arguments=[title], why="CPUs imitate fp16, hundreds of times slower")
        elif title != "compiled" or seed == 0:  # compiling takes longer than all the rest
            notes.attempt(rung, title, name, data, seed, size, **settings)
    torch.set_float32_matmul_precision(flags[0])
    torch.backends.cudnn.allow_tf32 = flags[1]


def rung(notes, title, name, data, seed, size, batch=128, **settings):
    recipe = Recipe(epochs=1, batch_size=batch, lr=BOOK.lr * batch / BOOK.batch_size, image_size=size)
    loop = Loop(name, recipe, data, notes.device, seed, **settings)
    images, times, count = [], [notes.clock()], 0
    for number in range(1, len(loop.order) + 1):
        count += loop.step(number)
        if count >= STRETCH or number == len(loop.order):
            images.append(count)
            times.append(notes.clock())
            count = 0
    score = evaluate(loop.net, data.validation, notes.device, recipe)
    peak = notes.peak(partial(loop.step, 1))
    notes.add("ladder", network=name, size=size or 28, step=title, seed=seed, accuracy=score.accuracy, peak_bytes=peak,
              first_seconds=times[1] - times[0], **rates(images, times))  # fmt: skip


def speed(notes, name, size, data, batch=128):
    """The trainer's own steps, eagerly and as a CUDA graph."""
    data = replace(data, train=data.train[: max(batch, len(data.train) - len(data.train) % batch)])
    recipe = Recipe(epochs=100, batch_size=batch, lr=0.01, image_size=None if size == 28 else size)
    rounds = 6 if notes.device.type == "cuda" else 2  # the first of them warms up
    for graph in (False, True):
        torch.manual_seed(0)
        training = notes.steps(Trainer(build(name), recipe, 0, notes.device, graph=graph), data)
        next(training)
        times = [notes.clock()]
        for _ in range(rounds):
            images = next(training)
            times.append(notes.clock())
        title = f"{'CUDA graph' if graph else 'fit'}, batch {batch}"
        notes.add("speed", network=name, size=size, step=title, **rates([images] * rounds, times))
        training.close()
        gc.collect()


def train(notes, name, recipe, seed, data, graph=True):
    """A whole training, alone on the card: seconds, test accuracy."""
    torch.manual_seed(seed)
    net = build(name)
    notes.wait()
    start = time.perf_counter()
    run = fit(net, data, recipe, seed, notes.device, graph=graph, name=name)
    wall = time.perf_counter() - start
    test = evaluate(net, data.test, notes.device, recipe)
    notes.add("training", network=name, recipe=str(recipe), epochs=recipe.epochs, seed=seed, seconds=run.seconds,
              graph=graph, wall=wall, test=test.accuracy, precision=run.precision, peak_bytes=run.peak_memory,
              accuracies=[epoch["validation_accuracy"] for epoch in run.epochs])  # fmt: skip


def d2l_loop(notes, name, data, size, workers, steps=150):
    """Steps of a network of the book by d2l's own loop and loader, which waits for its workers from the first."""
    from itertools import islice

    from run import d2l, where_d2l_looks

    class Model(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.net, self.lr = build(name), 0.01

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(where_d2l_looks(data, Path(folder))):
        loader = d2l.FashionMNIST(batch_size=128, resize=(size, size))
        loader.num_workers = workers
        steps = min(steps, len(loader.train_dataloader()))
        for number in range(3):
            model = Model()
            model.board.display = False
            trainer = d2l.Trainer(max_epochs=1, num_gpus=int(notes.device.type == "cuda"))
            trainer.prepare_model(model)
            trainer.train_dataloader = islice(iter(loader.train_dataloader()), steps)
            trainer.val_dataloader, trainer.num_train_batches = None, steps
            trainer.optim = model.configure_optimizers()
            trainer.epoch = trainer.train_batch_idx = trainer.val_batch_idx = 0
            notes.wait()
            start = time.perf_counter()
            trainer.fit_epoch()
            notes.wait()
            images = min(128 * steps, len(data.train))
            notes.add("d2l", network=name, size=size, workers=workers, steps=steps, number=number,
                      images_per_second=images / (time.perf_counter() - start))  # fmt: skip


def profile(notes, data):
    """Where the time of the steps between two looks at the loss goes, by kernel (on a CPU by operation)."""
    training = notes.steps(Trainer(build("fast-resnet"), Recipe(epochs=100), 0, notes.device, graph=True), data)
    for _ in range(5):
        next(training)
    notes.wait()
    with torch.profiler.profile(acc_events=True) as profiler:
        images = next(training)
        notes.wait()
    training.close()
    where = "device" if notes.device.type == "cuda" else "cpu"
    rows = [(event.key[:90], getattr(event, f"self_{where}_time_total"), event.count)
            for event in profiler.key_averages()  # operations on the CPU have the time of their kernels once more
            if event.device_type.name == notes.device.type.upper() and not event.is_user_annotation]  # fmt: skip
    notes.add("profile", network="fast-resnet", steps=max(1, images // 128),
              kernels=sorted(rows, key=lambda row: -row[1])[:25], microseconds=sum(row[1] for row in rows))  # fmt: skip


def measure(notes, data):
    """Everything, what matters most first."""
    everything, fast = data.without_validation(), Recipe(epochs=8)
    muon = replace(fast, optimizer="muon", lr=0.01, weight_decay=0.05)
    notes.attempt(train, "fast-resnet", Recipe(epochs=1), 99, everything)  # warms the libraries up
    for seed in SEEDS:
        notes.attempt(train, "fast-resnet", fast, seed, everything)
        notes.attempt(train, "fast-resnet", muon, seed, everything)
    notes.attempt(train, "fast-resnet", fast, 0, everything, graph=False)
    notes.attempt(profile, data)
    notes.attempt(d2l_loop, "resnet18", data, 96, workers=min(12, (os.cpu_count() or 1) - 1))
    for name, size in {"resnet18": 96, **SPEEDS}.items():
        notes.attempt(speed, name, size, data)
    for seed in SEEDS:
        ladder(notes, "fast-resnet", data.take(10 * STRETCH), seed)
    for seed in SEEDS:  # the longest; all seeds take more than the time
        for name, size in SOURCE.items():
            recipe = Recipe(epochs=10, image_size=None if size == 28 else size)
            notes.attempt(train, name, recipe, seed, everything)


def main(arguments=None):
    works = ["train", "profile", "d2l_loop", "speed", "rung"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=expanded, help="by default what the pages show of a GPU")
    parser.add_argument("--seconds", type=float, default=400, help="begin nothing after so many (default: 400)")
    parser.add_argument("--only", nargs="+", choices=works, default=works)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--part", type=float, default=1.0, help="of the images; below 1, or on a CPU, name an --out")
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here: --device cpu --part 0.01 --out FILE tries the program out")
    if options.out is None and (device.type != "cuda" or options.part < 1 or options.only != works):
        parser.error("what the pages show is measured whole, on a GPU: name an --out")
    if options.out is None:
        (there,) = measured_on_gpu("machine")
        if (here := machine(device)["device"]) != there["device"]:
            parser.error(f"what the pages say was measured on {there['device']}, and this is {here}: name an --out")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler says in several lines what it does not find
    data = d2lnets.load_fashion_mnist()
    if options.part < 1:
        data = data.take(*(max(2, round(options.part * images)) for images in (55_000, 5_000, 10_000)))
    notes = Notes(options.out or MEASURED, device, options.seconds, options.only)
    measure(notes, data)
    notes.add("end", seconds=time.monotonic() - notes.start, failed=notes.failed)
    return notes.failed


if __name__ == "__main__":
    sys.exit(min(1, main()))
