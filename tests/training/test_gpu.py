"""What only a GPU can show: ``make gpu`` runs these there."""

import copy

import pytest
import torch
from torch import nn

import d2lnets
from d2lnets.data import SUBSET, normalize
from d2lnets.networks import SMALL, build
from d2lnets.training import loop

pytestmark = pytest.mark.gpu

F32 = {"mixed_precision": False}


@pytest.fixture(scope="module")
def data():
    return d2lnets.load_fashion_mnist(SUBSET).take(1030)


@pytest.fixture(autouse=True)
def exact():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def trained(name, data, recipe, device="cuda", **options):
    torch.manual_seed(0)
    net = build(name)
    return d2lnets.fit(net, data, recipe, 0, device, **options), net


def differ(run, other, key="train_loss"):
    return max(abs(a[key] - b[key]) for a, b in zip(run.epochs, other.epochs, strict=True))


@pytest.mark.parametrize("name", ["fast-resnet", "resnet20", "densenet-small", "googlenet-small-bn", "resnet50-small"])
def test_the_first_losses_are_those_of_a_cpu(data, name):
    recipe = d2lnets.Recipe(epochs=1, lr=0.02, **F32)
    ours, _ = trained(name, data, recipe)
    cpu, _ = trained(name, data, recipe, "cpu")
    # Rounding grows from step to step: on a CPU alone, a millionth of the weights moves the second loss of
    # resnet50-small by 0.012, and its third by 0.09.
    for loss, expected, bound in zip(ours.first_losses, cpu.first_losses, (2e-4, 4e-2)):
        assert abs(loss - expected) < bound, (ours.first_losses, cpu.first_losses)


@pytest.mark.parametrize("name", SMALL)
def test_gradients_are_those_of_a_cpu_in_64_bits(data, name):
    torch.manual_seed(0)
    net = build(name).double()
    images = normalize(data.train.images[:16]).double()
    gradients = []
    for device in ("cpu", "cuda"):
        each = copy.deepcopy(net).to(device)
        nn.functional.cross_entropy(each(images.to(device)), data.train.labels[:16].to(device)).backward()
        gradients.append([weight.grad.cpu() for weight in each.parameters()])
    largest = max(gradient.norm() for gradient in gradients[0])
    for here, there in zip(*gradients):
        assert (here - there).norm() <= 1e-9 * largest


@pytest.mark.parametrize(
    "changes",
    [{}, {"shift": 2}, {"average": 0.9}, {"optimizer": "adamw", "lr": 2e-3}, {"optimizer": "muon", "lr": 0.01},
     {"momentum": 0.0}, {"decay_all": False}, {"clip": 1.0}, {"image_size": 32}, {"flip": False}],
    ids=str,
)  # fmt: skip
def test_a_graph_computes_what_the_loop_computes(data, changes):
    recipe = d2lnets.Recipe(**{"epochs": 2, "lr": 0.02, **F32, **changes})
    graph, first = trained("fast-resnet", data, recipe, graph=True)
    loop, second = trained("fast-resnet", data, recipe)
    assert differ(graph, loop) < 5e-3, (graph, loop)
    ours, theirs = (torch.cat([w.flatten() for w in net.parameters()]) for net in (first, second))
    assert (ours - theirs).norm() < 0.15 * theirs.norm()  # after 18 steps; Muon apart by 0.07


def test_a_graph_learns_in_16_bits(data):
    recipe = d2lnets.Recipe(epochs=6, lr=0.05)
    run, _ = trained("fast-resnet", data, recipe, graph=True)
    assert run.precision == "bf16"
    assert run.epochs[-1]["validation_accuracy"] > 0.7


def test_fp16_scales_the_loss_and_learns(data, monkeypatch):
    monkeypatch.setattr(loop, "precision", lambda device: "fp16")
    run, _ = trained("fast-resnet", data, d2lnets.Recipe(epochs=6, lr=0.05), graph=True)
    assert run.precision == "fp16"
    assert run.epochs[-1]["validation_accuracy"] > 0.7


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_a_training_that_was_stopped_goes_on(data, tmp_path, graph, optimizer):
    recipe = d2lnets.Recipe(epochs=3, lr=0.02 if optimizer == "sgd" else 2e-3, optimizer=optimizer, **F32)
    whole, _ = trained("fast-resnet", data, recipe, graph=graph)
    path = tmp_path / "state.safetensors"
    trained("fast-resnet", data, recipe, checkpoint=path, steps=12, graph=graph)
    resumed, _ = trained("fast-resnet", data, recipe, checkpoint=path, resume=True, graph=graph)
    assert differ(whole, resumed) < 3e-2  # sums on a GPU come in no fixed order: 0.011 was seen


def test_too_little_memory_is_said_in_words(data):
    _, total = torch.cuda.mem_get_info()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 0.3e9 / total))
    try:
        with pytest.raises(MemoryError, match="use a batch_size of"):
            trained("resnet18", data, d2lnets.Recipe(epochs=1, batch_size=1000, image_size=96))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def test_a_compiled_training_computes_the_same(data):
    recipe = d2lnets.Recipe(epochs=1, lr=0.02, **F32)
    compiled, _ = trained("fast-resnet", data, recipe, compile=True)
    loop, _ = trained("fast-resnet", data, recipe)
    assert differ(compiled, loop) < 5e-3


def test_the_callers_random_state_is_left_alone_on_the_device(data):
    torch.manual_seed(5)
    before = torch.cuda.get_rng_state(), torch.random.get_rng_state()
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10))
    torch.random.set_rng_state(before[1])
    d2lnets.fit(copy.deepcopy(net), data, d2lnets.Recipe(epochs=1, lr=0.01), device="cuda")
    assert torch.equal(before[0], torch.cuda.get_rng_state()) and torch.equal(before[1], torch.random.get_rng_state())
