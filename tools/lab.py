"""Put together what the live lab loads: its networks as ONNX files, 500 test images, and ONNX Runtime for the browser.

``make book`` calls it where something of that is missing or stale.
"""

import base64
import gzip
import json
import shutil
from pathlib import Path

import torch
from tqdm import tqdm

from d2lnets import load_experiment, load_fashion_mnist, load_runs, load_trained, trace_shapes
from d2lnets.data import CLASSES, PIXEL_MEAN, PIXEL_STD, SUBSET, Split, normalize
from d2lnets.densenet import DenseLayer
from d2lnets.export import Switched, export
from d2lnets.resnet import CifarBlock
from d2lnets.training.degradation import half, halved
from d2lnets.training.runs import WATCHED, unpack

HERE = Path(__file__).parent
OUT = HERE.parent / "book" / "_static" / "lab" / "built"
ONNX_RUNTIME = HERE / "node_modules" / "onnxruntime-web" / "dist"
WASM = "ort-wasm-simd-threaded.wasm"
NETWORKS = {  # and their names on the page
    "plain20": "plain20",
    "resnet20": "resnet20",
    "googlenet-small-bn": "small GoogLeNet",
    "densenet-small": "small DenseNet",
}
SCRUBBED = {"degradation": "degradation", "networks": "gpu_networks"}  # recordings to move through, epoch by epoch
IMAGES = 500
SHOWN_OF_A_CLASS, SHOWN_MISTAKES = 3, 10


def shown_images():
    """The same on every machine: the first of the subset that ships with the package."""
    return load_fashion_mnist(SUBSET).test[:IMAGES]


@torch.no_grad()
def describe(name, split):
    """What the page says of a network, and which of the images it gets right."""
    net = load_trained(name)
    switched, trace = Switched(net).eval(), trace_shapes(net, (1, 28, 28))
    right = net(normalize(split.images)).argmax(1) == split.labels
    (run, *_) = load_runs(name, experiment="earlier")  # with seed 0: the one whose weights ship
    return {
        "name": name,
        "title": NETWORKS[name],
        "bytes": (OUT / f"{name}.onnx").stat().st_size,
        "parameters": trace.parameters,
        "multiply_adds": trace.multiply_adds,
        "correct": right.sum().item(),
        "test": run.test["accuracy"],
        "stages": [{"name": stage.name, "shape": stage.output_shape} for stage in trace],
        "blocks": [name for name, block in net.named_modules() if isinstance(block, CifarBlock | DenseLayer)],
        "switches": switched.switches,
    }, right


def race_images():
    """What a race trains on, and ten test images, one of each class: labels (3610,) and images (3610, 196), uint8."""
    data = halved(load_fashion_mnist(SUBSET).without_validation())
    held = torch.stack([(data.validation.labels == k).nonzero()[0, 0] for k in range(len(CLASSES))])
    splits = data.train, data.validation[held]
    labels = torch.cat([split.labels for split in splits]).to(torch.uint8)
    return labels, torch.cat([split.images.flatten(1) for split in splits])


def scrub(experiment):
    """The first seed of an experiment: errors by epoch, and the answers to twenty images, for one to see."""
    watched, networks = json.loads(WATCHED.read_text(encoding="utf-8")), []
    split = Split(unpack(watched["images"]).view(-1, 1, 28, 28), torch.tensor(watched["labels"]))
    for (name, _), (run, *_) in load_experiment(SCRUBBED[experiment]).items():
        if "watched" not in run.epochs[0]:
            raise ValueError(f"{experiment}, {name}: the run has no answers to the watched images: record it again")
        train = [epoch.get("train_error", 1 - epoch["train_accuracy"]) for epoch in run.epochs]
        networks.append(
            {
                "name": name,
                "train": [round(error, 4) for error in train],
                "validation": [round(1 - epoch["validation_accuracy"], 4) for epoch in run.epochs],
                "watched": in_base64(torch.cat([unpack(epoch["watched"]) for epoch in run.epochs])),
            }
        )
    images = (half(split) if experiment == "degradation" else split).images
    return {"labels": watched["labels"], "images": in_base64(images), "networks": networks}


def in_base64(numbers):
    return base64.b64encode(numbers.numpy().tobytes()).decode()


def gallery(labels, wrong):
    """The first images of every class, then those that most of the networks get wrong: indices."""
    first = [i.item() for k in range(len(CLASSES)) for i in (labels == k).nonzero()[:SHOWN_OF_A_CLASS]]
    hard = sorted((i for i in range(len(labels)) if i not in first), key=lambda i: (-wrong[i], i))
    return first + hard[:SHOWN_MISTAKES]


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    shutil.copy(ONNX_RUNTIME / "ort.wasm.bundle.min.mjs", OUT / "ort.wasm.bundle.min.js")  # a type all servers know
    runtime = gzip.compress(
        (ONNX_RUNTIME / WASM).read_bytes(), mtime=0
    )  # the page unpacks it: few servers would pack it
    (OUT / f"{WASM}.gz").write_bytes(runtime)
    split = shown_images()
    (OUT / "images.bin").write_bytes(split.images.numpy().tobytes())
    race = b"".join(each.numpy().tobytes() for each in race_images())
    (OUT / "race.bin").write_bytes(race)
    for experiment in SCRUBBED:
        (OUT / f"{experiment}.json").write_text(json.dumps(scrub(experiment)) + "\n", encoding="utf-8")
    networks, wrong = [], torch.zeros(len(split), dtype=torch.int64)
    for name in tqdm(NETWORKS, desc="the live lab", unit="network"):
        export(load_trained(name), OUT / f"{name}.onnx")
        network, right = describe(name, split)
        networks.append(network)
        wrong += ~right
    contents = {
        "classes": CLASSES,
        "labels": split.labels.tolist(),
        "gallery": gallery(split.labels, wrong.tolist()),
        "runtime_bytes": len(runtime),
        "race": {"bytes": len(race), "mean": PIXEL_MEAN, "deviation": PIXEL_STD},
        "scrub": {experiment: {"bytes": (OUT / f"{experiment}.json").stat().st_size} for experiment in SCRUBBED},
        "networks": networks,
    }
    (OUT / "lab.json").write_text(json.dumps(contents) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
