"""The trace tells the truth, checked against PyTorch's own counter, and touches nothing."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from d2lnets import Residual, resnet18, trace_shapes


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


def test_layers_in_a_list_and_layers_used_twice_are_counted_once():
    class InAList(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 3)])

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    trace = trace_shapes(InAList(), (1, 9, 9))
    assert [(s.name, s.parameters, s.receptive_field) for s in trace] == [("layers.0", 20, 3), ("layers.1", 57, 5)]
    shared = nn.Conv2d(1, 1, 3)
    trace = trace_shapes(nn.Sequential(shared, nn.ReLU(), shared), (1, 9, 9))
    assert trace.parameters == 10 and [s.receptive_field for s in trace] == [3, 3, 5]


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


def test_wrong_channels_are_named():
    with pytest.raises(ValueError, match="takes 1 channels, not 3"):
        trace_shapes(resnet18(), (3, 96, 96))


def test_a_single_layer_is_its_own_stage():
    trace = trace_shapes(nn.Conv2d(3, 4, 3, bias=False), (3, 9, 9))
    assert (trace[0].output_shape, trace[0].parameters, trace[0].multiply_adds) == ((4, 7, 7), 108, 108 * 49)
