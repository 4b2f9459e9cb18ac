"""Diagrams and looks inside say what they should, and their texts stay apart and inside."""

import math
import re
from itertools import combinations, pairwise

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

import d2lnets
from d2lnets import plots
from d2lnets.data import SUBSET
from d2lnets.plots import style
from d2lnets.plots.style import PATHS, looks


def texts(figure):
    return [text for axis in figure.axes for text in axis.texts if text.get_text()]


@pytest.mark.parametrize(
    "net, shape",
    [
        (d2lnets.resnet18(), (1, 96, 96)),
        (d2lnets.resnet18(small=True), (1, 28, 28)),
        (d2lnets.resnet50(), (3, 64, 64)),
        (d2lnets.densenet(), (1, 96, 96)),
        (d2lnets.googlenet(), (1, 96, 96)),
    ],
)
def test_a_network_is_drawn_with_every_stage_labelled_and_apart(drawn, net, shape):
    trace = d2lnets.trace_shapes(net, shape)
    figure = drawn(plots.draw_network, trace)
    labels = [text.get_text() for text in texts(figure)]
    expected = [("input", trace.input_shape), *((stage.name, stage.output_shape) for stage in trace)]
    assert labels == [line for name, shape in expected for line in (name, "×".join(map(str, shape)))]
    boxes = [text.get_window_extent() for text in texts(figure)]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    page = figure.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 for box in boxes)


def test_the_blocks_of_a_stage_are_drawn_by_their_own_names(drawn):
    trace = d2lnets.trace_shapes(d2lnets.googlenet(), (1, 96, 96)).open("inception_3")
    labels = [text.get_text() for text in texts(drawn(plots.draw_network, trace))]
    assert labels[::2] == ["input", "inception_3a", "inception_3b", "max_pool"]


def test_the_residual_block_is_drawn_with_and_without_a_convolution_on_the_shortcut(drawn):
    left, right = drawn(plots.draw_residual).axes
    shortcuts = [[text.get_text() for text in axis.texts if "1×1" in text.get_text()] for axis in (left, right)]
    assert [len(found) for found in shortcuts] == [0, 1]


def test_the_bottleneck_is_drawn_beside_two_convolutions_and_no_text_overlaps(drawn):
    figure = drawn(plots.draw_bottleneck)
    assert [axis.get_title() for axis in figure.axes] == ["two 3×3", "identity block", "convolutional block"]
    convolutions = [[text.get_text()[:3] for text in axis.texts if "×" in text.get_text()] for axis in figure.axes]
    assert convolutions == [["3×3"] * 2, ["1×1", "3×3", "1×1"], ["1×1", "3×3", "1×1", "1×1"]]
    boxes = [text.get_window_extent() for text in texts(figure)]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_the_later_blocks_are_drawn_and_no_text_overlaps(drawn):
    figure = drawn(plots.draw_later_blocks)
    assert [axis.get_title() for axis in figure.axes] == ["ResNeXt", "SENet", "MobileNetV2", "ConvNeXt"]
    boxes = [text.get_window_extent() for text in texts(figure)]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_three_blocks_have_eight_paths_each_drawn_once(drawn):
    figure = drawn(plots.draw_paths)
    rows = {}  # by height, the branches on the line there
    for text in texts(figure):
        if text.get_text() in "123":
            rows.setdefault(text.get_position()[1], set()).add(text.get_text())
    network, *paths = (rows[y] for y in sorted(rows, reverse=True))
    assert network == {"1", "2", "3"}
    assert sorted(map(sorted, paths)) == sorted(list(c) for n in (1, 2, 3) for c in combinations("123", n))
    boxes = [text.get_window_extent() for text in texts(figure)]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_processes_share_a_batch_and_one_mean(drawn):
    figure = drawn(plots.draw_processes, 4)
    shown = [text.get_text() for text in texts(figure)]
    assert sum("share" in text for text in shown) == shown.count("the same step") == 4
    assert sum("all-reduce" in text for text in shown) == 1


def test_images_carry_the_names_of_their_classes(drawn):
    data = d2lnets.load_fashion_mnist(SUBSET)
    figure = drawn(plots.show_images, data.test, 7)
    assert [axis.get_title() for axis in figure.axes][:7] == list(data.classes[:7])
    figure = drawn(plots.show_images, data.test, 2, classes="abcdefghij")
    assert [axis.get_title() for axis in figure.axes[:2]] == ["abcdefghij"[label] for label in data.test.labels[:2]]


def test_a_dense_block_is_drawn_with_all_its_channels_and_no_text_overlaps(drawn):
    figure = drawn(plots.draw_dense_block)
    labels = [text.get_text() for text in texts(figure)]
    assert [label for label in labels if "channels" in label] == [f"{n}\nchannels" for n in (64, 96, 128, 160, 192)]
    assert [sum(label == f"from {i}" for label in labels) for i in (1, 2, 3, 4)] == [4, 3, 2, 1]
    boxes = [text.get_window_extent() for text in texts(figure)]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_channels_are_drawn_as_they_grow_and_are_halved(drawn):
    trace = d2lnets.trace_shapes(d2lnets.densenet(), (1, 96, 96))
    axis = drawn(plots.plot_channels, trace).axes[0]
    assert [text.get_text() for text in axis.texts] == ["64", "192", "96", "224", "112", "240", "120", "248"]
    boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    kept, added = ([bar.get_height() for bar in bars] for bars in axis.containers)
    assert kept[:6] == [64, 64, 64, 64, 64, 96] and added[:6] == [0, 32, 64, 96, 128, 0]


def test_memory_is_drawn_in_megabytes(drawn):
    axis = drawn(plots.plot_memory, [4, 8], {"plain": [4e6, 16e6], "checkpointed": [2e6, 4e6]}).axes[0]
    assert [list(line.get_ydata()) for line in axis.lines] == [[4, 16], [2, 4]]


def test_every_link_of_a_dense_block_has_its_number(drawn):
    values = torch.tensor([[0.5, 9.0], [0.25, -0.125]])
    left, right = drawn(plots.plot_links, {"one": values, "other": values}).axes
    assert [text.get_text() for text in left.texts] == ["0.500", "0.250", "-0.125"]
    assert (left.get_title(), right.get_title()) == ("one", "other")


def test_function_classes_are_drawn_with_every_class_labelled_and_apart(drawn):
    figure = drawn(plots.draw_function_classes)
    for axis in figure.axes:
        assert [text.get_text() for text in axis.texts] == [*(f"$F_{k}$" for k in range(1, 7)), "$f^*$"]
        boxes = [text.get_window_extent() for text in axis.texts]
        assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


@pytest.mark.parametrize("panel, nested", [(0, True), (1, False)])
def test_circles_contain_each_other_and_come_nearer_only_where_nested(drawn, panel, nested):
    axis = drawn(plots.draw_function_classes).axes[panel]
    circles = [(patch.center, patch.radius) for patch in axis.patches]
    inside = [math.dist(a, b) + r <= s for (a, r), (b, s) in pairwise(circles)]
    lines = [line.get_xydata() for line in axis.lines if len(line.get_xydata()) == 2]
    distances = [math.dist(near, star) for near, star in lines]
    assert len(circles) == len(distances) == 6
    assert all(inside) == all(b < a for a, b in pairwise(distances)) == nested
    assert nested or min(distances) == distances[1]  # as the caption says


def test_a_kink_that_stays_is_a_column(drawn):
    left, right = drawn(plots.plot_kinks, {"kept": [[], [0.5], [0.5, 0.25]], "moved": [[], [0.5], [1 / 3, 2 / 3]]}).axes
    for axis, last in ((left, [0.5, 0.25]), (right, [1 / 3, 2 / 3])):
        drawn_at = [(list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines]
        assert drawn_at == [([], []), ([0.5], [1]), (last, [2, 2])]
        assert axis.get_ylim()[0] > axis.get_ylim()[1]  # the first class at the top


def test_measured_families_are_drawn_with_their_names(drawn):
    x = torch.linspace(0, 1, 5)
    families = {"nested": x, "not nested": x}
    left, right = drawn(plots.plot_function_classes, x, x, families, {"nested": [2, 1], "not nested": [2, 3]}).axes
    assert [text.get_text() for text in right.get_legend().get_texts()] == list(families)
    assert len(left.lines) == 3 and right.get_ylim()[0] == 0


def test_the_inception_block_joins_four_paths(drawn):
    figure = drawn(plots.draw_inception)
    boxes = [text.get_text() for text in texts(figure)]
    assert boxes.count("1×1 conv") == 4 and {"3×3 conv", "5×5 conv", "3×3 max-pool"} <= set(boxes)
    assert boxes.count("join on channels") == 1  # how many, the reader predicts
    block = d2lnets.Inception(192, 64, (96, 128), (16, 32), 32)
    convs = sorted(f"{m.in_channels} → {m.out_channels}" for m in block.modules() if isinstance(m, torch.nn.Conv2d))
    assert sorted(text for text in boxes if "→" in text) == convs
    extents = [text.get_window_extent() for text in texts(figure)]
    assert not any(a.overlaps(b) for a, b in combinations(extents, 2))


def test_a_path_has_one_color_in_diagram_windows_and_maps(drawn):
    block = d2lnets.Inception(4, 16, (8, 32), (4, 8), 8)
    pixels = {str(i): torch.eye(28) for i in range(4)}
    windows = drawn(plots.show_windows, torch.rand(28, 28), pixels).axes
    maps = drawn(plots.show_path_maps, block, torch.rand(1, 4, 6, 6), 2).axes
    boxes = [patch for patch in drawn(plots.draw_inception).axes[0].patches if hasattr(patch, "get_boxstyle")]
    last = {to_hex(box.get_edgecolor()): box.get_width() for box in boxes}  # those at the end, by color
    widths = [last[color] + 0.04 for color in PATHS]
    assert widths == pytest.approx([8.8 * part / 256 for part in (64, 128, 32, 32)])
    assert [to_hex(axis.patches[0].get_edgecolor()) for axis in windows] == list(PATHS)
    assert [to_hex(axis.spines["left"].get_edgecolor()) for axis in maps[::2]] == list(PATHS)
    assert [axis.texts[0].get_text() for axis in maps[::2]] == [
        "1×1: channels 0 to 15", "3×3: channels 16 to 47", "5×5: channels 48 to 55", "max-pool: channels 56 to 63"
    ]  # fmt: skip


def test_parameters_and_work_of_the_stages_are_mirrored(drawn):
    trace = d2lnets.trace_shapes(d2lnets.resnet18(), (1, 96, 96))
    for axis in drawn(plots.plot_stages, {"a": trace, "b": trace}).axes:
        assert [label.get_text() for label in axis.get_yticklabels()] == [stage.name for stage in trace]
        widths = [bar.get_width() for bar in axis.patches]
        assert sum(widths[::2]) == pytest.approx(-100) and sum(widths[1::2]) == pytest.approx(100)
        assert widths[8] == pytest.approx(-100 * trace["conv5_x"].parameters / trace.parameters)
    boxes = [text.get_window_extent() for text in texts(drawn(plots.plot_stages, {"a": trace}))]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_only_pixels_that_matter_are_framed(drawn):
    weights = torch.zeros(28, 28)
    weights[13:16, 13:16] = 1.0
    three, nine = drawn(
        plots.show_windows, torch.rand(28, 28), {"three": weights * torch.eye(28)[14], "nine": weights}
    ).axes
    assert [len(axis.patches) for axis in (three, nine)] == [3, 9]


def test_before_and_after_activation_have_the_same_layers_and_one_relu_on_the_shortcut(drawn):
    for axis, relus_after_the_sum in zip(drawn(plots.draw_activation_orders).axes, (1, 0)):
        words = [text.get_text() for text in axis.texts]
        assert [words.count(layer) for layer in ("3×3 conv", "batch norm", "ReLU")] == [2, 2, 2]
        (plus,) = [text.get_position()[1] for text in axis.texts if text.get_text() == "+"]
        relus = [text.get_position()[1] for text in axis.texts if text.get_text() == "ReLU"]
        assert sum(relu < plus for relu in relus) == relus_after_the_sum


def test_gradients_share_one_log_axis_and_one_legend(drawn):
    norms = torch.rand(3, 5) + 0.1
    figure = drawn(plots.plot_gradients, {"with": {"a": norms, "b": norms}, "without": {"a": norms, "c": 100 * norms}})
    left, right = figure.axes
    assert left.get_yscale() == "log" and left.get_ylim() == right.get_ylim()
    assert left.lines[0].get_ydata()[0] == pytest.approx(norms[:, 0].log().mean().exp().item())
    assert len(figure.legends) == 1


def test_removals_have_a_bar_for_each_missing_block(drawn):
    series = {"as it is": {"conv2, 1": 0.2, "conv2, 2": 0.3}, "anew": {"conv2, 1": 0.5, "conv2, 2": 0.6}}
    figure = drawn(plots.plot_removals, {"plain": (0.9, series), "residual": (0.8, series)})
    for axis, whole in zip(figure.axes, (0.9, 0.8)):
        assert [bar.get_height() for bar in axis.patches] == [0.2, 0.3, 0.5, 0.6]
        assert [tick.get_text() for tick in axis.get_xticklabels()] == ["conv2, 1", "conv2, 2"]
        assert axis.lines[0].get_ydata()[0] == whole
    assert len(figure.legends[0].get_texts()) == 4


def test_the_drawings_of_the_book_are_what_their_code_draws():
    import draw

    for name in ("favicon", "logo", "cover", "bench"):
        assert (draw.STATIC / f"{name}.svg").read_text(encoding="utf-8") == getattr(draw, name)()
    for name, drawing in draw.thumbnails().items():
        assert (draw.STATIC / f"idea-{name}.svg").read_text(encoding="utf-8") == drawing
    assert (draw.STATIC / "palette.css").read_text(encoding="utf-8") == draw.palette()
    sheets = [path for path in draw.STATIC.rglob("*.css") if path.name != "palette.css" and "built" not in path.parts]
    own = [path for path in sheets if re.search("#[0-9a-f]{6}", path.read_text(encoding="utf-8"))]
    assert not own  # no palette of its own


def test_a_network_has_one_look_everywhere():
    found = looks(["plain20", "resnet20", "plain56-thin", "googlenet-small-bn", "densenet-small", "something"])
    assert found["plain20"].color == found["plain56-thin"].color == looks(["plain20-thin"])["plain20-thin"].color
    assert found["plain20"].line != found["plain56-thin"].line
    assert len({look.color for look in found.values()}) == 5 and found["resnet20"].mark == "o"


def test_feature_maps_have_a_row_for_each_stage_with_maps(drawn):
    net = d2lnets.resnet18(small=True)
    figure = drawn(plots.show_feature_maps, net, torch.randn(1, 1, 28, 28), 4)
    labels = [text.get_text() for text in texts(figure)]
    assert labels == ["stem, 16×28×28", "conv2_x, 16×28×28", "conv3_x, 32×14×14", "conv4_x, 64×7×7", "conv5_x, 128×4×4"]
    assert sum(len(axis.images) for axis in figure.axes) == 5 * 4 and net.training


def test_answers_have_an_image_a_map_and_the_likeliest_classes(drawn):
    test = d2lnets.load_fashion_mnist(SUBSET).test
    test = test[test.labels == 0][:2]  # two T-shirts
    maps = torch.zeros(2, 10, 4, 4)
    maps[0, 0], maps[0, 6], maps[1, 6] = 4, 2, 3
    figure = drawn(plots.show_answers, test, maps)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["T-shirt/top", "for T-shirt/top", "answer", "T-shirt/top", "for Shirt", "answer"]
    right, wrong = figure.axes[2], figure.axes[5]
    assert [label.get_text() for label in right.get_yticklabels()][:2] == ["T-shirt/top", "Shirt"]
    assert right.patches[0].get_facecolor() != wrong.patches[0].get_facecolor()
    chance = math.exp(4) / (math.exp(4) + math.exp(2) + 8)
    assert right.texts[0].get_text() == f"{chance:.0%}"
    assert float(figure.axes[1].images[1].get_array().max()) == 4  # over the image


def test_a_shortened_picture_says_the_same():
    svg = '<svg><!-- 0.9264 --><path d="M 1.23456 7 L 10.5 0.0004"/><text x="1.999">0.9264</text></svg>'
    short = '<svg><!-- 0.9264 --><path d="M 1.23 7 L 10.5 0.00"/><text x="2.00">0.9264</text></svg>'
    assert style.shorten(svg) == short


def test_panels_are_found_where_they_are(drawn):
    figure = drawn(plots.draw_residual)
    (left, right) = style.panels(figure)
    assert left[0] + left[2] <= right[0] + 1 and all(x >= 0 and x + w <= 404 for x, _, w, _ in (left, right))
    assert style.panels(drawn(plots.draw_inception)) == []
    left, right = style.panels(drawn(plots.draw_network, d2lnets.trace_shapes(d2lnets.resnet18(), (1, 96, 96))))
    assert left[2] == pytest.approx(right[2], abs=1) and left[3] > 2 * right[3]  # one scale, and no empty sky


def test_a_figure_in_a_notebook_is_vectors_in_the_same_bytes(monkeypatch):
    monkeypatch.setattr(plt, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    for _ in range(2):
        plots.draw_inception()
    first, again = (data["image/svg+xml"] for data in shown)
    assert first == again and first.startswith("<svg") and "<text" in first and "<dc:date>" not in first
