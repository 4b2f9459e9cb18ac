"""Measure the book on a GPU, in ten minutes at most: ``python benchmarks/gpu.py``. Results are saved as they come.

What each step of the chapter on training brings (images/s, memory); how long the book's networks take, and how
well they do; and d2l's own loop beside `fit`, on one card in one run.
"""

import argparse
import json
import os
import time
from contextlib import nullcontext
from datetime import date
from pathlib import Path

import torch
from torch.nn import functional as F

import d2lnets
from d2lnets.data import enlarge, normalize
from d2lnets.files import expanded
from d2lnets.networks import NETWORKS, SMALL, build
from d2lnets.training.loop import Trainer, evaluate, fit
from d2lnets.training.recipe import BOOK, Recipe
from d2lnets.training.runs import machine, versions


class Notes:
    """A file of JSON lines: a line for each thing measured, written at once."""

    def __init__(self, path, device):
        self.path, self.device = path, device
        self.start = time.monotonic()
        self.add("machine", **machine(device), versions=versions(), cuda=torch.version.cuda, date=str(date.today()))

    def add(self, what, **numbers):
        line = json.dumps({"what": what, **numbers}, default=float)
        print(f"{time.monotonic() - self.start:6.1f} s  {line[:300]}", flush=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def attempt(self, work, *arguments):
        """Do it; write down what went wrong, and go on."""
        try:
            work(self, *arguments)
        except Exception as error:
            self.add("failed", work=work.__name__, arguments=[str(a)[:80] for a in arguments], error=repr(error)[:2000])
        torch.cuda.empty_cache()


def images_per_second(step, images, seconds=1.0, warm=5):
    """Of ``step()``, which works on so many images: the median of five stretches, lowest, highest, peak bytes."""
    torch.cuda.reset_peak_memory_stats()
    for _ in range(warm):
        step()
    torch.cuda.synchronize()
    rates = []
    for _ in range(5):
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / 5:
            for _ in range(5):
                step()
            torch.cuda.synchronize()
            count += 5
        rates.append(count * images / (time.perf_counter() - start))
    rates.sort()
    return {
        "images_per_second": rates[2],
        "lowest": rates[0],
        "highest": rates[-1],
        "peak_bytes": torch.cuda.max_memory_allocated(),
    }


class Loop:
    """A training loop in which one thing after the other is switched on."""

    def __init__(self, name, size, data, device, on_device=False, tf32=False, bits=None, channels_last=False, batch=128,
                 read=1, compiled=False, fused=False):  # fmt: skip
        self.settings = bits, channels_last, batch, read
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        self.device, self.size = device, size
        torch.manual_seed(0)
        self.net = build(name).to(
            device, memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )
        self.model = torch.compile(self.net) if compiled else self.net
        self.optimizer = torch.optim.SGD(self.net.parameters(), 0.01, 0.9, nesterov=True, fused=fused)
        self.scaler = torch.amp.GradScaler(enabled=bits == torch.float16)
        self.images, self.labels = (t.to(device) if on_device else t for t in (data.train.images, data.train.labels))
        self.order = torch.randperm(len(self.labels), device=self.images.device)
        self.number = 0

    def step(self):
        bits, channels_last, batch, read = self.settings
        start = self.number * batch % (len(self.order) - batch)
        index = self.order[start : start + batch]
        x = normalize(self.images[index])
        x, y = x.to(self.device), self.labels[index].to(self.device)
        if self.size != 28:
            x = enlarge(x, self.size)
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cuda", bits) if bits else nullcontext():
            loss = F.cross_entropy(self.model(x), y)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.number % read == 0:
            loss.item()
        self.number += 1


def ladder(notes, name, size, data, compiled):
    """Each step of the chapter on top of those before it."""
    steps = {
        "plain": {},
        "data on the device": {"on_device": True},
        "TF32": {"tf32": True},
        "fp16": {"bits": torch.float16},
        "bf16": {"bits": torch.bfloat16},
        "channels last": {"channels_last": True},
        "loss read every 20 steps": {"read": 20},
        "fused optimizer": {"fused": True},
        "batch 512": {"batch": 512},
        "batch 2048": {"batch": 2048},
    }
    settings = {}
    for title, change in steps.items():
        settings |= change
        loop = Loop(name, size, data, notes.device, **settings)
        notes.add("ladder", network=name, size=size, step=title, **images_per_second(loop.step, loop.settings[2]))
    for batch in (128, 512):
        settings["batch"] = batch
        graph_step(notes, name, size, data, batch)
        if compiled and batch == 128:
            start = time.perf_counter()
            loop = Loop(name, size, data, notes.device, compiled=True, **settings)
            loop.step()
            torch.cuda.synchronize()
            first = time.perf_counter() - start
            rate = images_per_second(loop.step, batch)
            notes.add("ladder", network=name, size=size, step=f"compiled, batch {batch}", first_step=first, **rate)


def graph_step(notes, name, size, data, batch):
    """The trainer's own step, eagerly and as a CUDA graph."""
    recipe = Recipe(batch_size=batch, lr=0.01, image_size=None if size == 28 else size, flip=False)
    for graph in (False, True):
        torch.manual_seed(0)
        trainer = Trainer(build(name), recipe, 0, notes.device, graph=graph)
        torch.cuda.reset_peak_memory_stats()
        training = trainer.training(data)
        for _ in range(3):
            next(training)
        torch.cuda.synchronize()
        rates = []
        for _ in range(5):
            start = time.perf_counter()
            next(training)  # twenty steps
            torch.cuda.synchronize()
            rates.append(20 * batch / (time.perf_counter() - start))
        rates.sort()
        title = f"{'CUDA graph' if graph else 'fit'}, batch {batch}"
        bytes_ = torch.cuda.max_memory_allocated()
        notes.add("ladder", network=name, size=size, step=title, images_per_second=rates[2], lowest=rates[0],
                  highest=rates[-1], peak_bytes=bytes_)  # fmt: skip
        training.close()


def train(notes, name, recipe, seed, data, graph=True):
    """A whole training, alone on the card: seconds, test accuracy."""
    torch.manual_seed(seed)
    net = build(name)
    torch.cuda.synchronize()
    start = time.perf_counter()
    run = fit(net, data, recipe, seed, notes.device, graph=graph, name=name)
    wall = time.perf_counter() - start
    test = evaluate(net, data.test, notes.device, recipe)
    notes.add("training", network=name, recipe=str(recipe), epochs=recipe.epochs, seed=seed, seconds=run.seconds,
              graph=graph, wall=wall, test=test.accuracy, precision=run.precision, peak_bytes=run.peak_memory,
              accuracies=[epoch["validation_accuracy"] for epoch in run.epochs])  # fmt: skip


def d2l_loop(notes, data, size, workers=12, steps=150):
    """Steps of d2l's ResNet-18 by d2l's own loop and loader, the first ones included."""
    from itertools import islice

    from peers import d2l, d2l_resnet18
    from torchvision.datasets import FashionMNIST

    root = os.environ.get("D2L_DATA", "/tmp/d2l-data")
    loader = d2l.FashionMNIST(batch_size=128, resize=(size, size))
    loader.num_workers = workers
    loader.train = FashionMNIST(root, train=True, transform=loader.train.transform, download=True)

    class Model(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.net, self.lr = d2l_resnet18(), 0.01

    for number in range(3):
        model = Model()
        model.board.display = False
        trainer = d2l.Trainer(max_epochs=1, num_gpus=1)
        trainer.prepare_model(model)
        trainer.train_dataloader = islice(iter(loader.train_dataloader()), steps)
        trainer.val_dataloader, trainer.num_train_batches = None, steps
        trainer.optim = model.configure_optimizers()
        trainer.epoch = trainer.train_batch_idx = trainer.val_batch_idx = 0
        torch.cuda.synchronize()
        start = time.perf_counter()
        trainer.fit_epoch()
        torch.cuda.synchronize()
        rate = steps * 128 / (time.perf_counter() - start)
        notes.add("d2l", size=size, workers=workers, images_per_second=rate, steps=steps, number=number)


def speeds(notes, data):
    """Images/s of every network of the book, by the eager loop and as a CUDA graph."""
    for name in NETWORKS:
        size = 28 if name in SMALL or name == "resnet18" else 96
        notes.attempt(graph_step, name, size, data, 128)


def profiled(notes, data):
    """Where the time of 20 steps goes, by kernel."""
    trainer = Trainer(build("fast-resnet"), BOOK, 0, notes.device, graph=True)
    training = trainer.training(data)
    for _ in range(5):
        next(training)
    torch.cuda.synchronize()
    with torch.profiler.profile() as profile:
        next(training)
        torch.cuda.synchronize()
    kernels = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)[:25]
    total = sum(event.self_device_time_total for event in profile.key_averages())
    top = [(event.key[:90], event.self_device_time_total, event.count) for event in kernels]
    notes.add("profile", network="fast-resnet", steps=20, microseconds=total, kernels=top)
    training.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=expanded, default=Path("gpu.jsonl"))
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--only", nargs="+", default=["short", "d2l", "source", "speeds", "ladder"])
    options = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    device = d2lnets.pick_device("cuda")
    notes = Notes(options.out, device)
    data = d2lnets.load_fashion_mnist()
    everything = data.without_validation()

    def late():
        return time.monotonic() - notes.start > options.seconds

    if "short" in options.only:
        notes.attempt(train, "fast-resnet", Recipe(epochs=1), 99, everything)  # warms the libraries up
        for seed in range(3):
            notes.attempt(train, "fast-resnet", Recipe(epochs=8), seed, everything)
            muon = Recipe(epochs=8, optimizer="muon", lr=0.01, weight_decay=0.05)
            notes.attempt(train, "fast-resnet", muon, seed, everything)
        notes.attempt(train, "fast-resnet", Recipe(epochs=8), 0, everything, False)
        notes.attempt(profiled, data)
    torch.backends.cudnn.allow_tf32 = True
    if "d2l" in options.only:
        notes.attempt(d2l_loop, data, 96)
        notes.attempt(graph_step, "resnet18", 96, data, 128)
    if "source" in options.only:
        for seed in range(3):
            for name, size in (("resnet18", None), ("googlenet-bn", 96), ("densenet", 96)):
                if not late():
                    recipe = Recipe(epochs=10, image_size=size)
                    notes.attempt(train, name, recipe, seed, everything)
    if "speeds" in options.only:
        notes.attempt(speeds, data)
    if "ladder" in options.only:
        notes.attempt(ladder, "resnet18", 96, data, False)
        notes.attempt(ladder, "fast-resnet", 28, data, True)
    notes.add("end", seconds=time.monotonic() - notes.start, book=str(BOOK))


if __name__ == "__main__":
    main()
