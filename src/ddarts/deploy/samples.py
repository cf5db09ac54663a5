"""Images for exports: to check networks on (named ones, those of the run's data, made ones), and to calibrate them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddarts.data import GivenData, ImageData, Images, load_data
from ddarts.data.decode import read_image
from ddarts.errors import DataError, DDartsError, SettingsError
from ddarts.nn.preprocessing import Preprocessing
from ddarts.runtime import json_input as checks

#: So many images are enough to tell a wrong graph from a right one.
MOST = 64


@dataclass(frozen=True)
class Samples:
    """Images as uint8 [N, C, H, W], and where they come from in words."""

    pixels: Tensor
    source: str


def named_images(paths: Sequence[Path], prepared: Preprocessing) -> Samples:
    """Return the images in these files, fitted as `ddarts predict` fits them.

    Raises:
        DataError: one cannot be decoded.
    """
    height, width = prepared.resolution
    read = [read_image(path, channels=prepared.in_channels, height=height, width=width) for path in paths]
    return Samples(
        torch.stack(read), "1 image that was named" if len(read) == 1 else f"{len(read)} images that were named"
    )


def data_images(settings: dict[str, Any], prepared: Preprocessing) -> Samples | str:
    """Return images of a run's data: of its test part, else of its validation or training part.

    Args:
        settings: of the run; data and resolution count.
        prepared: of the model; other images do not fit.

    Returns:
        The images, or the reason why there are none.
    """
    name = settings.get("data")
    if not isinstance(name, str):
        return "the run does not say what data it used"
    try:
        # The limit must leave one image a class; training images are wanted only where there are no others.
        limit = max(MOST, len(prepared.classes))
        about = _labelled(settings)
        images = load_data(name, resolution=settings.get("resolution"), limit=limit, quiet=True, **about)
    except DDartsError as error:
        return f"the run's data cannot be read ({error})"
    if (images.channels, images.height, images.width) != (prepared.in_channels, *prepared.resolution):
        return f"the images of {name} are no longer of the model's size"
    return split_images(images)


def _labelled(settings: dict[str, Any]) -> dict[str, Any]:
    """Return where the labels of a run's images are from."""
    return {"labels": settings.get("labels"), "task": settings.get("task", "auto")}


def _asked(prepared: Preprocessing, labels: str | None) -> str:
    """Return the task that labels are read for: that of the model, if they are in a file of labels."""
    return "auto" if labels is None else prepared.task.kind


def split_images(images: ImageData) -> Samples:
    """Return a few images of the test split, else of the validation or training split."""
    splits = ((images.test, "test"), (images.validation, "validation"), (images.train, "training"))
    part, kind = next((part, kind) for part, kind in splits if part is not None and len(part))
    return _spread(part, MOST, f"{kind} images of {images.name}")


def whole_data(
    data: str | GivenData | None,
    settings: dict[str, Any],
    prepared: Preprocessing,
    *,
    quiet: bool,
    labels: str | None = None,
) -> ImageData:
    """Return a data set whose images and classes are those of a model: for calibration and accuracy.

    Args:
        data: its name or what was given from Python; that of `settings` if None.
        settings: of the model's run; empty if there is none.
        prepared: of the model.
        quiet: show no progress.
        labels: a CSV file with the labels of `data`, if they are in one.

    Raises:
        DataError: it cannot be read, or does not fit the model.
        SettingsError: there is no data set.
    """
    chosen = settings.get("data") if data is None else data
    way_out = "name the data set with --data"
    if chosen is None:
        raise SettingsError(f"onnx-int8 needs training images to calibrate on, and the model is in no run; {way_out}")
    height, width = prepared.resolution
    try:
        images = load_data(
            chosen,
            resolution=height if height == width else None,
            limit=settings.get("limit") if data is None else None,
            quiet=quiet,
            stream="auto",
            **(_labelled(settings) if data is None else {"labels": labels, "task": _asked(prepared, labels)}),
        )
    except DDartsError as error:
        if data is not None:
            raise
        raise DataError(f"the data of the run cannot be read for the calibration ({error}); {way_out}") from None
    for what, found, wanted in (
        ("task", images.task.kind, prepared.task.kind),
        ("classes", list(images.classes), list(prepared.classes)),
        ("channels", images.channels, prepared.in_channels),
        ("height and width", [images.height, images.width], list(prepared.resolution)),
    ):
        if found != wanted:
            shown = (checks.shown(value) for value in (found, wanted))
            raise DataError("{}: {} {}, the model was trained on {}; {}".format(images.name, what, *shown, way_out))
    return images


def calibration_images(images: ImageData, count: int) -> Samples:
    """Return at most `count` training images, spread over all of them."""
    return _spread(images.train, count, f"training images of {images.name}")


def _spread(part: Images, most: int, what: str) -> Samples:
    """Return at most so many images from all over a split: data sets are often sorted by class."""
    index = torch.linspace(0, len(part) - 1, min(most, len(part))).long().unique()
    return Samples(part.pixels[index], f"{len(index)} {what}")


def made_images(prepared: Preprocessing) -> Samples:
    """Return images of random pixels, the same every time."""
    random = torch.Generator().manual_seed(0)
    shape = (16, prepared.in_channels, *prepared.resolution)
    return Samples(torch.randint(0, 256, shape, generator=random, dtype=torch.uint8), "16 images of random pixels")
