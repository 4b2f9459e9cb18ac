"""The exercises of the chapter "Out of the classroom"."""

import torch
from torch import nn
from torch.nn import functional as F

from d2lnets.checks.exercises.exercise import Exercise, expect, expect_tensor


def last_step(images=55_000, batch=512, processes=4):
    steps = -(-images // batch)
    return [steps, (images - (steps - 1) * batch) / processes]


def squeeze_excite(narrow=16, biases=1):
    """Parameters, and their share of a bottleneck's: three convolutions; a bias, scale and shift for each channel."""
    added = 2 * 256 * narrow + biases * (narrow + 256)
    bottleneck = 256 * 64 + 9 * 64 * 64 + 64 * 256 + 3 * (64 + 64 + 256)
    return [added, added / bottleneck]


def judge_two_groups(joined, x, first, second):
    a, b = x.chunk(2, dim=1)
    with torch.no_grad():
        grouped = F.conv2d(x, torch.cat([first.weight, second.weight]), padding=1, groups=2)
        mistakes = {
            "both convolutions see the first half of the channels": torch.cat([first(a), second(a)], dim=1),
            "the halves of the channels are swapped": torch.cat([first(b), second(a)], dim=1),
            "the two results are joined in the other order": torch.cat([second(b), first(a)], dim=1),
            "the second convolution is not used": torch.cat([first(a), first(b)], dim=1),
            "each takes every other channel, not one half": torch.cat([first(x[:, ::2]), second(x[:, 1::2])], dim=1),
            "the two results are added, not concatenated": first(a) + second(b),
            "they are concatenated along the height": torch.cat([first(a), second(b)], dim=2),
            "they are concatenated along the width": torch.cat([first(a), second(b)], dim=3),
            "they are concatenated along the batch": torch.cat([first(a), second(b)]),
        }
    hint = "Which channels of x does the first group see, and which channels of the output does it make?"
    expect_tensor(joined.detach() if isinstance(joined, torch.Tensor) else joined, grouped, mistakes, hint)


def fold(conv, norm, v=None):
    """Weight and bias of the convolution that does what both do; `v` names a mistake."""
    variance = norm.running_var + (0 if v == "eps" else norm.eps)
    scale = norm.weight / (variance if v == "root" else variance.sqrt())
    scale = torch.ones_like(scale) / variance.sqrt() if v == "scale" else scale
    bias = torch.zeros_like(scale) if conv.bias is None or v == "bias" else conv.bias
    mean = torch.zeros_like(scale) if v == "mean" else norm.running_mean
    bias = bias - mean * scale if v == "bias as it is" else (bias - mean) * scale
    weight = conv.weight if v == "weight" else conv.weight * scale[:, None, None, None]
    return weight, bias + (0 if v == "shift" else norm.bias)


def judge_folded(folded, conv, norm):
    expect(isinstance(folded, nn.Conv2d), f"A convolution (nn.Conv2d) was expected; {type(folded).__name__} came.")
    x = torch.randn(2, 3, 9, 9)
    causes = {
        "eps": "the small number eps is not added to the variance",
        "root": "the variance stands where its square root, the deviation, belongs",
        "scale": "batch norm's own weight is missing from the scale",
        "bias": "the bias of the convolution is lost: batch norm scales it as well",
        "bias as it is": "the bias of the convolution has to be scaled, like its weights",
        "mean": "the running mean is not subtracted",
        "shift": "batch norm's own bias is not added",
        "weight": "the weights are not scaled",
    }
    with torch.no_grad():
        wanted = norm(conv(x))
        mistakes = {words: F.conv2d(x, *fold(conv, norm, v), conv.stride, conv.padding) for v, words in causes.items()}
        mistakes["nothing is folded: it is the convolution as it was"] = conv(x)
        if folded.weight.shape == conv.weight.shape:
            plain = (folded.stride, folded.padding) != (conv.stride, conv.padding)
            expect(not plain, "Another stride or padding came than the convolution's.", "they are not copied from it")
        expect_tensor(folded(x), wanted, mistakes, "Write norm(conv(x)) as a formula for one channel.")


def layers_to_fold():
    """Two pairs of a convolution and a batch norm, in eval mode; the random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pairs = []
        for bias, stride in ((True, 1), (False, 2)):
            conv, norm = nn.Conv2d(3, 4, 3, stride, padding=1, bias=bias).eval(), nn.BatchNorm2d(4, eps=0.01).eval()
            for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                nn.init.uniform_(values, 0.1, 0.9)
            pairs.append((conv, norm))
    return tuple(pairs)


def groups_to_join():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.randn(2, 8, 5, 5), *(nn.Conv2d(4, 3, 3, padding=1, bias=False) for _ in range(2))


HARM = ["inverted", "upside down", "moved"]

BEYOND = {
    1: Exercise(
        last_step,
        hint="The batch size is over all processes. How many images are left for the last step?",
        mistakes={
            "the images that are left are not counted as a step": [55_000 // 512, 54],
            "the last images are not shared among the four processes": [108, 216],
            "each process is given a batch of 512 of its own": last_step(batch=2048),
            "the last step is taken for a full one": [108, 128],
        },
    ),
    2: Exercise(
        squeeze_excite,
        hint="Two convolutions 1×1, from 256 to 16 channels and back.",
        mistakes={
            "the biases of its two layers are not counted": squeeze_excite(biases=0),
            "the added parameters are counted in the bottleneck": [squeeze_excite()[0], 8_464 / (70_784 + 8_464)],
            "the share is a percentage": [squeeze_excite()[0], 100 * squeeze_excite()[1]],
            "only the first of its two layers is counted": [256 * 16 + 16, (256 * 16 + 16) / 70_784],
            "the channels are divided by 4, not by 16": squeeze_excite(narrow=64),
        },
        tolerance=1e-3,
    ),
    3: Exercise(
        None,
        judge=judge_two_groups,
        note="It is what groups=2 computes.",
        calls=(groups_to_join(),),
    ),
    4: Exercise(
        None,
        judge=judge_folded,
        note="In training mode the mean and variance are those of the batch at hand, which no fixed weights can know.",
        calls=layers_to_fold(),
    ),
    5: Exercise(
        lambda: HARM,
        hint="Print the four accuracies.",
        note="The network was trained on mirror images, and on nothing else of this kind.",
        mistakes={
            "the least harmful stands first": HARM[::-1],
            "the names stand in the order of the exercise": ["inverted", "moved", "upside down"],
        },
        limit=60,
    ),
}
