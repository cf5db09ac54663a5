"""Small pictures of images, for the sheet of the worst mistakes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ddarts.errors import RunError
from ddarts.runtime.atomic_files import write_bytes

#: Folder of a run that holds the pictures; the one of mistake i is ``{i:02d}.png``.
FOLDER = "mistakes"
#: Largest side of a picture in pixels; larger images are scaled down.
SIDE = 96
_MAX_BYTES = 64_000  # of a picture that a page takes in
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def thumbnail(pixels: Any) -> bytes:
    """Return an image (uint8 tensor [C, H, W]) as a small PNG: grey from one channel, colour from three.

    Of images with another number of channels the first is shown.
    """
    from PIL import Image

    array = pixels.cpu().numpy()
    picture = Image.fromarray(array.transpose(1, 2, 0)) if len(array) == 3 else Image.fromarray(array[0])
    picture.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def write_thumbnails(folder: Path, pictures: tuple[bytes, ...]) -> None:
    """Write the pictures of the worst mistakes into a run, in place of those that are there.

    Raises:
        RunError: a file cannot be written or deleted.
    """
    folder = folder / FOLDER
    paths = [folder / f"{i:02d}.png" for i in range(len(pictures))]
    for path, data in zip(paths, pictures, strict=True):
        write_bytes(path, data)
    for stale in set(folder.glob("*.png")) - set(paths):
        try:
            stale.unlink()
        except OSError as error:
            raise RunError(f"{stale}: cannot be deleted: {error.strerror}") from None


def read_thumbnail(folder: Path, position: int) -> bytes | None:
    """Return the picture of mistake `position` of a run, None if there is none or it is no small PNG."""
    try:
        with (folder / FOLDER / f"{position:02d}.png").open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError:
        return None
    return data if data.startswith(_SIGNATURE) and len(data) <= _MAX_BYTES else None
