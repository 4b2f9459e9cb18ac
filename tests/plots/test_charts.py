"""Charts and traces show the numbers that they were given."""

from dataclasses import replace
from itertools import combinations

import matplotlib.pyplot as plt
import pytest
import torch

import d2lnets
from d2lnets import plots
from d2lnets.plots.style import BLUE, GREY, looks
from d2lnets.training.bench import Span
from d2lnets.training.evidence import paired
from d2lnets.training.runs import load_experiment


def texts(figure):
    return [text for axis in figure.axes for text in axis.texts if text.get_text()]


def test_a_link_has_a_band_and_perfect_scaling_a_line(drawn):
    rates = {"fast": {1: (10, 10), 2: (15, 18), 4: (30, 36)}, "slow": {1: (10, 10), 2: (4, 5), 4: (8, 10)}}
    figure = drawn(plots.plot_scaling, {"mine": rates, "yours": rates})
    assert [axis.get_title() for axis in figure.axes] == ["mine", "yours"]
    _, slow, perfect = figure.axes[0].lines
    assert list(slow.get_ydata()) == [10, 4, 8] and list(perfect.get_ydata()) == [10, 20, 40]
    assert len(figure.axes[0].collections) == 2


def test_a_step_that_loses_is_hollow(drawn):
    (axis,) = drawn(plots.plot_steps, {"a": 76.0, "b": 78.0, "c": 77.0}, {"b": 4.5}, " G").axes
    assert [line.get_markerfacecolor() == "white" for line in axis.lines[1:]] == [False, False, True]
    assert [text.get_text() for text in axis.texts] == ["76.0", "78.0  (4.5 G)", "77.0"]


def test_what_flows_past_the_blocks_is_drawn_from_the_first_on(drawn):
    (axis,) = drawn(plots.plot_stream, {"mine": [1.0, 1.5, 2.0]}).axes
    assert list(axis.lines[0].get_xdata()) == [0, 1, 2] and axis.get_ylim()[0] == 0


def test_networks_are_compared_by_their_curves(drawn, tmp_path):
    runs = [run for name in ("resnet18-small", "resnet20") for run in d2lnets.load_runs(name)]
    axis = drawn(plots.compare_runs, runs).axes[0]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["resnet18-small", "resnet20"]
    plots.compare_runs(runs, tmp_path / "curves.png")
    assert plt.imread(tmp_path / "curves.png").shape[2] == 4


def test_errors_are_a_line_for_each_run_and_network_and_the_peak_of_the_rate(drawn):
    runs = {n: r for (n, _), r in load_experiment("degradation").items()}
    figure = drawn(plots.plot_training_errors, runs)
    assert [axis.get_title() for axis in figure.axes] == ["training images", "validation images"]
    assert len(figure.legends[0].get_texts()) == 4
    last = runs["plain20-thin"][0].epochs[-1]
    for axis, error in zip(figure.axes, (last["train_error"], 1 - last["validation_accuracy"])):
        *lines, peak = axis.lines
        assert len(lines) == 4 * (3 + 1) and set(peak.get_xdata()) == {20}
        assert all(len(line.get_xdata()) == 80 for line in lines)
        assert lines[0].get_ydata()[-1] == pytest.approx(error)
    early = {name: [replace(run, epochs=run.epochs[:8]) for run in each] for name, each in runs.items()}
    assert [len(axis.lines) for axis in drawn(plots.plot_training_errors, early).axes] == [16, 16]  # the peak is later


def test_depths_are_dots_with_their_numbers_that_do_not_overlap(drawn):
    networks = {"A, 2012": (8, 16.4), "B, 2014": (19, 7.3), "C, 2014": (22, 6.7), "D, 2015": (152, 3.6)}
    figure = drawn(plots.plot_depths, networks, "error, %")
    (axis,) = figure.axes
    assert axis.lines[0].get_xydata().tolist() == [list(point) for point in networks.values()]
    assert axis.get_xscale() == "log" and axis.get_ylabel() == "error, %"
    assert axis.texts[0].get_text() == "A, 2012\n8 layers, 16.4 %"
    boxes = [text.get_window_extent() for text in axis.texts]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(axis.bbox.x0 <= box.x0 and box.x1 <= axis.bbox.x1 and axis.bbox.y0 <= box.y0 for box in boxes)


def test_the_rate_of_a_recipe_is_drawn_as_it_is(drawn):
    figure = drawn(
        plots.plot_rate, {"book": d2lnets.Recipe(lr=0.3), "constant": d2lnets.Recipe(warmup=0.0, decay="none", lr=0.1)}
    )
    rising, constant = figure.axes[0].lines
    assert max(rising.get_ydata()) == pytest.approx(0.3) and set(constant.get_ydata()) == {0.1}


def test_scores_have_a_dot_for_each_run_and_stand_from_the_top_down(drawn):
    figure = drawn(plots.plot_scores, {"mine": [0.9, 0.91, 0.92], "yours": [0.8, 0.9]}, "test accuracy")
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["mine", "yours"]
    assert axis.yaxis_inverted() and axis.get_xlabel() == "test accuracy"
    assert [list(line.get_xdata()) for line in axis.lines] == [
        [0.9, 0.91, 0.92],
        [pytest.approx(0.91)],
        [0.8, 0.9],
        [pytest.approx(0.85)],
    ]
    assert [text.get_text() for text in axis.texts] == ["0.9100 ± 0.0100", "0.8500 ± 0.0707"]
    (axis,) = drawn(plots.plot_scores, {"mine": [91.0]}, "accuracy, %").axes
    assert [text.get_text() for text in axis.texts] == ["91.00"]


def test_differences_have_an_interval_and_a_dot_for_each_seed(drawn):
    rows = {
        "better": paired([0.93, 0.94, 0.95], [0.92, 0.93, 0.94 + 1e-4]),
        "unclear": paired([0.93, 0.94], [0.94, 0.93]),
        "far": paired([0.5, 0.51], [0.9, 0.9]),
    }
    (axis,) = drawn(plots.plot_differences, rows, least=-3).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == list(rows) and axis.yaxis_inverted()
    zero, seeds, interval, mean, *unclear = axis.lines
    assert list(zero.get_xdata()) == [0, 0] and seeds.get_xdata() == pytest.approx([1, 1, 0.99])
    assert interval.get_xdata() == pytest.approx([100 * rows["better"].low, 100 * rows["better"].high])
    assert mean.get_color() == BLUE and {line.get_color() for line in unclear} == {GREY}
    arrow, *means = axis.texts
    assert arrow.arrow_patch and [text.get_text() for text in means] == ["+1.00", "+0.00", "−39.50"]


def test_curves_by_rate_go_through_the_means(drawn):
    (axis,) = drawn(plots.plot_by_rate, {"SGD": {0.2: [0.93, 0.95], 0.1: [0.9]}}).axes
    assert axis.get_xscale() == "log" and list(axis.lines[0].get_xdata()) == [0.1, 0.2]
    assert axis.lines[0].get_ydata() == pytest.approx([0.9, 0.94])


def test_curves_by_labels_have_a_thin_line_for_each_seed(drawn):
    (axis,) = drawn(plots.plot_by_labels, {"fine-tuned": {10: [0.3, 0.5], 100: [0.7, 0.9]}}).axes
    *thin, thick = axis.lines
    assert [list(line.get_ydata()) for line in thin] == [pytest.approx([0.3, 0.7]), pytest.approx([0.5, 0.9])]
    assert thick.get_ydata() == pytest.approx([0.4, 0.8]) and thick.get_label() == "fine-tuned"


def test_costs_have_a_panel_each_and_a_line_for_each_design(drawn):
    designs = {"a": {"narrow": [0.91, 0.93], "wide": [0.95]}, "b": {"other": [0.9]}}
    costs = {"parameters": {"narrow": 10, "wide": 40, "other": 1000}, "seconds": {"narrow": 2, "wide": 3, "other": 1}}
    figure = drawn(plots.plot_costs, designs, costs)
    assert [axis.get_xlabel() for axis in figure.axes] == ["parameters", "seconds"]
    line, _, ranges = figure.axes[0].containers[0].lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([10, 40], pytest.approx([0.92, 0.95]))
    assert ranges[0].get_segments()[0][:, 1] == pytest.approx([0.91, 0.93])
    assert [text.get_text() for text in figure.legends[0].texts] == ["a", "b"]
    assert len(drawn(plots.plot_costs, designs, {"parameters": costs["parameters"]}).axes) == 1


def test_a_confusion_shows_the_share_of_each_class_that_was_taken_for_another(drawn):
    counts = 90 * torch.eye(10) + torch.eye(10).roll(1, 1) * 10
    labels = {text.get_position(): text.get_text() for text in texts(drawn(plots.plot_confusion, counts))}
    assert labels == {((row + 1) % 10, row): "10" for row in range(10)}
    assert counts[0, 0] == 90


def test_shared_errors_are_a_share_of_those_of_the_row(drawn):
    wrong = {"a": torch.tensor([True, True, True, True, False]), "b": torch.tensor([False, False, False, True, True])}
    figure = drawn(plots.plot_overlap, wrong)
    labels = {text.get_position(): text.get_text() for text in texts(figure)}
    assert labels == {(1, 0): "25", (0, 1): "50"} and figure.axes[0].get_ylabel() == "of the errors of"


def test_scores_of_networks_have_the_looks_of_their_families(drawn):
    (axis,) = drawn(plots.plot_scores, {"plain20": [0.9], "resnet20": [0.92], "mirroring": [0.91]}).axes
    colors = [line.get_color() for line in axis.lines[::2]]
    assert colors == [looks([name])[name].color for name in ("plain20", "resnet20")] + [colors[0]]


def test_speeds_have_a_row_for_each_name_and_a_mark_for_each_way(drawn):
    rows = {"resnet18": {"slow": 10.0, "fast": 100.0}, "mine": {"slow": 5.0, "fast": 20.0}}
    figure = drawn(plots.plot_speeds, rows)
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == list(rows)
    assert [text.get_text() for text in figure.legends[0].texts] == ["slow", "fast"] and axis.get_xscale() == "log"
    (axis,) = drawn(plots.plot_speeds, {"mine": {"here": 5.0}}).axes
    assert axis.get_xscale() == "linear" and axis.get_xlim()[0] == 0
    assert axis.patches[0].get_width() == 5 and axis.texts[0].get_text() == "5"
    figure = drawn(plots.plot_speeds, rows, "% of the peak", ["fast", "other", "slow"], log=False)
    (axis,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].texts] == ["fast", "other", "slow"]
    assert axis.get_xscale() == "linear" and axis.get_xlim() == (0, pytest.approx(115))
    figure = drawn(plots.plot_speeds, {"a": {"x": 1.0, "y": 0.02, "z": 3.0}, "b": {"z": 4.0, "w": 5.0}})
    (axis,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].texts] == ["x", "y", "z", "w"]
    marks = {line.get_marker() for line in axis.lines if len(line.get_xdata()) == 1}
    assert len(marks) == 4 and "0.01" in [label.get_text() for label in axis.get_xticklabels()]


def test_a_roofline_has_a_ring_and_a_dot_for_each_layer(drawn):
    layers = {"conv": (100.0, 50.0, 100.0), "norm": (0.2, 1.0, 0.5)}
    (axis,) = drawn(plots.plot_roofline, layers).axes
    marks = {(*line.get_xdata(), *line.get_ydata()): line.get_mfc() for line in axis.lines if line.get_marker() == "o"}
    assert [mark for mark, fill in marks.items() if fill == "white"] == [(100, 50), (0.2, 1)] and len(marks) == 4
    left, right = axis.texts
    assert left.get_text() == "conv\n2.0 times as fast in 16 bits" and (left.get_ha(), right.get_ha()) == (
        "right",
        "left",
    )


def test_the_label_of_named_rows_is_inside(drawn):
    rows = {"a network with a long name": paired([3, 1, 2], [1, 2, 3])}
    figure = drawn(plots.plot_differences, rows, "difference of test accuracy, points")
    box = figure.axes[0].xaxis.label.get_window_extent()
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1


def test_a_trace_has_parts_above_their_operations(drawn):
    spans = [Span("forward", 0, 4, 0), Span("conv2d", 0.5, 3, 1), Span("inner", 1, 2, 2), Span("update", 4, 4.1, 0)]
    figure = drawn(plots.plot_trace, spans)
    assert [text.get_text() for text in texts(figure)] == ["forward"]  # the other is too narrow for its name
    boxes = [(box.get_x(), box.get_y(), box.get_width()) for box in figure.axes[0].patches]
    assert len(boxes) == 3 and (0.5, 1, 2.5) in boxes


def test_gradients_memory_and_times_are_drawn_as_they_are(drawn):
    gradients = torch.tensor([0.0, 2.0**-30, 2.0**-10])
    figure = drawn(plots.plot_magnitudes, gradients, 2.0**10)
    assert [text.get_text() for text in figure.legends[0].texts] == ["as they are", "scaled"]
    (axis,) = drawn(plots.plot_step_memory, {"plain": ([0.0, 1.0, 2.0], [0, 4_000_000, 1_000_000])}).axes
    assert [line.get_xydata().tolist() for line in axis.lines][1] == [[0.5, 4.0]]  # the peak
    assert drawn(plots.plot_gaps, [1e-6, 1e-3]).axes[0].get_yscale() == "log"
    (axis,) = drawn(plots.plot_operation_times, [1, 100, 10_000], [2.0, 2.0, 9.0]).axes
    assert axis.lines[0].get_ydata().tolist() == [2.0, 2.0, 9.0]
