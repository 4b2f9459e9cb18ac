"""Differences by seed and by image, checked by enumeration, by simulation and by published values."""

from itertools import product
from math import comb

import numpy as np
import pytest
import torch

import d2lnets
from d2lnets.training.evidence import (
    accuracy,
    by_seed,
    images_needed,
    mcnemar,
    paired,
    seeds_needed,
    taken_for,
    wrong,
)
from d2lnets.training.runs import Run, pack


def run(seed, errors, device="cpu"):
    packed = {"test": pack(torch.tensor(errors))}
    return Run("net", {}, seed, 1, 1, "no", {"device": device}, {}, errors=packed)


def test_the_sign_flip_test_goes_through_all_signs():
    a, b = [0.93, 0.94, 0.92, 0.95, 0.93], [0.92, 0.935, 0.925, 0.94, 0.91]
    gaps = np.subtract(a, b)
    sums = [abs(sum(sign * gap for sign, gap in zip(signs, gaps))) for signs in product((1, -1), repeat=5)]
    assert paired(a, b).p_value == np.mean([each >= abs(gaps.sum()) - 1e-12 for each in sums])
    assert paired([1, 2, 3], [0, 0, 0]).p_value == 2 / 8  # the least that three seeds allow
    assert paired(range(1, 7), [0] * 6).p_value == 2 / 64


def test_the_interval_is_students():
    found = paired([1.0, 2.0, 4.0], [0.0, 0.0, 0.0])
    assert found.mean == pytest.approx(7 / 3) and found.each == (1, 2, 4)
    # 4.3027 is Student's quantile for 2 degrees of freedom; the differences' standard deviation is sqrt(7 / 3)
    assert found.high - found.mean == pytest.approx(4.3027 * (7 / 3) ** 0.5 / 3**0.5, rel=1e-4)
    assert str(paired([0.931, 0.94], [0.93, 0.938])) == "+0.15 (-0.49 to +0.79)"
    assert not found.is_clear and paired([1, 1.1, 1.2], [0, 0, 0]).is_clear


def test_the_interval_covers_as_often_as_it_says():
    random = np.random.default_rng(0)
    draws = random.normal(0.3, 1, (400, 6))
    covered = np.mean([found.low < 0.3 < found.high for found in (paired(draw, np.zeros(6)) for draw in draws)])
    assert 0.92 < covered < 0.98


def test_mcnemars_test_counts_what_tells_two_networks_apart():
    a = torch.tensor([True] * 5 + [False] * 15 + [True] * 30 + [False] * 950)
    b = torch.tensor([False] * 5 + [True] * 15 + [True] * 30 + [False] * 950)
    found = mcnemar(a, b)
    assert found.mean == pytest.approx(0.010)  # a is right on ten images more
    assert found.p_value == pytest.approx(2 * sum(comb(20, k) for k in range(6)) / 2**20, rel=1e-9)
    assert found.high - found.mean == pytest.approx(1.96 * (20 / 1000**2 - 0.01**2 / 1000) ** 0.5, rel=1e-3)
    assert mcnemar(a, a).p_value == 1 and mcnemar(b, a).mean == -found.mean


def test_what_a_run_took_the_test_images_for():
    (run, *_) = d2lnets.load_experiment("gpu_networks")["resnet20", d2lnets.Recipe()]
    labels, guesses = taken_for(run, "test_mirrored")
    assert (guesses == labels).double().mean().item() == pytest.approx(run.test["accuracy"], abs=1e-9)
    assert torch.equal(guesses != labels, wrong(run, "test_mirrored")) and 0 <= guesses.min() < guesses.max() == 9
    assert torch.bincount(labels).tolist() == [1000] * 10


def test_how_many_seeds_and_images_a_difference_needs():
    assert seeds_needed(1, 1) == 10 and seeds_needed(2, 1) == 34  # Cohen's tables for d = 1 and 0.5
    assert images_needed(0.035, 0.003) == pytest.approx(15_600, abs=50)
    assert images_needed(2 * 0.07 * 0.93, 0.003) == pytest.approx(57_900, abs=50)  # of two sets of images


def test_runs_are_paired_by_seed():
    runs, others = [run(0, [0, 0, 0, 1]), run(1, [0, 0, 0, 0])], [run(1, [0, 9, 0, 0]), run(0, [0, 0, 2, 1])]
    assert by_seed(runs, others, accuracy()).each == (0.25, 0.25)
    assert wrong(runs[0]).tolist() == [False, False, False, True]
    with pytest.raises(ValueError, match=r"the same seeds, each once, and have \[0, 1\] and \[1\]"):
        by_seed(runs, others[:1], accuracy())
    with pytest.raises(ValueError, match="each once"):
        by_seed([*runs, runs[0]], others, accuracy())
    with pytest.raises(ValueError, match="two pairs or more, got 1"):
        by_seed(runs[1:], others[:1], accuracy())
    with pytest.raises(ValueError, match="one kind of machine; seed 0 has cpu and NVIDIA H200"):
        by_seed(runs, [run(0, [0], "NVIDIA H200"), others[0]], accuracy())
    elsewhere = [run(0, [0, 0, 0, 1], "NVIDIA H200")], [run(0, [0, 0, 2, 1], "NVIDIA H200")]
    assert by_seed([*elsewhere[0], runs[1]], [*elsewhere[1], others[0]], accuracy()).each == (0.25, 0.25)
