"""Splitting Python text into tokens, each with its line and column; anything at all can be split or is an error."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from ddarts.errors import GenotypeError


class Place(NamedTuple):
    """A position in the text, counted from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


@dataclass(frozen=True)
class Token:
    """A token: kind text, number, name, symbol, line (the end of a statement) or end, and what stands there."""

    kind: str
    value: str
    place: Place


_TOKEN = re.compile(
    r"""(?P<blank>[ \t\f\r]+|\\\r?\n|\#[^\n]*)
      |(?P<newline>\n)
      |(?P<long>[a-zA-Z]{0,2}(?:'{3}|"{3}))
      |(?P<text>[a-zA-Z]{0,2}(?:'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"))
      |(?P<open>[a-zA-Z]{0,2}['"])
      |(?P<number>[0-9][\w.]*)
      |(?P<name>[^\W0-9]\w*)
      |(?P<symbol>.)""",
    re.VERBOSE | re.DOTALL,
)
_OPENING, _CLOSING = "([{", ")]}"


def tokens(text: str, where: str) -> list[Token]:
    """Split a text; blanks, comments and line ends within brackets are left out, and the last token is the end.

    Raises:
        GenotypeError: a string is not closed, with line and column.
    """
    found: list[Token] = []
    line, start, position, depth = 1, 0, 0, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None  # the last alternative takes any character
        kind, value, place = match.lastgroup or "", match.group(), Place(line, position - start + 1)
        position = match.end()
        if kind == "long":
            closing = re.compile(rf"(?:[^\\]|\\.)*?{value[-3:]}", re.DOTALL).match(text, position)
            if closing is None:
                raise GenotypeError(f"{where}: {place}: the string that opens here is not closed")
            kind, value, position = "text", text[match.start() : closing.end()], closing.end()
        elif kind == "open":
            raise GenotypeError(f"{where}: {place}: the string that opens here is not closed on its line")
        if kind == "newline":
            kind = "blank" if depth else "line"
        elif kind == "symbol" and value in _OPENING:
            depth += 1
        elif kind == "symbol" and value in _CLOSING:
            depth = max(depth - 1, 0)
        elif kind == "symbol" and value == ";" and not depth:
            kind = "line"
        newlines = value.count("\n")
        if newlines:
            line, start = line + newlines, position - len(value) + value.rindex("\n") + 1
        if kind != "blank":
            found.append(Token(kind, value, place))
    found.append(Token("end", "", Place(line, position - start + 1)))
    return found


def complain(where: str, place: Place, reason: str) -> NoReturn:
    """Raise `GenotypeError` with the file, the place and the reason."""
    raise GenotypeError(f"{where}: {place}: {reason}") from None
