"""The command line: ``python -m d2lnets train resnet18 --seeds 0 1 2``."""

import argparse
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import torch

import d2lnets

NETWORKS = {"resnet18": d2lnets.resnet18}


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m d2lnets", description="Networks of the book, on Fashion-MNIST.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser(
        "train",
        help="train a network on all training images and write a JSON file for each seed",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train.add_argument("network", choices=sorted(NETWORKS))
    train.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run for each")
    train.add_argument("--out", type=Path, default=Path("runs"), help="folder for the JSON files")
    train.add_argument("--device", help="for example cpu or cuda; by default the best there is")
    for field in fields(d2lnets.Recipe):
        if field.type is not bool:
            train.add_argument("--" + field.name.replace("_", "-"), type=field.type, default=field.default, help=" ")
    train.add_argument("--no-augment", dest="augment", action="store_false", help="neither shift nor mirror images")
    train.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    options = parser.parse_args(arguments)
    recipe, paths = _check(options, parser)
    try:
        data = d2lnets.load_fashion_mnist()
        for seed, path in paths.items():
            torch.manual_seed(seed)
            net = NETWORKS[options.network]()
            run = d2lnets.fit(net, data, recipe, seed=seed, device=options.device)
            run.network = options.network
            run.test = d2lnets.evaluate(net, data.test, options.device)._asdict()
            run.save(path)
            print(f"{path}\n{run}\ntest accuracy {run.test['accuracy']:.4f} after {run.seconds:,.0f} s\n", flush=True)
    except (d2lnets.DataError, d2lnets.DivergedError) as error:
        sys.exit(f"d2lnets: {error}")


def _check(options, parser):
    """Refuse before any work what would fail after it; the recipe, and the file for each seed."""
    try:
        recipe = d2lnets.Recipe(**{field.name: getattr(options, field.name) for field in fields(d2lnets.Recipe)})
        torch.empty(0, device=options.device)
        options.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=options.out).close()
    except (ValueError, RuntimeError, AssertionError, OSError) as error:
        parser.error(str(error))
    paths = {seed: options.out / f"{options.network}-seed{seed}.json" for seed in options.seeds}
    if len(paths) < len(options.seeds) or not all(0 <= seed < 2**63 for seed in paths):
        parser.error(f"--seeds must be different whole numbers from 0 to 2^63 - 1, got {options.seeds}")
    existing = [str(path) for path in paths.values() if path.exists()]
    if existing and not options.overwrite:
        parser.error(f"{', '.join(existing)}: there already; use another --out or --overwrite")
    return recipe, paths


if __name__ == "__main__":
    main()
