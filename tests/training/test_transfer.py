"""Transfer: the draws of labels are nested, the starts differ as said, and the record begins as a training does."""

import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch

import d2lnets
from d2lnets.training import transfer
from d2lnets.training.runs import load_experiment


@pytest.fixture(scope="module")
def draws():
    return {labels: transfer.draw_digits(labels, seed=0) for labels in transfer.EPOCHS}


def rows(split):
    """The images of a split, to be compared."""
    return {bytes(image.flatten().tolist()) for image in split.images}


def test_few_labels_are_among_the_many_and_no_image_is_in_two_parts(draws):
    assert rows(draws[10].train) < rows(draws[100].train) < rows(draws[1000].train)
    everything = transfer.load_digits()
    for labels, digits in draws.items():
        assert set(Counter(digits.train.labels.tolist()).values()) == {labels // 10}
        assert torch.equal(digits.test.images, draws[10].test.images) and len(digits.test) == 500
    parts = [getattr(draws[1000], name) for name in ("train", "validation", "test")]
    assert sum(map(len, parts)) == len(everything) and set.union(*map(rows, parts)) == rows(everything)
    assert transfer.nearest(replace(draws[10], test=draws[10].train)) == 1 > transfer.nearest(draws[10]) > 0.3
    assert repr(draws[10]) == "Digits: 10 train, 297 validation, 500 test"


def test_fine_tuning_begins_with_all_trained_weights_but_the_last_layers():
    tuned, scratch = (transfer.start_network(start, seed=0).state_dict() for start in transfer.STARTS)
    trained = d2lnets.load_trained(transfer.NETWORK).state_dict()
    for key, value in tuned.items():
        assert torch.equal(value, (scratch if "head" in key else trained)[key]), key


@pytest.mark.parametrize("start, steps", list(zip(transfer.STARTS, (3, 1), strict=True)))
def test_the_record_begins_as_a_training_now_does(start, steps, draws):
    """From scratch only the first step: what another processor rounds is seen in the third digit after the next."""
    name = f"{transfer.NETWORK}, {start}, 10 labels"
    recorded = load_experiment("transfer")[name, transfer.recipe(10)]
    assert [run.seed for run in recorded] == list(range(6))
    run = d2lnets.fit(transfer.start_network(start, 0), draws[10], transfer.recipe(10), 0, "cpu", steps=steps)
    assert run.first_losses == pytest.approx(recorded[0].first_losses[:steps], rel=2e-3)


def test_what_cannot_be_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="labels must be one of 10, 100, 1000, got 50"):
        transfer.draw_digits(50, seed=0)
    with pytest.raises(ValueError, match="start must be one of fine-tuned, from scratch, got 'warm'"):
        transfer.start_network("warm", seed=0)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ModuleNotFoundError, match="pip install scikit-learn"):
        transfer.load_digits()
