"""The lab's benches for links, paths, the bottleneck and the comparison's epochs: PyTorch's numbers, for all."""

import json
import re

import lab
import pytest
import torch
from helpers import HTML, foreign_requests, open_page, violations, without
from torch import nn

import d2lnets
from d2lnets.data import normalize
from d2lnets.export import Switched
from d2lnets.training.runs import WATCHED, unpack

MINUTE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def phone(browser, site):
    """The lab's page on a dark phone, opened once for all."""
    page = open_page(browser, f"{site}/book/lab.html", viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.set_default_timeout(MINUTE)
    yield page
    assert violations(page, ".lab") == []
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    assert page.complaints == [] and foreign_requests(page, site) == set()
    page.close()


def start(page, bench):
    place = page.locator(f"[data-bench={bench}]")
    place.get_by_role("button", name="Start the bench").focus()
    page.keyboard.press("Enter")
    place.locator(".lab-verdict").wait_for()
    return place


def says(place, text):
    place.locator(".lab-verdict", has_text=text).wait_for()


@torch.no_grad()
def answers(name, out=()):
    """What PyTorch takes the lab's images for, without some parts and without switches."""
    return without(d2lnets.load_trained(name), out)(normalize(lab.shown_images().images)).argmax(1)


@pytest.mark.parametrize(
    "bench, name, parts, box, switch",
    [
        ("links", "densenet-small", "links", "dense1, layer 1 reads the block's input", "dense1.0.source0"),
        ("paths", "googlenet-small-bn", "paths", "4c, the 3×3 path", "inception_4.inception_4c.path2"),
    ],
)
def test_a_switch_gives_the_answers_of_pytorch(phone, bench, name, parts, box, switch):
    """By keyboard: how many are right, which change, and the pictures of the first ten of these."""
    labels, before, after = lab.shown_images().labels, answers(name), answers(name, [switch])
    place, title = start(phone, bench), lab.NETWORKS[name]
    says(place, f"{title}, all {parts} in: {(before == labels).sum()} of 500 right")
    place.get_by_label(box, exact=True).focus()
    phone.keyboard.press("Space")
    says(place, f": {(after == labels).sum()} of 500 right")
    changed = (before != after).nonzero().flatten()
    lost, won = ((each[changed] == labels[changed]).sum() for each in (before, after))
    place.get_by_text(
        f"{len(changed)} answers have changed: {lost} that were right, and {won} are right now."
    ).wait_for()
    shown = place.locator(".lab-answers strong").all_inner_texts()
    assert shown == [lab.CLASSES[labels[i]] for i in changed[:10]]
    place.get_by_role("button", name="All back in").click()
    says(place, f"all {parts} in")
    assert place.locator(".lab-answers").count() == 0 and place.locator("tbody tr", has_text=title).count() == 2


def test_the_series_that_a_button_measures(phone):
    """Only the nearest links, in each block and in all; one kind of path after the other, in all nine blocks."""
    names = {name: Switched(d2lnets.load_trained(name)).switches for name in ("densenet-small", "googlenet-small-bn")}
    links, paths = phone.evaluate(
        """async (all) => {
            const { KINDS } = await import("/_static/lab/cuts.js");
            return [KINDS.links, KINDS.paths].map(({ pattern, series }, i) =>
                series.outs(all[i].filter((name) => pattern.test(name))));
        }""",
        list(names.values()),
    )
    long = [[f"dense{b}.{i}.source{j}" for i in range(4) for j in range(i)] for b in range(1, 5)]
    assert links == [*long, [name for block in long for name in block]]
    assert paths == [[name for name in names["googlenet-small-bn"] if name.endswith(str(k))] for k in range(1, 5)]


def test_the_bottleneck_costs_what_trace_shapes_counts(phone):
    settings = [(256, 64, 56), (64, 64, 7), (512, 8, 14)]
    got = phone.evaluate(
        """async (settings) => {
            const { costs } = await import("/_static/lab/bottleneck.js");
            return settings.map((each) => Object.values(costs(...each)).map((layers) =>
                layers.map(({ parameters, multiplyAdds }) => [parameters, multiplyAdds])));
        }""",
        settings,
    )
    for (channels, width, size), blocks in zip(settings, got):
        ours = d2lnets.identity_block(channels, (width, width, channels)), d2lnets.Residual(channels, channels)
        for block, layers in zip(ours, blocks):
            trace = d2lnets.trace_shapes(nn.Sequential(block), (channels, size, size))
            assert [sum(column) for column in zip(*layers)] == [trace.parameters, trace.multiply_adds]
    place = phone.locator("[data-bench=bottleneck]")
    says(place, "have 16.7 times the parameters of the bottleneck and do 16.9 times its work")
    place.get_by_role("slider", name="Channels inside: 64 of 256").focus()
    phone.keyboard.press("End")
    says(place, "do 1.6 times its work. Of the bottleneck's work its 3×3 does 82 %")
    place.get_by_label("Stage of ResNet-50").select_option("3")
    place.get_by_role("slider", name="Channels inside: 2048 of 2048").wait_for()


def test_the_comparison_can_be_moved_through(phone):
    """It has all networks of the comparison, and says of the first seed what was recorded."""
    runs = {name: each[0] for (name, _), each in d2lnets.load_experiment("gpu_networks").items()}
    labels = torch.tensor(json.loads(WATCHED.read_text(encoding="utf-8"))["labels"])
    place = start(phone, "scrub][data-first=networks")
    assert place.locator("select").first.locator("option").all_inner_texts() == list(runs)

    def said(name, epoch):
        then = runs[name].epochs[epoch - 1]
        wrong = (unpack(then["watched"]).view(20, 10).argmax(1) != labels).sum().item()
        error = f"{100 * (1 - then['validation_accuracy']):.1f} % of the 5,000 validation images"
        return f"{name} is wrong on {error} and on {wrong} of these 20"

    says(place, f"After epoch 1: {said('plain56', 1)}; {said('resnet56', 1)}.")
    phone.keyboard.press("End")
    place.get_by_label("Another").select_option("googlenet-small")
    says(place, f"After epoch 4: {said('plain56', 4)}; {said('googlenet-small', 4)}.")
    assert re.search("plain56 and . googlenet-small take them for", place.inner_text())
    assert {run.seed for run in runs.values()} == {0} and place.locator(".lab-answers li").count() == 20


def test_they_stand_in_their_chapters():
    benches = {"densenet": "links", "googlenet": "paths", "resnet50": "bottleneck", "comparison": "scrub"}
    for chapter, bench in benches.items():
        page = (HTML / "book" / f"{chapter}.html").read_text(encoding="utf-8")
        assert f'class="lab" data-bench="{bench}"' in page and "lab/main.js" in page and 'href="lab.html"' in page
