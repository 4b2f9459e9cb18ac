"""Speed and memory beside d2l and torchvision, in one run on one machine: ``make bench``.

The contestants of a group take turns, so that a change of the machine's mood hits all of them. Prints medians
with their range, and writes d2lnets/training/benchmark.json, which the book shows.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean, median

import torch
from peers import d2l, d2l_resnet18, torchvision_net
from torch.nn import functional as F
from tqdm import tqdm

import d2lnets
from d2lnets.data import batches, seeded
from d2lnets.densenet import DENSENET121_BLOCKS
from d2lnets.files import expanded
from d2lnets.training.bench import BENCHMARKED, Benchmark, convolution_peak, peak_of_tensors, stepper, time_by_operation
from d2lnets.training.loop import pick_device
from d2lnets.training.recipe import BOOK, D2L
from d2lnets.training.runs import load_experiment, machine, versions

TARGETS = (0.90, 0.92, 0.93, 0.94)
PEERS = ("d2l", "d2l's loop", "torchvision")
FAST = "fast-resnet, 28×28"
MUON = {"optimizer": "muon", "lr": 0.01, "weight_decay": 0.05}  # as `tools/record.py` has recorded it


def contest(title, contestants, rounds):
    """Let the contestants take turns, `rounds` times after one to warm up, each in a process of its own.

    Args:
        contestants: for each name a function and its arguments; it returns what to time, and how many images that
            works on.

    Returns:
        For each name images a second (median, lowest, highest), and seconds of computing an image (median),
        those of worker processes included.
    """
    times = {name: [] for name in contestants}
    context = multiprocessing.get_context("spawn")
    doors = {}
    for name, (make, *arguments) in contestants.items():
        doors[name], door = context.Pipe()
        context.Process(target=_contestant, args=(door, make, arguments)).start()
    for turn in tqdm(range(rounds + 1), desc=title, unit="round", leave=False, disable=None):
        for name, door in doors.items():
            door.send("go")
            answer = door.recv()
            if isinstance(answer, Exception):
                for each in doors.values():
                    each.send("stop")
                raise RuntimeError(f"{title}: {name} failed") from answer
            if turn:
                times[name].append(answer)
    results = {}
    for name, pairs in times.items():
        doors[name].send("stop")
        clock, computing = zip(*pairs)
        results[name] = {
            "images_per_second": 1 / median(clock),
            "lowest": 1 / max(clock),
            "highest": 1 / min(clock),
            "cpu_seconds_per_image": median(computing),
        }
    return results


def _contestant(door, make, arguments):
    work = images = None
    while door.recv() == "go":
        try:
            if work is None:
                work, images = make(*arguments)
            start, cpu = time.perf_counter(), cpu_seconds()
            work()
            door.send(((time.perf_counter() - start) / images, (cpu_seconds() - cpu) / images))
        except Exception as error:  # the others wait for this one
            door.send(error)


def cpu_seconds():
    """Of this process and of those that it started and that ended."""
    return time.process_time() + sum(os.times()[2:4])


def our_delivery(size):
    """Batches of 128 prepared images from the whole training set, in random order."""
    data = d2lnets.load_fashion_mnist()
    recipe = replace(BOOK, image_size=None if size == 28 else size)

    def work():
        for _ in batches(data.train, 128, seeded(0), recipe.prepare):
            pass

    return work, len(data.train)


def d2l_delivery(size, workers):
    """The same from d2l's loader."""
    data = d2l.FashionMNIST(batch_size=128, resize=(size, size))
    data.num_workers = workers

    def work():
        for _ in data.train_dataloader():
            pass

    return work, 60_000


def our_steps(make, size, batch_size, mixed_precision=True, **part):
    """A step of the book's recipe, from uint8 images: indexing, mirroring, enlarging and normalising included."""
    part = {"lr": 0.01, "batch_size": batch_size, "mixed_precision": mixed_precision} | part
    return stepper(make(), replace(BOOK, image_size=None if size == 28 else size, **part)), batch_size


def d2l_steps(make, size, batch_size):
    """Two steps of d2l's own loop, on a batch that is ready in memory and without plots, which flatters it."""

    class Model(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.net, self.lr = make(), 0.01

    model = Model()
    model.board.display = False
    trainer = d2l.Trainer(max_epochs=1)
    trainer.prepare_model(model)
    trainer.train_dataloader = [(torch.rand(batch_size, 1, size, size), torch.randint(0, 10, (batch_size,)))] * 2
    trainer.val_dataloader, trainer.num_train_batches, trainer.train_batch_idx = None, 2, 0
    trainer.optim = model.configure_optimizers()
    return trainer.fit_epoch, 2 * batch_size


def plain_steps(make, size, batch_size):
    """A step of the plain PyTorch loop, on a batch that is ready in memory."""
    net = make().train()
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9, weight_decay=5e-4, nesterov=True)
    images, labels = torch.rand(batch_size, 1, size, size), torch.randint(0, 10, (batch_size,))

    def work():
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()

    return work, batch_size


densenet121 = partial(d2lnets.densenet, blocks=DENSENET121_BLOCKS, bottleneck=True)


def steps(rounds):
    """Training steps; d2l trains the source's networks, the plain loop torchvision's."""
    tv = partial(partial, torchvision_net)
    groups = {
        "ResNet-18, 96×96": {
            "d2lnets": (our_steps, d2lnets.resnet18, 96, 128),
            "d2lnets, float32": (our_steps, d2lnets.resnet18, 96, 128, False),
            "d2l": (d2l_steps, d2l_resnet18, 96, 128),
            "torchvision": (plain_steps, tv("resnet18", "conv1"), 96, 128),
        },
        "the source's DenseNet, 96×96": {
            "d2lnets": (our_steps, d2lnets.densenet, 96, 128),
            "d2lnets, float32": (our_steps, d2lnets.densenet, 96, 128, False),
            "d2l's loop": (d2l_steps, d2lnets.densenet, 96, 128),
        },
        "DenseNet-121, 96×96": {
            "d2lnets": (our_steps, densenet121, 96, 32),
            "d2lnets, float32": (our_steps, densenet121, 96, 32, False),
            "torchvision": (plain_steps, tv("densenet121", "features.conv0"), 96, 32),
        },
        "GoogLeNet with batch norm, 96×96": {
            "d2lnets": (our_steps, partial(d2lnets.googlenet, batch_norm=True), 96, 64),
            "d2lnets, float32": (our_steps, partial(d2lnets.googlenet, batch_norm=True), 96, 64, False),
            "torchvision": (plain_steps, tv("googlenet", "conv1.conv", aux_logits=False, init_weights=False), 96, 64),
        },
        "ResNet-18, 28×28": {
            "d2lnets": (our_steps, d2lnets.resnet18, 28, 128),
            "d2lnets, float32": (our_steps, d2lnets.resnet18, 28, 128, False),
            "d2lnets, small form": (our_steps, partial(d2lnets.resnet18, small=True), 28, 128),
            "d2l": (d2l_steps, d2l_resnet18, 28, 128),
            "torchvision": (plain_steps, tv("resnet18", "conv1"), 28, 128),
        },
        FAST: {
            "d2lnets": (our_steps, d2lnets.fast_resnet, 28, 128),
            "d2lnets, float32": (our_steps, d2lnets.fast_resnet, 28, 128, False),
            "d2lnets, Muon": (partial(our_steps, **MUON), d2lnets.fast_resnet, 28, 128),
            "d2lnets, Muon, float32": (partial(our_steps, **MUON), d2lnets.fast_resnet, 28, 128, False),
        },
    }
    turns = {title: rounds if title.endswith("96×96") else 4 * rounds for title in groups}  # short steps vary more
    return {title: contest(title, contestants, turns[title]) for title, contestants in groups.items()}


def peaks():
    """Operations a second of this machine's fastest convolution, in mixed precision or not."""
    return {mixed: max(convolution_peak(mixed_precision=mixed) for _ in range(3)) for mixed in (True, False)}


def peak_fractions(results, best):
    """Operations a second of our steps over those of this machine's fastest convolution, in the same precision.

    Operations are counted as if all convolutions were computed directly. And the part of our steps in float32 that is
    spent in the library that computes all convolutions of d2l and torchvision.
    """
    nets = {
        "ResNet-18, 96×96": d2lnets.resnet18,
        "the source's DenseNet, 96×96": d2lnets.densenet,
        FAST: d2lnets.fast_resnet,
    }
    rows = {"peak_gflops": {"mixed precision": best[True] / 1e9, "float32": best[False] / 1e9}, "fraction": {}}
    rows["in_convolutions"] = {}
    for title, make in nets.items():
        size = int(title.split("×")[1])
        operations = 6 * d2lnets.trace_shapes(make(), (1, size, size)).multiply_adds
        for name, result in results[title].items():
            if "Muon" not in name:  # which computes more than the network
                peak = best[name == "d2lnets"]
                rows["fraction"][f"{title}: {name}"] = result["images_per_second"] * operations / peak
        step, _ = our_steps(make, size, 128, False)
        step()
        times = time_by_operation(step)
        inside = sum(time for name, time in times.items() if "conv" in name)
        rows["in_convolutions"][title] = inside / sum(times.values())
    return rows


def densenet_memory(rounds):
    """Most bytes of tensors alive at once in a step of 16 images, 96×96, plain and checkpointed, and the times."""
    results = {}
    for title, make in (("the source's DenseNet", d2lnets.densenet), ("DenseNet-121", densenet121)):
        pair = {name: partial(make, checkpoint=name == "checkpointed") for name in ("plain", "checkpointed")}
        speed = contest(title, {name: (plain_steps, net, 96, 16) for name, net in pair.items()}, rounds)
        results[title] = {
            name: {
                "peak_bytes": peak_of_tensors(partial(forward_and_back, net())),
                "seconds": 16 / speed[name]["images_per_second"],
            }
            for name, net in pair.items()
        }
    return results


def forward_and_back(net):
    net(torch.rand(16, 1, 96, 96)).sum().backward()


def start_up(rounds):
    """Seconds from the start of Python: to a package imported, the data loaded, the first batch."""
    programs = {
        "import torch": "import torch",
        "import d2lnets": "import d2lnets",
        "import d2l": "from d2l import torch",
        "... and the data": "import d2lnets; d2lnets.load_fashion_mnist()",
        "... and a batch": "import d2lnets; next(d2lnets.batches(d2lnets.load_fashion_mnist().train, 128))",
    }
    times = {name: [] for name in programs}
    for _ in tqdm(range(rounds), desc="start", unit="round", leave=False, disable=None):
        for name, program in programs.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
            times[name].append(time.perf_counter() - start)
    return {name: {"median": median(each), "range": [min(each), max(each)]} for name, each in times.items()}


def delivery(size, rounds):
    contestants = {"d2lnets": (our_delivery, size)}
    contestants |= {f"d2l, {workers} workers": (d2l_delivery, size, workers) for workers in (4, 0)}
    return contest(f"delivery, {size}×{size}", contestants, rounds)


def where_d2l_looks(data, folder):
    """Write the images where d2l's loader expects a download; the folder to work in."""
    raw = folder / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, split in (("train", data.train), ("t10k", data.test)):
        count = len(split).to_bytes(4, "big")
        images = b"\0\0\x08\x03" + count + 2 * (28).to_bytes(4, "big") + split.images.numpy().tobytes()
        (raw / f"{name}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + count + bytes(split.labels.tolist()))
    (folder / "work").mkdir()
    return folder / "work"


def time_to_accuracy(results):
    """Seconds of computing to a test accuracy: recorded epochs, at what an image costs in this run.

    d2l's recipe may stop after any epoch, as its rate is constant; where it never got there, the seconds are those of
    all its epochs, and a lower bound. Ours has recorded runs for several budgets; the mean over a budget's runs, three
    or more, must reach the accuracy.
    """
    d2l_an_image = (
        results["ResNet-18, 96×96"]["d2l"]["cpu_seconds_per_image"]
        + results["delivery, 96×96"]["d2l, 0 workers"]["cpu_seconds_per_image"]
    )
    ways = {BOOK: "d2lnets", replace(BOOK, **MUON): "d2lnets, Muon"}  # whose steps were timed
    (slow,) = load_experiment("earlier")["resnet18", replace(D2L, epochs=14)]
    budgets = {}
    for (network, recipe), runs in load_experiment("recipe", "budgets", "sooner").items():
        way = ways.get(replace(recipe, epochs=BOOK.epochs))
        if network == "fast-resnet" and way:
            for run in runs:
                budgets.setdefault((way, recipe.epochs, run.examples), []).append(run.test["accuracy"])

    def seconds(budget, precision=""):
        way, epochs, examples = budget
        return epochs * examples * results[FAST][way + precision]["cpu_seconds_per_image"]

    rows = {}
    for target in TARGETS:
        reached = [i for i, epoch in enumerate(slow.epochs, 1) if epoch["validation_accuracy"] >= target]
        theirs = min(reached, default=len(slow.epochs))
        enough = [budget for budget, tests in budgets.items() if len(tests) >= 3 and mean(tests) >= target]
        rows[f"{target:.0%}"] = row = {
            "d2l_reached": bool(reached),
            "d2l_epochs": theirs,
            "d2l_cpu_seconds": theirs * 60_000 * d2l_an_image,
        }
        if enough:
            ours = min(enough, key=seconds)
            row |= {
                "d2lnets_optimizer": "Muon" if "Muon" in ours[0] else "SGD",
                "d2lnets_epochs": ours[1],
                "d2lnets_examples": ours[2],
                "d2lnets_test": mean(budgets[ours]),
                "d2lnets_seeds": len(budgets[ours]),
                "d2lnets_cpu_seconds": seconds(ours),
                "d2lnets_cpu_seconds_float32": seconds(ours, ", float32"),
            }
    return rows


def show(path):
    benchmark = Benchmark(path)
    for title, group in benchmark.results.items():
        if (
            isinstance(group, dict)
            and group
            and all(isinstance(row, dict) and "lowest" in row for row in group.values())
        ):
            print(benchmark.speed(title), end="\n\n")
    for table in (benchmark.peak, benchmark.memory, benchmark.start, benchmark.accuracy, benchmark.bars):
        print(table(), end="\n\n")


def bars(results):
    """What was promised, and the ratios of this run: with 16-bit matrix units, and in float32, as without them."""

    def theirs(title):
        return [each["images_per_second"] for name, each in results[title].items() if name.split(",")[0] in PEERS]

    def lead(title, ours="d2lnets"):
        return results[title][ours]["images_per_second"] / max(theirs(title))

    def memory(title):
        pair = results["memory"][title]
        return pair["checkpointed"]["peak_bytes"] / pair["plain"]["peak_bytes"]

    def effort(target, precision=""):
        row = results["accuracy"][target]
        return row["d2l_cpu_seconds"] / row[f"d2lnets_cpu_seconds{precision}"]

    def efforts(target, least):
        bound = "" if results["accuracy"][target]["d2l_reached"] else " (more than)"
        what = f"CPU-seconds to {target[:-1]} %, d2l's recipe over ours{bound}"
        return [[what, effort(target), "at least", least],
                [f"{what}, float32", effort(target, "_float32"), "at least", least]]  # fmt: skip

    steps = [title for title in results if title.endswith(("×96", "×28")) and not title.startswith("delivery")]
    steps = [title for title in steps if theirs(title)]
    dense = "the source's DenseNet, 96×96"
    last = results["accuracy"]["94%"]
    rows = [
        *efforts("90%", 100),
        *efforts("92%", 80),
        ["CPU-seconds to 94 %, the mean of the runs", last["d2lnets_cpu_seconds"], "at most", 600],
        ["CPU-seconds to 94 %, float32", last["d2lnets_cpu_seconds_float32"], "at most", 600],
        ["delivery at 28×28, over d2l's fastest", lead("delivery, 28×28"), "at least", 30],
        ["delivery at 96×96, over d2l's fastest", lead("delivery, 96×96"), "at least", 5],
        ["step of ResNet-18 at 96×96, over the fastest other", lead("ResNet-18, 96×96"), "at least", 1.3],
        ["step of the source's DenseNet at 96×96, over d2l's loop", lead(dense), "at least", 1.8],
        ["the same in float32", lead(dense, "d2lnets, float32"), "at least", 1.3],
        ["least lead of a training step", min(map(lead, steps)), "at least", 1],
        ["least lead in float32", min(lead(title, "d2lnets, float32") for title in steps), "at least", 1],
        ["peak of a checkpointed step, source's DenseNet", memory("the source's DenseNet"), "at most", 0.66],
        ["peak of a checkpointed step, DenseNet-121", memory("DenseNet-121"), "at most", 0.35],
    ]
    return [dict(zip(("what", "value", "is", "bound"), row)) for row in rows]


def measure(rounds):
    """All that is measured; what the recorded runs make of it comes later."""
    data = d2lnets.load_fashion_mnist(validation=0)
    if len(data.train) < 60_000:
        sys.exit("benchmarks: the whole Fashion-MNIST is needed; apt-get install dataset-fashion-mnist")
    results = {"memory": densenet_memory(rounds), "start": start_up(rounds)}
    before = peaks()
    results |= steps(rounds)
    after = peaks()  # other programs may have slowed either
    results["peak"] = peak_fractions(results, {mixed: max(before[mixed], after[mixed]) for mixed in before})
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(where_d2l_looks(data, Path(folder))):
        results |= {f"delivery, {size}×{size}": delivery(size, min(rounds, 3)) for size in (28, 96)}
    return results | {"machine": machine(pick_device()), "versions": versions(), "rounds": rounds}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant (default: 5)")
    parser.add_argument("--out", type=expanded, default=BENCHMARKED)
    parser.add_argument(
        "--recorded", action="store_true", help="measure nothing, only count anew what the recorded runs decide"
    )
    options = parser.parse_args()
    results = json.loads(options.out.read_text(encoding="utf-8")) if options.recorded else measure(options.rounds)
    results["accuracy"] = time_to_accuracy(results)
    results["bars"] = bars(results)
    options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    show(options.out)
    print(options.out)


if __name__ == "__main__":
    main()
