"""What the checks of blocks and networks ask for."""

from collections.abc import Callable
from dataclasses import dataclass, field

from d2lnets.checks import programs


@dataclass(frozen=True)
class Contract:
    """What is expected of an answer.

    Attributes:
        program: the reference.
        mistakes: variants of the program that are wrong, and what is wrong with each.
        names: of the constructor's arguments, in order, each with other names that are understood; none for a network.
        cases: the arguments that it is built with.
        more: arguments that a constructor may have besides, for a case.
        rights: variants of the program that are right, and what is said of each where only one is.
    """

    what: str
    program: Callable
    mistakes: dict
    hint: str
    names: dict = field(default_factory=dict)
    cases: tuple = ({},)
    more: Callable = lambda case: {}
    rights: dict = field(default_factory=lambda: {None: ""})

    def shapes(self, case):
        """Of the inputs; the first one in training mode too."""
        if not self.names:
            return (2, 1, 64, 64), (1, 1, 96, 80)
        channels = case["in_channels"]
        return (3, channels, 8, 7), (1, channels, 9, 6), (2, channels, 12, 12)


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
    "residual block", programs.residual, programs.RESIDUAL_MISTAKES,
    "Read y = relu(shortcut(x) + F(x)) from the inside out, and go through your forward line by line.",
    {"in_channels": IN, "out_channels": OUT, "stride": STRIDE},
    _cases(("in_channels", "out_channels", "stride"),
           (4, 4, 1), (4, 6, 1), (4, 6, 2), (6, 6, 2), (5, 3, 1), (3, 5, 3)),
    _needs_1x1,
)
BOTTLENECK = Contract(
    "bottleneck", programs.bottleneck, programs.BOTTLENECK_MISTAKES,
    "Write the branch down as a list, from the 1×1 that reduces to the 1×1 that expands; what follows each of them?",
    {"in_channels": IN, "filters": FILTERS, "stride": STRIDE},
    _cases(("in_channels", "filters", "stride"),
           (8, (4, 5, 8), None), (9, (3, 3, 7), 1), (6, (4, 5, 8), 2), (6, (4, 4, 6), 2)),
    lambda case: dict.fromkeys(("kernel_size", "f", "kernel", "k"), 3),
    {None: "the stride is on the first 1×1, as in the networks of 2015",
     "v1.5": "the stride is on the 3×3, as in torchvision (v1.5)"},
)
DENSE_BLOCK = Contract(
    "dense block", programs.dense_block, programs.DENSE_MISTAKES,
    "What does the second layer receive, and in which order? Print the shape after each layer.",
    {"num_convs": LAYERS, "in_channels": IN, "growth_rate": GROWTH},
    _cases(("num_convs", "in_channels", "growth_rate"), (3, 5, 4), (1, 3, 2), (4, 6, 6)),
)
POOL_FIRST = "the pool stands before the 1×1 convolution, which gives the same with less work"
TRANSITION = Contract(
    "transition", programs.transition, programs.TRANSITION_MISTAKES,
    "Four steps: which one changes the channels, which one the size, and what stands before them?",
    {"in_channels": IN, "out_channels": OUT},
    _cases(("in_channels", "out_channels"), (6, 3), (4, 5)),
    rights={None: "", "nrpc": POOL_FIRST},
)
INCEPTION = Contract(
    "Inception block", programs.inception, programs.INCEPTION_MISTAKES,
    "Feed one path alone, and print its shape; what follows every convolution?",
    {"in_channels": IN, "c1": ["c1", "ch1x1"], "c2": ["c2", "ch3x3"], "c3": ["c3", "ch5x5"],
     "c4": ["c4", "pool_proj"]},
    _cases(("in_channels", "c1", "c2", "c3", "c4"), (8, 2, (3, 4), (5, 6), 7), (5, 3, (3, 3), (2, 3), 3)),
    lambda case: dict(zip(("ch3x3red", "ch3x3", "ch5x5red", "ch5x5"), case["c2"] + case["c3"])),  # torchvision's
)
NETWORK_HINT = "Print the shape after each part (d2lnets.trace_shapes does it), and compare with the table."
RESNET18 = Contract("ResNet-18", programs.resnet18, programs.RESNET18_MISTAKES, NETWORK_HINT)
DENSENET = Contract("DenseNet", programs.densenet, programs.DENSENET_MISTAKES, NETWORK_HINT,
                    rights={None: "", "transition nrpc": f"in the transitions {POOL_FIRST}"})
GOOGLENET = Contract("GoogLeNet", programs.googlenet, programs.GOOGLENET_MISTAKES, NETWORK_HINT)
# fmt: on
