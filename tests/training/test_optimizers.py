"""The optimisers of a recipe, and what a CUDA graph replays, as far as a CPU can tell."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import d2lnets
from d2lnets.data import SUBSET
from d2lnets.networks import build
from d2lnets.training import graph, needs
from d2lnets.training import optimizers as module
from d2lnets.training.loop import Trainer
from d2lnets.training.optimizers import Muon, OnePassSGD, optimizers, orthogonal


@pytest.fixture(scope="module")
def data():
    return d2lnets.load_fashion_mnist(SUBSET).take(300)


def recipe(**changes):
    return d2lnets.Recipe(**{"epochs": 2, "lr": 0.02, "mixed_precision": False, **changes})


def trained(recipe, data, **options):
    torch.manual_seed(0)
    net = d2lnets.fast_resnet((8, 16))
    return d2lnets.fit(net, data, recipe, device="cpu", **options), net


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has Muon since 2.9")
def test_muon_is_pytorchs_on_matrices():
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(8, 12)), nn.Parameter(torch.randn(20, 5))]
    theirs = copy.deepcopy(ours)
    muon = Muon(ours, 0.02, 0.9, 0.05)
    peer = torch.optim.Muon(theirs, lr=0.02, momentum=0.9, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for one, other in zip(ours, theirs):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        muon.step()
        peer.step()
    for one, other in zip(ours, theirs):
        assert torch.allclose(one, other, atol=5e-3)  # both compute in 16 bits, in another order


def test_muon_takes_a_kernel_as_a_matrix():
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(6, 4, 3, 3).to(memory_format=torch.channels_last))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    kernel.grad = torch.randn(6, 4, 3, 3)
    matrix.grad = kernel.grad.flatten(1)
    for weight in (kernel, matrix):
        Muon([weight], 0.1).step()
    assert torch.equal(kernel.flatten(1), matrix)


@pytest.mark.parametrize("shape", [(6, 36), (36, 6), (10, 10)])
def test_rows_or_columns_become_nearly_orthonormal(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert values.min() > 0.5 and values.max() < 1.3


def test_each_weight_has_one_optimizer_and_vectors_may_be_spared():
    net = d2lnets.fast_resnet((8, 16))
    for name in ("sgd", "adamw", "muon"):
        for decay_all in (True, False):
            found = optimizers(net, recipe(optimizer=name, decay_all=decay_all))
            groups = [group for optimizer in found for group in optimizer.param_groups]
            weights = [weight for group in groups for weight in group["params"]]
            assert len(weights) == len(set(weights)) == len(list(net.parameters()))
            for group in groups:
                spared = group["weight_decay"] == 0
                assert spared == (not decay_all and all(weight.dim() < 2 for weight in group["params"]))
    (muon, adamw) = optimizers(net, recipe(optimizer="muon"))
    assert {weight.dim() for group in muon.param_groups for weight in group["params"]} == {4}
    assert isinstance(adamw, torch.optim.AdamW)


def test_sgd_in_one_pass_is_pytorchs():
    """Whatever lies how in memory, with a weight that joins later and one that rests."""
    torch.manual_seed(0)
    shapes = (6, 4, 3, 3), (5, 4, 1, 1), (6, 4, 3, 3), (100, 7), (33,)
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    ours[0].data = ours[0].data.to(memory_format=torch.channels_last)
    theirs = copy.deepcopy(ours)
    assert ours[0].stride() == theirs[0].stride() != ours[2].stride()
    groups = [[{"params": each[:3], "weight_decay": 0.0}, {"params": each[3:]}] for each in (ours, theirs)]
    one_pass = OnePassSGD(groups[0], 0.1, 0.8, 0.01)
    pair = one_pass, torch.optim.SGD(groups[1], 0.1, 0.8, weight_decay=0.01, nesterov=True)
    for step in range(6):
        for number, (one, other) in enumerate(zip(ours, theirs)):
            gradient = torch.randn(one.shape)
            if number in (0, 2) and step % 2:
                gradient = gradient.to(memory_format=torch.channels_last)
            rests = (number, step) in [(3, 0), (3, 1), (4, 3)]
            one.grad, other.grad = (None, None) if rests else (gradient, gradient.clone())
        for optimizer in pair:
            assert optimizer.step(lambda: 0.5) == 0.5
        for one, other in zip(ours, theirs):
            assert torch.allclose(one, other, rtol=1e-6, atol=1e-6) and one.stride() == other.stride()


def test_sgd_in_one_pass_is_for_many_weights_with_momentum():
    many, few = build("resnet18"), build("fast-resnet")
    assert isinstance(optimizers(many, recipe())[0], OnePassSGD)
    for net, chosen in ((few, recipe()), (many, recipe(momentum=0.0)), (many.to("meta"), recipe())):
        assert type(optimizers(net, chosen)[0]) is torch.optim.SGD


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_a_training_that_was_stopped_ends_with_the_very_numbers(optimizer, data, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MANY", 0)
    chosen = recipe(optimizer=optimizer, lr=2e-3)
    whole, net = trained(chosen, data)
    path = tmp_path / "state.safetensors"
    trained(chosen, data, checkpoint=path, steps=4)
    resumed, other = trained(chosen, data, checkpoint=path, resume=True)
    assert [epoch["train_loss"] for epoch in whole.epochs] == [epoch["train_loss"] for epoch in resumed.epochs]
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values()))


def test_the_rate_warms_up_and_decays():
    def rates(**changes):
        chosen = recipe(lr=0.4, **changes)
        return [chosen.rate(progress) for progress in (0.0, 0.125, 0.25, 0.625, 1.0)]

    assert rates() == pytest.approx([0, 0.2, 0.4, 0.2, 0])
    assert rates(decay="cosine") == pytest.approx([0, 0.2, 0.4, 0.2, 0])
    assert rates(decay="none") == pytest.approx([0, 0.2, 0.4, 0.4, 0.4])
    assert rates(warmup=0.0) == pytest.approx([0.4, 0.35, 0.3, 0.15, 0])


def with_graph(chosen):
    """What `Trainer` makes on a GPU, on the CPU."""
    torch.manual_seed(0)
    net = d2lnets.fast_resnet((8, 16))
    trainer = Trainer(net, chosen, 0, torch.device("cpu"))
    trainer.graph = graph.Graph(trainer)
    trainer.model, *trainer.optimizers = trainer.accelerator.prepare(
        nn.Sequential(net), *optimizers(net, chosen, graph=True)
    )
    return trainer


@pytest.mark.parametrize(
    "first, last, kind",
    [
        ("CUDA error: operation not permitted", "CUDA error: a previous error", RuntimeError),
        ("CUDA out of memory", "CUDA error: a previous error", MemoryError),
        ("", "CUDA out of memory", MemoryError),
    ],
)
def test_what_cannot_be_captured_is_said_in_words(first, last, kind, data, monkeypatch):
    """As of `capture_end`, which fails for what failed before it."""

    def capture(self):
        try:
            if first:
                raise RuntimeError(first)
        finally:
            raise RuntimeError(last)

    monkeypatch.setattr(graph.Graph, "_capture", capture)
    words = "without graph: CUDA error: operation" if kind is RuntimeError else "cuda has too little memory"
    chosen = recipe()
    with pytest.raises(kind, match=words), needs.enough_memory(chosen, "cuda"):
        list(with_graph(chosen).training(data))


@pytest.mark.parametrize(
    "changes",
    [{}, {"shift": 2}, {"average": 0.9}, {"optimizer": "adamw", "lr": 2e-3}, {"decay_all": False}, {"flip": False}],
    ids=str,
)
def test_what_a_graph_would_replay_is_the_loop(changes, data, monkeypatch):
    """On a CPU nothing is captured; the tables, counters and rates on the device are used all the same."""

    def capture(self):
        def replay():
            self.capturing = True
            self._work()
            self.capturing = False

        self.graph = SimpleNamespace(replay=replay)

    monkeypatch.setattr(graph.Graph, "_capture", capture)
    monkeypatch.setattr(graph, "WARM", 1)
    chosen = recipe(**changes)
    loop, _ = trained(chosen, data)
    trainer = with_graph(chosen)
    *_, run = trainer.training(data)
    assert trainer.graph.graph
    for ours, theirs in zip(run.epochs, loop.epochs, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], abs=2e-3)  # fused kernels round otherwise
        assert ours["train_accuracy"] == pytest.approx(theirs["train_accuracy"], abs=0.01)


def test_a_callback_sees_every_epoch(data):
    seen = []
    trained(recipe(average=0.5), data, after_epoch=lambda run, net: seen.append((len(run.epochs), net.training)))
    assert [epochs for epochs, _ in seen] == [1, 2]
