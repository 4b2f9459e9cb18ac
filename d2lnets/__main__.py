"""The command line: ``python -m d2lnets --help``."""

import argparse
import inspect
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from io import TextIOWrapper
from pathlib import Path

import torch
from safetensors import SafetensorError
from tabulate import tabulate
from tqdm import tqdm

from d2lnets import __version__
from d2lnets.data import DataError, load_fashion_mnist
from d2lnets.export import export
from d2lnets.files import CheckpointError, expanded
from d2lnets.networks import NETWORKS, SMALL, build, load_trained
from d2lnets.tracing import trace_shapes
from d2lnets.training import parallel
from d2lnets.training.bench import convolution_peak, training_speed
from d2lnets.training.loop import DivergedError, Interrupted, evaluate, fit, pick_device
from d2lnets.training.recipe import CHOICES, RECIPES, Recipe
from d2lnets.training.runs import COMPARED, compare, load_all, machine

EXAMPLES = {
    "train": """
  python -m d2lnets train resnet18-small --epochs 3
  python -m d2lnets train resnet20 plain20 --seeds 0 1 2 --out my-runs
  python -m d2lnets train resnet20 plain20 --seeds 0 1 2 --out my-runs --resume
  python -m d2lnets train resnet18 --recipe d2l --seed 0
  accelerate launch -m d2lnets train resnet18 --batch-size 512 --lr 0.4""",
    "runs": """
  python -m d2lnets runs
  python -m d2lnets runs resnet20 plain20 --plot curves.png
  python -m d2lnets runs --from my-runs""",
    "trace": """
  python -m d2lnets trace googlenet
  python -m d2lnets trace densenet --image-size 224""",
    "export": """
  python -m d2lnets export resnet20 plain20
  python -m d2lnets export resnet20 --weights my-runs/resnet20-seed0.safetensors --out models""",
    "bench": """
  python -m d2lnets bench fast-resnet resnet18-small
  python -m d2lnets bench resnet18 --image-size 96 --batch-size 64""",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m d2lnets", description="Train, compare and look into the networks of the book."
    )
    parser.add_argument("--version", action="version", version=f"d2lnets {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _add_train(_command(commands, _train, "train networks on Fashion-MNIST, and write a JSON file for each seed"))
    runs = _command(commands, _runs, "list recorded runs, compare networks, plot their curves")
    runs.add_argument("networks", nargs="*", metavar="NAME", help="only these; by default all that have runs")
    source = "folder of JSON files, or a .jsonl file; by default the compared networks that ship with the package"
    runs.add_argument("--from", dest="path", metavar="PATH", type=expanded, default=COMPARED, help=source)
    runs.add_argument("--plot", type=expanded, metavar="FILE", help="draw the validation curves, as PNG, PDF or SVG")
    trace = _command(commands, _trace, "a network's shapes, parameters and multiply-adds by stage")
    trace.add_argument("network", metavar="NAME", help=", ".join(NETWORKS))
    trace.add_argument("--image-size", type=int, help="height and width; by default 28, or 96 for the source's own")
    export = _command(commands, _export, "write trained networks as ONNX files, with switches that take blocks out")
    export.add_argument("networks", nargs="+", metavar="NAME", help=", ".join(SMALL))
    export.add_argument("--weights", type=expanded, metavar="FILE", help="a checkpoint; by default the package's own")
    export.add_argument("--out", type=expanded, default=Path(), help="folder for what is written (default: this one)")
    bench = _command(commands, _bench, "images/s of training on this machine, and how near its peak that is")
    bench.add_argument("networks", nargs="+", metavar="NAME", help=", ".join(NETWORKS))
    bench.add_argument("--image-size", type=int, default=28, help="(default: 28)")
    bench.add_argument("--batch-size", type=int, default=128, help="(default: 128)")
    bench.add_argument("--device", help="for example cpu or cuda; by default the best there is")
    options = parser.parse_args(arguments)
    try:
        options.work(options)
    except (CheckpointError, DataError, DivergedError, MemoryError, OSError, ImportError, ValueError) as error:
        sys.exit(f"d2lnets: {error}")
    except Interrupted as stop:
        sys.exit(_interrupted(options, str(stop)))
    except KeyboardInterrupt:
        sys.exit(_interrupted(options, "stopped"))


def _interrupted(options, what):
    advice = ""
    if options.command == "train":
        advice = " Go on with the same command and --resume" + " instead of --overwrite" * options.overwrite + "."
    print(f"\nd2lnets: {what}.{advice}", file=sys.stderr)
    return 130


def _command(commands, work, purpose):
    name = work.__name__.removeprefix("_")
    command = commands.add_parser(
        name,
        help=purpose,
        description=purpose[0].upper() + purpose[1:] + ".",
        epilog=f"examples:{EXAMPLES[name]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(work=work)
    return command


def _add_train(train):
    train.add_argument("networks", nargs="+", metavar="NAME", help=", ".join(NETWORKS))
    train.add_argument("--recipe", choices=RECIPES, default="book", help="which the settings below depart from")
    train.add_argument("--seed", "--seeds", dest="seeds", type=int, nargs="+", default=[0], help="one run for each")
    train.add_argument("--out", type=expanded, default=Path("runs"), help="folder for what is written (default: runs)")
    there = train.add_mutually_exclusive_group()
    there.add_argument("--resume", action="store_true", help="go on with runs that were begun; keep finished ones")
    there.add_argument("--overwrite", action="store_true", help="begin anew, and replace what is there")
    train.add_argument("--device", help="for example cpu or cuda; by default the best there is")
    train.add_argument("--compile", action="store_true", help="with torch.compile, which pays in long trainings")
    settings = train.add_argument_group("settings of the recipe")
    meanings = dict(re.findall(r"^ {4}(\w+): (.+?)(?=\n {4}\w|\Z)", inspect.getdoc(Recipe), re.M | re.S))
    for field in fields(Recipe):
        meaning = " ".join(meanings[field.name].replace("`", "").split()).replace("%", "%%")
        kind = {"action": argparse.BooleanOptionalAction} if field.type is bool else {"type": _type_of(field)}
        if field.name in CHOICES:
            kind = {"choices": CHOICES[field.name]}
        settings.add_argument(
            f"--{field.name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            help=f"{meaning.rstrip('.')} (book: {field.default}; d2l: {getattr(RECIPES['d2l'], field.name)})",
            **kind,
        )


def _type_of(field):
    if field.type in (int, float):
        return field.type
    number = int if field.type == int | None else float

    def number_or_none(text):
        return None if text.lower() == "none" else number(text)

    number_or_none.__name__ = f"{number.__name__} or none"  # argparse shows it
    return number_or_none


def _train(options):
    """Refuse before any work what would fail after it; then train."""
    given = {field.name: vars(options)[field.name] for field in fields(Recipe) if field.name in options}
    recipe = replace(RECIPES[options.recipe], **given)
    device = _device(options.device)
    size = recipe.image_size or 28
    for network in options.networks:
        trace_shapes(build(network), (1, size, size))  # refuses images that are too small
    for given, what in ((options.networks, "NAME"), (options.seeds, "--seeds")):
        twice = [str(each) for each, count in Counter(given).items() if count > 1]
        if twice:
            raise ValueError(f"{what} has {', '.join(twice)} twice")
    for seed in options.seeds:
        if not 0 <= seed < 2**63:
            raise ValueError(f"--seeds must be whole numbers from 0 to 2^63 - 1, got {seed}")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=options.out).close()
    except OSError as error:
        raise ValueError(f"--out: cannot write to the folder {options.out} ({error.strerror})") from error
    stem = "-".join(["{}", *str(recipe).replace("=", "").removeprefix("book").split(), "seed{}"])
    jobs = [
        (network, seed, *(options.out / f"{stem.format(network, seed)}.{kind}" for kind in ("json", "safetensors")))
        for network in options.networks
        for seed in options.seeds
    ]
    there = [str(path) for *_, record, checkpoint in jobs for path in (record, checkpoint) if path.exists()]
    if there and not (options.overwrite or options.resume):
        raise ValueError(f"{', '.join(there)}: there already; --resume goes on, --overwrite begins anew")
    data = load_fashion_mnist()
    if recipe.score_test:
        data = data.without_validation()
    for network, seed, record, checkpoint in jobs:
        if options.resume and record.exists():
            _say(f"{record} is finished")
            continue
        if options.overwrite and parallel.is_first():
            record.unlink(missing_ok=True)
            checkpoint.unlink(missing_ok=True)
        torch.manual_seed(seed)
        net = build(network)
        run = fit(net, data, recipe, seed, device, checkpoint, options.resume, compile=options.compile, name=network)
        run.test = evaluate(net, data.test, device, recipe)._asdict()
        if parallel.is_first():
            run.save(record)
        _say(f"{record}\n{run}\ntest accuracy {run.test['accuracy']:.4f} after {run.seconds:,.0f} s\n")


def _device(name):
    """The device of that name, which is there."""
    try:
        device = pick_device(name)
        torch.zeros(1, device=device).item()  # fails where there is none, or one without numbers
        return device
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # PyTorch raises all three
        reason = re.split("[.\n]", str(error))[0]
        raise ValueError(f"--device {name}: {reason}") from error


def _say(text):
    if parallel.is_first():
        print(text, flush=True)


def _runs(options):
    runs = load_all(options.path)
    known = {run.network for run in runs}
    for network in options.networks:
        if network not in known:
            raise ValueError(f"no runs of {network!r}; there are runs of {', '.join(sorted(known)) or 'no network'}")
    runs = [run for run in runs if run.network in (options.networks or known)]
    print(compare(runs))
    if options.plot:
        from d2lnets import plots

        plots.compare_runs(runs, options.plot)
        print(options.plot)


def _trace(options):
    net = build(options.network)
    size = (28 if options.network in SMALL else 96) if options.image_size is None else options.image_size
    print(trace_shapes(net, (1, size, size)))


def _export(options):
    if options.weights and len(options.networks) > 1:
        raise ValueError(f"--weights has those of one network, and {len(options.networks)} are named")
    try:
        nets = {name: load_trained(name, options.weights) for name in options.networks}
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"--weights {options.weights} does not have weights of {options.networks[0]}") from error
    options.out.mkdir(parents=True, exist_ok=True)
    for name, net in tqdm(nets.items(), unit="network", leave=False):
        path = options.out / f"{name}.onnx"
        export(net, path)
        print(path)


def _bench(options):
    recipe = replace(Recipe(), image_size=options.image_size, batch_size=options.batch_size)
    device = _device(options.device)
    nets = {name: build(name) for name in options.networks}
    peak = convolution_peak(device)
    rows = []
    for name, net in tqdm(nets.items(), unit="network", leave=False):
        images, operations = training_speed(net, recipe, device)
        rows.append([name, round(images), operations / 1e9, operations / peak])
    where = machine(device)
    print(f"{where['processor']}, {where['threads']} threads, convolutions at best {peak / 1e9:,.0f} GFLOP/s")
    print(tabulate(rows, ["network", "images/s", "GFLOP/s", "of the best"], floatfmt=("", "", ",.0f", ".0%")))


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # where the locale lacks a character
    main()
