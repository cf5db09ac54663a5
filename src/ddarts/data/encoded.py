"""Many encoded images -> `Loaded`: look at all headers, settle size and channels, then decode into one tensor."""

from __future__ import annotations

import os
import re
import statistics
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from ddarts.data.decode import Peek, Undecodable, decode, peek, quiet_decoding
from ddarts.data.images import Images
from ddarts.data.loaded import Loaded, Request, check_budget, check_classes
from ddarts.data.parts import limited, stratified
from ddarts.errors import DataError
from ddarts.progress import Progress

TEST_SHARE = 0.15
"""Share of each class that becomes the test part of a data set that brings none."""

_LARGEST = 224  # pixels a side for images of mixed sizes, unless asked otherwise
_PROGRESS_FROM = 2000  # images; fewer are read before anyone wonders
_CHUNK = 64
_Result = TypeVar("_Result")


class Encoded(Protocol):
    """Labelled image files, or what stands for them."""

    @property
    def labels(self) -> Tensor:
        """int64 [N]."""
        ...

    def name(self, position: int) -> str:
        """Return how a message should call an image."""
        ...

    def read(self, positions: Tensor) -> Iterator[bytes | Path | None]:
        """Yield the images at `positions` (ascending); None for one that is not there."""
        ...


@dataclass(eq=False)
class _Part:
    encoded: Encoded
    positions: Tensor


def decode_all(
    parts: Mapping[str, Encoded], *, name: str, place: str, classes: Sequence[str], request: Request
) -> Loaded:
    """Return the images of ``train`` and, where there are any, ``validation`` and ``test``.

    Without a test part, a fixed share of each class of the training images becomes one. Size and channels follow the
    training images: their common size, or, if it is mixed, the median short side (at most 224, a multiple of 8 above
    16); one channel if none of them shows a colour, else three.

    Raises:
        DataError: nothing can be decoded, or the first thing cannot and `request.strict`; too many pixels.
    """
    check_classes(place, classes, {which: encoded.labels for which, encoded in parts.items()})
    chosen = _choose(parts, request)
    total = sum(len(p.positions) for p in chosen.values())
    tried = {which: len(part.positions) for which, part in chosen.items()}
    skipped: list[str] = []
    with (
        quiet_decoding(),
        Progress(f"reading {name}", 2 * total, quiet=request.quiet or total < _PROGRESS_FROM) as progress,
    ):
        headers = _peek_all(chosen, request.strict, skipped, progress)
        left = sum(len(p.positions) for p in chosen.values())
        if not headers:
            raise _nothing(place, "train", tried, skipped)
        height, width = _settle_size(headers, request.resolution)
        channels = 1 if all(h.grey for h in headers) else 3
        check_budget(left, channels, (height, width), place)
        images: dict[str, Images] = {}
        done = 2 * total - left
        for which, part in chosen.items():
            images[which] = _decode_part(part, (channels, height, width), request.strict, skipped, progress, done)
            done += len(part.positions)
    for which, part in images.items():
        if len(part) == 0:
            raise _nothing(place, which, tried, skipped)
    if channels == 3 and not _shows_colour(images["train"].pixels):
        images = {which: Images(_to_grey(i.pixels), i.labels) for which, i in images.items()}
    return Loaded(
        name=name,
        place=place,
        classes=tuple(classes),
        flip=may_mirror(classes),
        train=images["train"],
        validation=images.get("validation"),
        test=images.get("test"),
        skipped=tuple(skipped),
    )


def may_mirror(classes: Sequence[str]) -> bool:
    """Guess from the names of the classes whether a mirrored image is still of its class.

    Not so for digits and letters (names of one sign, or numbers), and where a name speaks of left or right.
    """
    signs = all(len(c) == 1 or c.isdecimal() for c in classes)
    return not signs and not any(re.search(r"(?<![a-z])(left|right)(?![a-z])", c.lower()) for c in classes)


def _choose(parts: Mapping[str, Encoded], request: Request) -> dict[str, _Part]:
    """Return which images to read: the limit is kept before anything is decoded."""
    chosen = {which: _Part(encoded, torch.arange(len(encoded.labels))) for which, encoded in parts.items()}
    train = chosen["train"]
    if "test" not in chosen:
        train.positions, taken = stratified(train.encoded.labels, TEST_SHARE, 0, "test part")
        if len(taken):
            chosen["test"] = _Part(train.encoded, taken)
    if request.limit is not None:
        train.positions = train.positions[limited(train.encoded.labels[train.positions], request.limit)]
    return chosen


def _peek_all(chosen: dict[str, _Part], strict: bool, skipped: list[str], progress: Progress) -> list[Peek]:
    """Drop images without a readable header from the parts; return the headers of the training images."""
    headers: list[Peek] = []
    done = 0
    for which, part in chosen.items():
        good = torch.ones(len(part.positions), dtype=torch.bool)
        for number, found in enumerate(_in_threads(peek, part.encoded.read(part.positions))):
            if isinstance(found, Undecodable):
                _skip(part, number, found, strict, skipped)
                good[number] = False
            elif which == "train":
                headers.append(found)
            done += 1
            progress.update(done)
        part.positions = part.positions[good]
    return headers


def _decode_part(
    part: _Part, shape: tuple[int, int, int], strict: bool, skipped: list[str], progress: Progress, done: int
) -> Images:
    pixels = torch.empty((len(part.positions), *shape), dtype=torch.uint8)
    array = pixels.numpy()
    good = torch.ones(len(part.positions), dtype=torch.bool)

    def work(item: tuple[int, bytes | Path | None]) -> None:
        number, source = item
        array[number] = decode(source, *shape)

    results = _in_threads(work, enumerate(part.encoded.read(part.positions)))
    for number, failure in enumerate(results):
        if isinstance(failure, Undecodable):
            _skip(part, number, failure, strict, skipped)
            good[number] = False
        progress.update(done + number + 1)
    labels = part.encoded.labels[part.positions]
    return Images(pixels, labels) if bool(good.all()) else Images(pixels[good], labels[good])


def _in_threads(function: Callable[..., _Result], items: Iterator[object]) -> Iterator[_Result | Undecodable]:
    """Yield `function` of each item in order, or why it failed, a few chunks ahead of the reader."""

    def work(chunk: list[object]) -> list[_Result | Undecodable]:
        results: list[_Result | Undecodable] = []
        for item in chunk:
            try:
                results.append(function(item))
            except Undecodable as error:
                results.append(error)
        return results

    threads = min(os.cpu_count() or 1, 8)
    waiting: deque[Future[list[_Result | Undecodable]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        while chunk := list(islice(items, _CHUNK)):
            waiting.append(pool.submit(work, chunk))
            if len(waiting) > 2 * threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _skip(part: _Part, number: int, reason: Undecodable, strict: bool, skipped: list[str]) -> None:
    line = f"{part.encoded.name(int(part.positions[number]))}: {reason}"
    if strict:
        raise DataError(f"{line}; mend or remove the file, or leave out --strict to skip such files")
    skipped.append(line)


def _nothing(place: str, which: str, tried: dict[str, int], skipped: list[str]) -> DataError:
    first = f" (the first: {skipped[0]})" if skipped else ""
    return DataError(
        f"{place}: none of the {tried[which]} {which} images can be decoded{first}; give readable image files"
    )


def _settle_size(headers: Sequence[Peek], resolution: int | None) -> tuple[int, int]:
    """Return (height, width) of all images."""
    if resolution is not None:
        return resolution, resolution
    sizes = {(h.height, h.width) for h in headers}
    if len(sizes) == 1:
        return sizes.pop()
    side = min(round(statistics.median(min(h.height, h.width) for h in headers)), _LARGEST)
    side = max(round(side / 8) * 8, 16) if side > 16 else side
    return side, side


def _shows_colour(pixels: Tensor) -> bool:
    """Whether any pixel of [N, 3, H, W] has channels that differ; grey photographs are often stored as RGB."""
    return any(bool((chunk[:, :1] != chunk[:, 1:]).any()) for chunk in pixels.split(1024))


def _to_grey(pixels: Tensor) -> Tensor:
    """Return uint8 [N, 1, H, W] by the usual luma weights, in whole numbers: equal channels keep their value."""
    weights = torch.tensor([299, 587, 114], dtype=torch.int32)[:, None, None]
    chunks = ((chunk.int() * weights).sum(1, keepdim=True) + 500 for chunk in pixels.split(1024))
    return torch.cat([chunk.div(1000, rounding_mode="floor").to(torch.uint8) for chunk in chunks])
