"""The book's networks with the weights that torchvision trained on ImageNet.

`resnet18`, `resnet50`, `densenet121` and `googlenet` here are the book's own, with 3 input channels and
1000 classes. `load_torchvision` gives them torchvision's weights, and `classify` names what is on a photo.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from d2lnets.densenet import DENSENET121_BLOCKS
from d2lnets.densenet import densenet as _densenet
from d2lnets.files import expanded
from d2lnets.googlenet import googlenet as _googlenet
from d2lnets.resnet import Bottleneck, Residual
from d2lnets.resnet import resnet18 as _resnet18
from d2lnets.resnet import resnet50 as _resnet50

if TYPE_CHECKING:
    import PIL.Image


def resnet18() -> nn.Sequential:
    """ResNet-18 for ImageNet. Shapes: (N, 3, H, W) -> (N, 1000)."""
    return _resnet18(3, 1000)


def resnet50() -> nn.Sequential:
    """ResNet-50 for ImageNet, with strides and pools where torchvision has them. Shapes: (N, 3, H, W) -> (N, 1000)."""
    return _use_torchvisions_geometry(_resnet50(3, 1000, v1_5=True))


def densenet121() -> nn.Sequential:
    """DenseNet-121 for ImageNet. Shapes: (N, 3, H, W) -> (N, 1000)."""
    return _densenet(3, 1000, DENSENET121_BLOCKS, bottleneck=True)


def googlenet() -> nn.Sequential:
    """GoogLeNet for ImageNet, with pools as torchvision has them. Shapes: (N, 3, H, W) -> (N, 1000)."""
    return _use_torchvisions_geometry(_googlenet(3, 1000))


READY_MADE = {"resnet18": resnet18, "resnet50": resnet50, "densenet121": densenet121, "googlenet": googlenet}

# torchvision's names for ours: patterns that are replaced one after the other.
_Names = dict[str, str | Callable[[re.Match[str]], str]]
RESNET_NAMES: _Names = {
    r"^stem\.0$": "conv1",
    r"^stem\.1$": "bn1",
    r"^conv(\d)_x": lambda match: f"layer{int(match[1]) - 1}",
    r"shortcut": "downsample",
    r"^head\.2$": "fc",
}
DENSENET_NAMES: _Names = {
    r"^stem\.0$": "features.conv0",
    r"^stem\.1$": "features.norm0",
    r"^dense(\d)\.(\d+)": lambda match: f"features.denseblock{match[1]}.denselayer{int(match[2]) + 1}",
    r"^transition": "features.transition",
    r"(layer\d+)\.0$": r"\1.norm1",
    r"(layer\d+)\.2$": r"\1.conv1",
    r"(layer\d+)\.3$": r"\1.norm2",
    r"(layer\d+)\.5$": r"\1.conv2",
    r"(transition\d)\.0$": r"\1.norm",
    r"(transition\d)\.2$": r"\1.conv",
    r"^head\.0$": "features.norm5",
    r"^head\.4$": "classifier",
}
GOOGLENET_NAMES: _Names = {
    r"^conv1\.0$": "conv1.conv",
    r"^conv2\.0$": "conv2.conv",
    r"^conv2\.2$": "conv3.conv",
    r"^inception_\d\.inception_(..)": r"inception\1",
    r"path1\.0$": "branch1.conv",
    r"path([23])\.0$": r"branch\1.0.conv",
    r"path([23])\.2$": r"branch\1.1.conv",
    r"path4\.1$": "branch4.1.conv",
    r"^head\.2$": "fc",
}


def load_torchvision(net: nn.Module, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Put the weights of one of torchvision's networks into the book's, so that both compute the same.

    Four things differ between the two, and are settled here, in this order:

    - Our convolutions have biases, torchvision's do not: they become zero.
    - Where torchvision has batch norm after a convolution and we have none (the 1x1 shortcut of
      ResNet-18, all of GoogLeNet), it is folded into the convolution: in eval mode batch norm is
      y = (x - mean) * scale + bias, so the weight is multiplied by the scale, and the bias absorbs the rest.
      A batch norm with another eps than ours is rescaled to the same function.
    - torchvision's "5x5" of the Inception block is a 3x3: it becomes a 5x5 with a frame of zeros.
    - Strides and pools move to where torchvision has them: in ResNet-50 the stride to the 3x3
      convolution ("v1.5") and padding into the max-pool; in GoogLeNet the pools start at the edge.

    Args:
        net: ResNet-18, ResNet-50, DenseNet-121 or GoogLeNet, as this module makes them. Changed in place,
            and put into eval mode: batch norm that was folded cannot be trained.
        state_dict: of torchvision's network of the same name, or a training's checkpoint that has it as
            ``"state_dict"``; auxiliary classifiers, and what wrappers and counters add, are left out.

    Raises:
        ValueError: the weights are those of another network, or are none; `net` is as it was.
    """
    state_dict = _unwrapped(state_dict)
    children = dict(net.named_children())
    eps = 1e-5  # torchvision's
    if "dense1" in children:
        names = DENSENET_NAMES  # torchvision's files say norm.1 where its networks say norm1
        state_dict = {re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", key): v for key, v in state_dict.items()}
    elif "inception_3" in children:
        names, eps = GOOGLENET_NAMES, 1e-3
        state_dict = {key: value for key, value in state_dict.items() if not key.startswith("aux")}
    else:
        names = RESNET_NAMES

    given = {key: value for key, value in state_dict.items() if not key.endswith("num_batches_tracked")}
    taken: dict[str, torch.Tensor] = {}
    try:
        for name, module in net.named_modules():
            if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):
                theirs = name
                for pattern, replacement in names.items():
                    theirs = re.sub(pattern, replacement, theirs)
                tensors = _translate(net, name, module, theirs, given, eps)
                taken |= {f"{name}.{key}": value for key, value in tensors.items()}
    except KeyError as error:
        raise ValueError(f"these are not the weights of this network: {error} is missing") from None
    if given:
        raise ValueError(f"these are not the weights of this network: {next(iter(given))} has no place in it")
    for key, value in taken.items():
        if value.shape != net.state_dict()[key].shape:
            ours = tuple(net.state_dict()[key].shape)
            raise ValueError(f"these are not the weights of this network: {key} is {ours}, not {tuple(value.shape)}")
    net.load_state_dict(taken, strict=False)  # not strict: num_batches_tracked stays
    _use_torchvisions_geometry(net)
    net.eval()


def _unwrapped(state_dict):
    """The weights as torchvision names them: without DataParallel's, torch.compile's and thop's additions."""
    if isinstance(state_dict, Mapping) and isinstance(state_dict.get("state_dict"), Mapping):
        state_dict = state_dict["state_dict"]
    if not isinstance(state_dict, Mapping):
        raise ValueError(
            f"state_dict must be weights by name, got {type(state_dict).__name__}: pass what state_dict() of a network "
            "returns, or torch.load of a file"
        )
    names = {key: re.sub(r"^((module|_orig_mod)\.)+", "", key) for key in state_dict}
    return {names[key]: each for key, each in state_dict.items() if not key.endswith(("total_ops", "total_params"))}


def _translate(net, name, module, theirs, given, eps):
    """The tensors of one of our layers, made from torchvision's, which are taken out of `given`."""
    if isinstance(module, nn.Linear):
        return {key: given.pop(f"{theirs}.{key}") for key in ("weight", "bias")}
    if isinstance(module, nn.BatchNorm2d):
        norm = {key: given.pop(f"{theirs}.{key}") for key in ("weight", "bias", "running_mean", "running_var")}
        norm["weight"] = norm["weight"] * ((norm["running_var"] + module.eps) / (norm["running_var"] + eps)).sqrt()
        return norm
    norm = None
    if theirs.endswith(".conv3") and isinstance(net.get_submodule(name.rpartition(".")[0]), Residual):
        theirs = theirs.replace("conv3", "downsample.0")
        norm = theirs.replace("downsample.0", "downsample.1")
    elif theirs.endswith(".conv") and "transition" not in theirs:  # GoogLeNet
        norm = theirs.replace(".conv", ".bn")
    weight = given.pop(f"{theirs}.weight")
    bias = torch.zeros(len(weight))
    if norm:
        scale = given.pop(f"{norm}.weight") / (given.pop(f"{norm}.running_var") + eps).sqrt()
        bias = given.pop(f"{norm}.bias") - given.pop(f"{norm}.running_mean") * scale
        weight = weight * scale[:, None, None, None]
    if module.kernel_size == (5, 5) and weight.shape[-1] == 3:
        weight = F.pad(weight, [1, 1, 1, 1])
    return {"weight": weight, "bias": bias}


def _use_torchvisions_geometry(net):
    for module in net.modules():
        if isinstance(module, Bottleneck) and len(module.shortcut):
            module.conv1.stride, module.conv2.stride = (1, 1), module.shortcut[0].stride
            net.stem[-1].padding = 1
    if "inception_3" in dict(net.named_children()):
        for pool in (net.conv1[-1], net.conv2[-1], net.inception_3.max_pool, net.inception_4.max_pool):
            pool.padding, pool.ceil_mode = 0, True
        pool.kernel_size = 2  # the last one
    return net


class Guess(NamedTuple):
    """A class of ImageNet, and how probable the network finds it."""

    name: str
    probability: float


def _of_8_bits(image):
    """An image of 16 bits, which Pillow would cut off at 255, with 8; others as they are."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("image has floating-point pixels, of an unknown range: save it with 8 or 16 bits first")
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    return Image.fromarray((pixels >> 8 * int(pixels.max() > 255)).clip(0, 255).astype(np.uint8))


@torch.no_grad()
def classify(image: "PIL.Image.Image | Path | str", network: str = "resnet50", top: int = 5) -> list[Guess]:
    """The most probable classes of ImageNet for a photo, by the book's network with torchvision's weights.

    The weights (resnet18: 45 MB, resnet50: 98 MB, densenet121: 31 MB, googlenet: 50 MB) are downloaded
    once, by torchvision, with a progress bar.

    Args:
        image: a PIL image or the path of one.
        network: one of ``READY_MADE``.
        top: how many.

    Returns:
        A list of `Guess`, the most probable first.

    Raises:
        ValueError: `network`, `top` or `image` cannot be.
        OSError: there is no such file, or it is no image.
        RuntimeError: the weights are not on this machine and cannot be downloaded, or the file is damaged.
    """
    from PIL import Image, ImageOps
    from torchvision import models  # slow to import, and only needed here

    if network not in READY_MADE:
        raise ValueError(f"no network {network!r}; there are {', '.join(READY_MADE)}")
    if not 1 <= top <= 1000:
        raise ValueError(f"top must be from 1 to 1000, got {top}")
    if isinstance(image, str) and "://" in image:
        raise ValueError(f"image must be a file on this machine, got the address {image}: download it first")
    if isinstance(image, (str, Path)):
        image = Image.open(expanded(image))
    if not isinstance(image, Image.Image):
        raise ValueError(f"image must be a PIL image or the path of one, got {type(image).__name__}")
    photo = _of_8_bits(ImageOps.exif_transpose(image)).convert("RGB")
    weights = models.get_model_weights(network).DEFAULT
    place = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    try:
        theirs = models.get_model(network, weights=weights)
    except OSError as error:  # also URLError: no network
        raise RuntimeError(f"cannot download {weights.url} ({error}): connect, or put the file at {place}") from error
    except (EOFError, RuntimeError, UnpicklingError) as error:
        raise RuntimeError(f"{place} does not hold these weights ({error}): delete it and call again") from error
    net = READY_MADE[network]()
    load_torchvision(net, theirs.state_dict())

    transform = weights.transforms()
    x = transform(photo)[None]  # (1, 3, 224, 224)
    if network == "googlenet":  # it was trained on pixels from -1 to 1
        mean, std = (torch.tensor(values)[:, None, None] for values in (transform.mean, transform.std))
        x = 2 * (x * std + mean) - 1
    probabilities = net(x).softmax(dim=1)[0]
    best = probabilities.topk(top)
    names = weights.meta["categories"]
    return [Guess(names[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist())]
