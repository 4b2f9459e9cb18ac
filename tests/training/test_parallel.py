"""Several processes train as one would: the same gradients, every image once, the scores of the whole set."""

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch

import d2lnets
from d2lnets.data import SUBSET

WORKER = str(Path(__file__).with_name("parallel_worker.py"))
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "D2LNETS_DATA": str(SUBSET)}
ACCELERATE = "accelerate.commands.launch --multi_gpu --num_machines 1 --mixed_precision no --dynamo_backend no"
TWO = [*ACCELERATE.split(), "--num_processes", "2"]
THREE = ["torch.distributed.run", "--standalone", "--nproc-per-node", "3"]


def start(*arguments):
    done = subprocess.run(
        [sys.executable, *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="locale",
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    start(WORKER, str(folder))
    return json.loads((folder / "0.json").read_text(encoding="utf-8")), torch.load(folder / "0.pt")


def test_processes_train_as_one(alone, tmp_path):
    """Three, of which the last has no image of the last batch."""
    start("-m", *THREE, WORKER, str(tmp_path))
    records = [json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(3)]
    tensors = [torch.load(tmp_path / f"{rank}.pt") for rank in range(3)]
    record, tensor = alone
    assert all(each["processes"] == 3 for each in records)

    # Every image exactly once, and step by step those of the joint batch.
    for step, batch in enumerate(record["seen"]):
        assert sorted(chain(*(each["seen"][step] for each in records))) == sorted(batch)
    assert sorted(chain(*record["seen"])) == list(range(130))

    # The first step's gradients are those of the joint batch (an update is -lr times 1.9 of the gradient).
    for each in tensors:
        assert (each["update"] - tensor["update"]).norm() < 1e-10 * tensor["update"].norm()
        for name, value in each["net"].items():  # weights and batch norm's statistics after the epoch
            assert torch.allclose(value, tensor["net"][name], rtol=1e-8), name
            assert torch.equal(value, tensors[0]["net"][name]), f"{name} differs between processes"

    # Scores are those of the whole set, and the same in every process.
    for each in records:
        for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
            assert each["epoch"][name] == pytest.approx(record["epoch"][name], rel=1e-6)


def test_the_command_scales_out(tmp_path):
    command = ["-m", "d2lnets", "train", "fast-resnet", "--epochs", "1", "--device", "cpu", "--out", str(tmp_path)]
    command += ["--seeds", "0", "1", "--image-size", "16"]
    printed = start("-m", *TWO, *command)
    run = d2lnets.Run.load(tmp_path / "fast-resnet-epochs1-image_size16-seed0.json")
    assert run.machine["processes"] == 2 and run.test["accuracy"] > 0.2
    assert printed.count("test accuracy") == 2  # one process speaks, once for each seed
