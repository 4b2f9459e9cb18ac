"""Record the degradation experiment: four networks, three seeds, about ten CPU-minutes on one thread.

Writes d2lnets/training/degradation.json after every run; stopped, it goes on with the runs that are missing.
"""

import itertools
import json
from dataclasses import asdict

import torch
from tqdm import tqdm

import d2lnets
from d2lnets.files import write
from d2lnets.training import degradation
from d2lnets.training.runs import machine, versions

EXAMPLES, SEEDS = 6_000, (0, 1, 2)


def main():
    torch.set_num_threads(1)  # the numbers depend on how many there are
    setting = {
        "recipe": asdict(degradation.RECIPE),
        "examples": EXAMPLES,
        "machine": machine(torch.device("cpu")),
        "versions": versions(),
    }
    record = degradation.load() if degradation.RECORDED.is_file() else {**setting, "runs": []}
    changed = [key for key in setting if record[key] != setting[key]]
    if changed:
        raise SystemExit(f"{degradation.RECORDED} has runs with another {', '.join(changed)}: move it away first")
    data = degradation.halved(d2lnets.load_fashion_mnist(), EXAMPLES)
    done = {(run["network"], run["seed"]) for run in record["runs"]}
    for seed, network in tqdm(list(itertools.product(SEEDS, degradation.NAMES)), unit="run"):
        if (network, seed) not in done:
            record["runs"].append(degradation.measure(network, data, seed, device="cpu"))
            write(degradation.RECORDED, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
