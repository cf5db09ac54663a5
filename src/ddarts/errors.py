"""The exceptions that ddarts raises on purpose.

Every message is one line with the offending value, the reason, and the way out.
The command line prints it and exits with status 2; a Python caller can catch `DDartsError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def printable(text: object) -> str:
    """Return text in one line that a terminal shows and does not obey: control characters become escapes (``\\x1b``).

    Names of files and classes may hold anything: escape sequences, line breaks, bytes that are not UTF-8.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


class DDartsError(Exception):
    """Base of every error that a user can cause and fix; its message is one printable line, whatever it quotes."""

    def __init__(self, *messages: object) -> None:
        super().__init__(*(printable(" ".join(m.splitlines())) if isinstance(m, str) else m for m in messages))


class SettingsError(DDartsError):
    """A setting is unknown, has the wrong type, is out of range, or disagrees with another."""


class DataError(DDartsError):
    """A data set is missing, empty, unreadable, or does not fit the request."""


class GenotypeError(DDartsError):
    """A genotype, or the text or file that should hold one, is not valid."""


class RunError(DDartsError):
    """A run folder cannot be created, read, written or resumed."""


class DivergedError(DDartsError):
    """A loss stopped being finite during a search or a training."""


class Stopped(DDartsError):  # noqa: N818 (nothing went wrong)
    """A run was asked to stop (Ctrl-C, SIGTERM) and stopped after a checkpoint; the message says how to resume."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, or a list of at most 48 names if none is close."""
    names = sorted(str(k) for k in known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    more = f" and {len(names) - 48} more" if len(names) > 48 else ""
    return f"; known: {', '.join(names[:48])}{more}"


def whole_number(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """Return an argument as a whole number.

    Raises:
        SettingsError: it is none, or below `least` or above `most`.
    """
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise SettingsError(f"{name} = {str(value)[:100]!r} must be a whole number") from None
    if (least is not None and number < least) or (most is not None and number > most):
        limits = f"must be at least {least}" if most is None else f"is out of range; choose {least} to {most}"
        raise SettingsError(f"{name} = {number} {limits}")
    return number
