"""The networks that the lab loads: the same numbers in ONNX Runtime, switches that do what they say, no tales told."""

import lab
import numpy as np
import onnxruntime
import pytest
import torch
from helpers import without

import d2lnets
from d2lnets.__main__ import main
from d2lnets.data import normalize
from d2lnets.export import Switched
from d2lnets.probes import class_maps

IMAGES = lab.shown_images().images[:100]


@pytest.fixture(scope="module", params=lab.NETWORKS)
def exported(request):
    """A network of the lab, its file, and the file opened."""
    path = lab.OUT / f"{request.param}.onnx"
    return d2lnets.load_trained(request.param), path, onnxruntime.InferenceSession(path)


def run(session, images, switches):
    feeds = {"pixels": images.float().numpy(), "switches": np.asarray(switches, dtype=np.float32)}
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, feeds)))


@torch.no_grad()
def test_logits_and_maps_are_those_of_the_network(exported):
    net, _, session = exported
    got = run(session, IMAGES, np.ones(len(Switched(net).switches)))
    x = normalize(IMAGES)
    for name, stage in net.named_children():
        x = stage(x)
        np.testing.assert_allclose(got["logits" if name == "head" else name], x.numpy(), atol=1e-4, rtol=1e-4)
    maps = got.pop("class_maps")
    np.testing.assert_allclose(maps, class_maps(net, normalize(IMAGES)).numpy(), atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), got["logits"], atol=1e-4)
    assert len(got) == len(list(net.children()))


@torch.no_grad()
def test_a_switch_takes_out_its_part_alone(exported):
    net, _, session = exported
    switches = Switched(net).switches
    for i, name in enumerate(switches):
        stays = [float(j != i) for j in range(len(switches))]
        expected = without(net, [name])(normalize(IMAGES[:4])).numpy()
        np.testing.assert_allclose(run(session, IMAGES[:4], stays)["logits"], expected, atol=1e-4, err_msg=name)


def test_files_are_small_and_name_no_folder(exported):
    _, path, _ = exported
    content = path.read_bytes()
    assert len(content) < 1.5 * 2**20
    for folder in (d2lnets.__path__[0], torch.__path__[0], "site-packages", str(lab.OUT.parent)):
        assert folder.encode() not in content


def test_the_command_makes_the_same_file_again(tmp_path, capsys):
    weights = d2lnets.networks.WEIGHTS / "plain20.safetensors"
    main(["export", "plain20", "--weights", str(weights), "--out", str(tmp_path / "models")])
    again = tmp_path / "models" / "plain20.onnx"
    assert capsys.readouterr().out.strip() == str(again)
    assert again.read_bytes() == (lab.OUT / "plain20.onnx").read_bytes()
