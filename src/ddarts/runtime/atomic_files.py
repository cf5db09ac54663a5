"""Files that appear whole or not at all: write beside, flush to disk, rename."""

from __future__ import annotations

import contextlib
import os
import secrets
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
        beside = str(path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.tmp"))
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        temporary = beside
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        temporary = None
        _sync_folder(path.parent)
    except (FileExistsError, NotADirectoryError) as error:
        raise RunError(f"{path}: cannot be written: {error.filename} is a file, not a folder; name another") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise RunError(
            f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}; free some space or choose "
            "another folder with --out (the previous file is untouched)"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_text(path: Path, text: str) -> None:
    """Replace `path` with UTF-8 `text` in one step; see `write_bytes`.

    Bytes of a file name that are no text (surrogates in Python) become escapes: hours of work do not end at a name.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; not every platform can open a folder, and those need no such step."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
