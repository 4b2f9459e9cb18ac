"""How fast this machine trains, how near that is to the fastest it can, and what was measured beside others."""

import json
import math
import os
import time
from collections.abc import Callable
from functools import partial
from itertools import accumulate, zip_longest
from pathlib import Path
from statistics import mean, median, stdev
from typing import NamedTuple

import torch
from torch import nn

from d2lnets.data import Split, seeded
from d2lnets.files import expanded
from d2lnets.tracing import trace_shapes
from d2lnets.training.loop import Trainer, pick_device, precision
from d2lnets.training.recipe import BOOK, Recipe
from d2lnets.training.runs import Table

#: What ``make gpu`` measured on a GPU.
MEASURED = Path(__file__).with_name("gpu.jsonl")
#: The same program on a CPU, until a GPU has run it.
MEASURED_ON_CPU = Path(__file__).with_name("cpu.jsonl")
#: What ``make bench`` measured.
BENCHMARKED = Path(__file__).with_name("benchmark.json")


def seconds(work: Callable[[], object], device: torch.device, repeats: int = 5) -> tuple[list[float], list[float]]:
    """Seconds by the clock and seconds of computing that ``work()`` takes: two lists, after one call to warm up."""
    wait = torch.accelerator.synchronize if device.type != "cpu" else lambda: None
    work()
    clock, cpu = [], []
    for _ in range(repeats):
        wait()
        start, cpu_start = time.perf_counter(), time.process_time()
        work()
        wait()
        clock.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    return clock, cpu


def random_images(examples: int, device: torch.device | str = "cpu") -> Split:
    """A `Split` of noise, 28x28: speed does not depend on what is on the images."""
    generator = seeded(0)
    images = torch.randint(0, 256, (examples, 1, 28, 28), dtype=torch.uint8, generator=generator)
    return Split(images, torch.randint(0, 10, (examples,), generator=generator)).to(device)


def stepper(
    net: nn.Module, recipe: Recipe = BOOK, device: torch.device | str | None = None
) -> Callable[[], torch.Tensor]:
    """A function without arguments that trains `net` for one step of `recipe`, data included."""
    trainer = Trainer(net, recipe, device=device)
    split = random_images(recipe.batch_size, trainer.device)
    batch, draws = torch.arange(recipe.batch_size, device=trainer.device), seeded(0)
    net.train()
    return lambda: trainer.step(split, batch, recipe.lr, draws)


def convolution_peak(device: torch.device | str | None = None, mixed_precision: bool = True) -> float:
    """Most floating-point operations a second that a 3x3 convolution reaches here, forward and backward together.

    The best of four layers, of channels and maps as ResNet-18 and the small networks have them, in the precision that
    training uses.
    """
    device = pick_device(device)
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(
        precision(device) if mixed_precision else "no", torch.float32
    )
    best = 0.0
    for channels, size in ((32, 28), (64, 14), (64, 24), (128, 12)):
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False, device=device, dtype=kind)
        conv.to(memory_format=torch.channels_last)
        x = torch.randn(128, channels, size, size, device=device, dtype=kind).contiguous(
            memory_format=torch.channels_last
        )
        x.requires_grad_()
        y = conv(x)
        gradient = torch.randn_like(y)
        clock, _ = seconds(partial(_convolve_and_back, conv, x, gradient), device)
        best = max(best, 6 * y.numel() * channels * 9 / min(clock))  # 2 operations a multiply-add, 3 products
    return best


def _convolve_and_back(conv, x, gradient):
    return torch.autograd.grad(conv(x), (x, conv.weight), gradient)


def training_speed(
    net: nn.Module, recipe: Recipe = BOOK, device: torch.device | str | None = None
) -> tuple[float, float]:
    """Images a second that a network trains on, and floating-point operations a second."""
    device = pick_device(device)
    size = recipe.image_size or 28
    work = 6 * trace_shapes(net, (1, size, size)).multiply_adds  # 2 operations, forward, and twice that backward
    clock, _ = seconds(stepper(net, recipe, device), device)
    images = recipe.batch_size / median(clock)
    return images, images * work


def _profile(work, **options):
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler writes to stderr that there is no GPU
    options |= {"activities": [torch.profiler.ProfilerActivity.CPU], "acc_events": True}  # without, torch 2.11 warns
    with torch.profiler.profile(**options) as profile:
        work()
    return profile


def time_by_operation(work: Callable[[], object]) -> dict[str, float]:
    """Microseconds that ``work()`` spends on the CPU in each of PyTorch's operations, without those that it calls."""
    return {event.key: event.self_cpu_time_total for event in _profile(work).key_averages()}


class Span(NamedTuple):
    """One operation of a trace: its name, where it begins and ends, in ms, and how many others it lies in."""

    name: str
    start: float
    end: float
    depth: int


def trace(work: Callable[[], object]) -> list[Span]:
    """What ``work()`` does, in the order in which it begins: operations of PyTorch, and the parts that it names.

    A part is named by ``torch.profiler.record_function``. Times are those of the CPU, and include the profiler's own.
    """

    def depth(event):
        return 0 if event.cpu_parent is None else 1 + depth(event.cpu_parent)

    events = sorted(_profile(work).events(), key=lambda event: (event.time_range.start, -event.time_range.end))
    ranges = [(event.time_range.start / 1e3, event.time_range.end / 1e3) for event in events]
    zero = ranges[0][0]
    return [Span(e.name, start - zero, end - zero, depth(e)) for e, (start, end) in zip(events, ranges)]


def bytes_of_tensors(work: Callable[[], object]) -> tuple[list[float], list[int]]:
    """Milliseconds, and bytes of tensors alive then, while ``work()`` runs, of those made in it, on the CPU."""
    events = _profile(work, profile_memory=True).profiler.kineto_results.events()
    events = sorted((e for e in events if e.name() == "[memory]"), key=lambda event: event.start_ns())
    times = [(event.start_ns() - events[0].start_ns()) / 1e6 for event in events]
    return times, list(accumulate(event.nbytes() for event in events))


def peak_of_tensors(work: Callable[[], object]) -> int:
    """Most bytes of tensors alive at once while ``work()`` runs, of those made in it, on the CPU."""
    return max(bytes_of_tensors(work)[1])


def measured_on_gpu(what: str, path: Path | str = MEASURED) -> list[dict]:
    """What ``benchmarks/gpu.py`` wrote on a GPU, line by line.

    Args:
        what: ``"machine"`` (its name, the date), ``"training"``, ``"speed"`` (of the steps of `fit`), ``"ladder"``
            (speed, memory and accuracy of the steps of the chapter on training), ``"d2l"``, ``"profile"``.
        path: where else it wrote, as ``MEASURED_ON_CPU``, of a trial on a CPU.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["what"] == what]


def ladder(path: Path | str = MEASURED, network: str = "fast-resnet") -> Table:
    """What each step of the chapter on training brings, on top of those before it, by the lines of ``"ladder"``.

    Speeds are medians over the seeds, accuracies means with the standard deviation.
    """
    steps: dict[str, list[dict]] = {}
    for line in measured_on_gpu("ladder", path):
        if line["network"] == network:
            steps.setdefault(line["step"], []).append(line)
    rows: list[list[str | float | None]] = []
    for name, lines in steps.items():
        right = [100 * line["accuracy"] for line in lines]
        score = f"{mean(right):.1f}" + (f" ± {stdev(right):.1f}" if len(right) > 1 else "")
        speed = median(line["images_per_second"] for line in lines)
        rows.append([name, _whole(speed), max(line["peak_bytes"] for line in lines) / 1e6, score])
    return Table(["change", "images/s", "MB of a step", "accuracy, %"], rows, ["", ">", ",.0f", ">"])


class Benchmark:
    """What ``make bench`` measured last, side by side with d2l and torchvision in one run: tables.

    Attributes:
        results: everything, as it is stored.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        path = BENCHMARKED if path is None else expanded(path)
        self.results = json.loads(path.read_text(encoding="utf-8"))

    def speed(self, title: str) -> Table:
        """Images a second of a group's contestants: `delivery, 28×28` and so on; see ``results``.

        The last column is the time of each as a multiple of the fastest's.
        """
        group = self.results[title]
        fastest = max(result["images_per_second"] for result in group.values())
        rows = [
            [
                name,
                _whole(result["images_per_second"]),
                "–".join(_whole(result[end]) for end in ("lowest", "highest")),
                _digits(1000 * result["cpu_seconds_per_image"], 2),
                _digits(fastest / result["images_per_second"], 2),
            ]
            for name, result in group.items()
        ]
        headers = ["program", "images/s", "range", "CPU-ms an image", "time, fastest 1"]
        return Table(headers, rows, ["", ">", ">", ">", ">"])

    def peak(self) -> Table:
        """The part of the fastest convolution's operations a second that training steps reach."""
        rows = [[*name.split(": "), part] for name, part in self.results["peak"]["fraction"].items()]
        return Table(["training step", "by", "of the peak"], rows, ["", "", ".0%"])

    def accuracy(self) -> Table:
        """Seconds of computing to a test accuracy, by d2l's recipe and by the book's.

        A ">" marks d2l's where its run never got there; the last two rows are d2l's seconds over ours.
        """
        rows = ["d2l: epochs", "CPU-seconds", "ours: optimizer", "epochs", "images", "runs", "test accuracy"]
        rows += ["CPU-seconds", "in float32", "d2l / ours", "in float32 too"]
        columns = []
        for row in self.results["accuracy"].values():
            bound, theirs = "" if row["d2l_reached"] else "> ", row["d2l_cpu_seconds"]
            column = [f"{bound}{row['d2l_epochs']}", f"{bound}{theirs:,.0f}"]
            if "d2lnets_epochs" in row:
                counts = (row[f"d2lnets_{each}"] for each in ("epochs", "examples", "seeds"))
                column += [row["d2lnets_optimizer"], *(f"{each:,}" for each in counts)]
                ours = [row[f"d2lnets_cpu_seconds{each}"] for each in ("", "_float32")]
                column += [f"{row['d2lnets_test']:.1%}", *(f"{each:,.0f}" for each in ours)]
                column += [f"{bound}{theirs / each:,.0f}" for each in ours]
            columns.append(column)
        table: list[list[str | float | None]] = [list(row) for row in zip_longest(rows, *columns)]
        return Table(["mark", *self.results["accuracy"]], table, ["", *[">"] * len(columns)])

    def memory(self) -> Table:
        """The most bytes of tensors alive at once in a DenseNet's step, plain and checkpointed, and its seconds."""
        rows = [
            [network, name, result["peak_bytes"] / 1e6, result["seconds"]]
            for network, pair in self.results["memory"].items()
            for name, result in pair.items()
        ]
        return Table(["network", "step", "peak MB", "seconds"], rows, ["", "", ",.0f", ".2f"])

    def start(self) -> Table:
        """Seconds from the start of Python."""
        rows = [[name, row["median"], *row["range"]] for name, row in self.results["start"].items()]
        return Table(["program", "seconds", "lowest", "highest"], rows, ["", ".1f", ".1f", ".1f"])

    def bars(self) -> Table:
        """What was promised, and the ratios of this run."""
        rows = [[bar["what"], _digits(bar["value"]), f"{bar['is']} {bar['bound']:g}"] for bar in self.results["bars"]]
        return Table(["ratio, or accuracy", "here", "promised"], rows, ["", ">", ">"])


def _digits(value, count=3):
    """A positive number with `count` significant digits, and never an exponent."""
    value = float(f"{value:.{count}g}")
    return f"{value:,.{max(0, count - 1 - math.floor(math.log10(value)))}f}"


def _whole(value):
    """A number of images: three significant digits, and no fraction of an image from ten on."""
    return _digits(value, 3 if value >= 100 else 2)
