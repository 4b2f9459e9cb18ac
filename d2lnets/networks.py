"""The networks of the book by name, as the command line and the recorded runs know them."""

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import safetensors
import safetensors.torch
from torch import nn

from d2lnets.densenet import densenet
from d2lnets.files import expanded
from d2lnets.googlenet import googlenet
from d2lnets.later import LATER
from d2lnets.resnet import cifar_resnet, fast_resnet, resnet18, resnet50

SMALL: dict[str, Callable[[], nn.Sequential]] = {  # for 28x28; thin has half of the channels, wide twice as many
    "fast-resnet": fast_resnet,
    "resnet18-small": partial(resnet18, small=True),
    "resnet50-small": partial(resnet50, 1, 10, small=True),
    "googlenet-small": partial(googlenet, small=True),
    "googlenet-small-bn": partial(googlenet, small=True, batch_norm=True),
    "densenet-small": partial(densenet, small=True),
    "plain20": partial(cifar_resnet, 20, residual=False),
    "plain56": partial(cifar_resnet, 56, residual=False),
    "resnet20": partial(cifar_resnet, 20),
    "resnet56": partial(cifar_resnet, 56),
    "plain20-thin": partial(cifar_resnet, 20, width=8, residual=False),
    "plain56-thin": partial(cifar_resnet, 56, width=8, residual=False),
    "resnet20-thin": partial(cifar_resnet, 20, width=8),
    "resnet56-thin": partial(cifar_resnet, 56, width=8),
    "resnet18-small-thin": partial(resnet18, small=True, width=1 / 8),
    "resnet18-small-wide": partial(resnet18, small=True, width=1 / 2),
    "resnet50-small-thin": partial(resnet50, 1, 10, small=True, width=1 / 8),
    "googlenet-small-bn-thin": partial(googlenet, small=True, batch_norm=True, width=1 / 8),
    "googlenet-small-bn-wide": partial(googlenet, small=True, batch_norm=True, width=1 / 2),
    "densenet-small-thin": partial(densenet, small=True, width=3 / 16),
    "densenet-small-wide": partial(densenet, small=True, width=3 / 4),
}
NETWORKS = SMALL | {  # and those of the source, for 96x96
    "resnet18": resnet18,
    "resnet50": partial(resnet50, 1, 10),
    "googlenet": googlenet,
    "googlenet-bn": partial(googlenet, batch_norm=True),
    "densenet": densenet,
}


def build(name: str) -> nn.Sequential:
    """A new network, for 1 input channel and 10 classes.

    Of `NETWORKS`, or one of those that only compare blocks, `d2lnets.later.LATER`.

    Raises:
        ValueError: there is none of that name; the message offers those with a similar one.
    """
    if name not in NETWORKS | LATER:
        close = get_close_matches(name, NETWORKS, n=3, cutoff=0.4)
        offer = f"did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(f"no network is called {name!r}: {offer}There are {', '.join(NETWORKS)}")
    return (NETWORKS | LATER)[name]()


WEIGHTS = Path(__file__).parent / "weights"


def load_trained(name: str, path: Path | str | None = None) -> nn.Sequential:
    """A network of the book with trained weights, in eval mode.

    Args:
        path: a checkpoint that ``python -m d2lnets train`` or `fit` wrote; without one the weights that ship with the
            package, those of the recorded run with seed 0, rounded to 16 bits.

    Raises:
        ValueError: there are no weights of that network; the message says of which there are.
        RuntimeError: the file has another network's weights, or is no checkpoint.
    """
    net = build(name)
    if path is None:
        path = WEIGHTS / f"{name}.safetensors"
        if not path.exists():
            known = ", ".join(sorted(file.stem for file in WEIGHTS.glob("*.safetensors"))) or "none"
            raise ValueError(f"no trained weights of {name} ship with the package; there are those of {known}")
    try:
        tensors = safetensors.torch.load_file(expanded(path))
    except safetensors.SafetensorError as error:
        raise RuntimeError(
            f"{path} is no checkpoint of fit or d2lnets train ({error}); what torch.save wrote, "
            "net.load_state_dict(torch.load(path)) reads"
        ) from error
    prefix = "average/module." if "average/n_averaged" in tensors else "net/"
    state = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    if not state:
        raise RuntimeError(
            f"{path} is no checkpoint of fit or d2lnets train; a state dict alone, "
            "net.load_state_dict(safetensors.torch.load_file(path)) reads"
        )
    net.load_state_dict(state)
    return net.eval()
