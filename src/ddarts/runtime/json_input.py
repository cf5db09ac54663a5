"""Read untrusted JSON: small checks that name the path into the data and the reason."""

from __future__ import annotations

import json
import os
import reprlib
from pathlib import Path
from typing import Any

from ddarts.errors import GenotypeError, nearest

_MAX_FILE_BYTES = 16 * 1024 * 1024

#: Characters of a value that a message shows.
_MOST_SHOWN = 120

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxlong = 40
_short.maxlist = 20
_short.maxlevel = 2


def shown(value: Any) -> str:
    """Return `repr(value)`, cut where a hostile value would flood the terminal."""
    text = _short.repr(value)  # bounds what is looked at; nested values can still add up
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


def read_text(path: str | os.PathLike[str], *, what: str, inside: str, way_out: str) -> tuple[str, str]:
    """Return the text of a file, or of the file `inside` a run folder, with the path that was read.

    Args:
        path: a file or a folder.
        what: the kind of file, such as "genotype", for messages.
        inside: the name of the file when `path` is a folder.
        way_out: the command that would make such a file.

    Raises:
        GenotypeError: the file is missing, too long, not UTF-8 or cannot be read.
    """
    path = Path(path)
    try:
        if path.is_dir():
            path = path / inside
        with path.open("rb") as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise GenotypeError(f"{path}: no such {what} file; check the path or run `{way_out}`") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise GenotypeError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > _MAX_FILE_BYTES:
        raise GenotypeError(f"{path}: more than {_MAX_FILE_BYTES} bytes; is this a {what} file?")
    try:
        return data.decode("utf-8-sig"), str(path)
    except UnicodeDecodeError as error:
        raise GenotypeError(f"{path}: not UTF-8 text at byte {error.start}; is this a {what} file?") from None


def parse(text: str, where: str, what: str) -> Any:
    """Parse JSON text; a key that stands twice in one object is an error.

    Raises:
        GenotypeError: with line and column where the text is not JSON.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise GenotypeError(f"{where}: the key {shown(key)} stands twice in one object")
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise GenotypeError(f"{where}: {place}: {error.msg}; fix the JSON there or give another file") from None
    except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
        raise GenotypeError(f"{where}: not a {what}: {error}") from None


def header(data: Any, where: str, *, what: str, form: str, version: int) -> None:
    """Check the fields `format` and `version`, before any other: another version may have other fields."""
    if not isinstance(data, dict):
        raise GenotypeError(f"{where}: expected an object with format and version, found {type(data).__name__}")
    for key in ("format", "version"):
        if key not in data:
            raise GenotypeError(f"{where}: {key!r} is missing; is this a {what} file?")
    if data["format"] != form:
        raise GenotypeError(f"{where}: format is {shown(data['format'])}, expected {form!r}; is this a {what} file?")
    if type(data["version"]) is not int or data["version"] != version:
        raise GenotypeError(
            f"{where}: version {shown(data['version'])} cannot be read, this ddarts reads version {version}; "
            f"make the {what} again or use the ddarts that wrote it"
        )


def mapping(data: Any, where: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return `data` if it is an object with the `required` keys and no other than those and `optional`."""
    if not isinstance(data, dict):
        raise GenotypeError(f"{where}: expected an object with {', '.join(required)}, found {type(data).__name__}")
    for key in required:
        if key not in data:
            raise GenotypeError(f"{where}: {key!r} is missing")
    for key in data:
        if key not in required + optional:
            raise GenotypeError(f"{where}: unknown key {shown(key)}{nearest(str(key)[:60], required + optional)}")
    return data


def listing(data: Any, where: str) -> list[Any]:
    """Return `data` if it is a list."""
    if not isinstance(data, list):
        raise GenotypeError(f"{where}: expected a list, found {type(data).__name__}")
    return data


def integer(value: Any, where: str) -> int:
    """Return `value` if it is an integer (true and 1.0 are not)."""
    if type(value) is not int:
        raise GenotypeError(f"{where}: {shown(value)} must be a whole number")
    return value


def integers(data: Any, where: str) -> tuple[int, ...]:
    """Return a list of integers as a tuple."""
    return tuple(integer(value, f"{where}[{i}]") for i, value in enumerate(listing(data, where)))


def text(value: Any, where: str) -> str:
    """Return `value` if it is text."""
    if not isinstance(value, str):
        raise GenotypeError(f"{where}: {shown(value)} must be text")
    return value
