"""Record the trainings that the book's comparisons rest on: ``python tools/record.py recipe networks ...``.

Stopped, it goes on where it was. A seed is a block: all recipes and networks that are compared get the same seeds,
on one kind of machine, in one precision. On a GPU several trainings go on side by side, each on a stream of its own.
"""

import argparse
import json
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial

import torch
from tqdm import tqdm

import d2lnets
from d2lnets.data import batches
from d2lnets.files import expanded
from d2lnets.later import LATER
from d2lnets.networks import build
from d2lnets.training import degradation, runs, transfer
from d2lnets.training.loop import DivergedError, Trainer, eval_mode, evaluate, pick_device
from d2lnets.training.recipe import BOOK, D2L, Recipe
from d2lnets.training.runs import RECORDED, Run, machine, pack

# For each class the first validation image, and one that two trained networks get wrong.
WATCHED = (0, 242, 22, 332, 26, 267, 15, 190, 7, 36, 4, 258, 3, 18, 8, 1717, 1, 4158, 13, 38)

PARTS = [  # what of the recipe is changed, one thing at a time
    {},
    {"warmup": 0.0},
    *({"lr": lr} for lr in (0.1, 0.4)),
    *({"decay": decay} for decay in ("cosine", "none")),
    {"momentum": 0.0},
    {"momentum": 0.0, "lr": 2.0},  # the same lr / (1 - momentum)
    {"flip": False},
    {"shift": 1},
    {"label_smoothing": 0.0},
    *({"weight_decay": factor} for factor in (0.0, 1e-3)),
    {"decay_all": False},
    {"average": 0.99},
    {"normalize": False},
    *({"batch_size": size, "lr": 0.2 * size / 128} for size in (64, 256, 512, 1024)),
    {"optimizer": "adamw", "lr": 0.008, "weight_decay": 0.05},
    *({"optimizer": "muon", "lr": lr, "weight_decay": 0.05} for lr in (0.01, 0.02)),
    {"mixed_precision": False},
    {"epochs": 8},
    {"epochs": 8, "weight_decay": 0.0},
    {"epochs": 8, "label_smoothing": 0.0},
    {"epochs": 8, "optimizer": "muon", "lr": 0.01, "weight_decay": 0.05},
]

TRIED = [  # the same, with three seeds: enough to choose a value by
    *({"warmup": part} for part in (0.1, 0.5)),
    *({"lr": lr} for lr in (0.05, 0.8)),
    {"momentum": 0.8},
    {"momentum": 0.8, "lr": 0.4},
    {"momentum": 0.95, "lr": 0.1},
    {"shift": 2},
    *({"label_smoothing": part} for part in (0.05, 0.2)),
    *({"weight_decay": factor} for factor in (2e-4, 2e-3)),
    *({"average": factor} for factor in (0.98, 0.995)),
    *({"optimizer": "adamw", "lr": lr, "weight_decay": 0.05} for lr in (0.001, 0.002, 0.004, 0.016)),
    *({"optimizer": "adamw", "lr": lr, "weight_decay": 0.25} for lr in (0.002, 0.004, 0.008)),
    *({"optimizer": "muon", "lr": lr, "weight_decay": 0.05} for lr in (0.005, 0.04)),
    {"epochs": 8, "weight_decay": 0.0, "label_smoothing": 0.0},
]

LADDER = [{"image_size": None, "mixed_precision": True, "score_test": False, "epochs": 4}]  # d2l's recipe, at 28x28
for step in (
    {"normalize": True},
    {"xavier": False},
    {"momentum": 0.9},
    {"lr": 0.1},
    {"decay": "linear"},
    {"warmup": 0.25},
    {"lr": 0.2},
    {"flip": True, "flip_test": True},
    {"weight_decay": 5e-4},
    {"label_smoothing": 0.1},
):
    LADDER.append(LADDER[-1] | step)  # the last is the book's
LARGE = [{"batch_size": 1024, "lr": lr} for lr in (0.4, 0.8)]  # paired with the last

COMPARED = [
    "plain20",
    "resnet20",
    "plain56",
    "resnet56",
    "resnet18-small",
    "resnet50-small",
    "resnet18",
    "googlenet-small-bn",
    "googlenet-small",
    "densenet-small",
    "fast-resnet",
]
WIDTHS = [
    f"{name}{width}"
    for name in ("resnet18-small", "googlenet-small-bn", "densenet-small")
    for width in ("-thin", "", "-wide")
]

BLOCKS = Recipe(  # of AdamW, by which networks with layer norm are trained too; small enough for one core
    epochs=3, batch_size=64, optimizer="adamw", lr=0.004, weight_decay=0.05, flip_test=False, mixed_precision=False
)

SOONER = 37_500  # images of a training that ends before an epoch would

EXPERIMENTS = ("recipe", "tried", "ladder", "degradation", "networks", "budgets", "sooner", "later", "transfer")


def jobs(experiment):
    """(network, recipe, seed) of all trainings of an experiment, seed by seed."""
    muon = {"optimizer": "muon", "lr": 0.01, "weight_decay": 0.05}
    budgets = [
        *((name, BOOK) for name in WIDTHS if name not in COMPARED),
        *(("fast-resnet", replace(BOOK, epochs=epochs)) for epochs in (1, 2, 4, 8, 12, 16)),
        *(("fast-resnet", replace(BOOK, epochs=epochs, **muon)) for epochs in (1, 2, 16)),
    ]
    ladder = [*(replace(D2L, **step) for step in LADDER), *(replace(BOOK, **step) for step in LARGE)]
    plans = {
        "recipe": (9, [("fast-resnet", replace(BOOK, **part)) for part in PARTS]),
        "tried": (3, [("fast-resnet", replace(BOOK, **part)) for part in TRIED]),
        "ladder": (6, [("fast-resnet", recipe) for recipe in ladder]),
        "degradation": (3, [(name, degradation.RECIPE) for name in degradation.NAMES]),
        "networks": (6, [(name, BOOK) for name in COMPARED]),
        "budgets": (6, budgets),
        "sooner": (6, [("fast-resnet", replace(BOOK, epochs=1))]),
        "later": (5, [(name, BLOCKS) for name in LATER]),
        "transfer": (6, [(name, transfer.recipe(labels)) for name, (_, labels) in transfer.PLAN.items()]),
    }
    seeds, plan = plans[experiment]
    return [(network, recipe, seed) for seed in range(seeds) for network, recipe in plan]


def key(network, recipe, seed):
    return json.dumps([network, asdict(recipe), seed], sort_keys=True)


class Record:
    """One training as a generator, and what is recorded of it beyond what `fit` does.

    After every epoch the probabilities of twenty validation images; in the degradation experiment also the error on the
    training images in eval mode. At the end the errors on all validation and test images.
    """

    def __init__(self, experiment, data, device):
        self.device = device
        self.curves, self.transfer = experiment == "degradation", experiment == "transfer"
        self.watch = experiment in ("degradation", "networks")
        if self.curves:
            data = degradation.halved(data.take(degradation.EXAMPLES))
        elif experiment == "sooner":
            data = data.take(SOONER)
        elif experiment == "later":
            data = replace(data.take(6000, 1000), test=data.test[:4000])
        watched = torch.tensor(WATCHED) % max(1, len(data.validation))  # others, where a trial has not so many
        self.watched = data.validation[watched].to(device) if self.watch else None
        self.data = replace(
            data, train=data.train.to(device), validation=data.validation.to(device), test=data.test.to(device)
        )

    def training(self, network, recipe, seed):
        """Yield the `Run` so far, and whether it is done."""
        torch.manual_seed(seed)
        net, data = self._begin(network, seed)
        training_data = replace(data, validation=data.validation[:0]) if self.transfer else data  # scored at the end
        trainer = Trainer(net, recipe, seed, self.device, graph=True)
        after_epoch = partial(self._after_epoch, recipe)
        for run in trainer.training(training_data, name=network, after_epoch=after_epoch):
            yield run, False
        for name in ("validation", "test"):
            split = getattr(data, name)
            plain, mirrored = (logits.argmax(1) for logits in self._logits(net, split, recipe))
            run.errors[name] = pack((plain - split.labels) % 10)
            run.errors[f"{name}_mirrored"] = pack((mirrored - split.labels) % 10)
        run.test = evaluate(net, data.test, self.device, recipe)._asdict()
        yield run, True

    def _begin(self, network, seed):
        """A network, and its data: in the experiment on transfer both follow from the name and the seed."""
        if not self.transfer:
            return build(network), self.data
        start, labels = transfer.PLAN[network]
        return transfer.start_network(start, seed), transfer.draw_digits(labels, seed)

    def _after_epoch(self, recipe, run, net):
        if self.watch:
            probabilities = self._logits(net, self.watched, recipe)[recipe.flip_test].softmax(1)
            run.epochs[-1]["watched"] = pack((255 * probabilities).round())
        if self.curves:
            score = evaluate(net, self.data.train, self.device, recipe, degradation.EXAMPLES)
            run.epochs[-1]["train_error"] = 1 - score.accuracy

    @torch.no_grad()
    def _logits(self, net, split, recipe):
        """The logits of the images, and their mean with those of the mirror images: two tensors (N, 10)."""
        with eval_mode(net):
            pairs = [(net(images), net(images.flip(-1))) for images, _ in batches(split, 5000, prepare=recipe.prepare)]
        plain, flipped = (torch.cat(each) for each in zip(*pairs))
        return plain, (plain + flipped) / 2


def record(planned, experiment, data, device, out, streams, until=None):
    """Train what is not recorded yet, `streams` trainings side by side; add a line to `out` for each that is done.

    Returns:
        What went wrong, a line for each training that failed; the others go on.
    """
    there, here = {}, machine(device)["device"]
    for file in out.parent.glob(f"{out.stem}*.jsonl"):
        for run in Run.load_lines(file):
            there[json.dumps([run.network, run.recipe, run.seed], sort_keys=True)] = run.machine["device"], run.seed
    waiting = [job for job in planned if key(*job) not in there]
    for kind, seed in there.values():
        if kind != here and any(job[2] == seed for job in waiting):
            raise ValueError(
                f"{out}: a seed is recorded on one kind of machine, and seed {seed} on {kind}, not on {here}; "
                f"name other --seeds, or another --out"
            )
    recorder = Record(experiment, data, device)
    failed = []
    bar = tqdm(total=len(waiting), desc=experiment, unit="run", mininterval=5)

    def begin():
        late = until is not None and time.monotonic() > until
        if not waiting or late:
            return None
        job = waiting.pop(0)
        return job, recorder.training(*job)

    if device.type == "cuda":
        torch.cuda.synchronize()
        lanes = [(torch.cuda.stream(torch.cuda.Stream(device)), begin()) for _ in range(streams)]
    else:
        lanes = [(nullcontext(), begin())]
    while lanes := [(lane, at_work) for lane, at_work in lanes if at_work]:
        for number, (lane, (job, training)) in enumerate(lanes):
            try:
                with lane:
                    run, done = next(training)
            except (DivergedError, MemoryError, RuntimeError) as error:
                network, recipe, seed = job
                failed.append(f"{out}: {network}, {recipe}, seed {seed}: {error}")
                lanes[number] = lane, begin()
                continue
            if not done:
                continue
            with out.open("a", encoding="utf-8") as file:
                file.write(run.line())
            bar.update()
            lanes[number] = lane, begin()
    bar.close()
    return failed


def keep_watched(data):
    """The images that are watched (the degradation experiment halves them) and the test labels, for pages to show."""
    watched = data.validation[torch.tensor(WATCHED)]
    kept = {"labels": watched.labels.tolist(), "images": pack(watched.images), "test": pack(data.test.labels)}
    runs.WATCHED.write_text(json.dumps(kept) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiments", nargs="+", choices=EXPERIMENTS)
    parser.add_argument("--out", type=expanded, default=RECORDED)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", help="only these; another process may record others meanwhile")
    parser.add_argument("--seconds", type=float, help="begin no training after so many")
    parser.add_argument("--device")
    parser.add_argument("--examples", type=int, help="train on so few, to try the program out; others a tenth")
    options = parser.parse_args()
    until = None if options.seconds is None else time.monotonic() + options.seconds
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    device = pick_device(options.device)
    data = d2lnets.load_fashion_mnist()
    if options.examples:
        held_out = max(1, options.examples // 10)
        data = data.take(options.examples, held_out, held_out)
    elif len(data.train) + len(data.validation) < 60_000 and options.experiments != ["transfer"]:
        parser.error("recordings are of the whole data set, which is not on this machine")
    elif {"degradation", "networks"} & set(options.experiments):
        keep_watched(data)
    options.out.mkdir(parents=True, exist_ok=True)
    refused = []
    for experiment in options.experiments:
        # Pages speak of a GPU's recordings of these, and of a CPU's of all else: a GPU's of that stand beside them.
        beside = device.type == "cuda" and experiment not in ("recipe", "tried")
        name = f"gpu_{experiment}" if beside else experiment
        out = options.out / f"{name}.jsonl"
        try:
            planned = [job for job in jobs(experiment) if not options.seeds or job[2] in options.seeds]
            refused += record(planned, experiment, data, device, out, options.streams, until)
        except ValueError as error:
            refused.append(str(error))  # the others go on
    if refused:
        sys.exit("\n".join(refused))


if __name__ == "__main__":
    main()
