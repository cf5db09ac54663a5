"""One image file of any common kind -> 8-bit grey or colour of the size asked for; broken files are refused.

How modes are read: 16-bit grey is scaled by 1/257; a transparent image is laid on white; palette, CMYK and the rest
become RGB; EXIF orientation is applied; of an animation only the first frame counts.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddarts.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

# Named, so that no format that starts another program (EPS) or is a container of others can be smuggled in.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_GREY = ("1", "L", "LA", "La", "I", "F")
_ORIENTATION = 0x0112


class Undecodable(Exception):  # noqa: N818
    """One image cannot be read; the message is the reason alone."""


class Peek(NamedTuple):
    """What the header of an image tells: size in pixels, upright, and whether it has no colour."""

    height: int
    width: int
    grey: bool


@contextmanager
def quiet_decoding() -> Iterator[None]:
    """Silence Pillow's remarks on odd files, and make its warning of a decompression bomb an error.

    Wrap whole loops, threads included: Python's warning filters belong to the process, not to a thread.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        Image.init()  # load all formats before threads ask for them
        yield


def peek(source: bytes | Path | None) -> Peek:
    """Read the header only.

    Raises:
        Undecodable: it is no image, or an image too large to decode safely.
    """
    try:
        with _open(source) as image:
            width, height = image.size
            if _transposition(image, headers_only=True) in (5, 6, 7, 8):
                width, height = height, width
            return Peek(height, width, _is_grey(image))
    except Exception as error:
        raise _undecodable(error) from error


def decode(source: bytes | Path | None, channels: int, height: int, width: int) -> np.ndarray:
    """Return uint8 [channels, height, width]; `channels` is 1 or 3.

    An image of another size is scaled (antialiased) until it covers the wanted one, and its centre is kept.

    Raises:
        Undecodable: the file is broken, truncated, or too large to decode safely.
    """
    from PIL import Image

    try:
        with _open(source) as opened:
            # A JPEG can be decoded at 1/2, 1/4 or 1/8 for a fraction of the time; twice the size leaves no trace of it.
            side = 2 * max(height, width)
            opened.draft(None, (side, side))
            image = _upright(_to_eight_bits(opened), _transposition(opened))
        if channels == 1 and image.mode != "L":
            image = image.convert("L")
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR, box=_centre(image.size, (width, height)))
        array = np.asarray(image)
    except Exception as error:
        raise _undecodable(error) from error
    return np.broadcast_to(array, (channels, height, width)) if array.ndim == 2 else array.transpose(2, 0, 1)


def read_image(path: Path, *, channels: int, height: int, width: int) -> Tensor:
    """Return one image file as uint8 [channels, height, width], fitted as `load_data` fits images.

    Raises:
        DataError: it cannot be decoded, or `channels` is neither 1 nor 3.
    """
    if channels not in (1, 3):
        raise DataError(f"{path}: an image file gives 1 or 3 channels, not {channels}; use a network made for those")
    try:
        with quiet_decoding():
            return torch.from_numpy(np.array(decode(Path(path), channels, height, width)))
    except Undecodable as error:
        raise DataError(f"{path}: {error}; give an image file ({', '.join(FORMATS)})") from error


def _centre(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the largest box (left, top, right, bottom) in the middle of `size` with the shape of `wanted`."""
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    # Rounding could set the box a hair outside the image, which Pillow refuses.
    wide, tall = min(wanted[0] * scale, size[0]), min(wanted[1] * scale, size[1])
    left, top = (size[0] - wide) / 2, (size[1] - tall) / 2
    return left, top, min(left + wide, size[0]), min(top + tall, size[1])


@contextmanager
def _open(source: bytes | Path | None) -> Iterator[Image]:
    from PIL import Image

    if source is None:
        raise Undecodable("no image bytes")
    with (
        io.BytesIO(source) if isinstance(source, bytes) else _open_file(source) as stream,
        Image.open(stream, formats=FORMATS) as image,
    ):
        yield image


def _open_file(path: Path) -> BinaryIO:
    """Open a regular file; opening a pipe would wait for a writer, and reading a device might never end."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Undecodable("not a regular file")
    return open(descriptor, "rb")


def _undecodable(error: Exception) -> Undecodable:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Undecodable):
        return error
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return Undecodable(f"more than {Image.MAX_IMAGE_PIXELS} pixels, a decompression bomb perhaps")
    if isinstance(error, UnidentifiedImageError):
        return Undecodable("not an image of a known format")
    if isinstance(error, OSError) and error.strerror:
        return Undecodable(error.strerror)
    return Undecodable(" ".join(str(error).split()) or type(error).__name__)


def _is_grey(image: Image) -> bool:
    return image.mode in _GREY or image.mode.startswith("I;")


def _to_eight_bits(image: Image) -> Image:
    """Return the image in mode L or RGB."""
    from PIL import Image as Pillow

    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return Pillow.fromarray(_scaled(np.asarray(image)))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Pillow.new("RGBA", rgba.size, "white")
        return Pillow.alpha_composite(white, rgba).convert("L" if _is_grey(image) else "RGB")
    return image.convert("L" if _is_grey(image) else "RGB")


def _scaled(values: np.ndarray) -> np.ndarray:
    """Return grey values of more than 8 bits (16-bit whole numbers, or fractions) as uint8."""
    if not np.isfinite(values).all():
        raise Undecodable("pixels that are not numbers")
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if low < 0 or high > 255:
            raise Undecodable(f"fractional pixels of {low:g} to {high:g}, neither 0 to 1 nor 0 to 255")
        return np.rint(values * (255 if high <= 1 else 1)).astype(np.uint8)
    if low < 0 or high > 65535:
        raise Undecodable(f"pixels of {low} to {high}, more than 16 bits")
    return ((values.astype(np.int64) + 128) // 257).astype(np.uint8)


def _transposition(image: Image, *, headers_only: bool = False) -> int:
    """Return the EXIF orientation, 1 (upright) to 8."""
    if headers_only and image.format == "PNG":
        return 1  # Pillow would decode the whole image to look for it
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block says nothing about the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(image: Image, orientation: int) -> Image:
    from PIL.Image import Transpose

    how = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(orientation)
    return image if how is None else image.transpose(how)
