"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017) as tensors, verified, and batches made from them."""

import gzip
import hashlib
import os
import shutil
import socket
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from d2lnets.arguments import require_positive
from d2lnets.files import expanded

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

# Mean and standard deviation of the 60,000 training images' pixels, which run from 0 to 255.
PIXEL_MEAN, PIXEL_STD = 72.94, 90.02

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
TORCHVISIONS = Path("FashionMNIST", "raw")  # where it keeps the files, in its root
SUBSET = Path(__file__).parent / "fashion_mnist_subset"

# SHA-256 of the decompressed files: of the whole data set, and of the subset in this package.
SHA256 = {
    "train-images-idx3-ubyte": {
        "full": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "subset": "461b9483ff3d7451fd259ac2c255d93c7dc879cf05f70127193c697bf3ea9d8a",
    },
    "train-labels-idx1-ubyte": {
        "full": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "subset": "8c11a14f385bddbe6f2525ac7c9f416cf68495b24811340b228aa7f14091731f",
    },
    "t10k-images-idx3-ubyte": {
        "full": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "subset": "c3db0aba26bbee2c4e140eeb7cc0c0aa8c78ca8883cb55c705307f1e83f145c9",
    },
    "t10k-labels-idx1-ubyte": {
        "full": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        "subset": "66e4c6deb5f2a061f7d8cd5ec53025fdb9dabb08265e449acb8cf64b8cd36cac",
    },
}


class DataError(RuntimeError):
    """A data file is missing, cut off or altered; the message names it and says what to do."""


@dataclass(frozen=True)
class Split:
    """Images, uint8 of shape (N, 1, 28, 28), and their labels, int64 of shape (N,)."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | torch.Tensor) -> "Split":
        """Some of the examples, by slice or index tensor, as a `Split`."""
        return Split(self.images[index], self.labels[index])

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class FashionMNIST:
    """The three splits, and the folder they were read from."""

    train: Split
    validation: Split
    test: Split
    source: Path

    classes: ClassVar[tuple[str, ...]] = CLASSES

    def __repr__(self) -> str:
        sizes = f"{len(self.train):,} train, {len(self.validation):,} validation, {len(self.test):,} test"
        return f"Fashion-MNIST: {sizes}"

    def without_validation(self) -> "FashionMNIST":
        """The same data with the validation images among the training images, and the test images in their place."""
        images = torch.cat([self.train.images, self.validation.images])
        train = Split(images, torch.cat([self.train.labels, self.validation.labels]))
        return replace(self, train=train, validation=self.test)

    def take(self, examples: int, validation: int | None = None, test: int | None = None) -> "FashionMNIST":
        """The same data with at most so many images of each split, the first."""
        if examples < 1 or min(validation or 0, test or 0) < 0:
            raise ValueError(f"at least 1 training and 0 other images, got {examples}, {validation} and {test}")
        held_out = self.validation[:validation], self.test[:test]
        return replace(self, train=self.train[:examples], validation=held_out[0], test=held_out[1])


def load_fashion_mnist(
    path: Path | str | None = None, validation: int | None = None, download: bool = True
) -> FashionMNIST:
    """The 60,000 training and 10,000 test images, the former split into train and validation.

    Looks in this order: `path`, or else the folder named by the environment variable
    ``D2LNETS_DATA``; the cache (``$XDG_CACHE_HOME`` or ``~/.cache``, then ``d2lnets``); Debian's
    package ``dataset-fashion-mnist``; a download through torchvision, which goes to the cache.
    Without any of them it says so and returns the 4,600 real images that ship in this package.
    Every file is verified by SHA-256.

    Args:
        path: a folder with the four idx files, as they are or gzipped, or torchvision's ``root``, with
            ``FashionMNIST/raw`` beneath it; no other place is tried.
        validation: how many of the last training images to set apart; a twelfth by default
            (5,000 of 60,000).
        download: whether to try the network.

    Raises:
        DataError: a file is missing from `path`, cut off or altered.
        ValueError: `validation` leaves no training image.
    """
    if path is None:
        path = os.environ.get("D2LNETS_DATA") or None
    if path is not None:
        return _read(_with_files(path), validation, "replace it, or point `path` or D2LNETS_DATA elsewhere")
    cache = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "d2lnets" / "fashion-mnist"
    if cache.is_dir():
        return _read(cache, validation, f"delete the folder {cache} and load again")
    if DEBIAN.is_dir():
        return _read(DEBIAN, validation, "reinstall the package dataset-fashion-mnist")
    why = "download=False"
    if download:
        try:
            with _downloaded(cache) as folder:
                return _read(folder, validation, "load again")
        except (OSError, HTTPException, EOFError) as error:  # OSError: also urllib's URLError, no network
            why = "the download failed: " + " ".join(str(error).split())
    data = _read(SUBSET, validation, "reinstall d2lnets")
    _say(f"The whole data set is not on this machine ({why}). Using real images that ship with d2lnets. {data}")
    return data


def _with_files(path):
    """The folder that has the files: `path`, or one beneath it, where torchvision keeps them."""
    folder = expanded(path)
    for place in (folder, folder / "raw", folder / TORCHVISIONS):
        if any(_file(place, name) for name in SHA256):
            return place
    if folder.exists():
        names = ", ".join(SHA256)
        raise DataError(f"{folder} is not a folder with {names} (or .gz), nor has {TORCHVISIONS} beneath it: name that")
    return folder


def _read(folder, validation, remedy):
    tensors, kinds = zip(*(_read_file(folder, name, remedy) for name in SHA256))
    if len(set(kinds)) > 1:
        raise DataError(f"{folder} mixes the files of the whole data set and of the subset: {remedy}")
    train, test = Split(*tensors[:2]), Split(*tensors[2:])
    if validation is None:
        validation = len(train) // 12
    if not 0 <= validation < len(train):
        raise ValueError(f"validation must be from 0 to {len(train) - 1:,}, got {validation}")
    cut = len(train) - validation
    return FashionMNIST(train[:cut], train[cut:], test, folder)


def _file(folder, name):
    """The file of that name, as it is or gzipped; or as 7-Zip unpacks it, with a dot: train-images.idx3-ubyte."""
    names = (name, f"{name}.gz", name.replace("-idx", ".idx"))
    return next((folder / each for each in names if (folder / each).is_file()), None)


def _read_file(folder, name, remedy):
    """One idx file, gzipped or not, as a tensor, and what it is of: verified before it is used."""
    file = _file(folder, name)
    if file is None:
        raise DataError(f"{folder / name} (or {name}.gz) is missing: {remedy}")
    try:
        content = (gzip.decompress if file.suffix == ".gz" else bytes)(file.read_bytes())
    except (OSError, EOFError, zlib.error) as error:  # OSError: also gzip.BadGzipFile
        raise DataError(f"{file} cannot be read ({error}): {remedy}") from error
    digest = hashlib.sha256(content).hexdigest()
    kind = next((kind for kind, known in SHA256[name].items() if known == digest), None)
    if kind is None:
        raise DataError(f"{file} is not Fashion-MNIST (its SHA-256 is wrong, {len(content):,} bytes): {remedy}")
    if "images" in name:  # after a header of 16 bytes, or 8 for labels
        return torch.from_numpy(np.frombuffer(content, np.uint8, offset=16).reshape(-1, 1, 28, 28).copy()), kind
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=8).astype(np.int64)), kind


@contextmanager
def _downloaded(cache):
    """A folder with the downloaded files: the cache or, where that cannot be written, a temporary one.

    The files are verified beside the cache and then renamed into it at once. So whatever is in the
    cache is whole, an interrupted download leaves nothing there, and of two processes the later
    one finds the place taken and uses what is there.
    """
    from torchvision import datasets  # slow to import, and only needed here

    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=cache.parent, prefix="download-"))
    except OSError as error:
        _say(f"The cache {cache} cannot be written ({error}): this download will not be kept.")
        temporary = Path(tempfile.mkdtemp(prefix="d2lnets-"))
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # seconds; torchvision would wait for ever
    try:
        try:
            datasets.FashionMNIST(temporary, download=True)
        except RuntimeError as error:  # torchvision's word for a network or checksum error
            raise OSError(error) from error
        raw = temporary / TORCHVISIONS
        for name in SHA256:
            (raw / f"{name}.gz").unlink()
            _read_file(raw, name, "load again")
        with suppress(OSError):  # the other process was first
            raw.rename(cache)
        yield cache if cache.is_dir() else raw
    finally:
        socket.setdefaulttimeout(patience)
        shutil.rmtree(temporary, ignore_errors=True)


def _say(line):
    print(line, file=sys.stderr)


def normalize(images: torch.Tensor) -> torch.Tensor:
    """uint8 images as float32 with mean 0 and standard deviation 1 over the training pixels.

    Shapes: (N, 1, H, W) -> (N, 1, H, W).
    """
    return (images.float() - PIXEL_MEAN) / PIXEL_STD


def enlarge(images: torch.Tensor, size: int) -> torch.Tensor:
    """Resize images to `size` pixels in height and width, bilinearly.

    Shapes: (N, C, H, W) -> (N, C, size, size).
    """
    return F.interpolate(images, size=(size, size), mode="bilinear")


def seeded(*numbers: int) -> torch.Generator:
    """A CPU generator whose draws depend on these whole numbers alone."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def shift_and_flip(
    images: torch.Tensor, generator: torch.Generator | None = None, pixels: int = 2, flip: bool = True
) -> torch.Tensor:
    """Move each image by up to `pixels` in each direction, black moving in; with `flip` mirror half of them.

    All images at once, on their own device. `generator` is a CPU generator.

    Shapes: (N, C, H, W) -> (N, C, H, W).
    """
    return moved(images, *draw_moves(len(images), generator, pixels, flip), pixels)


def draw_moves(
    count: int, generator: torch.Generator | None = None, pixels: int = 2, flip: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `shift_and_flip` draws for so many images: shifts from 0 to 2 * pixels, and whether to mirror.

    Shapes: (2, count, 1), whole numbers, and (count, 1), truth values; on the CPU.
    """
    shifts = torch.randint(0, 2 * pixels + 1, (2, count, 1), generator=generator)
    return shifts, torch.rand(count, 1, generator=generator) < 0.5 * flip


def moved(images: torch.Tensor, shifts: torch.Tensor, mirrored: torch.Tensor, pixels: int = 2) -> torch.Tensor:
    """The images, moved and mirrored as `draw_moves` says, on their own device.

    Shapes: (N, C, H, W), (2, N, 1), (N, 1) -> (N, C, H, W).
    """
    n, _, height, width = images.shape
    # A copy that blocks would wait for all that a GPU has still to do.
    shifts, mirrored = (each.to(images.device, non_blocking=True) for each in (shifts, mirrored))
    rows = torch.arange(height, device=images.device) + shifts[0]  # (N, H), where each row of the result comes from
    columns = torch.arange(width, device=images.device).expand(n, width)
    columns = torch.where(mirrored, columns.flip(1), columns) + shifts[1]  # (N, W)
    image = torch.arange(n, device=images.device)[:, None, None]
    padded = F.pad(images, [pixels] * 4)
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)  # indexing put the channels last


def batch_indices(order: torch.Tensor, batch_size: int) -> list[torch.Tensor]:
    """Cut `order` into batches. A rest of a single example joins the batch before it, since batch norm
    cannot train on one."""
    require_positive(batch_size=batch_size)
    indices = list(order.split(batch_size))
    if len(indices) > 1 and len(indices[-1]) == 1:
        indices[-2:] = [torch.cat(indices[-2:])]
    return indices


def batches(
    split: Split,
    batch_size: int,
    generator: torch.Generator | None = None,
    prepare: Callable[[torch.Tensor], torch.Tensor] = normalize,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (images, labels) on the split's device; with a `generator` (on the CPU) in random order.

    Args:
        prepare: makes uint8 images of shape (N, 1, 28, 28) what is yielded, float32.

    Shapes: (batch_size, 1, 28, 28) and (batch_size,); the last batch may be smaller, see `batch_indices`.
    """
    order = torch.arange(len(split)) if generator is None else torch.randperm(len(split), generator=generator)
    for index in batch_indices(order.to(split.images.device), batch_size):
        yield prepare(split.images[index]), split.labels[index]
