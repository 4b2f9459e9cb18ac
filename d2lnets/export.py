"""Trained networks as ONNX files, with a switch for everything that can be taken out: what the live lab runs."""

import copy
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from d2lnets.data import normalize
from d2lnets.densenet import DenseBlock
from d2lnets.files import expanded, write
from d2lnets.googlenet import Inception
from d2lnets.resnet import CifarBlock
from d2lnets.tracing import trace_shapes


class Switched(nn.Module):
    """A network parts of which can be taken out, and that shows its maps.

    ``switches`` names what can be taken out, in the order of the input:

    - ``conv2_x.0``: a plain or residual block that keeps the shape gives way to its input, as if it were
      ``nn.Identity``;
    - ``dense1.2``: the maps of a dense block's layer give way to zeros;
    - ``dense1.2.source0``: this layer does not read the block's input any more (or, with ``source1``, what the
      block's first layer made), as if its first convolution had zeros for weights there;
    - ``inception_3.inception_3a.path1``: the maps of a path of an Inception block give way to zeros.

    Shapes: pixels (N, C, H, W), from 0 to 255, and switches (len(switches),), 1 for what stays and 0 for what
    is taken out -> the logits (N, num_classes), the maps after every stage but the head, and last the class activation
    maps, as `d2lnets.probes.class_maps` has them.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.switches = []
        for name, block in net.named_modules():
            if isinstance(block, DenseBlock):
                self.switches += [f"{name}.{i}" for i in range(len(block))]
                self.switches += [f"{name}.{i}.source{j}" for i in range(len(block)) for j in range(i + 1)]
            elif isinstance(block, Inception):
                self.switches += [f"{name}.{path}" for path, _ in block.named_children()]
            elif keeps_shape(block):
                self.switches.append(name)

    def forward(self, pixels: torch.Tensor, switches: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x, maps, stays = normalize(pixels), [], dict(zip(self.switches, switches.unbind()))
        *stages, (_, head) = self.net.named_children()
        assert isinstance(head, nn.Sequential) and isinstance(head[-1], nn.Linear)
        for name, stage in stages:
            if isinstance(stage, DenseBlock):
                x = dense(name, stage, x, stays)
            elif isinstance(stage, nn.Sequential):
                for child, block in stage.named_children():
                    x = switched(f"{name}.{child}", block, x, stays)
            else:
                x = stage(x)
            maps.append(x)
        places = head[:-3](x)  # without the average over them
        class_maps = functional.conv2d(places, head[-1].weight[:, :, None, None], head[-1].bias)
        return head(x), *maps, class_maps


Stays = dict[str, torch.Tensor]  # 1 or 0 by the name of a switch


def switched(name: str, block: nn.Module, x: torch.Tensor, stays: Stays) -> torch.Tensor:
    """What a part of a stage makes of `x`."""
    if isinstance(block, Inception):
        paths = block.named_children()
        return torch.cat([path(x) * stays[f"{name}.{each}"] for each, path in paths], dim=1)
    return torch.where(stays[name] > 0, block(x), x) if keeps_shape(block) else block(x)


def dense(name: str, block: DenseBlock, x: torch.Tensor, stays: Stays) -> torch.Tensor:
    """What a dense block makes of `x`."""
    features = [x]
    for i, layer in enumerate(block):
        norm, relu, *convolutions = layer.children()
        sources = [stays[f"{name}.{i}.source{j}"].expand(each.shape[1]) for j, each in enumerate(features)]
        y = relu(norm(torch.cat(features, dim=1))) * torch.cat(sources)[:, None, None]
        for part in convolutions:
            y = part(y)
        features.append(y * stays[f"{name}.{i}"])
    return torch.cat(features, dim=1)


def keeps_shape(block: nn.Module) -> bool:
    """Whether a block of plain20 or resnet20 can give way to its input."""
    return isinstance(block, CifarBlock) and block.stride == 1 and block.more_channels == 0


def export(net: nn.Module, path: Path | str, input_shape: tuple[int, int, int] = (1, 28, 28)) -> None:
    """Write a network of this package, as `Switched`, to an ONNX file.

    Its inputs are ``pixels`` and ``switches``; its outputs ``logits``, the maps by the names of their stages, and
    ``class_maps``.

    Args:
        net: in eval mode, or batch norm would look at the batch; on any device and in any precision: the file has
            float32 weights.

    Raises:
        ImportError: the packages that write ONNX files are missing, or PyTorch is too old for them.
        ValueError: `net` is in training mode, does not accept `input_shape`, or is no network of this package.
    """
    if not find_spec("onnxscript"):
        raise ImportError("writing ONNX files needs more packages: pip install onnx onnxscript")
    if torch.__version__ < "2.9":  # it compares itself as a version, so 2.10 is later
        raise ImportError(f"writing ONNX files needs PyTorch 2.9 or later, not {torch.__version__}: update torch")
    if net.training:
        raise ValueError("only a network in eval mode can be exported: call net.eval() first")
    net = getattr(net, "_orig_mod", net)  # of torch.compile
    stages = [stage.name for stage in trace_shapes(net, input_shape)]
    head = net[-1] if isinstance(net, nn.Sequential) else None
    if not isinstance(head, nn.Sequential) or not isinstance(head[-1], nn.Linear):
        raise ValueError(
            f"only a network of this package can be exported, with stages and a head, got {type(net).__name__}: "
            "torch.onnx.export writes others"
        )
    switched = Switched(copy.deepcopy(net).cpu().float()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        model = torch.onnx.export(  # type: ignore[union-attr]  # None only where it writes the file itself
            switched,
            (torch.zeros(2, *input_shape), torch.ones(len(switched.switches))),
            input_names=["pixels", "switches"],
            output_names=["logits", *stages[:-1], "class_maps"],
            dynamic_shapes=({0: torch.export.Dim("images")}, None),
            dynamo=True,
            verbose=False,
        ).model_proto
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        part.ClearField("metadata_props")  # source lines, with the paths of this machine
    model.graph.ClearField("value_info")
    write(expanded(path), model.SerializeToString())
