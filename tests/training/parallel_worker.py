"""Trains a little; writes what this process saw and what came out. Started by test_parallel.py, in 1 to 3 processes."""

import json
import os
import sys

import torch

import d2lnets
from d2lnets.data import FashionMNIST, Split
from d2lnets.training.loop import Trainer


def flat(net):
    return torch.cat([weight.detach().flatten() for weight in net.parameters()])


def main(out):
    torch.manual_seed(0)
    numbers = torch.arange(130)  # batches of 64, 64 and 2: the third of three processes gets none of the last
    images = torch.randint(0, 256, (130, 1, 28, 28), dtype=torch.uint8)
    images[:, 0, 0, 0] = numbers
    data = FashionMNIST(Split(images, numbers % 10), Split(images[:31], numbers[:31] % 10), None, None)
    recipe = d2lnets.Recipe(
        epochs=1, batch_size=64, lr=0.01, shift=0, flip=False, normalize=False, mixed_precision=False
    )
    net = d2lnets.fast_resnet((4, 8)).double()
    before = flat(net)
    trainer, seen, updates = Trainer(net, recipe, device="cpu"), [], []

    def note(module, inputs):
        if module.training:
            seen.append((inputs[0][:, 0, 0, 0] * 255).round().int().tolist())
        return inputs[0].double()  # so that rounding hides nothing

    net.register_forward_pre_hook(note)
    trainer.optimizers[0].optimizer.register_step_post_hook(lambda *_: updates.append(flat(net)))
    *_, run = trainer.training(data)
    rank = int(os.environ.get("RANK", "0"))
    with open(f"{out}/{rank}.json", "w", encoding="utf-8") as file:
        json.dump({"seen": seen, "epoch": run.epochs[0], "processes": run.machine["processes"]}, file)
    torch.save({"update": updates[0] - before, "net": net.state_dict()}, f"{out}/{rank}.pt")


if __name__ == "__main__":
    main(sys.argv[1])
