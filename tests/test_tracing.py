"""The trace tells the truth, checked against PyTorch's own counter, and touches nothing."""

import copy
import math
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torchinfo
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, weight_norm
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.feature_extraction import create_feature_extractor

from d2lnets import Residual, densenet, googlenet, plots, resnet18, resnet50, trace_shapes


class Net(nn.Module):
    """Whose forward is a function of the network and its input."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.run(self, x)


def conv(in_channels=1, channels=1, **options):
    return nn.Conv2d(in_channels, channels, 3, padding=1, **options)


def check_that_rows_add_up(trace):
    assert sum(stage.parameters for stage in trace) == trace.parameters
    for stage in trace:
        if stage.inside:
            assert sum(each.multiply_adds for each in stage.inside) == stage.multiply_adds
            check_that_rows_add_up(type(trace)(stage.input_shape, stage.inside, stage.parameters))


def rows(trace):
    return [(stage.name, stage.parameters, stage.receptive_field) for stage in trace]


def test_resnet18_at_96_has_the_rows_of_the_source():
    trace = trace_shapes(resnet18(), (1, 96, 96))
    rows = [(stage.name, stage.output_shape, stage.parameters) for stage in trace]
    assert rows == [
        ("stem", (64, 24, 24), 3_328),
        ("conv2_x", (64, 24, 24), 148_224),
        ("conv3_x", (128, 12, 12), 525_952),
        ("conv4_x", (256, 6, 6), 2_100_480),
        ("conv5_x", (512, 3, 3), 8_395_264),
        ("head", (10,), 5_130),
    ]
    assert trace.parameters == 11_178_378
    # by hand: kernel side + (k - 1) * step for every layer, the step doubling at each stride
    assert [stage.receptive_field for stage in trace] == [11, 43, 99, 211, 435, math.inf]


@pytest.mark.parametrize("shape", [(1, 96, 96), (1, 28, 28), (1, 33, 61)])
def test_multiply_adds_are_half_of_pytorchs_operations(shape):
    net = resnet18()
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(2, *shape))
    assert 2 * 2 * trace_shapes(net, shape).multiply_adds == counter.get_total_flops()


@pytest.mark.parametrize(
    "net, shape",
    [
        (nn.Sequential(nn.Linear(28, 5), nn.Flatten(), nn.Linear(140, 3)), (1, 28, 28)),
        (nn.Sequential(nn.Conv2d(1, 4, 3, groups=1), nn.ConvTranspose2d(4, 2, 3, stride=2)), (1, 9, 9)),
        (nn.Sequential(nn.Conv2d(4, 8, 3, groups=2)), (4, 9, 9)),
    ],
)
def test_multiply_adds_of_other_layers(net, shape):
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, *shape))
    assert 2 * trace_shapes(net, shape).multiply_adds == counter.get_total_flops()


@pytest.mark.parametrize(
    "net, field",
    [
        (nn.Sequential(nn.Conv2d(1, 1, (7, 1)), nn.Conv2d(1, 1, (1, 3))), 7),
        (nn.Sequential(nn.Conv2d(1, 1, 3, stride=(2, 1)), nn.Conv2d(1, 1, 3)), 7),
        (nn.MaxPool2d(3, 1, dilation=2), 5),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 26 * 26, 10)), math.inf),
    ],
)
def test_receptive_fields_of_other_layers(net, field):
    assert trace_shapes(net, (1, 28, 28))[-1].receptive_field == field


def test_a_receptive_field_that_is_not_followed_is_a_question_mark():
    trace = trace_shapes(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Upsample(scale_factor=2)), (1, 9, 9))
    assert str(trace).splitlines()[-2].endswith("?")


def test_hooks_of_the_caller_do_not_fire():
    seen = []
    net = resnet18()
    net.register_forward_hook(lambda *call: seen.append(call))
    trace_shapes(net, (1, 32, 32))
    assert seen == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_any_precision_is_traced(dtype):
    assert trace_shapes(resnet18().to(dtype), (1, 96, 96)).multiply_adds == 318_657_536


@pytest.mark.parametrize("net, reason", [(nn.LazyConv2d(3, 3), "lazy"), ("resnet18", "nn.Module")])
def test_what_cannot_be_traced_is_refused(net, reason):
    with pytest.raises(ValueError, match=reason):
        trace_shapes(net, (1, 28, 28))


def test_the_receptive_field_is_what_the_gradient_reaches():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 5, stride=2), nn.AvgPool2d(3, 2), Residual(2, 2), nn.Conv2d(2, 1, 3, dilation=2)
    )
    net.eval()
    x = torch.randn(1, 1, 129, 129, requires_grad=True)
    y = net(x)
    y[0, 0, y.shape[2] // 2, y.shape[3] // 2].backward()
    rows = x.grad[0, 0].abs().sum(1).nonzero()
    assert trace_shapes(net, (1, 129, 129))[-1].receptive_field == rows.max() - rows.min() + 1


def test_where_paths_meet_the_wider_one_counts():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.narrow, self.wide = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 7, padding=3)

        def forward(self, x):
            return torch.cat([self.narrow(x), self.wide(x)], dim=1)

    trace = trace_shapes(nn.Sequential(Two(), nn.Conv2d(2, 1, 1)), (1, 9, 9))
    assert [stage.receptive_field for stage in trace] == [7, 7]


def test_the_network_and_the_random_state_stay_as_they_were():
    net = resnet18()
    net(torch.randn(2, 1, 32, 32)).sum().backward()
    net.eval()
    net.conv3_x.train()  # a mode of its own inside
    state = copy.deepcopy(net.state_dict())
    modes = [module.training for module in net.modules()]
    gradients = [p.grad.clone() for p in net.parameters()]
    random_state = torch.random.get_rng_state()
    trace_shapes(net, (1, 96, 96))
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in state.items())
    assert modes == [module.training for module in net.modules()]
    assert all(torch.equal(g, p.grad) for g, p in zip(gradients, net.parameters(), strict=True))
    assert torch.equal(random_state, torch.random.get_rng_state())
    assert not any(module._forward_hooks for module in net.modules())


def test_it_prints_as_an_aligned_table_and_renders_as_html():
    trace = trace_shapes(resnet18(), (1, 96, 96))
    lines = str(trace).splitlines()
    assert len(lines) == 1 + 1 + 1 + 6 + 1
    assert len({len(line) for line in lines[:2] + lines[3:9]}) == 1  # aligned
    assert "64×24×24" in lines[3]
    assert "11,178,378" in lines[-1]
    assert trace._repr_html_().count("<tr>") == 1 + 1 + 6 + 1


def test_stages_are_found_by_name_and_place():
    trace = trace_shapes(resnet18(), (1, 96, 96))
    assert trace["conv4_x"] is trace[3]
    assert len(trace) == 6
    with pytest.raises(KeyError, match="there are stem, conv2_x"):
        trace["conv6_x"]


@pytest.mark.parametrize("shape", [(1, 96), (1, 0, 96), (1, 96, 96.0), "196", (2, 1, 96, 96), 28, None])
def test_a_shape_that_is_not_one_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(C, H, W\)"):
        trace_shapes(resnet18(), shape)


def test_numpys_integers_are_integers():
    trace = trace_shapes(conv(), tuple(np.array([1, 9, 9])))
    assert repr(trace.input_shape) == repr(trace[0].output_shape) == "(1, 9, 9)"


def test_wrong_channels_are_named():
    with pytest.raises(ValueError, match="takes 1 channels, not 3"):
        trace_shapes(resnet18(), (3, 96, 96))


def test_a_single_layer_is_its_own_stage():
    trace = trace_shapes(nn.Conv2d(3, 4, 3, bias=False), (3, 9, 9))
    assert (trace[0].output_shape, trace[0].parameters, trace[0].multiply_adds) == ((4, 7, 7), 108, 108 * 49)


# Whose rows are they? Children that share, rest, or leave work to the network itself


def of_blocks(act):
    return [Net(lambda net, x: net.act(net.conv(x)) + x, conv=conv(2, 2), act=act) for _ in range(2)]


def test_one_relu_in_several_blocks_is_a_row_in_each():
    relu = nn.ReLU()
    trace = trace_shapes(nn.Sequential(conv(1, 2), relu, *of_blocks(relu)), (1, 9, 9))
    assert rows(trace) == [("0", 20, 3), ("1", 0, 3), ("2", 38, 5), ("3", 38, 7)]
    assert [rows(trace.open(name)) for name in "23"] == [[("conv", 38, r), ("act", 0, r)] for r in (5, 7)]
    check_that_rows_add_up(trace)


def test_layers_in_a_list_are_rows():
    def run(net, x):
        for layer in net.layers:
            x = layer(x)
        return x

    net = Net(run, layers=nn.ModuleList([nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 3)]))
    assert rows(trace_shapes(net, (1, 9, 9))) == [("layers.0", 20, 3), ("layers.1", 57, 5)]


def test_a_block_used_twice_is_two_rows_and_counted_once():
    net = Net(lambda net, x: net.block(net.block(x)), block=conv())
    trace = trace_shapes(net, (1, 9, 9))
    assert rows(trace) == [("block", 10, 3), ("block", 0, 5)]
    assert trace.multiply_adds == 2 * 9 * 81


def test_a_layer_with_two_names_is_a_row_under_each():
    shared = nn.Conv2d(1, 1, 3)
    trace = trace_shapes(nn.Sequential(shared, nn.ReLU(), shared), (1, 9, 9))
    assert rows(trace) == [("0", 10, 3), ("1", 0, 3), ("2", 0, 5)]


def test_a_network_that_calls_itself_is_followed():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv()

        def forward(self, x, depth=3):
            return self(self.conv(x), depth - 1) if depth else x

    assert rows(trace_shapes(Deep(), (1, 9, 9))) == [("conv", 10, 3), ("conv", 0, 5), ("conv", 0, 7)]


def test_tied_weights_count_in_the_first_row():
    net = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
    net[1].weight = net[0].weight
    trace = trace_shapes(net, (1, 9, 9))
    assert [stage.parameters for stage in trace] == [90, 9]
    assert [stage.multiply_adds for stage in trace] == [729, 729]


def test_the_weight_of_an_embedding_in_the_output_counts_once():
    def run(net, x):
        return net.head(x.mean(2) + net.embedding(torch.zeros(1, 1, dtype=torch.int64)))

    net = Net(run, embedding=nn.Embedding(5, 9), head=nn.Linear(9, 5, bias=False))
    net.head.weight = net.embedding.weight
    assert [(stage.name, stage.parameters) for stage in trace_shapes(net, (1, 9, 9))] == [
        ("embedding", 45),
        ("head", 0),
    ]


def test_children_that_do_not_run_are_rows_without_a_shape():
    heads = nn.ModuleList([nn.Linear(2, 2), nn.Linear(3, 3)])
    trace = trace_shapes(Net(lambda net, x: net.used(x), never=conv(), used=conv(), heads=heads), (1, 9, 9))
    assert [(stage.name, stage.parameters, stage.ran) for stage in trace] == [
        ("used", 10, True), ("never", 10, False), ("heads.0", 6, False), ("heads.1", 12, False),
    ]  # fmt: skip
    assert str(trace).splitlines()[-4].split() == ["never", "not", "run", "10"]
    plots.draw_network(trace)


def test_the_auxiliary_heads_of_torchvisions_googlenet_do_not_run():
    trace = trace_shapes(torchvision.models.googlenet(aux_logits=True, init_weights=False), (3, 64, 64))
    assert [stage.name for stage in trace if not stage.ran] == ["aux1", "aux2"]
    check_that_rows_add_up(trace)


def test_what_the_network_holds_and_does_itself_is_its_last_row():
    def run(net, x):
        return F.conv2d(net.conv(x) + net.position, net.kernel).mean((2, 3)) @ net.weight

    held = {"position": torch.rand(4, 9, 9), "kernel": torch.rand(4, 4, 3, 3), "weight": torch.rand(4, 10)}
    net = Net(run, conv=conv(1, 4), **{name: nn.Parameter(tensor) for name, tensor in held.items()})
    trace = trace_shapes(net, (1, 9, 9))
    assert rows(trace) == [("conv", 40, 3), ("Net itself", 324 + 144 + 40, math.inf)]
    assert [stage.multiply_adds for stage in trace] == [36 * 81, 144 * 49 + 40]
    assert trace[-1].output_shape == (10,)


def test_a_layer_whose_weight_alone_is_used_belongs_to_the_network_itself():
    trace = trace_shapes(Net(lambda net, x: F.conv2d(net.a(x), net.b.weight), a=conv(), b=conv()), (1, 9, 9))
    assert rows(trace) == [("a", 10, 3), ("Net itself", 10, 5)]


def test_layers_in_a_python_list_have_no_row_and_no_parameters_but_work():
    net = Net(lambda net, x: net.layers[1](net.layers[0](x)), layers=[conv(), conv()])
    trace = trace_shapes(net, (1, 9, 9))
    assert rows(trace) == [("Net", 0, 5)] and trace.multiply_adds == 2 * 9 * 81


def test_a_layer_run_by_its_forward_is_a_row():
    net = Net(lambda net, x: net.a.forward(x), a=conv())
    assert rows(trace_shapes(net, (1, 9, 9))) == [("a", 10, 3)]


@pytest.mark.parametrize(
    "net, shape",
    [
        (torchvision.models.vit_b_16(), (3, 224, 224)),
        (torchvision.models.shufflenet_v2_x0_5(), (3, 64, 64)),
        (nn.Sequential(nn.Flatten(2), nn.TransformerEncoderLayer(81, 3, 4, batch_first=True)), (5, 9, 9)),
        (nn.Sequential(nn.Flatten(0, 1), nn.LSTM(9, 4, batch_first=True)), (3, 9, 9)),
        (Net(lambda net, x: net.conv(x[:, None]), conv=nn.Conv3d(1, 2, 3)), (3, 9, 9)),
        (Net(lambda net, x: torch.einsum("nchw,ncvw->nhv", x, x)), (3, 9, 9)),
        (
            Net(
                lambda net, x: next(x[0] @ weight for weight in net.weights),
                weights=nn.ParameterList([torch.ones(9, 2), torch.ones(9, 3)]),
                never=nn.ParameterList([torch.ones(5)]),
            ),
            (3, 9, 9),
        ),
        (Net(lambda net, x: torch.inference_mode()(net.fc)(x), fc=nn.Linear(9, 3)), (3, 9, 9)),
    ],
    ids=["ViT", "ShuffleNet", "transformer", "LSTM", "conv3d", "einsum", "parameters in a list", "inference mode"],
)
def test_rows_add_up_to_the_parameters_and_the_operations_of_pytorchs_counter(net, shape):
    trace = trace_shapes(net, shape)
    check_that_rows_add_up(trace)
    assert trace.parameters == sum(parameter.numel() for parameter in net.parameters())
    with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
        copy.deepcopy(net).to("meta").eval()(torch.zeros(1, *shape))
    assert 2 * trace.multiply_adds == counter.get_total_flops()


@pytest.mark.parametrize(
    "net, shape",
    [
        (resnet18(), (1, 96, 96)),
        (resnet50(), (3, 64, 64)),
        (densenet(small=True), (1, 28, 28)),
        (googlenet(), (1, 96, 96)),
    ],
    ids=["resnet18", "resnet50", "densenet", "googlenet"],
)
def test_torchinfo_counts_the_same_but_for_biases_and_batch_norm(net, shape):
    """It counts all parameters of a convolution once for each position, and those of other layers once."""
    summary, trace = torchinfo.summary(net, (1, *shape), verbose=0), trace_shapes(net, shape)
    assert summary.total_params == trace.parameters
    more = 0
    for layer in summary.summary_list:
        if isinstance(layer.module, nn.Conv2d | nn.Linear):
            biases = 0 if layer.module.bias is None else layer.module.bias.numel()
            more += biases * math.prod(layer.output_size[2:])
        elif isinstance(layer.module, nn.BatchNorm2d):
            more += 2 * layer.module.num_features
    assert summary.total_mult_adds == trace.multiply_adds + more


# Networks that cannot simply be copied


def used(net):
    """A loss has been computed, and gradients."""
    net.loss = net(torch.rand(2, 1, 9, 9)).sum()
    net.loss.backward()
    return net


def keeping(net, x):
    net.kept = {"maps": [net.conv(x)]}
    return net.kept["maps"][0]


def pruned():
    net = nn.Sequential(conv(1, 2), conv(2, 1))
    prune.l1_unstructured(net[0], "weight", 0.5)
    prune.ln_structured(net[1], "weight", 0.5, n=2, dim=0)
    return net


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize(
    "make, parameters",
    [
        (lambda: used(Net(keeping, conv=conv())), 10),
        (lambda: used(nn.Sequential(weight_norm(conv()))), 11),
        (lambda: used(nn.Sequential(parametrizations.weight_norm(conv()))), 11),
        (lambda: used(nn.Sequential(parametrizations.spectral_norm(conv()))), 10),
        (lambda: used(pruned()), 39),
    ],
    ids=["keeps activations", "old weight norm", "weight norm", "spectral norm", "pruned"],
)
def test_a_network_that_has_been_used_is_traced_and_stays_as_it_was(make, parameters):
    net = make()
    loss, state = net.loss, {name: value.clone() for name, value in net.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    kept = getattr(net, "kept", None)
    trace = trace_shapes(net, (1, 9, 9))
    check_that_rows_add_up(trace)
    assert trace.parameters == parameters
    assert all(stage.inside == () for stage in trace)  # what makes a weight is no layer
    assert net.loss is loss and getattr(net, "kept", None) is kept
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(a, b.grad) for a, b in zip(gradients, net.parameters(), strict=True))


def test_a_hook_with_a_state_of_its_own_stays_behind():
    class Recorder:
        def __init__(self):
            self.lock, self.seen = threading.Lock(), []

        def __call__(self, *call):
            self.seen.append(call)

    record, net = Recorder(), nn.Sequential(conv())
    net[0].register_forward_hook(record)
    net[0].register_forward_pre_hook(record)
    net(torch.rand(1, 1, 9, 9))
    assert rows(trace_shapes(net, (1, 9, 9))) == [("0", 10, 3)]
    assert len(record.seen) == 2 and len(net[0]._forward_hooks) == len(net[0]._forward_pre_hooks) == 1


@pytest.mark.parametrize("value, kind", [(threading.Lock(), "lock"), ((i for i in range(3)), "generator")])
def test_an_attribute_that_cannot_be_copied_is_named(value, kind):
    net = nn.Sequential(conv(), Net(lambda net, x: x, attribute=value))
    with pytest.raises(ValueError, match=rf"its attribute 1\.attribute, of type {kind}, cannot be copied"):
        trace_shapes(net, (1, 9, 9))


@pytest.mark.parametrize("compiled", [lambda net: torch.compile(net), lambda net: net.compile() or net])
def test_a_compiled_part_is_followed_as_it_was_written(compiled):
    part = nn.Sequential(conv(1, 2), nn.ReLU())
    expected = rows(trace_shapes(nn.Sequential(conv(), part, conv(2, 1)), (1, 9, 9)))
    assert rows(trace_shapes(nn.Sequential(conv(), compiled(part), conv(2, 1)), (1, 9, 9))) == expected


def test_torchvisions_feature_extractor_has_the_layers_of_its_network():
    net = torchvision.models.resnet18()
    extractor = create_feature_extractor(net, {"layer1": "early", "layer2": "late"})
    trace = trace_shapes(extractor, (3, 64, 64))
    assert trace.multiply_adds == sum(stage.multiply_adds for stage in list(trace_shapes(net, (3, 64, 64)))[:6])
    assert (trace["layer2.1.conv2"].output_shape, trace[-1].receptive_field) == ((128, 8, 8), 99)
    assert extractor.eval()(torch.zeros(1, 3, 64, 64))["late"].shape == (1, 128, 8, 8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_quantized_network_is_refused():
    layers = pytest.importorskip("torch.ao.nn.quantized.dynamic")
    with pytest.raises(ValueError, match="is quantized, which cannot be followed: trace the float network"):
        trace_shapes(nn.Sequential(nn.Flatten(), layers.Linear(81, 10)), (1, 9, 9))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_torchscript_is_refused():
    with pytest.raises(ValueError, match="TorchScript"):
        trace_shapes(nn.Sequential(torch.jit.script(conv())), (1, 9, 9))


# What a position sees


def reached(net, side):
    """Side of the square of pixels that have a gradient from the middle of the output, all channels together."""
    torch.manual_seed(0)
    net = copy.deepcopy(net).double().eval()
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.1, 1)  # positive: nothing cancels
        parameter.data /= parameter[0].numel()
    seen = torch.zeros(side, side)
    for _ in range(20):  # max-pools look at one number each time
        x = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
        y = net(x)
        middle = y[..., y.shape[2] // 2, y.shape[3] // 2] if y.dim() == 4 else y.flatten(1)[:, y[0].numel() // 2]
        (middle * torch.rand_like(middle)).sum().backward()
        seen += x.grad[0, 0].abs()
    sides = [seen.sum(dim).nonzero() for dim in (0, 1)]
    return max(places.max() - places.min() + 1 for places in sides).item()


def after_conv(run, **parts):
    """A 3×3 convolution to 4 channels, then `run`; one row."""
    return nn.Sequential(Net(lambda net, x: run(net, net.first(x)), first=conv(1, 4), **parts))


def attention(net, x):
    tokens = x.flatten(2).transpose(1, 2)
    return (F.scaled_dot_product_attention(tokens, tokens, tokens)).transpose(1, 2).view_as(x)


def convnext(net, x):
    return x + net.fc(net.norm(net.conv(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


SEEN = {  # each with the side that it sees, of an image of 32 by 32
    "adaptive pool that changes nothing": (nn.Sequential(conv(), nn.AdaptiveAvgPool2d(32), conv()), 5),
    "adaptive pool, size divides": (nn.Sequential(conv(), nn.AdaptiveAvgPool2d(8), conv()), 14),
    "adaptive pool, size does not divide": (nn.Sequential(conv(), nn.AdaptiveAvgPool2d(5)), 10),
    "adaptive pool of one axis": (nn.Sequential(conv(), nn.AdaptiveAvgPool2d((1, None))), math.inf),
    "mean": (after_conv(lambda net, x: x.mean((-2, -1))), math.inf),
    "sum, one axis after the other": (after_conv(lambda net, x: x.sum(2).sum(2)), math.inf),
    "flatten and mean": (after_conv(lambda net, x: x.flatten(2).mean(-1)), math.inf),
    "logsumexp": (after_conv(lambda net, x: x.logsumexp((2, 3))), math.inf),
    "pool with a kernel as large as the map": (after_conv(lambda net, x: F.avg_pool2d(x, x.shape[2:])), math.inf),
    "squeeze and excitation": (after_conv(lambda net, x: x * x.mean((2, 3), keepdim=True).sigmoid()), math.inf),
    "attention": (after_conv(attention), math.inf),
    "linear attention": (
        after_conv(lambda net, x: (x.flatten(2) @ x.flatten(2).mT @ x.flatten(2)).view_as(x)),
        math.inf,
    ),
    "group norm": (nn.Sequential(conv(1, 4), nn.GroupNorm(2, 4)), math.inf),
    "instance norm": (nn.Sequential(conv(), nn.InstanceNorm2d(1)), math.inf),
    "layer norm": (nn.Sequential(conv(), nn.LayerNorm([1, 32, 32])), math.inf),
    "batch norm without running statistics": (
        nn.Sequential(conv(), nn.BatchNorm2d(1, track_running_stats=False)),
        math.inf,
    ),
    "softmax over the map": (after_conv(lambda net, x: x.flatten(2).softmax(2).view_as(x)), math.inf),
    "batch norm": (nn.Sequential(conv(), nn.BatchNorm2d(1), conv()), 5),
    "local response norm": (nn.Sequential(conv(1, 4), nn.LocalResponseNorm(3), conv(4, 1)), 5),
    "layer norm over channels, ConvNeXt": (
        after_conv(convnext, conv=nn.Conv2d(4, 4, 7, padding=3, groups=4), norm=nn.LayerNorm(4), fc=nn.Linear(4, 4)),
        9,
    ),
    "channel shuffle": (
        after_conv(
            lambda net, x: net.conv(x.view(1, 2, 2, 32, 32).transpose(1, 2).reshape(1, 4, 32, 32)),
            conv=conv(4, 4, groups=2),
        ),
        5,
    ),
    "split, half convolved, joined": (
        after_conv(lambda net, x: torch.cat([x[:, :2], net.conv(x[:, 2:])], 1), conv=conv(2, 2)),
        5,
    ),
    "every other pixel": (after_conv(lambda net, x: net.conv(x[..., ::2, 1::2]), conv=conv(4, 4)), 7),
    "four shifted halves, YOLO's focus": (
        after_conv(lambda net, x: torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)),
        4,
    ),
    "neighbours added": (after_conv(lambda net, x: x[..., 1:] + x[..., :-1]), 4),
    "far pixels multiplied": (after_conv(lambda net, x: x[..., 5:, :] * x[..., :-5, :]), 8),
    "cropped shortcut": (after_conv(lambda net, x: net.conv(x) + x[..., 2:-2, 2:-2], conv=nn.Conv2d(4, 4, 5)), 7),
    "mean over patches": (
        after_conv(lambda net, x: net.conv(x.view(1, 4, 8, 4, 8, 4).mean((3, 5))), conv=conv(4, 4)),
        14,
    ),
    "tokens and back": (
        nn.Sequential(
            Net(
                lambda net, x: net.conv(net.fc(net.patch(x).flatten(2).mT).mT.unflatten(2, (8, 8))),
                patch=nn.Conv2d(1, 3, 4, 4),
                fc=nn.Linear(3, 2),
                conv=conv(2, 1),
            )
        ),
        12,
    ),
    "rows and columns exchanged": (after_conv(lambda net, x: net.conv(x.mT), conv=nn.Conv2d(4, 4, (5, 1))), 7),
    "even kernel, padded on one side": (nn.Sequential(nn.ZeroPad2d((3, 0, 3, 0)), nn.Conv2d(1, 1, 4), conv()), 6),
    "reflected": (nn.Sequential(conv(padding_mode="reflect"), conv(padding_mode="replicate")), 5),
    "dilated": (nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2), nn.Conv2d(1, 1, 3, dilation=3)), 11),
    "padding of the same size, even kernel": (nn.Sequential(nn.Conv2d(1, 1, 4, padding="same"), conv()), 6),
    "max-pools": (nn.Sequential(conv(), nn.MaxPool2d(3, 2, ceil_mode=True), nn.MaxPool2d(2)), 7),
    "one of the rows": (after_conv(lambda net, x: x[:, :, 3, 5]), 3),
}
UNKNOWN = {
    "nearest pixels": after_conv(lambda net, x: F.interpolate(x, scale_factor=2)),
    "bilinear": after_conv(lambda net, x: F.interpolate(x, size=(17, 33), mode="bilinear")),
    "after an adaptive pool whose size does not divide": nn.Sequential(conv(), nn.AdaptiveAvgPool2d(9), conv()),
    "transposed convolution": nn.Sequential(conv(), nn.ConvTranspose2d(1, 1, 4, 2, 1)),
    "pixel shuffle": after_conv(lambda net, x: F.pixel_shuffle(x, 2)),
    "roll": after_conv(lambda net, x: x.roll(3, 2) + x),
    "flip": after_conv(lambda net, x: x.flip(3) + x),
    "transposed shortcut": after_conv(lambda net, x: x.mT + x),
    "unfold": after_conv(lambda net, x: F.unfold(x, 3)),
    "fold": after_conv(lambda net, x: F.fold(F.unfold(x, 2, stride=2), 32, 2, stride=2)),
    "cumulative sum": after_conv(lambda net, x: x.cumsum(2)),
    "Fourier transform": after_conv(lambda net, x: torch.fft.fft2(x).real),
    "grid sample": after_conv(lambda net, x: F.grid_sample(x, torch.zeros(1, 8, 8, 2), align_corners=False)),
    "halves exchanged": after_conv(lambda net, x: torch.cat([x[..., 16:], x[..., :16]], 3)),
    "in a buffer": after_conv(lambda net, x: fill(torch.zeros(1, 4, 32, 32), x)),
    "circular padding": nn.Sequential(conv(padding_mode="circular")),
    "picked": after_conv(lambda net, x: x[:, :, torch.arange(31, -1, -1)]),
    "rows stacked in another order": after_conv(lambda net, x: torch.stack(x.unbind(2)[::-1], 2)),
    "kernel cut from the map": after_conv(lambda net, x: F.conv2d(x, x[:, :, :3, :3])),
}


def fill(buffer, x):
    buffer[:, :2] = x[:, :2]
    return buffer


@pytest.mark.parametrize("name", SEEN)
def test_the_receptive_field_is_what_the_gradient_reaches_through(name):
    net, side = SEEN[name]
    assert trace_shapes(net, (1, 32, 32))[-1].receptive_field == side
    assert reached(net, 32) == min(side, 32)


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_receptive_field_is_not_known_through(name):
    assert math.isnan(trace_shapes(UNKNOWN[name], (1, 32, 32))[-1].receptive_field)


@pytest.mark.parametrize(
    "pool",
    [
        nn.AdaptiveMaxPool2d(1),
        Net(lambda net, x: x.amax((2, 3))),
        nn.Sequential(nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d(1)),
    ],
)
def test_a_global_pool_sees_all(pool):
    assert trace_shapes(nn.Sequential(conv(), pool), (1, 9, 9))[-1].receptive_field == math.inf


def test_what_does_not_depend_on_the_image_sees_nothing():
    assert trace_shapes(after_conv(lambda net, x: torch.zeros_like(x)), (1, 9, 9))[0].receptive_field == 0


def test_what_is_no_tensor_among_several_outputs_is_passed_over():
    net = nn.Sequential(Net(lambda net, x: (3, None, net.a(x), "loss"), a=conv()), Net(lambda net, x: x[2] * x[0]))
    assert rows(trace_shapes(net, (1, 9, 9))) == [("0", 10, 3), ("1", 0, 3)]


@dataclass
class Two:
    small: torch.Tensor
    large: torch.Tensor


@pytest.mark.parametrize(
    "pack", [lambda *two: two, lambda *two: {"a": two[0], "b": [two[1]]}, Two], ids=["tuple", "dict", "dataclass"]
)
def test_of_several_tensors_the_first_has_the_shape_and_the_widest_the_field(pack):
    net = nn.Sequential(Net(lambda net, x: pack(net.a(x), net.b(x)), a=conv(), b=nn.Conv2d(1, 2, 5)))
    (stage,) = trace_shapes(net, (1, 9, 9))
    assert (stage.output_shape, stage.receptive_field) == ((1, 9, 9), 5)


# Why a network cannot be traced


def look(net, x):
    if x.sum() > 0:
        return x
    return -x


LOOKS = [
    look,
    lambda net, x: x * x.max().item(),
    lambda net, x: x[:, :, : int(x.mean())],
    lambda net, x: x[x > 0],
    lambda net, x: x.numpy(),
    lambda net, x: x.mean((2, 3)).tolist(),
    lambda net, x: f"{x.mean():.1f}",
]


@pytest.mark.parametrize("run", LOOKS)
def test_a_forward_that_looks_at_numbers_is_named_with_its_line(run):
    net = nn.Sequential(conv(), nn.Sequential(Net(run)))
    with pytest.raises(ValueError, match=r"the forward of '1\.0' looks at the numbers in a tensor"):
        trace_shapes(net, (1, 9, 9))


def test_the_line_that_looks_at_numbers_is_shown():
    with pytest.raises(ValueError, match=r"its forward looks .* only shapes: if x\.sum\(\) > 0:"):
        trace_shapes(Net(look), (1, 9, 9))


def test_a_forward_with_two_inputs_is_refused_with_their_names():
    class Masked(nn.Module):
        def forward(self, x, mask, scale=1):
            return x * mask

    with pytest.raises(ValueError, match=r"wants 2 inputs \(x, mask\), and trace_shapes passes one"):
        trace_shapes(Masked(), (1, 9, 9))
    with pytest.raises(ValueError, match=r"missing 1 required positional argument: 'mask' \(in '1'\)"):
        trace_shapes(nn.Sequential(conv(), Masked()), (1, 9, 9))


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, AssertionError])
def test_an_error_of_the_forward_keeps_its_words_and_says_in_which_child(kind):
    def run(net, x):
        raise kind(f"needs 7 rows, got {x.shape[2]}")

    with pytest.raises(ValueError, match=r"does not accept an input of 1×9×9: .*needs 7 rows, got 9 \(in '1\.gate'\)"):
        trace_shapes(nn.Sequential(conv(), Net(lambda net, x: net.gate(x), gate=Net(run))), (1, 9, 9))


@pytest.mark.parametrize(
    "run",
    [
        lambda net, x: x.cpu().to("cpu", torch.float32) * torch.ones(9, device="cpu"),
        lambda net, x: x * torch.linspace(0, 1, 5)[2].item() + torch.tensor([1.0]),
        lambda net, x: x if torch.rand(1) < 0.5 else -x,
        lambda net, x: print(x) or x,
    ],
    ids=["moved to the CPU", "constants", "random", "printed"],
)
def test_a_forward_with_numbers_of_its_own_is_traced(run):
    assert trace_shapes(nn.Sequential(conv(), Net(run)), (1, 9, 9))[1].receptive_field == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would work")
def test_a_forward_that_moves_to_a_gpu_is_refused_where_there_is_none():
    with pytest.raises(ValueError, match=r"\(in '0'\)"):
        trace_shapes(nn.Sequential(Net(lambda net, x: x.cuda())), (1, 9, 9))
