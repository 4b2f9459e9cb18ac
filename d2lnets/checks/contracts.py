"""What the checks of blocks and networks ask for."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from torch import Tensor

from d2lnets.checks.programs import dense, inception, networks, residual
from d2lnets.checks.programs.variants import Variant, within

Case = dict[str, Any]


@dataclass(frozen=True)
class Contract:
    """What is expected of an answer.

    Attributes:
        program: the reference.
        rights: variants of the program that are right; answers are compared with the first, and where only one of
            several is theirs, what it says is noted.
        mistakes: variants that are wrong; the first that gives what an answer gave says the cause.
        names: of the constructor's arguments, in order, each with other names that are understood; none for a network.
        cases: the arguments that it is built with.
        more: arguments that a constructor may have besides, for a case.
        larger: by how much the inputs are higher and wider than usual; those of a network by eight times as much.
    """

    what: str
    program: Callable[..., Tensor]
    rights: tuple[Variant, ...]
    mistakes: tuple[Variant, ...]
    hint: str
    names: dict[str, list[str]] = field(default_factory=dict)
    cases: tuple[Case, ...] = ({},)
    more: Callable[[Case], Case] = lambda case: {}
    larger: int = 0

    def shapes(self, case: Case) -> tuple[tuple[int, ...], ...]:
        """Of the inputs; the first one in training mode too."""
        step, channels = self.larger, case.get("in_channels", 1)
        shapes = [(3, 8, 7), (1, 9, 6), (2, 12, 12)]
        if not self.names:
            step, shapes = 8 * step, [(2, 64, 64), (1, 96, 80)]
        return tuple((n, channels, height + step, width + step) for n, height, width in shapes)

    def varied(self, seed: int) -> "Contract":
        """Itself for seed 0; else with other channels, equal where they were equal, and larger inputs."""
        if seed == 0:
            return self
        random = Random(seed)
        others = dict(zip(range(1, 10), random.sample(range(3, 14), 9)))
        cases = [{name: _with(others, name, value) for name, value in case.items()} for case in self.cases]
        return replace(self, cases=tuple(cases), larger=random.randint(1, 3))


def _with(others, name, value):
    if name in ("stride", "num_convs"):
        return value
    return tuple(others[each] for each in value) if isinstance(value, tuple) else others[value]


def _cases(names, *cases):
    return tuple(dict(zip(names, case)) for case in cases)


def _needs_1x1(case):
    needed = case["stride"] != 1 or case["in_channels"] != case["out_channels"]
    return dict.fromkeys(("use_1x1conv", "use_1x1", "use_conv1x1", "use_1x1_conv", "use_projection"), needed)


# fmt: off
IN = ["in_channels", "in_channel", "input_channels", "num_in", "c_in", "in_c", "cin", "in_ch", "inplanes", "in_planes",
      "nin", "inp", "in_features", "channels_in", "in_chans", "input_dim"]
OUT = ["out_channels", "out_channel", "output_channels", "num_out", "c_out", "out_c", "cout", "out_ch", "planes",
       "out_planes", "oup", "nout", "num_channels", "channels_out", "channels", "out", "filters", "num_filters"]
STRIDE = ["stride", "strides", "s"]
FILTERS = ["filters", "channels", "widths", "num_filters"]
LAYERS = ["num_convs", "num_layers", "n_layers", "layers", "n", "num_conv", "depth", "n_convs"]
GROWTH = ["growth_rate", "growth", "k", "num_channels", "out_channels", "growthrate"]
RESIDUAL = Contract(
    "residual block", residual.residual, (residual.Residual(),), residual.RESIDUAL_MISTAKES,
    "Read y = relu(shortcut(x) + F(x)) from the inside out, and go through your forward line by line.",
    {"in_channels": IN, "out_channels": OUT, "stride": STRIDE},
    _cases(("in_channels", "out_channels", "stride"),
           (4, 4, 1), (4, 6, 1), (4, 6, 2), (6, 6, 2), (5, 3, 1), (3, 5, 3)),
    _needs_1x1,
)
BOTTLENECK = Contract(
    "bottleneck", residual.bottleneck,
    (residual.Residual("the stride is on the first 1×1, as in the networks of 2015"), residual.V1_5),
    residual.BOTTLENECK_MISTAKES,
    "Write the branch down as a list, from the 1×1 that reduces to the 1×1 that expands; what follows each of them?",
    {"in_channels": IN, "filters": FILTERS, "stride": STRIDE},
    _cases(("in_channels", "filters", "stride"),
           (8, (4, 5, 8), None), (9, (3, 3, 7), 1), (6, (4, 5, 8), 2), (6, (4, 4, 6), 2)),
    lambda case: dict.fromkeys(("kernel_size", "f", "kernel", "k"), 3),
)
DENSE_BLOCK = Contract(
    "dense block", dense.dense_block, (dense.DenseBlock(),), dense.DENSE_MISTAKES,
    "What does the second layer receive, and in which order? Print the shape after each layer.",
    {"num_convs": LAYERS, "in_channels": IN, "growth_rate": GROWTH},
    _cases(("num_convs", "in_channels", "growth_rate"), (3, 5, 4), (1, 3, 2), (4, 6, 6)),
)
TRANSITION = Contract(
    "transition", dense.transition, (dense.Transition(), dense.POOL_FIRST), dense.TRANSITION_MISTAKES,
    "Four steps: which one changes the channels, which one the size, and what stands before them?",
    {"in_channels": IN, "out_channels": OUT},
    _cases(("in_channels", "out_channels"), (6, 3), (4, 5)),
)
INCEPTION = Contract(
    "Inception block", inception.inception, (inception.Inception(),), inception.INCEPTION_MISTAKES,
    "Feed one path alone, and print its shape; what follows every convolution?",
    {"in_channels": IN, "c1": ["c1", "ch1x1"], "c2": ["c2", "ch3x3"], "c3": ["c3", "ch5x5"],
     "c4": ["c4", "pool_proj"]},
    _cases(("in_channels", "c1", "c2", "c3", "c4"), (8, 2, (3, 4), (5, 6), 7), (5, 3, (3, 3), (2, 3), 3)),
    lambda case: dict(zip(("ch3x3red", "ch3x3", "ch5x5red", "ch5x5"), case["c2"] + case["c3"])),  # torchvision's
)
NETWORK_HINT = "Print the shape after each part (d2lnets.trace_shapes does it), and compare with the table."
RESNET18 = Contract("ResNet-18", networks.resnet18, (networks.ResNet18(),), networks.RESNET18_MISTAKES, NETWORK_HINT)
DENSENET = Contract(
    "DenseNet", networks.densenet,
    (networks.DenseNet(), *within(networks.DenseNet, "transition", [dense.POOL_FIRST], "in the transitions ")),
    networks.DENSENET_MISTAKES, NETWORK_HINT,
)
GOOGLENET = Contract("GoogLeNet", networks.googlenet, (networks.GoogLeNet(),), networks.GOOGLENET_MISTAKES,
                     NETWORK_HINT)
# fmt: on
