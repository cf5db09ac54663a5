"""The last steps that every source shares: fit to one size, check the classes, measure, and hand over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ddarts.data.images import ImageData, Images, channel_statistics
from ddarts.data.splits import class_counts, limited
from ddarts.data.streamed import StreamedPixels
from ddarts.errors import DataError, printable
from ddarts.nn.tasks import Kind, Task
from ddarts.runtime.allocator import memory_limit
from ddarts.runtime.processes import local_processes

MEMORY_BUDGET = 8 * 2**30
"""Bytes that the decoded images of one data set may take."""


@dataclass(frozen=True)
class Request:
    """How to load: the arguments of `load_data` that a source must know."""

    resolution: int | None = None
    strict: bool = False
    limit: int | None = None
    quiet: bool = False
    stream: Literal["auto", "yes", "no"] = "no"
    labels: str | None = None
    task: str = "auto"


@dataclass(frozen=True, eq=False)
class Loaded:
    """What a source has read, all images of one size; `place` (a folder, or a name) is for messages."""

    name: str
    place: str
    classes: tuple[str, ...]
    flip: bool
    train: Images
    validation: Images | None = None
    test: Images | None = None
    skipped: tuple[str, ...] = ()
    sizes: str = "the size of the images"
    """How the resolution was found."""
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Mean and deviation of the training images, where they are known already."""
    kind: Kind = "classification"
    """Of the task, which says what labels are (`ddarts.nn.tasks.Task`)."""
    labelled: str = ""
    """How a file of labels was understood."""


def finish(loaded: Loaded, request: Request, flip: bool | None) -> ImageData:
    """Return the data set as the rest of the program wants it.

    Raises:
        DataError: fewer than two classes, a class without training images, numbers that are all equal, or more pixels
            than `MEMORY_BUDGET`.
    """
    if request.stream == "yes" and not isinstance(loaded.train.pixels, StreamedPixels):
        raise DataError(
            f"{loaded.place}: only images in class folders or Parquet files can be streamed; leave out --stream"
        )
    held = {"train": loaded.train, "validation": loaded.validation, "test": loaded.test}
    labels = {part: images.labels for part, images in held.items() if images is not None}
    check_classes(loaded.place, loaded.classes, labels, loaded.kind)
    train = loaded.train
    if request.limit is not None and len(train) > request.limit:
        train = train.select(limited(train.labels, request.limit))
        if not isinstance(train.pixels, StreamedPixels):
            train = Images(train.pixels[:], train.labels)  # a copy, so that the rest can be freed
    fitted = request.resolution is not None and not isinstance(train.pixels, StreamedPixels)
    known = loaded.statistics if train is loaded.train and not fitted else None
    parts: list[Images | None] = [train, loaded.validation, loaded.test]
    if fitted and request.resolution is not None:
        count = sum(len(p) for p in parts if p is not None)
        check_budget(count, train.pixels.shape[1], (request.resolution, request.resolution), loaded.place)
        parts = [None if p is None else _fitted(p, request.resolution) for p in parts]
    train, validation, test = parts
    assert train is not None
    mean, std = known or channel_statistics(train.pixels)
    _, channels, height, width = train.pixels.shape
    return ImageData(
        name=printable(loaded.name),
        classes=tuple(map(printable, loaded.classes)),
        channels=channels,
        height=height,
        width=width,
        mean=mean,
        std=std,
        flip=loaded.flip if flip is None else flip,
        train=train,
        validation=validation,
        test=test,
        skipped=tuple(map(printable, loaded.skipped)),
        sizes=loaded.sizes if request.resolution is None else "as chosen",
        task=_task(loaded, train.labels),
        labelled=printable(loaded.labelled),
    )


def _task(loaded: Loaded, labels: Tensor) -> Task:
    """Return the task; of numbers with mean and deviation of the training images.

    Raises:
        DataError: all numbers of a column are equal.
    """
    if loaded.kind != "regression":
        return Task(loaded.kind)
    mean, std = labels.mean(0), labels.std(0, correction=0)
    for name, m, s in zip(loaded.classes, mean.tolist(), std.tolist(), strict=True):
        if not s > 1e-12 * abs(m):
            raise DataError(
                f"{loaded.place}: {printable(name)} is {m:g} for all training images; nothing can be learned"
            )
    return Task("regression", tuple(mean.tolist()), tuple(std.tolist()))


def _fitted(images: Images, resolution: int) -> Images:
    return replace(images, pixels=fit(images.pixels[:], resolution))


def memory_share() -> int:
    """Return how many bytes decoded images may take before they are streamed: a quarter of the memory.

    Processes that share the machine share that quarter; it is at most `MEMORY_BUDGET`.
    """
    return min(MEMORY_BUDGET, (memory_limit() or 4 * MEMORY_BUDGET) // 4 // local_processes())


def check_budget(count: int, channels: int, size: tuple[int, int], place: str) -> None:
    """Raise DataError if `count` images of (height, width) `size` would not fit in `MEMORY_BUDGET` bytes."""
    height, width = size
    need = count * channels * height * width
    if need > MEMORY_BUDGET:
        raise DataError(
            f"{place}: {count} images of {height} x {width} pixels would take {need / 2**30:.1f} GiB, more than "
            f"{MEMORY_BUDGET / 2**30:g} GiB; choose a smaller --resolution, use fewer with --limit, or set --stream yes"
        )


def fit(pixels: Tensor, resolution: int) -> Tensor:
    """Scale uint8 [N, C, H, W] until the short side is `resolution` pixels, and keep the central square.

    Bilinear, with antialiasing.
    """
    _, _, height, width = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[:, :, top : top + side, left : left + side]
    if side == resolution:
        return square.contiguous()
    out = torch.empty((*pixels.shape[:2], resolution, resolution), dtype=torch.uint8)
    for start in range(0, len(pixels), 1024):
        scaled = functional.interpolate(
            square[start : start + 1024].float(), size=(resolution,) * 2, mode="bilinear", antialias=True
        )
        out[start : start + 1024] = scaled.round_().clamp_(0, 255).to(torch.uint8)
    return out


def check_classes(
    place: str, classes: Sequence[str], labels: Mapping[str, Tensor], kind: Kind = "classification"
) -> None:
    """Raise DataError unless there are two classes or more and ``train`` has images of each of them.

    One label is enough where images may have several; numbers are not looked at.

    Args:
        place: where the data lies, for the message.
        classes: names.
        labels: part -> of its images; the other parts only make the message more precise.
        kind: of the task.
    """
    if kind == "regression":
        return
    if len(classes) < (2 if kind == "classification" else 1):
        only = f" ({classes[0]!r})" if classes else ""
        raise DataError(
            f"{place}: {'one class only' if classes else 'no class'}{only}; telling classes apart needs "
            "images of two or more"
        )
    counts = {part: class_counts(of_part, len(classes)).tolist() for part, of_part in labels.items()}
    for number, count in enumerate(counts["train"]):
        if count == 0:
            elsewhere = [part for part in labels if counts[part][number]]
            has = f" but is in the {' and '.join(elsewhere)} part" if elsewhere else ""
            raise DataError(
                f"{place}: class {classes[number]!r} has no readable training image{has}; add some or remove the class"
            )
