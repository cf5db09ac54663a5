"""From what stands after ``--data`` to images: known names, or a folder that is looked at."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ddarts.data.cache import entry_key, read_entry, write_entry
from ddarts.data.images import ImageData
from ddarts.data.loaded import Loaded, Request, finish
from ddarts.data.sources.cifar import CIFAR10, CIFAR100, find_batches, load_cifar10, load_cifar100
from ddarts.data.sources.digits import load_digits
from ddarts.data.sources.folders import load_folder
from ddarts.data.sources.idx import find_idx, load_fashion_mnist, load_idx, load_mnist
from ddarts.data.sources.parquet import find_parquet, load_parquet
from ddarts.data.sources.python import GivenData, check_description, given_data
from ddarts.data.sources.table import load_table
from ddarts.errors import DataError, SettingsError, nearest
from ddarts.runtime.registry import Registry

Reader = Callable[[str | None, Request], Loaded]
"""Reads a data set: from the folder after the colon of ``--data NAME:DIR`` (None without one), as the request says."""


def _checked_reader(name: str, reader: Any) -> Any:
    if not callable(reader):
        raise SettingsError(
            f"data set {name!r}: a {type(reader).__name__}, not a function (directory, request) -> Loaded"
        )
    return reader


SOURCES: Registry[Reader] = Registry(
    "data set",
    "ddarts.sources",
    {
        "digits": load_digits,
        "fashion-mnist": load_fashion_mnist,
        "mnist": load_mnist,
        "cifar10": load_cifar10,
        "cifar100": load_cifar100,
    },
    convert=_checked_reader,
    error=DataError,
)
"""Readers by name; `SOURCES.register`, or an entry point of the group ``ddarts.sources``, adds one."""


def load_data(
    spec: Any,
    *,
    resolution: int | None = None,
    strict: bool = False,
    limit: int | None = None,
    flip: bool | None = None,
    quiet: bool = False,
    stream: Literal["auto", "yes", "no"] = "no",
    labels: str | None = None,
    task: str = "auto",
) -> ImageData:
    """Read a data set, as 8-bit images of one size; classes, channels, size and statistics are found.

    Args:
        spec: a name of `SOURCES`, with or without ``:DIR`` (``digits``, ``cifar10:DIR``); a folder of class folders or
            of Parquet files (``./digits`` is a folder even if ``digits`` is a name); or data from Python, see
            `ddarts.data.sources.python.given_data`.
        resolution: pixels a side; the short side is scaled to it and the central square kept.
        strict: stop at the first image that cannot be decoded instead of skipping it.
        limit: keep at most so many training images, the same share of each class, the same ones every time.
        flip: whether training may mirror images; found from the data if None.
        quiet: show no progress.
        stream: "yes" leaves images in their files and decodes them batch by batch, "no" holds all pixels in memory,
            "auto" streams what would take more than a quarter of it (`ddarts.data.loaded.memory_share`).
        labels: a CSV file with the labels of the images in the folder `spec` (`ddarts.data.sources.table.load_table`).
        task: what the labels of that file are, a kind of `ddarts.nn.tasks`; found from its columns if "auto".

    Raises:
        DataError: the data does not exist, is damaged, or cannot be learned from.
    """
    for name, value in (("resolution", resolution), ("limit", limit)):
        if value is not None and value < 1:
            raise DataError(f"{name} {value}: must be 1 or more")
    request = Request(resolution, strict, limit, quiet, stream, labels, task)
    if labels is None and task != "auto":
        raise DataError(f"task {task}: what labels are is asked for a CSV file only; name it with --labels")
    is_text = isinstance(spec, str | os.PathLike)
    if labels is not None and (not is_text or (isinstance(spec, str) and spec.partition(":")[0] in SOURCES)):
        raise DataError(
            f"labels {labels!r}: belong to images in a folder, not to {spec if is_text else 'data from Python'}; "
            "name it with --data FOLDER"
        )
    if not is_text:
        given = spec if isinstance(spec, GivenData) else given_data(spec)
        return finish(given.loaded, request, flip)
    is_path, spec = not isinstance(spec, str), os.fspath(spec)
    check_description(spec)
    name, colon, directory = spec.partition(":")
    key, folder = None, Path()
    if not is_path and name in SOURCES:
        if colon and not directory:
            raise DataError(f"data {spec!r}: no folder after the colon; say {name}:DIR or {name}")
        loaded = SOURCES.get(name)(directory if colon else None, request)
    else:
        folder = _checked_folder(spec)
        key = entry_key(folder, request)
        if key is not None and (kept := read_entry(key)) is not None:
            return kept if flip is None else replace(kept, flip=flip)
        loaded = _load_folder(folder, request) if labels is None else load_table(folder, request)
    data = finish(loaded, request, None)
    # written only if the files are still those that the key was made of
    if key is not None and key == entry_key(folder, request):
        write_entry(key, data, quiet=quiet)
    return data if flip is None else replace(data, flip=flip)


def _checked_folder(spec: str) -> Path:
    folder = Path(os.path.expanduser(spec))
    try:
        if not spec:
            raise FileNotFoundError  # Path("") would be the current folder
        is_folder = stat.S_ISDIR(os.stat(folder).st_mode)
    except FileNotFoundError as error:
        name = spec.partition(":")[0]
        looks_like_path = os.sep in name or name.startswith((".", "~"))
        hint = "; check the path" if looks_like_path else nearest(name, SOURCES.names())
        raise DataError(f"data {spec!r}: no such data set or folder{hint}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"data {spec!r}: cannot be read: {reason}; check the path and its permissions") from error
    if not is_folder:
        raise DataError(f"data {spec!r}: a file; give the folder that holds it")
    return folder


def _load_folder(folder: Path, request: Request) -> Loaded:
    if find_idx(folder, "train-images", 3):
        return load_idx(folder, request, name=folder.resolve().name)
    for layout, load in ((CIFAR10, load_cifar10), (CIFAR100, load_cifar100)):
        if find_batches(layout, [folder]):
            return load(str(folder), request)
    if files := find_parquet(folder):
        return load_parquet(folder, files, request)
    return load_folder(folder, request)
