"""Many encoded images -> `Loaded`: look at all headers, settle size and channels, then decode into one tensor.

Or, where that tensor would be too large, leave them in their files (`ddarts.data.streamed`).
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddarts.data.decode import Peek, Undecodable, decode, peek, quiet_decoding
from ddarts.data.images import Images, statistics_of
from ddarts.data.loaded import Loaded, Request, check_budget, check_classes, memory_share
from ddarts.data.splits import limited, stratified
from ddarts.data.streamed import Encoded, StreamedPixels, shows_colour, to_grey
from ddarts.data.threads import in_threads
from ddarts.errors import DataError
from ddarts.nn.tasks import Kind
from ddarts.runtime.progress import Progress, counted

TEST_SHARE = 0.15
"""Share of each class that becomes the test part of a data set that brings none."""

_LARGEST = 224  # pixels a side for images of mixed sizes, unless asked otherwise
_PROGRESS_FROM = 2000  # images; fewer are read before anyone wonders

LOOK = 16384
"""Images of each part that are looked through before a data set is streamed: all of a small one. They settle size,
channels, mean and deviation, and the broken ones among them are left out."""

_GUESS = 64  # headers from which to guess how much memory the pixels would take


@dataclass(eq=False)
class _Part:
    encoded: Encoded
    positions: Tensor


@dataclass(eq=False)
class _Reading:
    """What reading a data set shares: whether a broken image is an error, the progress, and what was skipped.

    Every image is read twice, its header first: `done` counts both.
    """

    strict: bool
    progress: Progress
    skipped: list[str] = field(default_factory=list)
    done: int = 0

    def each(self, part: _Part, work: Callable[[Any], Any], items: Iterator[Any] | None = None) -> Iterator[Any]:
        """Yield `work` of each image of a part, or of each of `items`, and leave out of the part those that it refuses.

        Raises:
            DataError: an image cannot be decoded, and `strict`.
        """
        good = torch.ones(len(part.positions), dtype=torch.bool)
        for number, found in enumerate(in_threads(work, items or part.encoded.read(part.positions))):
            if isinstance(found, Undecodable):
                line = f"{part.encoded.name(int(part.positions[number]))}: {found}"
                if self.strict:
                    raise DataError(f"{line}; fix or remove the file, or leave out --strict to skip such files")
                self.skipped.append(line)
                good[number] = False
            else:
                yield found
            self.done += 1
            self.progress.update(self.done // 2)
        part.positions = part.positions[good]


def decode_all(
    parts: Mapping[str, Encoded],
    *,
    name: str,
    place: str,
    classes: Sequence[str],
    request: Request,
    kind: Kind = "classification",
    labelled: str = "",
) -> Loaded:
    """Return the images of ``train`` and, where there are any, ``validation`` and ``test``.

    Without a test part, a fixed share of each class of the training images becomes one. Size and channels follow the
    training images: their common size, or, if it is mixed, the median short side (at most 224, a multiple of 8 above
    16); one channel if none of them shows a colour, else three.

    Where `request.stream` says so, or is "auto" and the pixels would take more than a fair share of the memory, the
    images stay in their files.

    Raises:
        DataError: nothing can be decoded, or the first thing cannot and `request.strict`; too many pixels.
    """
    check_classes(place, classes, {which: encoded.labels for which, encoded in parts.items()}, kind)
    chosen = _choose(parts, request)
    stream = request.stream == "yes" or (request.stream == "auto" and _guess_bytes(chosen, request) > memory_share())
    tried = {which: len(part.positions) for which, part in chosen.items()}
    looked = {
        which: _Part(part.encoded, part.positions[_spread(len(part.positions), LOOK)] if stream else part.positions)
        for which, part in chosen.items()
    }
    total = sum(len(part.positions) for part in looked.values())
    title, quiet = f"{'looking at' if stream else 'reading'} {name}", request.quiet or total < _PROGRESS_FROM
    with quiet_decoding(), Progress(title, total, "image", quiet=quiet) as progress:
        reading = _Reading(request.strict, progress)
        skipped = reading.skipped
        headers: list[Peek] = []
        for which, part in looked.items():
            found = list(reading.each(part, peek))
            headers += found if which == "train" else []
        if not headers:
            raise _nothing(place, "train", tried, skipped)
        channels = 1 if all(h.grey for h in headers) else 3
        shape = (channels, *_settle_size(headers, request.resolution))
        sides = sorted(min(h.height, h.width) for h in headers)
        if len({(h.height, h.width) for h in headers}) > 1:
            sizes = f"about the median short side of images of {sides[0]} to {sides[-1]} pixels, at most {_LARGEST}"
        else:
            sizes = "the size of all images"
        if stream:
            images, figures = _stream(chosen, looked, shape, reading)
        else:
            images, figures = _read(looked, shape, place, reading), None
            chosen = looked
    for which, part in images.items():
        if len(part) == 0:
            raise _nothing(place, which, tried, skipped)
    if "test" in images:  # so that mistakes can name their files
        part = chosen["test"]
        images["test"] = replace(images["test"], names=tuple(map(part.encoded.name, part.positions.tolist())))
    return Loaded(
        name=name,
        place=place,
        classes=tuple(classes),
        flip=kind != "regression" and may_mirror(classes),  # an angle or a place of the image would be another
        train=images["train"],
        validation=images.get("validation"),
        test=images.get("test"),
        skipped=tuple(skipped),
        sizes=sizes,
        statistics=figures,
        kind=kind,
        labelled=labelled,
    )


def _read(parts: dict[str, _Part], shape: tuple[int, int, int], place: str, reading: _Reading) -> dict[str, Images]:
    """Decode all images, into one channel where none of the training images shows a colour."""
    left = sum(len(part.positions) for part in parts.values())
    check_budget(left, shape[0], shape[1:], place)
    reading.done = 2 * reading.progress.total - left
    images = {which: _decode_part(part, shape, reading) for which, part in parts.items()}
    if shape[0] == 3 and len(images["train"]) and not shows_colour(_in_memory(images["train"]).split(1024)):
        images = {which: Images(to_grey(_in_memory(i)), i.labels) for which, i in images.items()}
    return images


def _in_memory(images: Images) -> Tensor:
    assert isinstance(images.pixels, Tensor)
    return images.pixels


def _stream(
    chosen: dict[str, _Part], looked: dict[str, _Part], shape: tuple[int, int, int], reading: _Reading
) -> tuple[dict[str, Images], tuple[tuple[float, ...], tuple[float, ...]]]:
    """Return images that stay in their files, and mean and deviation, after a look at the images of `looked`.

    These are spread evenly over each part; a part with fewer than `LOOK` images is looked through as a whole, and gives
    the very images and figures that decoding all of it would.
    """
    reading.done = reading.progress.total // 2
    counts, colour = torch.zeros(shape[0], 256), False
    for which, part in looked.items():
        found, any_colour = _look_through(part, shape, reading)
        if which == "train":
            counts, colour = found, any_colour
    grey = shape[0] == 3 and not colour
    images: dict[str, Images] = {}
    for which, part in chosen.items():
        tried = part.positions[_spread(len(part.positions), LOOK)]
        broken = tried[~torch.isin(tried, looked[which].positions)]
        positions = part.positions = part.positions[~torch.isin(part.positions, broken)]
        pixels = StreamedPixels(part.encoded, positions, shape, strict=reading.strict, grey=grey)
        images[which] = Images(pixels, part.encoded.labels[positions])
    return images, statistics_of(counts[:1] if grey else counts)


def _look_through(part: _Part, shape: tuple[int, int, int], reading: _Reading) -> tuple[Tensor, bool]:
    """Decode the images of a part once; drop those that cannot be, count pixel values [C, 256], and look for colour."""
    counts, colour = torch.zeros(shape[0], 256, dtype=torch.int64), False

    def work(source: bytes | Path | None) -> tuple[Tensor, bool]:
        array = decode(source, *shape)
        found = np.stack([np.bincount(channel.reshape(-1), minlength=256) for channel in array])
        return torch.from_numpy(found), shape[0] == 3 and bool((array[:1] != array[1:]).any())

    for found, any_colour in reading.each(part, work):
        counts += found
        colour |= any_colour
    return counts, colour


def _spread(count: int, most: int) -> Tensor:
    """Return at most `most` of the numbers below `count`, evenly spread."""
    return torch.arange(count) if count <= most else torch.arange(most) * count // most


def _guess_bytes(chosen: dict[str, _Part], request: Request) -> int:
    """Return about how many bytes the decoded images would take, from a few headers."""
    total = sum(len(part.positions) for part in chosen.values())
    size = (request.resolution, request.resolution)
    if size[0] is None:
        train = chosen["train"]
        positions = train.positions[_spread(len(train.positions), _GUESS)]
        with quiet_decoding():
            headers = [h for h in in_threads(peek, train.encoded.read(positions), 1) if isinstance(h, Peek)]
        if not headers:
            return 0
        size = _settle_size(headers, None)
    return total * 3 * int(size[0] or 0) * int(size[1] or 0)


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


def _decode_part(part: _Part, shape: tuple[int, int, int], reading: _Reading) -> Images:
    pixels = torch.empty((len(part.positions), *shape), dtype=torch.uint8)
    array, tried = pixels.numpy(), part.positions

    def work(item: tuple[int, bytes | Path | None]) -> None:
        number, source = item
        array[number] = decode(source, *shape)

    for _ in reading.each(part, work, enumerate(part.encoded.read(tried))):
        pass
    labels = part.encoded.labels[part.positions]
    return Images(pixels if len(labels) == len(tried) else pixels[torch.isin(tried, part.positions)], labels)


def _nothing(place: str, which: str, tried: dict[str, int], skipped: list[str]) -> DataError:
    first = f" (the first: {skipped[0]})" if skipped else ""
    return DataError(
        f"{place}: none of the {counted(tried[which], f'{which} image')} can be decoded{first}; "
        "give readable image files"
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
