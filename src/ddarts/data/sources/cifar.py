"""CIFAR-10 and CIFAR-100 as their authors distribute them and torchvision unpacks them (pickled or binary batches)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddarts.data.images import Images
from ddarts.data.loaded import Loaded, Request
from ddarts.data.sources.pickled import read_pickle
from ddarts.errors import DataError

_IMAGE = 3 * 32 * 32  # bytes


@dataclass(frozen=True)
class Layout:
    """Where the parts of one of the data sets lie."""

    name: str
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str
    names: str
    binary_folder: str
    binary_meta: str
    label_bytes: int
    classes: int
    url: str


CIFAR10 = Layout(
    name="cifar10",
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{n}" for n in range(1, 6)),
    test="test_batch",
    meta="batches.meta",
    labels="labels",
    names="label_names",
    binary_folder="cifar-10-batches-bin",
    binary_meta="batches.meta.txt",
    label_bytes=1,
    classes=10,
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)
CIFAR100 = Layout(
    name="cifar100",
    folder="cifar-100-python",
    train=("train",),
    test="test",
    meta="meta",
    labels="fine_labels",
    names="fine_label_names",
    binary_folder="cifar-100-binary",
    binary_meta="fine_label_names.txt",
    label_bytes=2,  # coarse, fine
    classes=100,
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
)


def load_cifar10(directory: str | None, request: Request) -> Loaded:
    """Read CIFAR-10; `directory` holds cifar-10-batches-py (or -bin), or is it."""
    return _load(CIFAR10, directory)


def load_cifar100(directory: str | None, request: Request) -> Loaded:
    """Read CIFAR-100 with its 100 fine classes; `directory` holds cifar-100-python (or -binary), or is it."""
    return _load(CIFAR100, directory)


def find_batches(layout: Layout, places: list[Path]) -> tuple[Path, bool] | None:
    """Return the folder of the batches, in or at one of `places`, and whether they are binary ones."""
    for place in places:
        for folder in (place, place / layout.folder, place / layout.binary_folder):
            for ending in ("", ".bin"):
                if all(os.path.isfile(folder / f"{name}{ending}") for name in (layout.test, layout.train[0])):
                    return folder, bool(ending)
    return None


def _load(layout: Layout, directory: str | None) -> Loaded:
    if directory is None:
        cache = Path(os.path.expanduser("~/.cache/ddarts"))
        places = [Path("data"), cache, cache / layout.name]
    else:
        places = [Path(os.path.expanduser(directory))]
    found = find_batches(layout, places)
    if found is None:
        raise DataError(
            f"{layout.name}: no {layout.folder} in {', '.join(map(str, places))}; download {layout.url}, "
            f"unpack it there, or say --data {layout.name}:DIR"
        )
    folder, binary = found
    if binary:
        read, classes = _read_binary, _names_from_text(layout, folder)
    else:
        read, classes = _read_pickled, _names_from_pickle(layout, folder)
    return Loaded(
        name=layout.name,
        place=str(folder),
        classes=classes,
        flip=True,
        train=_images(layout, [read(layout, folder, name) for name in layout.train], folder),
        test=_images(layout, [read(layout, folder, layout.test)], folder),
    )


def _images(layout: Layout, batches: list[tuple[np.ndarray, np.ndarray]], folder: Path) -> Images:
    pixels = np.concatenate([b[0] for b in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([b[1] for b in batches]).astype(np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() < layout.classes:
        raise DataError(
            f"{folder}: labels {labels.min()} to {labels.max()}, but {layout.name} has {layout.classes} classes; "
            "download it again"
        )
    return Images(torch.from_numpy(pixels), torch.from_numpy(labels))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; unpack the archive again") from error


def _dictionary(path: Path) -> dict[str, Any]:
    value = read_pickle(_bytes(path), str(path))
    if not isinstance(value, dict):
        raise DataError(f"{path}: a {type(value).__name__}, not a dictionary; download it again")
    return {k.decode("latin-1") if isinstance(k, bytes) else k: v for k, v in value.items()}


def _read_pickled(layout: Layout, folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    path = folder / name
    batch = _dictionary(path)
    for key in ("data", layout.labels):
        if key not in batch:
            raise DataError(
                f"{path}: no {key!r} in it, only {', '.join(list(batch)[:9])}; is it a batch of {layout.name}?"
            )
    pixels = batch["data"]
    labels = batch[layout.labels]
    if isinstance(labels, list) and all(type(n) is int and 0 <= n < layout.classes for n in labels):
        labels = np.array(labels, dtype=np.int64)
    if not (
        isinstance(labels, np.ndarray)
        and labels.ndim == 1
        and isinstance(pixels, np.ndarray)
        and pixels.dtype == np.uint8
        and pixels.shape == (len(labels), _IMAGE)
    ):
        raise DataError(
            f"{path}: not {_IMAGE} bytes and one label of 0 to {layout.classes - 1} an image; download it again"
        )
    return pixels, labels


def _read_binary(layout: Layout, folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    path = folder / f"{name}.bin"
    raw = np.frombuffer(_bytes(path), np.uint8)
    record = layout.label_bytes + _IMAGE
    if len(raw) == 0 or len(raw) % record:
        raise DataError(f"{path}: {len(raw)} bytes, not whole records of {record}; download it again")
    rows = raw.reshape(-1, record)
    return rows[:, layout.label_bytes :], rows[:, layout.label_bytes - 1]


def _names_from_pickle(layout: Layout, folder: Path) -> tuple[str, ...]:
    names = _dictionary(folder / layout.meta).get(layout.names)
    if not isinstance(names, list) or not all(isinstance(n, str | bytes) for n in names):
        raise DataError(f"{folder / layout.meta}: no list {layout.names!r} of texts in it; download it again")
    return _checked(layout, folder, [n.decode("utf-8", "replace") if isinstance(n, bytes) else n for n in names])


def _names_from_text(layout: Layout, folder: Path) -> tuple[str, ...]:
    text = _bytes(folder / layout.binary_meta).decode("utf-8", "replace")
    return _checked(layout, folder, text.split())


def _checked(layout: Layout, folder: Path, names: list[str]) -> tuple[str, ...]:
    if len(names) != layout.classes or len(set(names)) != len(names):
        raise DataError(
            f"{folder}: {len(names)} class names ({len(set(names))} different), but {layout.name} has "
            f"{layout.classes} classes; download it again"
        )
    return tuple(names)
