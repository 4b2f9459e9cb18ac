"""What training and scoring need of a network, of data and of memory; said where it is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from d2lnets.data import FashionMNIST, Split
from d2lnets.training.recipe import Recipe

MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def require_trainable(net: nn.Module, data: FashionMNIST) -> None:
    """Refuse, before any weight changes, what `fit` cannot train, or not well.

    Raises:
        TypeError: `net` is no network, `data` is not what `load_fashion_mnist` returns.
        ValueError: a weight is in 16 bits, or has no shape yet; none is to be trained; there is no image to train on;
            images or labels are of another kind.
    """
    require_network(net)
    for name, weight in net.named_parameters():
        if is_lazy(weight):
            raise ValueError(f"{name} has no shape yet: send a batch through the network before, as in net(images[:2])")
        if weight.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"fit needs float32 weights, {name} is {_name(weight.dtype)}: call net.float(). "
                "Where 16 bits are fast, the recipe's mixed_precision casts them, step by step"
            )
    if not any(weight.requires_grad for weight in net.parameters()):
        raise ValueError("the network has no weight that requires a gradient: there is nothing to train")
    for name in ("train", "validation"):
        if not hasattr(data, name):
            raise TypeError(
                f"data needs train and validation, as load_fashion_mnist returns them; got {type(data).__name__}"
            )
        require_split(getattr(data, name), f"data.{name}")
    if not len(data.train):
        raise ValueError("data.train is empty: fit needs at least one image")
    count_classes(data.train, data.validation)


def require_network(net: nn.Module) -> None:
    if not isinstance(net, nn.Module):
        call = ": call it, to get a network" if callable(net) else ""
        name = getattr(net, "__name__", f"{net!r:.80}")
        raise TypeError(f"net must be a network, an nn.Module, got {name}{call}")


def require_split(split: Split, name: str) -> None:
    """Refuse, by name, what is not images and labels as a `Split` has them.

    Raises:
        TypeError: it has no tensors of that name.
        ValueError: their types or shapes are others.
    """
    images, labels = getattr(split, "images", None), getattr(split, "labels", None)
    if not isinstance(images, torch.Tensor) or not isinstance(labels, torch.Tensor):
        raise TypeError(f"{name} must be a Split, with tensors images and labels, got {type(split).__name__}")
    if images.dtype != torch.uint8 or images.dim() != 4:
        way = "pixels from 0 to 1 become so by (255 * images).round().byte()"
        raise ValueError(
            f"{name}.images must be uint8, from 0 to 255, of shape (N, channels, height, width), got {_what(images)}; "
            + ("images[:, None] has one channel" if images.dtype == torch.uint8 and images.dim() == 3 else way)
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{name}.labels must be int64 of shape ({len(images)},), a class for each image, got {_what(labels)}; "
            "other whole numbers become so by labels.long(), rows of one-hot labels by labels.argmax(1)"
        )


def count_classes(*splits: Split) -> int:
    """How many logits the labels of these splits ask for: one more than the largest.

    Raises:
        ValueError: a label is below 0.
    """
    ends = [torch.stack(split.labels.aminmax()).tolist() for split in splits if len(split)]
    if any(low < 0 for low, _ in ends):
        raise ValueError(f"labels must be from 0 on, got {min(low for low, _ in ends)}")
    return 1 + max((high for _, high in ends), default=-1)


def logits_of(net: nn.Module, images: torch.Tensor, classes: int) -> torch.Tensor:
    """What a network answers to prepared images, which are logits of at least so many classes.

    Shapes: (N, C, H, W) -> (N, classes or more).

    Raises:
        TypeError: the network returns anything but a tensor.
        ValueError: the network does not take these images; or the tensor has another shape.
    """
    try:
        logits = net(images)
    except (RuntimeError, TypeError, ValueError) as error:
        own = type(error) not in (RuntimeError, TypeError, ValueError)
        if own or any(word in str(error) for word in (*MEMORY, "CUDA error", "cuDNN error")):
            raise
        raise ValueError(f"the network does not take the images as it gets them, {_what(images)}: {error}") from error
    if not isinstance(logits, torch.Tensor):
        names = logits if isinstance(logits, dict) else getattr(logits, "_fields", ())
        inside = f" of {', '.join(map(str, names))}" if names else ""
        raise TypeError(
            f"the network returned {type(logits).__name__}{inside}; needed is one tensor, logits of shape "
            "(N, classes): let forward return that alone. For that torchvision's GoogLeNet and Inception have "
            "aux_logits=False"
        )
    if not logits.is_floating_point() or logits.dim() != 2 or len(logits) != len(images) or logits.shape[1] < classes:
        here = f", here ({len(images)}, {classes}) or more: labels go from 0 to {classes - 1}" if classes else ""
        raise ValueError(f"the network returned {_what(logits)}; needed are logits of shape (N, classes){here}")
    return logits


@contextmanager
def enough_memory(recipe: Recipe, device: torch.device | str | None) -> Iterator[None]:
    """Say what to do when the device's memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if "images at a time" in str(error) or not any(word in str(error) for word in MEMORY):
            raise
        raise MemoryError(
            f"{device or 'the device'} has too little memory for {recipe.batch_size} images at a time: "
            f"use a batch_size of {max(1, recipe.batch_size // 2)} and, in proportion, a smaller lr"
        ) from error


def _what(tensor):
    return f"{_name(tensor.dtype)} of shape {tuple(tensor.shape)}"


def _name(dtype):
    return str(dtype).removeprefix("torch.")
