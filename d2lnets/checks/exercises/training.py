"""The exercises of the chapter "The training loop"."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from d2lnets.checks.exercises.exercise import Exercise, expect, expect_tensor, numbers
from d2lnets.checks.judging import call
from d2lnets.data import seeded
from d2lnets.resnet import fast_resnet

START, WORK, OPERATIONS = 0.020, 0.0025, 400  # ms, ms


def step_times(larger: float = 4, wait: bool = False) -> list[float]:
    """Of exercise 1, in ms; with `wait`, of a Python that starts nothing while the GPU works."""
    pace = sum if wait else max
    return [*(OPERATIONS * pace((START, times * WORK)) for times in (1, larger)), START + OPERATIONS * WORK]


def judge_unscale(given: Any, gradients: list[Tensor], scale: float) -> None:
    expect(isinstance(given, (tuple, list)) and len(given) == 2, "Two things were expected: gradients and a scale.")
    found, after = given
    (after,) = numbers(after, 1, "the scale to go on with").tolist()
    finite = [bool(gradient.isfinite().all()) for gradient in gradients]
    hint = "Try it on one gradient of three numbers, one of them infinite, and on one without."
    if not all(finite):
        expect(found is None, "None was expected in place of gradients that are not finite.",
               "only the first or the last gradient is looked at" if finite[0] or finite[-1] else
               "infinities, or what is not a number, are overlooked", hint)  # fmt: skip
        cause = "the scale is doubled where it should shrink" if after == 2 * scale else ""
        expect(after == scale / 2, "Half the scale was expected after an infinity.", cause, hint)
        return
    expect(after == scale, "The same scale was expected where all is finite.", "it shrinks after every batch", hint)
    expect(found is not None and len(found) == len(gradients), "All gradients were expected, divided.", "", hint)
    for one, gradient in zip(found, gradients):
        mistakes = {"they are still scaled": gradient, "they are multiplied once more": gradient * scale,
                    "they are divided by half the scale": 2 * gradient / scale}  # fmt: skip
        expect_tensor(one, gradient / scale, mistakes, hint)


def gradient_of(net: nn.Module, parts: list[tuple[Tensor, Tensor]], share: float | None = None) -> Tensor:
    """Of the losses of several parts of a batch, added up, each divided by their number or times `share`."""
    net = copy.deepcopy(net)
    for x, labels in parts:
        (F.cross_entropy(net(x), labels) * (share or 1 / len(parts))).backward()
    return torch.cat([weight.grad.flatten() for weight in net.parameters() if weight.grad is not None])


def gap_of_halves(net: nn.Module, x: Tensor, labels: Tensor, share: float | None = None) -> float:
    halves = list(zip(x.chunk(2), labels.chunk(2)))
    whole = gradient_of(net, [(x, labels)])
    return ((gradient_of(net, halves, share) - whole).norm() / whole.norm()).item()


def judge_gap_of_halves(given: Any, net: nn.Module, x: Tensor, labels: Tensor) -> None:
    (gap,) = numbers(given, 1, "the part by which the gradients differ").tolist()
    hint = "For the network without batch norm the two must agree but for rounding."
    right, undivided = gap_of_halves(net, x, labels), gap_of_halves(net, x, labels, 1.0)
    cause = ""
    if abs(gap - undivided) < 0.05 * undivided:
        cause = "the losses of the halves are added, where their mean is wanted"
    elif gap == 0:
        cause = "both gradients are the same tensor, or of the same pass"
    expect(abs(gap - right) < 0.05 * right + 1e-4, f"{gap:.2g} is not by how much they differ.", cause, hint)


def traffic(images: int, side: int, epochs: int, numbers: int = 4) -> list[float]:
    """Of exercise 4, in MB; the loader's pixels have so many bytes."""
    return [images * side**2 * numbers * epochs / 1e6, images * 28**2 / 1e6]


def largest_scale(gradients: Tensor, largest: float = 65_504.0) -> float:
    """The largest power of two that takes no gradient out of the range."""
    scale = 2.0**40
    while (gradients.abs() * scale).max() > largest:
        scale /= 2
    return scale


class _Counted(nn.Module):
    """A stage that counts how often it ran; the answer gets this one, and no copy."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 6), nn.Tanh())
        self.runs = 0

    def __deepcopy__(self, memo: dict) -> "_Counted":
        return self

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return self.layers(x)


def judge_recomputed(given: Any, stage: _Counted) -> None:
    hint = (
        "In backward: detach the input, require its gradient, enable gradients, run the stage, and go back from there."
    )
    expect(callable(given), f"A function of x was expected; {type(given).__name__} came.", "", hint)
    x, wanted = (torch.linspace(-1, 1, 24).view(4, 6).requires_grad_() for _ in range(2))
    weights = torch.linspace(0.5, 2.0, 24).view(4, 6)
    loss = (stage.layers(wanted) * weights).sum()
    of_input, *of_weights = torch.autograd.grad(loss, [wanted, *stage.layers.parameters()])
    plain = torch.autograd.grad(stage.layers(wanted).sum(), wanted)[0]
    stage.zero_grad()
    stage.runs = 0
    out = call("in the forward pass", given, x)
    expect_tensor(out, stage.layers(x), {}, hint)
    expect(stage.runs == 1, f"One run of the stage was expected in the forward pass, not {stage.runs}.", "", hint)
    expect(out.requires_grad, "The output has no backward pass.", "it was made without a record of how", hint)
    call("in the backward pass", (out * weights).sum().backward)
    kept = "the forward pass kept everything, and nothing is computed again"
    expect(stage.runs == 2, "One more run of the stage was expected in the backward pass.", kept, hint)
    for gradient, weight in zip(of_weights, stage.layers.parameters()):
        expect(weight.grad is not None, "A weight got no gradient.", "only that of the input is computed", hint)
        expect_tensor(weight.grad, gradient, {}, hint)
    expect(x.grad is not None, "The input got no gradient.", "backward returns none for it", hint)
    expect_tensor(x.grad, of_input, {"the gradient that comes from behind is left out": plain}, hint)


GRADIENTS = [torch.tensor([1024.0, -2048.0]), torch.tensor([[512.0], [64.0]])]
BROKEN = [torch.tensor([1.0, float("inf")]), torch.tensor([1.0])]
LAST_BROKEN = [torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([float("nan"), 1.0])]
PICTURES = torch.rand(32, 1, 28, 28, generator=seeded(1)), torch.arange(32) % 10


def _networks() -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return fast_resnet(), nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.Tanh(), nn.Linear(16, 10))


def _stage() -> _Counted:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _Counted()


TRAINING = {
    1: Exercise(
        step_times,
        hint="Which of the two workers is the slower one in each of the three cases?",
        mistakes={
            "Python is taken to wait for the GPU at every operation": step_times(wait=True),
            "the larger batch is taken to cost four times as much, though the GPU was waiting": [8.0, 32.0, 1.02],
            "the graph is taken to be done once it is started": [8.0, 8.0, 0.02],
            "a graph still starts every operation": [8.0, 8.0, 8.0],
            "only the work of the GPU is counted": [1.0, 4.0, 1.0],
        },
        tolerance=0.03,
    ),
    2: Exercise(
        None,
        judge=judge_unscale,
        note="The weights stay as they are for that batch; after many good ones GradScaler doubles the scale again.",
        calls=((GRADIENTS, 1024.0), (BROKEN, 65536.0), (LAST_BROKEN, 8.0)),
    ),
    3: Exercise(
        None,
        judge=judge_gap_of_halves,
        note="Without batch norm the halves add up to the whole. With it each image is normalized with its half's mean "
        "and variance, and the network computes something else.",
        calls=tuple((net, *PICTURES) for net in _networks()),
        limit=60,
    ),
    4: Exercise(
        traffic,
        hint="How many bytes has a pixel on each way, and how often does it travel?",
        calls=((60_000, 96, 10), (50_000, 28, 2)),
        others=lambda random: ((random.randint(1_000, 90_000), random.randint(20, 200), random.randint(2, 30)),),
        mistakes={
            "the loader is taken to send bytes, not 32-bit numbers": lambda i, s, e: traffic(i, s, e, 1),
            "the loader is taken to send the images once, not in every epoch": lambda i, s, e: traffic(i, s, 1),
            "the bytes are sent in every epoch": lambda i, s, e: [traffic(i, s, e)[0], e * traffic(i, s, e)[1]],
            "the images of 28×28 are taken to be 32-bit numbers too": lambda i, s, e: [
                traffic(i, s, e)[0],
                4 * traffic(i, s, e)[1],
            ],
            "it is bytes, not megabytes": lambda i, s, e: [1e6 * each for each in traffic(i, s, e)],
        },
        tolerance=1e-3,
    ),
    5: Exercise(
        largest_scale,
        hint="What is the largest of the gradients, times the scale, and what the largest number of fp16?",
        note="Above it a gradient becomes infinite, and the step is lost; far below it the smallest become zero.",
        calls=((torch.tensor([0.011, -1e-6, 0.0]),), (torch.tensor([3.0, -200.0]),)),
        others=lambda random: ((torch.tensor([random.uniform(1e-4, 1), -random.uniform(2, 900), 0.0]),),),
        mistakes={
            "the sign is forgotten: the largest in size may be negative": lambda g: largest_scale(g.clamp(min=0)),
            "it is twice as large as it may be": lambda g: 2 * largest_scale(g),
            "it is a power of two, but not the largest": lambda g: largest_scale(g) / 2,
            "it is not a power of two": lambda g: (65_504.0 / g.abs().max()).item(),
        },
    ),
    6: Exercise(
        None,
        judge=judge_recomputed,
        note="torch.utils.checkpoint does this, and takes care of autocast and of dropout's random numbers as well.",
        calls=((_stage(),),),
    ),
}
