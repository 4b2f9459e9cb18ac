"""The degradation experiment: twins start equal, images are averaged, and the record is what it says it is."""

import pytest
import torch

import d2lnets
from d2lnets.data import SUBSET
from d2lnets.networks import build
from d2lnets.training import degradation
from d2lnets.training.runs import load_experiment


@pytest.fixture(scope="module")
def data():
    return degradation.halved(d2lnets.load_fashion_mnist(SUBSET).take(256))


def test_squares_of_four_pixels_are_averaged(data):
    whole = d2lnets.load_fashion_mnist(SUBSET)
    for name in ("validation", "test"):
        assert getattr(data, name).images.shape == (len(getattr(whole, name)), 1, 14, 14)
    assert data.train.images.shape == (256, 1, 14, 14)
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


def test_the_record_has_every_epoch_of_three_seeds():
    runs = load_experiment("degradation")
    assert set(runs) == {(name, degradation.RECIPE) for name in degradation.NAMES}
    for each in runs.values():
        assert [run.seed for run in each] == [0, 1, 2]
        assert len({str(run.first_losses) for run in each}) == 3  # no seed is another's copy
        for run in each:
            assert (run.examples, run.machine["threads"], len(run.epochs)) == (degradation.EXAMPLES, 1, 80)
            assert all(0 <= epoch["train_error"] <= 1 for epoch in run.epochs)
