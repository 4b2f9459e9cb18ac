"""torchvision's networks with random weights and statistics, and ours with the same: equal logits in eval mode."""

import copy
import re
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models

import d2lnets
from d2lnets import imagenet

NETWORKS = list(imagenet.READY_MADE)


def random_peer(name):
    """torchvision's network with weights, biases and running statistics that are not the neutral ones."""
    torch.manual_seed(0)
    options = dict(init_weights=False, aux_logits=True) if name == "googlenet" else {}
    peer = models.get_model(name, weights=None, **options)
    for module in peer.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return peer.eval()


@pytest.fixture(scope="module", params=NETWORKS)
def pair(request):
    peer = random_peer(request.param)
    net = imagenet.READY_MADE[request.param]()
    imagenet.load_torchvision(net, peer.state_dict())
    return net, peer, request.param


@pytest.mark.parametrize("size", [(224, 224), (199, 261)])
@torch.no_grad()
def test_logits_are_equal(pair, size):
    net, peer, _ = pair
    x = torch.randn(2, 3, *size) * torch.tensor([1.0, 3.0])[:, None, None, None]
    expected = peer(x)
    difference = (net(x) - expected).norm()
    assert difference < 1e-4 * expected.norm()
    assert difference < 1e-3 * (expected[0] - expected[1]).norm()  # not because all images look alike to it


def test_a_saved_network_is_the_same_when_loaded(pair):
    """Strides and pools are not in a state dict: the ready-made networks must have torchvision's from the start."""
    net, _, name = pair
    again = imagenet.READY_MADE[name]().eval()
    again.load_state_dict(net.state_dict())
    x = torch.randn(1, 3, 75, 75)
    assert torch.equal(net(x), again(x))


def test_the_older_names_in_torchvisions_densenet_files_are_understood():
    state = random_peer("densenet121").state_dict()
    older = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key): value for key, value in state.items()}
    assert older.keys() != state.keys()
    nets = [imagenet.densenet121(), imagenet.densenet121()]
    for net, weights in zip(nets, (state, older)):
        imagenet.load_torchvision(net, weights)
    assert all(torch.equal(a, b) for a, b in zip(*(net.state_dict().values() for net in nets)))


def test_the_2015_placement_is_moved_too():
    peer = random_peer("resnet50")
    net = d2lnets.resnet50(3, 1000)
    imagenet.load_torchvision(net, peer.state_dict())
    x = torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(net(x), peer(x), rtol=1e-4, atol=1e-4 * peer(x).abs().max().item())


@pytest.mark.parametrize("ours, theirs", [("resnet18", "resnet34"), ("resnet50", "resnet18"), ("resnet18", "resnet50")])
def test_weights_of_another_network_are_refused_and_ours_stay(ours, theirs):
    net = imagenet.READY_MADE[ours]()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match="not the weights of this network"):
        imagenet.load_torchvision(net, models.get_model(theirs, weights=None).state_dict())
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())


def counted(state):
    """As thop's profile leaves it."""
    return state | {
        f"{layer}{name}": torch.zeros(1) for layer in ("", "conv1.") for name in ("total_ops", "total_params")
    }


@pytest.mark.parametrize(
    "kept",
    [
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
        lambda state: {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}},
        counted,
    ],
    ids=["DataParallel", "torch.compile", "checkpoint of PyTorch's ImageNet example", "counted by thop"],
)
def test_weights_are_taken_from_what_others_wrap_around_them(kept):
    peer = random_peer("resnet18")
    net = imagenet.resnet18()
    imagenet.load_torchvision(net, kept(peer.state_dict()))
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(net(x), peer(x), rtol=1e-3, atol=1e-3 * peer(x).abs().max().item())


@pytest.mark.parametrize("wrong", [models.resnet18(weights=None), "resnet18.pth", None])
def test_what_is_no_state_dict(wrong):
    with pytest.raises(ValueError, match=rf"must be weights by name, got {type(wrong).__name__}: pass what state_dict"):
        imagenet.load_torchvision(imagenet.resnet18(), wrong)


def test_another_number_of_classes_is_named():
    with pytest.raises(ValueError, match=r"head.2.weight is \(10, 512\), not \(1000, 512\)"):
        imagenet.load_torchvision(d2lnets.resnet18(3, 10), models.resnet18(weights=None).state_dict())


def keep_random_weights(name, tmp_path, monkeypatch):
    """Where torchvision would keep the downloaded ones."""
    weights = models.get_model_weights(name).DEFAULT
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    place.parent.mkdir(parents=True)
    torch.save(random_peer(name).state_dict(), place)
    return weights


@pytest.mark.parametrize("name", NETWORKS)
def test_a_photo_gets_torchvisions_answers(name, tmp_path, monkeypatch):
    weights = keep_random_weights(name, tmp_path, monkeypatch)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8))
    photo.save(tmp_path / "photo.png")

    guesses = imagenet.classify(tmp_path / "photo.png", name)
    peer = models.get_model(name, weights=weights).eval()
    expected = peer(weights.transforms()(photo)[None]).softmax(1)[0].topk(5)
    assert [guess.name for guess in guesses] == [weights.meta["categories"][i] for i in expected.indices]
    torch.testing.assert_close(
        torch.tensor([guess.probability for guess in guesses]), expected.values, rtol=1e-3, atol=0
    )


def test_a_photo_of_16_bits_gets_the_answers_of_its_8_bits(tmp_path, monkeypatch):
    keep_random_weights("resnet18", tmp_path, monkeypatch)
    grey = np.random.default_rng(0).integers(0, 255, (300, 300), dtype=np.uint8)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "grey.png")
    expected = imagenet.classify(Image.fromarray(grey), "resnet18")
    for image in (tmp_path / "grey.png", Image.fromarray(grey.astype(np.int32) * 257), Image.fromarray(grey * 1)):
        assert imagenet.classify(image, "resnet18") == expected


@pytest.mark.parametrize(
    "image, said",
    [
        (
            "https://example.org/dog.jpg",
            "a file on this machine, got the address https://example.org/dog.jpg: download",
        ),
        (Image.new("F", (30, 30)), "image has floating-point pixels, of an unknown range: save it with 8 or 16 bits"),
    ],
)
def test_what_is_no_photo_says_what_to_do(image, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        imagenet.classify(image)


def test_without_a_network_the_error_says_where_the_file_goes(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    with pytest.raises(RuntimeError, match=r"no route to host.* put the file at .*checkpoints/resnet18-\w+\.pth"):
        imagenet.classify(Image.new("RGB", (300, 300)), "resnet18")


def test_an_unknown_network_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="there are resnet18, resnet50, densenet121, googlenet"):
        imagenet.classify("photo.png", "resnet19")
