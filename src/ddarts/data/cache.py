"""Decoded data sets, kept in files and mapped into memory: the second use of a data set decodes nothing.

An entry is a folder of .npy files under the digest of its origin: name, size, times and inode of every file of the data
set, and how it was read. So an entry is never stale, only unused. Entries appear by one rename, whole or not at all;
several processes may read, write and remove them at the same time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch

from ddarts.data.images import ImageData, Images
from ddarts.data.loaded import Request
from ddarts.data.streamed import StreamedPixels
from ddarts.nn.tasks import Task
from ddarts.runtime.processes import speaks

LIMIT = 16 * 2**30
"""Bytes of all entries; beyond it, those that were not used for the longest time are removed."""

SMALLEST = 2000
"""Images of the smallest data set that is kept; fewer are decoded in a second or two."""

_FORMAT = 3
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Entry:
    """A data set in the cache: its name, images, bytes, when it was last used (seconds since 1970), and its folder."""

    name: str
    images: int
    bytes: int
    used: float
    path: Path


def cache_folder() -> Path | None:
    """Return the folder of the cache: ``DDARTS_CACHE``, else one in the user's cache folder; None if it is "off"."""
    if (chosen := os.environ.get("DDARTS_CACHE")) is not None:
        return None if chosen in ("", "off") else Path(os.path.expanduser(chosen))
    user = os.environ.get("XDG_CACHE_HOME") if os.path.isabs(os.environ.get("XDG_CACHE_HOME", "")) else None
    usual = {"darwin": "~/Library/Caches", "win32": "~/AppData/Local"}.get(sys.platform, "~/.cache")
    return Path(user or os.path.expanduser(usual), "ddarts", "decoded")


def entry_key(folder: Path, request: Request) -> str | None:
    """Return the name of the entry for a folder of images; None if there is no cache or no access to the folder."""
    if cache_folder() is None or request.stream == "yes":
        return None
    import PIL

    how = (_FORMAT, PIL.__version__, torch.__version__, request.resolution, request.strict, request.limit)
    digest = hashlib.sha256(repr(how).encode())
    digest.update(os.fsencode(os.path.realpath(folder)))
    try:
        if request.labels is not None:
            table = os.path.realpath(os.path.expanduser(request.labels))
            s = os.stat(table)
            digest.update(repr((request.task, table, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)).encode())
        for line in sorted(_files(str(folder), set())):
            digest.update(line)
    except OSError:
        return None
    return digest.hexdigest()[:40]


def _files(folder: str, seen: set[tuple[int, int]]) -> Iterator[bytes]:
    """Yield what identifies every file in a folder, links followed, each folder once."""
    found = os.stat(folder)
    if (found.st_dev, found.st_ino) in seen:
        return
    seen.add((found.st_dev, found.st_ino))
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield os.fsencode(entry.path) + b"\0"  # an empty class is an error, and no file would show it
                yield from _files(entry.path, seen)
            else:
                with contextlib.suppress(FileNotFoundError):  # a broken link: it is reported when it is read
                    s = entry.stat()
                    figures = (s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
                    yield os.fsencode(entry.path) + repr(figures).encode()


def read_entry(key: str) -> ImageData | None:
    """Return a data set from the cache, its pixels mapped into memory; None if it does not exist or is damaged."""
    cache = cache_folder()
    if cache is None:
        return None
    entry = cache / key
    try:
        facts = json.loads((entry / "data.json").read_text(encoding="utf-8"))
        size = (facts["channels"], facts["height"], facts["width"])
        splits: dict[str, Images | None] = dict.fromkeys(_SPLITS)
        for split in facts.pop("splits"):
            # copy-on-write: nothing writes to images, but torch warns of memory that cannot be written
            pixels = torch.from_numpy(np.load(entry / f"{split}.npy", mmap_mode="c", allow_pickle=False))
            labels = torch.from_numpy(np.load(entry / f"{split}-labels.npy", allow_pickle=False))
            indices = labels.ndim == 1 and 0 <= int(labels.min()) <= int(labels.max()) < len(facts["classes"])
            columns = labels.shape[1:] == (len(facts["classes"]),)
            if pixels.dtype != torch.uint8 or pixels.shape[1:] != size or not (indices or columns):
                return None
            names = facts.pop("test_names") if split == "test" else None
            splits[split] = Images(pixels, labels, None if names is None else tuple(map(str, names)))
        train = splits.pop("train")
        if train is None:
            return None
        lists = {name: tuple(facts.pop(name)) for name in ("classes", "mean", "std", "skipped")}
        kind, mean, std = facts.pop("task")
        data = ImageData(train=train, **splits, **lists, **facts, task=Task(kind, tuple(mean), tuple(std)))
        with contextlib.suppress(OSError):
            os.utime(entry)
        return data
    except Exception:  # NumPy reads the header of a file as Python text and raises whatever its parts meet
        return None


def write_entry(key: str, data: ImageData, *, quiet: bool) -> None:
    """Keep a data set, if it is worth it and there is room; a failure costs nothing but the next decoding."""
    cache = cache_folder()
    splits = {name: part for name in _SPLITS if (part := getattr(data, name)) is not None}
    count = sum(len(part) for part in splits.values())
    if cache is None or count < SMALLEST or any(isinstance(p.pixels, StreamedPixels) for p in splits.values()):
        return
    size = count * data.channels * data.height * data.width
    temporary: str | None = None
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        if size > LIMIT // 2 or size > shutil.disk_usage(cache).free // 4:
            return
        temporary = tempfile.mkdtemp(dir=cache, prefix=".new-")
        for name, part in splits.items():
            for file, tensor in ((f"{name}.npy", part.pixels[:]), (f"{name}-labels.npy", part.labels)):
                with open(os.path.join(temporary, file), "xb") as stream:
                    np.save(stream, tensor.numpy(), allow_pickle=False)
                    stream.flush()
                    os.fsync(stream.fileno())
        names = (
            "name",
            "classes",
            "channels",
            "height",
            "width",
            "mean",
            "std",
            "flip",
            "skipped",
            "sizes",
            "labelled",
        )
        facts = {name: getattr(data, name) for name in names} | {"splits": list(splits)}
        facts["task"] = astuple(data.task)
        if data.test is not None:
            facts["test_names"] = data.test.names
        Path(temporary, "data.json").write_text(json.dumps(facts), encoding="utf-8")
        with contextlib.suppress(OSError):  # another process was faster
            os.rename(temporary, cache / key)
            temporary = None
            if not quiet and speaks():
                print(f"decoded images are kept in {cache} ({size / 2**20:.0f} MiB; ddarts cache)", file=sys.stderr)
        _shrink(cache)
    except OSError as error:
        if not quiet and speaks():
            print(f"ddarts: decoded images are not kept in {cache}: {error.strerror or error}", file=sys.stderr)
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def cache_entries() -> list[Entry]:
    """Return what is in the cache, the entry that was used last first."""
    cache = cache_folder()
    found: list[Entry] = []
    for path in [] if cache is None or not cache.is_dir() else cache.iterdir():
        with contextlib.suppress(Exception):  # as in `read_entry`
            files = [file.stat().st_size for file in path.iterdir()]
            facts = json.loads((path / "data.json").read_text(encoding="utf-8"))
            images = sum(
                len(np.load(path / f"{s}-labels.npy", mmap_mode="r", allow_pickle=False)) for s in facts["splits"]
            )
            found.append(Entry(str(facts["name"]), images, sum(files), path.stat().st_mtime, path))
    return sorted(found, key=lambda entry: -entry.used)


def clear_cache() -> None:
    """Remove all entries, and what killed processes have left; nothing else in the folder is touched."""
    for entry in cache_entries():
        shutil.rmtree(entry.path, ignore_errors=True)
    cache = cache_folder()
    for rest in [] if cache is None else cache.glob(".new-*"):
        shutil.rmtree(rest, ignore_errors=True)


def _shrink(cache: Path) -> None:
    total = 0
    for entry in cache_entries():
        total += entry.bytes
        if total > LIMIT:
            shutil.rmtree(entry.path, ignore_errors=True)
