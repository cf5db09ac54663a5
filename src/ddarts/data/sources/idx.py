"""IDX files, the format of MNIST and Fashion-MNIST (http://yann.lecun.com/exdb/mnist), plain or gzipped."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
import torch

from ddarts.data.images import Images
from ddarts.data.loaded import MEMORY_BUDGET, Loaded, Request
from ddarts.errors import DataError

FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
_PIECE = 2**24
_NAMES = {"train": "train", "test": "t10k"}


def load_fashion_mnist(directory: str | None, request: Request) -> Loaded:
    """Read Fashion-MNIST from `directory`, or from where Debian's package or torchvision put it."""
    usual = [DEBIAN_FASHION, Path("data/FashionMNIST/raw"), Path(os.path.expanduser("~/.cache/ddarts/fashion-mnist"))]
    folder = _locate(directory, usual, "FashionMNIST")
    if folder is None:
        raise DataError(
            f"fashion-mnist: no IDX files in {directory or ', '.join(map(str, usual))}; "
            "run apt-get install dataset-fashion-mnist, or say --data fashion-mnist:DIR with "
            "train-images-idx3-ubyte[.gz] and its three companions (github.com/zalandoresearch/fashion-mnist) in DIR"
        )
    return load_idx(folder, request, name="fashion-mnist", classes=FASHION, flip=True)


def load_mnist(directory: str | None, request: Request) -> Loaded:
    """Read MNIST, or another data set in its files, from `directory`, or from where torchvision puts it."""
    usual = [Path("data/MNIST/raw"), Path(os.path.expanduser("~/.cache/ddarts/mnist"))]
    folder = _locate(directory, usual, "MNIST")
    if folder is None:
        raise DataError(
            f"mnist: no IDX files in {directory or ', '.join(map(str, usual))}; say --data mnist:DIR with "
            "train-images-idx3-ubyte[.gz] and its three companions in DIR"
        )
    return load_idx(folder, request, name="mnist")


def load_idx(
    folder: Path, request: Request, *, name: str, classes: tuple[str, ...] | None = None, flip: bool = False
) -> Loaded:
    """Read train-images, train-labels, t10k-images and t10k-labels; without class names, the labels are names.

    Raises:
        DataError: a file is missing, broken, or does not fit the others.
    """
    parts = {}
    for part, prefix in _NAMES.items():
        images, labels = find_idx(folder, f"{prefix}-images", 3), find_idx(folder, f"{prefix}-labels", 1)
        if images is None or labels is None:
            raise DataError(
                f"{folder}: no {prefix}-{'labels' if images else 'images'} file (idx, plain or .gz); add it"
            )
        pixels, numbers = read_idx(images, 3), read_idx(labels, 1)
        if len(pixels) != len(numbers):
            raise DataError(
                f"{labels}: {len(numbers)} labels for {len(pixels)} images in {images.name}; copy both again"
            )
        parts[part] = (pixels, numbers, labels)
    if classes is None:
        classes = tuple(str(n) for n in range(max(int(p[1].max(initial=0)) for p in parts.values()) + 1))
    for pixels, numbers, path in parts.values():
        if len(numbers) and numbers.max() >= len(classes):
            raise DataError(
                f"{path}: label {numbers.max()}, but {name} has {len(classes)} classes; wrong or broken file"
            )
        if pixels.shape[1:] != parts["train"][0].shape[1:]:
            raise DataError(
                f"{folder}: training images are {parts['train'][0].shape[1:]}, test {pixels.shape[1:]} pixels"
            )
    images = {
        part: Images(torch.from_numpy(pixels)[:, None], torch.from_numpy(numbers.astype(np.int64)))
        for part, (pixels, numbers, _) in parts.items()
    }
    return Loaded(name=name, place=str(folder), classes=classes, flip=flip, train=images["train"], test=images["test"])


def find_idx(folder: Path, stem: str, dimensions: int) -> Path | None:
    """Return the file of that name in one of its spellings, or None."""
    for dash in ("-", "."):
        for ending in ("", ".gz"):
            path = folder / f"{stem}{dash}idx{dimensions}-ubyte{ending}"
            if os.path.isfile(path):  # says no, and raises nothing, where it may not look
                return path
    return None


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Return the uint8 array of an IDX file.

    Not a byte more than the header promises is unpacked, so a small hostile file cannot fill the memory.

    Raises:
        DataError: it cannot be read, its header does not fit, or it is shorter or longer than the header says.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            header = stream.read(4 + 4 * dimensions)
            if header[:4] != bytes((0, 0, 8, dimensions)) or len(header) < 4 + 4 * dimensions:
                raise DataError(f"{path}: not an IDX file of bytes in {dimensions} dimensions; download it again")
            shape = tuple(int(n) for n in np.frombuffer(header, ">u4", offset=4))
            size = 1
            for length in shape:
                size *= length
            if size == 0 or size > MEMORY_BUDGET:
                raise DataError(f"{path}: its header promises {' x '.join(map(str, shape))} bytes; download it again")
            body = bytearray()  # in pieces: a read allocates what is asked for, whatever the file holds
            while len(body) <= size and (piece := stream.read(min(size + 1 - len(body), _PIECE))):
                body += piece
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}; download it again") from error
    if len(body) != size:
        said = "more" if len(body) > size else f"{len(body)}"
        raise DataError(f"{path}: its header promises {size} bytes and {said} follow; download it again")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _locate(directory: str | None, usual: list[Path], torchvision: str) -> Path | None:
    if directory is not None:
        base = Path(os.path.expanduser(directory))
        usual = [base, base / "raw", base / torchvision / "raw"]
    return next((folder for folder in usual if find_idx(folder, "train-images", 3)), None)
