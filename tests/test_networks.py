"""ResNet-50, DenseNet, GoogLeNet and the networks for small images: counts, shapes, and what makes each itself."""

import copy
import math

import pytest
import torch
from torch import nn

import d2lnets
from d2lnets import Residual, trace_shapes
from d2lnets.resnet import Bottleneck, CifarBlock
from d2lnets.training.bench import peak_of_tensors


def parameters(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    "net, shape, count, shapes",
    [
        (
            d2lnets.resnet50(),
            (3, 64, 64),
            23_546_886,
            ["64×15×15", "256×15×15", "512×8×8", "1024×4×4", "2048×2×2", "6"],
        ),
        (
            d2lnets.densenet(),
            (1, 96, 96),
            758_226,
            ["64×24×24", "192×24×24", "96×12×12", "224×12×12", "112×6×6", "240×6×6", "120×3×3", "248×3×3", "10"],
        ),
        (
            d2lnets.googlenet(),
            (1, 96, 96),
            5_977_530,
            ["64×24×24", "192×12×12", "480×6×6", "832×3×3", "1024×3×3", "10"],
        ),
    ],
    ids=["resnet50", "densenet", "googlenet"],
)
def test_the_networks_of_the_source(net, shape, count, shapes):
    trace = trace_shapes(net, shape)
    assert parameters(net) == trace.parameters == count
    assert ["×".join(map(str, stage.output_shape)) for stage in trace] == shapes
    assert net(torch.randn(2, *shape)).shape == (2, *trace[-1].output_shape)


def test_the_resnet50_stem_ends_at_15_and_the_conv_before_at_32():
    stem = trace_shapes(d2lnets.resnet50(), (3, 64, 64)).open("stem")
    assert [stage.output_shape for stage in stem] == [(64, 32, 32), (64, 32, 32), (64, 32, 32), (64, 15, 15)]


def test_googlenet_averages_to_1024():
    head = trace_shapes(d2lnets.googlenet(), (1, 96, 96)).open("head")
    assert head[0].output_shape == (1024, 1, 1)


# Bottlenecks


def test_identity_and_convolutional_block():
    x = torch.randn(2, 256, 9, 9)
    assert d2lnets.identity_block(256, (64, 64, 256))(x).shape == (2, 256, 9, 9)
    assert d2lnets.convolutional_block(256, (128, 128, 512))(x).shape == (2, 512, 5, 5)
    assert d2lnets.convolutional_block(256, (32, 32, 64), kernel_size=5, stride=1)(x).shape == (2, 64, 9, 9)
    with pytest.raises(ValueError, match=r"\(N, 512, H, W\) to x of shape \(N, 256, H, W\)"):
        d2lnets.identity_block(256, (64, 64, 512))
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        d2lnets.identity_block(256, (64, 64, 256), kernel_size=4)


@torch.no_grad()
def test_a_zeroed_bottleneck_is_the_identity_where_nothing_is_negative():
    block = d2lnets.identity_block(16, (4, 4, 16)).eval()
    nn.init.zeros_(block.bn3.weight)
    nn.init.zeros_(block.bn3.bias)
    x = torch.rand(2, 16, 5, 5)
    assert torch.equal(block(x), x)
    assert torch.equal(block(-x), torch.zeros_like(x))


def test_the_stride_of_2015_skips_positions_and_v1_5_does_not():
    """Which input positions the branch can see: with the stride on the 1x1, a quarter of them."""
    seen = {}
    for v1_5 in (False, True):
        block = d2lnets.convolutional_block(4, (4, 4, 8), v1_5=v1_5).eval()
        for layer in block.shortcut:
            for p in layer.parameters():
                nn.init.zeros_(p)
        x = torch.randn(64, 4, 8, 8, requires_grad=True)
        block(x).sum().backward()
        seen[v1_5] = (x.grad != 0).any(dim=0).any(dim=0).sum().item()
    assert seen == {False: 16, True: 64}


def test_both_placements_have_the_same_parameters_and_shapes_and_v1_5_computes_more():
    first, second = (trace_shapes(d2lnets.resnet50(v1_5=v), (3, 64, 64)) for v in (False, True))
    assert [(s.output_shape, s.parameters) for s in first] == [(s.output_shape, s.parameters) for s in second]
    assert second.multiply_adds > first.multiply_adds


def test_resnet50_follows_the_papers_table():
    net = d2lnets.resnet50()
    assert [len(net.get_submodule(f"conv{i}_x")) for i in (2, 3, 4, 5)] == [3, 4, 6, 3]
    assert all(isinstance(block, Bottleneck) for i in (2, 3, 4, 5) for block in net.get_submodule(f"conv{i}_x"))


def test_resnet50_at_224_has_the_multiply_adds_of_the_paper():
    """3.8 billion (He et al. 2016, Table 1), for the padded pool and 1000 classes that the paper has."""
    net = d2lnets.resnet50(num_classes=1000)
    net.stem[-1].padding = 1
    assert trace_shapes(net, (3, 224, 224)).multiply_adds == pytest.approx(3.8e9, rel=0.02)


# Dense blocks


def test_a_dense_block_keeps_its_input_and_appends():
    block = d2lnets.DenseBlock(3, 5, 4).eval()
    x = torch.randn(2, 5, 6, 6)
    y = block(x)
    assert y.shape == (2, 17, 6, 6) and block.out_channels == 17
    assert torch.equal(y[:, :5], x)
    assert torch.equal(y[:, 5:9], block[0](x))
    assert torch.equal(y[:, 9:13], block[1](y[:, :9]))
    with pytest.raises(ValueError, match="growth_rate must be a whole number of at least 1, got 0"):
        d2lnets.DenseBlock(3, 5, 0)


def test_a_transition_halves():
    assert d2lnets.transition_block(12, 6)(torch.randn(2, 12, 7, 7)).shape == (2, 6, 3, 3)


def test_densenet121_has_the_papers_layout():
    net = d2lnets.imagenet.densenet121()
    trace = trace_shapes(net, (3, 224, 224))
    assert [stage.output_shape[0] for stage in trace] == [64, 256, 128, 512, 256, 1024, 512, 1024, 1000]
    assert trace["dense1"].receptive_field == 11 + 6 * 8  # the 1x1 see no farther


@pytest.mark.parametrize("bottleneck", [False, True])
def test_checkpointing_changes_neither_gradients_nor_statistics(bottleneck):
    torch.manual_seed(0)
    plain = d2lnets.densenet(bottleneck=bottleneck)
    thrifty = d2lnets.densenet(bottleneck=bottleneck, checkpoint=True)
    thrifty.load_state_dict(plain.state_dict())
    x = torch.randn(3, 1, 32, 32)
    for _ in range(2):
        for net in (plain, thrifty):
            net(x).square().sum().backward()
    for mine, other in zip(plain.parameters(), thrifty.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad)
    for name, buffer in plain.named_buffers():
        assert torch.equal(buffer, thrifty.get_buffer(name)), name
    assert all(norm.momentum == 0.1 for norm in thrifty.modules() if isinstance(norm, nn.BatchNorm2d))
    assert torch.equal(plain.eval()(x), thrifty.eval()(x))


def test_a_checkpointed_block_allows_a_second_backward_pass():
    torch.manual_seed(0)
    plain, thrifty = (d2lnets.DenseBlock(3, 4, 5, checkpoint=c) for c in (False, True))
    thrifty.load_state_dict(plain.state_dict())
    x = torch.randn(2, 4, 6, 6)
    for block in (plain, thrifty):
        y = block(x).square().sum()
        y.backward(retain_graph=True)
        y.backward()
    for mine, other in zip(plain.parameters(), thrifty.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad)
    assert all(torch.equal(buffer, thrifty.get_buffer(name)) for name, buffer in plain.named_buffers())


@pytest.mark.parametrize("blocks, bottleneck, at_most", [((4, 4, 4, 4), False, 0.55), ((6, 12, 24, 16), True, 0.3)])
def test_checkpointing_needs_less_memory(blocks, bottleneck, at_most):
    """The most bytes of tensors alive at once in a training step, counted by PyTorch's own profiler."""

    def peak(checkpoint):
        torch.manual_seed(0)
        net = d2lnets.densenet(blocks=blocks, bottleneck=bottleneck, checkpoint=checkpoint)
        x = torch.randn(8, 1, 96, 96)
        return peak_of_tensors(lambda: net(x).sum().backward())

    assert peak(True) < at_most * peak(False)


# Inception


def test_an_inception_block_joins_four_paths():
    block = d2lnets.Inception(6, 1, (2, 3), (2, 4), 5).eval()
    x = torch.randn(2, 6, 7, 7)
    y = block(x)
    assert y.shape == (2, 13, 7, 7) and block.out_channels == 13
    assert torch.equal(y, torch.cat([block.path1(x), block.path2(x), block.path3(x), block.path4(x)], 1))
    assert (y >= 0).all()
    with pytest.raises(ValueError, match="must be pairs"):
        d2lnets.Inception(6, 1, (2, 3, 4), (2, 4), 5)


def test_the_paths_see_windows_of_one_three_and_five():
    paths = trace_shapes(d2lnets.Inception(6, 1, (2, 3), (2, 4), 5), (6, 9, 9))
    assert [path.receptive_field for path in paths] == [1, 3, 5, 3]


def test_batch_norm_is_an_option_of_all_convolutions():
    net = d2lnets.googlenet(batch_norm=True)
    count = {kind: sum(isinstance(m, kind) for m in net.modules()) for kind in (nn.Conv2d, nn.BatchNorm2d)}
    assert count[nn.Conv2d] == count[nn.BatchNorm2d] == 3 + 9 * 6
    assert not any(isinstance(m, nn.BatchNorm2d) for m in d2lnets.googlenet().modules())


# Networks for small images


@pytest.mark.parametrize(
    "net", [d2lnets.resnet18, d2lnets.resnet50, d2lnets.densenet, d2lnets.googlenet], ids=lambda net: net.__name__
)
def test_small_networks_keep_every_pixel_of_28_and_cost_less_than_the_others_at_96(net):
    small = trace_shapes(net(1, 10, small=True), (1, 28, 28))
    assert small["stem"].output_shape[1:] == (28, 28)
    assert small.multiply_adds < 0.5 * trace_shapes(net(1, 10), (1, 96, 96)).multiply_adds
    assert net(1, 10, small=True)(torch.randn(2, 1, 28, 28)).shape == (2, 10)


def test_no_weight_of_the_small_resnet_idles_at_28():
    net = d2lnets.resnet18(small=True)
    net(torch.randn(64, 1, 28, 28)).square().sum().backward()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            assert (module.weight.grad != 0).any(dim=0).any(dim=0).all()


@pytest.mark.parametrize("depth, count", [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_the_cifar_family_has_the_papers_parameters(depth, count):
    """Millions of parameters: He et al. 2016, Table 6."""
    net = d2lnets.cifar_resnet(depth, in_channels=3)
    assert parameters(net) / 1e6 == pytest.approx(count, abs=0.03)
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == depth


def test_the_plain_twin_has_the_same_layers_and_initial_weights():
    torch.manual_seed(0)
    residual = d2lnets.cifar_resnet(20)
    torch.manual_seed(0)
    plain = d2lnets.cifar_resnet(20, residual=False)
    assert all(torch.equal(a, b) for a, b in zip(residual.parameters(), plain.parameters(), strict=True))
    x = torch.randn(2, 1, 28, 28)
    assert not torch.allclose(residual(x), plain(x))
    assert trace_shapes(residual, (1, 28, 28)).multiply_adds == trace_shapes(plain, (1, 28, 28)).multiply_adds


@torch.no_grad()
def test_the_shortcut_without_parameters_takes_every_second_pixel_and_adds_zeros():
    block = CifarBlock(3, 5, stride=2).eval()
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(1, 3, 7, 7)
    y = block(x)
    assert torch.equal(y[:, :3], x[:, :, ::2, ::2])
    assert torch.equal(y[:, 3:], torch.zeros(1, 2, 4, 4))


@pytest.mark.parametrize("depth, suggestions", [(18, "14 or 20"), (2, "8 or 14"), (57, "56 or 62")])
def test_a_depth_that_is_not_6n_plus_2_is_refused_with_the_nearest(depth, suggestions):
    with pytest.raises(ValueError, match=f"got {depth}: try {suggestions}"):
        d2lnets.cifar_resnet(depth)


@pytest.mark.parametrize(
    "build, name",
    [
        (lambda: d2lnets.resnet18(in_channels=0), "in_channels"),
        (lambda: d2lnets.resnet50(num_classes=0), "num_classes"),
        (lambda: d2lnets.cifar_resnet(20, width=0), "out_channels"),
        (lambda: d2lnets.transition_block(3, 0), "out_channels"),
        (lambda: d2lnets.Inception(6, 1, (0, 3), (2, 4), 5), "channels"),
        (lambda: d2lnets.convolutional_block(4, (4, 4, 8), stride=0), "stride"),
        (lambda: d2lnets.densenet(growth_rate=0), "growth_rate"),
        (lambda: d2lnets.googlenet(in_channels=0), "in_channels"),
    ],
)
def test_sizes_that_cannot_be_are_refused_by_name(build, name):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
        build()


# Traces of all


@pytest.mark.parametrize(
    "net, shape, smallest",
    [
        (d2lnets.densenet(), (1, 28, 28), "1×29×29"),
        (d2lnets.densenet(small=True), (1, 7, 7), "1×8×8"),
        (d2lnets.resnet50(), (3, 4, 4), "3×5×5"),
    ],
)
def test_an_image_that_is_too_small_is_refused_with_the_smallest_that_works(net, shape, smallest):
    with pytest.raises(ValueError, match=f"smallest that works is {smallest}"):
        trace_shapes(net, shape)
    trace_shapes(net, tuple(map(int, smallest.split("×"))))


def test_a_stage_opens_into_its_blocks():
    trace = trace_shapes(d2lnets.googlenet(), (1, 96, 96))
    blocks = trace.open("inception_4")
    assert [block.name for block in blocks] == [f"inception_4{x}" for x in "abcde"] + ["max_pool"]
    assert blocks.input_shape == trace["inception_3"].output_shape
    assert blocks.parameters == trace["inception_4"].parameters
    assert blocks.multiply_adds == trace["inception_4"].multiply_adds
    assert blocks[-1].output_shape == trace["inception_4"].output_shape
    with pytest.raises(ValueError, match="single layer"):
        blocks.open("max_pool")


@pytest.mark.parametrize(
    "net, shape", [(d2lnets.densenet(checkpoint=True), (1, 96, 96)), (d2lnets.resnet50(), (3, 75, 64))]
)
def test_a_trace_of_any_network_leaves_it_alone(net, shape):
    state = copy.deepcopy(net.state_dict())
    trace = trace_shapes(net, shape)
    assert net.training and all(torch.equal(value, net.state_dict()[key]) for key, value in state.items())
    assert trace[-1].receptive_field == math.inf


def test_residual_blocks_are_inside_resnet18():
    inside = trace_shapes(d2lnets.resnet18(), (1, 96, 96)).open("conv3_x")
    assert [stage.name for stage in inside] == ["conv3_x.0", "conv3_x.1"]
    assert isinstance(d2lnets.resnet18().conv3_x[0], Residual)
