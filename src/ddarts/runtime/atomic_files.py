"""Files that appear whole or not at all: write beside, flush to disk, rename."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from ddarts.errors import RunError


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` with `data` in one step.

    A kill or a power cut at any moment leaves the old file or the new one, never a part of either.

    Raises:
        RunError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    path = Path(path)
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes files that only their owner may read
        os.replace(temporary, path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written: {error.strerror or error}; free some space or choose another folder with "
            "--out (the file as it was before is untouched)"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_text(path: Path, text: str) -> None:
    """Replace `path` with UTF-8 `text` in one step; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; not every platform can open a folder, and those need no such step."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
