"""Images to check an exported network on: those that were named, else those of the run's data, else made ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddarts.data import load_data
from ddarts.data.decode import read_image
from ddarts.errors import DDartsError
from ddarts.nn.preprocessing import Preprocessing

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
        images = load_data(name, resolution=settings.get("resolution"), limit=limit, quiet=True)
    except DDartsError as error:
        return f"the run's data cannot be read ({error})"
    if (images.channels, images.height, images.width) != (prepared.in_channels, *prepared.resolution):
        return f"the images of {name} are no longer of the model's size"
    for part, kind in ((images.test, "test"), (images.validation, "validation"), (images.train, "training")):
        if part is not None and len(part):
            # Spread over the part: data sets are often sorted by class.
            index = torch.linspace(0, len(part) - 1, min(MOST, len(part))).long().unique()
            return Samples(part.pixels[index], f"{len(index)} {kind} images of {images.name}")
    return f"{name} has no images"


def made_images(prepared: Preprocessing) -> Samples:
    """Return images of random pixels, the same every time."""
    random = torch.Generator().manual_seed(0)
    shape = (16, prepared.in_channels, *prepared.resolution)
    return Samples(torch.randint(0, 256, shape, generator=random, dtype=torch.uint8), "16 images of random pixels")
