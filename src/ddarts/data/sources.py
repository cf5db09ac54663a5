"""From what stands after ``--data`` to images: known names, or a folder that is looked at."""

from __future__ import annotations

from collections.abc import Callable

from ddarts.data.digits import load_digits
from ddarts.data.images import ImageData
from ddarts.data.loaded import Loaded, Request, finish
from ddarts.errors import DataError, nearest

SOURCES: dict[str, Callable[[str | None, Request], Loaded]] = {
    "digits": load_digits,
}
"""Name -> loader(directory after the colon or None, request)."""


def load_data(
    spec: str,
    *,
    resolution: int | None = None,
    strict: bool = False,
    limit: int | None = None,
    flip: bool | None = None,
    quiet: bool = False,
) -> ImageData:
    """Read a data set into memory, as 8-bit images of one size; classes, channels, size and statistics are found.

    Args:
        spec: ``NAME``, ``NAME:DIR`` or a folder.
        resolution: pixels a side; the short side is scaled to it and the central square kept.
        strict: stop at the first image that cannot be decoded instead of skipping it.
        limit: keep at most so many training images, the same share of each class.
        flip: whether training may mirror images; found from the data if None.
        quiet: show no progress.

    Raises:
        DataError: the data is not there, broken, or not fit to learn from.
    """
    request = Request(resolution=resolution, strict=strict, limit=limit, quiet=quiet)
    name, colon, directory = spec.partition(":")
    if name in SOURCES:
        return finish(SOURCES[name](directory if colon else None, request), request, flip)
    raise DataError(f"data {spec!r}: no such data set or folder{nearest(name, SOURCES)}")
