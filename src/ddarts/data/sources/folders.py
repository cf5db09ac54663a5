"""A folder with a folder for each class, as it is or inside train/, val/ and test/."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddarts.data.encoded import decode_all
from ddarts.data.loaded import Loaded, Request
from ddarts.errors import DataError

EXTENSIONS = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
)
PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""What a folder or file may be called -> which part it holds."""


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files on disk, an `Encoded`.

    Names lie in one piece of memory: a list of a million paths would take half a gigabyte, in every process.

    Attributes:
        root: folder that all names start from.
        text: the names, one after the other, as the file system spells them.
        ends: int64 [N], where each name ends in `text`.
        labels: int64 [N].
    """

    root: Path
    text: bytes
    ends: np.ndarray
    labels: Tensor

    def name(self, position: int) -> str:
        """Return the path."""
        return str(self._path(position))

    def read(self, positions: Tensor) -> Iterator[Path]:
        """Yield the paths; whoever decodes them opens them."""
        for position in positions.tolist():
            yield self._path(position)

    def _path(self, position: int) -> Path:
        start = self.ends[position - 1] if position > 0 else 0
        return self.root / os.fsdecode(self.text[start : self.ends[position]])


def load_folder(folder: Path, request: Request) -> Loaded:
    """Read a folder of class folders; hidden entries and files that are no images by their extension are ignored.

    Raises:
        DataError: no class folders, a class without images, no permission, and all that `decode_all` raises.
    """
    roots = _part_folders(folder)
    found = {part: {c.name: c for c in subfolders(root)} for part, root in roots.items()}
    for part, root in roots.items():
        if not found[part]:
            raise DataError(f"{root}: holds neither class folders nor Parquet files; put each class in a folder there")
    classes = sorted(set().union(*found.values()))
    if len(classes) == 1:
        (only,) = found["train"].values() or [folder]
        inside = " (is it the data set itself? then give that folder)" if subfolders(only) else ""
        raise DataError(
            f"{folder}: one class only ({classes[0]!r}){inside}; telling classes apart needs a folder for each of two "
            "or more"
        )
    parts = {part: _list_images(folders, classes) for part, folders in found.items()}
    return decode_all(parts, name=folder.resolve().name, place=str(folder), classes=classes, request=request)


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without hidden ones.

    Raises:
        DataError: it cannot be listed.
    """
    try:
        with os.scandir(folder) as found:
            names = sorted(entry.name for entry in found if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be read: {error.strerror or error}; check the path and its permissions"
        ) from error
    return [folder / name for name in names]


def _part_folders(folder: Path) -> dict[str, Path]:
    """Return where each part lies; the folder itself is the training part if it is not divided.

    ``train`` is a part, not a class, if it holds folders; other folders beside it that name no part are ignored then.
    """
    named: dict[str, list[Path]] = {}
    inside = subfolders(folder)
    for path in inside:
        if part := PART_NAMES.get(path.name.lower()):
            named.setdefault(part, []).append(path)
    if "train" not in named or not any(subfolders(path) for path in named["train"]):
        if inside and len(inside) == sum(map(len, named.values())) and any(subfolders(path) for path in inside):
            raise DataError(
                f"{folder}: has {', '.join(path.name + '/' for path in inside)} but no train/ with class folders; "
                "add the training images"
            )
        return {"train": folder}
    for part, paths in named.items():
        if len(paths) > 1:
            both = " and ".join(path.name + "/" for path in paths)
            raise DataError(f"{folder}: {both} both name the {part} part; keep one of them")
    return {part: named[part][0] for part in ("train", "validation", "test") if part in named}


def _list_images(folders: dict[str, Path], classes: list[str]) -> ImageFiles:
    root = next(iter(folders.values())).parent
    names: list[bytes] = []  # of each class, one after the other
    lengths: list[int] = []
    counts = [0] * len(classes)
    for number, name in enumerate(classes):
        if name not in folders:
            continue  # a class may be absent from validation or test; training is checked when all is read
        images = sorted(_walk(folders[name]))
        if not images:
            raise DataError(
                f"{folders[name]}: an empty class, no image in it ({' '.join(sorted(EXTENSIONS))}); "
                "add images or remove the folder"
            )
        found = [os.fsencode(path.relative_to(root)) for path in images]
        names.append(b"".join(found))
        lengths += map(len, found)
        counts[number] = len(found)
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor(counts))
    return ImageFiles(root, b"".join(names), np.cumsum(lengths, dtype=np.int64), labels)


def _walk(folder: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}; check its permissions") from error

    for root, inside, names in os.walk(folder, onerror=stop):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:
                yield Path(root, name)
