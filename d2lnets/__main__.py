"""The command line: ``python -m d2lnets train resnet18 --seeds 0 1 2``."""

import argparse
from dataclasses import asdict, fields
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
    options = vars(parser.parse_args(arguments))
    try:
        recipe = d2lnets.Recipe(**{name: options[name] for name in asdict(d2lnets.Recipe())})
    except ValueError as error:
        parser.error(str(error))

    data = d2lnets.load_fashion_mnist()
    for seed in options["seeds"]:
        torch.manual_seed(seed)
        net = NETWORKS[options["network"]]()
        run = d2lnets.fit(net, data, recipe, seed=seed, device=options["device"])
        run.network = options["network"]
        run.test = d2lnets.evaluate(net, data.test, options["device"])._asdict()
        path = options["out"] / f"{run.network}-seed{seed}.json"
        run.save(path)
        print(f"{path}\n{run}\ntest accuracy {run.test['accuracy']:.4f} after {run.seconds:,.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
