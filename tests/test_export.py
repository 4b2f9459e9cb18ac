"""Exporting networks: what has a switch, and what is refused. tests/book/test_models.py has the files."""

import sys

import pytest
import torch
import torchvision
from torch import nn

import d2lnets
from d2lnets.__main__ import main
from d2lnets.export import Switched, export

pytestmark = pytest.mark.skipif(torch.__version__ < "2.9", reason="ONNX export needs PyTorch 2.9")


def test_what_has_switches():
    """Blocks that keep the shape; dense layers, and what each of them reads; the paths of Inception blocks."""
    shape_keepers = ["conv2_x.0", "conv2_x.1", "conv2_x.2", "conv3_x.1", "conv3_x.2", "conv4_x.1", "conv4_x.2"]
    assert Switched(d2lnets.load_trained("plain20")).switches == shape_keepers
    assert Switched(d2lnets.load_trained("resnet20")).switches == shape_keepers
    dense, layers = Switched(d2lnets.load_trained("densenet-small")).switches, []
    for block in range(1, 5):
        layers += [f"dense{block}.{i}" for i in range(4)]
        layers += [f"dense{block}.{i}.source{j}" for i in range(4) for j in range(i + 1)]
    assert dense == layers
    paths = Switched(d2lnets.load_trained("googlenet-small-bn")).switches
    assert len(paths) == 36 and paths[5] == "inception_3.inception_3b.path2"


def test_bad_input_is_refused(tmp_path, monkeypatch):
    net = d2lnets.load_trained("resnet20")
    with pytest.raises(ValueError, match=r"only a network in eval mode can be exported: call net.eval\(\)"):
        export(net.train(), tmp_path / "a.onnx")
    with pytest.raises(ValueError, match="does not accept an input of 3×28×28"):
        export(net.eval(), tmp_path / "a.onnx", (3, 28, 28))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match="pip install onnx onnxscript"):
        export(net, tmp_path / "a.onnx")
    monkeypatch.undo()
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)("2.8.1+cu128"))
    with pytest.raises(ImportError, match=r"needs PyTorch 2.9 or later, not 2.8.1\+cu128: update torch"):
        export(net, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "kept",
    [lambda net: net.half(), lambda net: net.double(), lambda net: torch.compile(net)],
    ids=["half", "double", "compiled"],
)
def test_the_file_is_the_same_whatever_the_network_is_kept_in(kept, tmp_path):
    net = d2lnets.fast_resnet((4, 8)).eval()
    for weight in net.parameters():
        weight.data = weight.data.half().float()
    export(net, tmp_path / "float.onnx")
    export(kept(net), tmp_path / "kept.onnx")
    assert (tmp_path / "kept.onnx").read_bytes() == (tmp_path / "float.onnx").read_bytes()


@pytest.mark.parametrize(
    "net", [nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), nn.Sequential(nn.Flatten()), torchvision.models.resnet18()]
)
def test_a_network_of_somebody_else_is_refused(net, tmp_path):
    size = (1, 28, 28) if isinstance(net, nn.Sequential) else (3, 64, 64)
    with pytest.raises(ValueError, match=r"only a network of this package .* got .*: torch.onnx.export writes others"):
        export(net.eval(), tmp_path / "a.onnx", size)


def command(capsys, *arguments):
    """What ``python -m d2lnets export`` returns, prints, and says of errors."""
    try:
        main(["export", *arguments])
    except SystemExit as end:
        return 1, capsys.readouterr().out, str(end.code)
    return 0, capsys.readouterr().out, ""


def test_the_command_refuses(tmp_path, capsys):
    weights = d2lnets.networks.WEIGHTS / "plain20.safetensors"
    (tmp_path / "letter.txt").write_text("no weights", encoding="utf-8")
    for arguments, message in {
        ("resnet21",): "no network is called 'resnet21': did you mean resnet20",
        ("plain56",): "no trained weights of plain56 ship with the package; there are those of densenet-small",
        ("resnet20", "plain20", "--weights", str(weights)): "--weights has those of one network, and 2 are named",
        ("densenet-small", "--weights", str(weights)): "does not have weights of densenet-small",
        ("resnet20", "--weights", str(tmp_path / "letter.txt")): "does not have weights of resnet20",
        ("resnet20", "--weights", str(tmp_path / "none.safetensors")): "none.safetensors",
    }.items():
        code, out, error = command(capsys, *arguments, "--out", str(tmp_path / "models"))
        assert code == 1 and error.startswith("d2lnets: ") and message in error and not out
    assert not (tmp_path / "models").exists()
