"""A lesson's training fits the machine, tells how it goes, and is the training that `fit` does."""

from dataclasses import replace

import pytest
import torch

import d2lnets
from d2lnets.data import SUBSET, Split
from d2lnets.networks import NETWORKS, SMALL
from d2lnets.training import budget
from d2lnets.training.budget import LESSONS
from d2lnets.training.recipe import BOOK


class Listener:
    def __init__(self):
        self.networks, self.steps, self.epochs = [], [], []

    def start(self, network):
        self.networks.append(network)

    def after_step(self, images, loss, accuracy):
        self.steps.append((images, loss, accuracy))

    def after_epoch(self, run, net):
        self.epochs.append(run.epochs[-1]["validation_accuracy"])


@pytest.mark.parametrize("network", LESSONS)
def test_a_gpu_gets_the_sources_network_and_everything_a_cpu_a_small_form_and_a_part(network):
    gpu, cpu = d2lnets.budget(network, "cuda"), d2lnets.budget(network, "cpu")
    assert gpu.network == network and network in NETWORKS and gpu.images is None
    assert gpu.recipe == replace(BOOK, image_size=96, score_test=True)
    assert cpu.network in SMALL and cpu.network.startswith(network.removesuffix("-bn"))
    assert cpu.images < 2_000 and cpu.recipe.image_size is None and not cpu.recipe.score_test
    data = d2lnets.load_fashion_mnist(SUBSET)
    assert len(gpu.part(data).train) == len(data.train) + len(data.validation)
    assert gpu.part(data).validation is data.test
    assert len(cpu.part(data).train) == cpu.images and len(cpu.part(data).validation) <= 500
    assert "all 60,000 images of 96×96" in str(gpu) and f"{cpu.images:,} images of 28×28" in str(cpu)


def test_the_reader_can_ask_for_more():
    more = d2lnets.budget("densenet", "cpu", images=20_000)
    assert (more.images, more.recipe) == (20_000, BOOK)
    assert d2lnets.budget("densenet", "cpu", images=20_000, epochs=1).recipe == replace(BOOK, epochs=1)
    part = d2lnets.budget("densenet", "cuda", images=20_000)
    assert part.images == 20_000 and not part.recipe.score_test


def test_what_cannot_be_trained_is_refused_by_name():
    with pytest.raises(ValueError, match=r"network must be one of resnet18, .*, got 'vgg'"):
        d2lnets.budget("vgg")
    for name in ("images", "epochs"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
            d2lnets.budget("densenet", **{name: 0})


def test_the_training_is_that_of_fit_and_is_told_step_by_step():
    data = d2lnets.load_fashion_mnist(SUBSET)
    budget = replace(d2lnets.budget("resnet18", "cpu", images=80), network="resnet18-small-thin")
    listener, state = Listener(), torch.get_rng_state()
    net, run = budget.train(data, listener)
    assert torch.equal(torch.get_rng_state(), state)
    again, other = budget.train(data)
    for mine, theirs in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert listener.networks == ["resnet18-small-thin"] == [run.network]
    assert [images for images, _, _ in listener.steps] == [*range(16, 161, 16)]
    assert [loss for _, loss, _ in listener.steps] == run.first_losses == other.first_losses
    assert listener.epochs == [epoch["validation_accuracy"] for epoch in run.epochs]
    held = budget.part(data).validation
    for flip in (False, True):  # as it is scored
        recipe = replace(budget.recipe, flip_test=flip)
        right = replace(budget, recipe=recipe).answers(net, held) == held.labels
        assert right.double().mean().item() == pytest.approx(d2lnets.evaluate(net, held, "cpu", recipe).accuracy)


def test_where_there_is_a_gpu_all_of_it_goes_there_as_a_graph(monkeypatch):
    """As far as a CPU can tell: what is asked of PyTorch and of `fit`. tests/training/test_gpu.py has the rest."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    lesson = d2lnets.budget("resnet18", epochs=1)
    assert str(lesson) == "resnet18 on cuda: all 60,000 images of 96×96, epochs: 1, batches of 128"
    asked, listener = [], Listener()

    def fit_here(net, data, recipe, seed, device, graph, **options):
        asked.append((device, graph, recipe, len(data.train), data.validation))
        return d2lnets.fit(net, data, recipe, seed, "cpu", **options)

    monkeypatch.setattr(budget, "fit", fit_here)
    monkeypatch.setattr(Split, "to", lambda self, device: asked.append(device) or self)
    data = d2lnets.load_fashion_mnist(SUBSET).take(14, 2, 6)
    net, run = lesson.train(data, listener)
    assert asked[0] == ("cuda", True, replace(BOOK, image_size=96, epochs=1, score_test=True), 16, data.test)
    assert listener.networks == [run.network] == ["resnet18"] and [n for n, *_ in listener.steps] == [16]
    asked.clear()
    right = lesson.answers(net, data.test) == data.test.labels
    assert asked == ["cuda"]
    assert right.double().mean().item() == pytest.approx(run.epochs[-1]["validation_accuracy"])
    assert "(test);" in lesson.beside(run, d2lnets.load_runs("resnet18"))


def test_a_run_is_set_beside_recorded_ones_in_a_sentence():
    recorded = d2lnets.load_runs("resnet18-small")
    run = replace(recorded[0], network="mine", epochs=recorded[0].epochs[:1], examples=1_000)
    budget = d2lnets.budget("resnet18", "cpu")
    mine, theirs = budget.beside(run, recorded).splitlines()
    assert mine == f"mine saw 1,000 images, and is right on {run.epochs[0]['validation_accuracy']:.1%} (validation);"
    assert theirs == "resnet18-small, recorded, saw 220,000, and is right on 93.66 ± 0.21 %."
    tested = replace(budget, recipe=replace(budget.recipe, score_test=True)).beside(run, recorded[:1])
    assert "(test);" in tested and f"right on {100 * recorded[0].test['accuracy']:.2f} %." in tested
