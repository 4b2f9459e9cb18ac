"""The degradation experiment: twins start equal, images are averaged, and the record is what it says it is."""

import json
from dataclasses import asdict, replace

import pytest
import torch

import d2lnets
from d2lnets.data import SUBSET
from d2lnets.networks import build
from d2lnets.training import degradation


@pytest.fixture(scope="module")
def data():
    return degradation.halved(d2lnets.load_fashion_mnist(SUBSET), 256)


def test_squares_of_four_pixels_are_averaged(data):
    whole = d2lnets.load_fashion_mnist(SUBSET)
    assert data.train.images.shape == data.test.images.shape == (256, 1, 14, 14) and len(data.validation) == 0
    assert data.train.images.dtype == torch.uint8 and torch.equal(data.train.labels, whole.train.labels[:256])
    square = whole.train.images[:256, :, 12:14, 6:8].float().mean(dim=(1, 2, 3))
    assert (data.train.images[:, 0, 6, 3] - square).abs().max() <= 0.5


@pytest.mark.parametrize("depth", ["20", "56"])
def test_a_plain_network_and_its_twin_start_equal(depth):
    states = []
    for kind in ("plain", "resnet"):
        torch.manual_seed(0)
        states.append(build(f"{kind}{depth}-thin").state_dict())
    plain, residual = states
    assert plain.keys() == residual.keys() and all(torch.equal(plain[key], residual[key]) for key in plain)


def test_a_measurement_is_repeatable_and_in_fractions(data):
    recipe = replace(degradation.RECIPE, epochs=1)
    first, again = (degradation.measure("resnet20-thin", data, 1, recipe, "cpu") for _ in range(2))
    assert (first["network"], first["seed"]) == ("resnet20-thin", 1) and first.pop("cpu_seconds") > 0
    assert first == {key: again[key] for key in first}
    assert all(0 < first[key] < 1 for key in ("train_error", "last_epoch_error", "test_error"))


def test_the_record_is_whole():
    record = degradation.load()
    assert record["recipe"] == asdict(degradation.RECIPE) and record["machine"]["threads"] == 1
    found = sorted((run["network"], run["seed"]) for run in record["runs"])
    assert found == sorted((network, seed) for network in degradation.NAMES for seed in range(3))
    assert "/" not in json.dumps([record["machine"], record["recipe"]])  # no path of a machine
