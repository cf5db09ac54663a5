"""Reading constructor calls such as ``DARTS_V2 = Genotype(normal=[...], ...)`` from Python text, without running it.

Only what published genotype files use is understood: text, whole numbers, lists, tuples, ``range``, ``+`` and ``*`` on
lists, names assigned before, and calls of the constructors that the caller names. Every other statement is passed over.

Python's own parser is not used: it fails with MemoryError or RecursionError on deep nesting, and it refuses a whole
file for one statement that does not concern us. Here nesting, length, and the number of values are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ddarts.errors import GenotypeError, nearest
from ddarts.genotype.interop.tokens import Place, Token, complain, tokens
from ddarts.runtime.json_input import shown

_MOST_CHARACTERS = 1024 * 1024
_MOST_VALUES = 200_000  # in one list, counted through all lists in it
_MOST_MADE = 1_000_000  # in all lists of a text together
_DEEPEST = 20
_MOST_DIGITS = 9


@dataclass(frozen=True)
class Text:
    """A string."""

    value: str
    place: Place
    size: int = 1


@dataclass(frozen=True)
class Whole:
    """A whole number."""

    value: int
    place: Place
    size: int = 1


@dataclass(frozen=True)
class Sequence:
    """A list, tuple or range; `size` counts the values in it and in all lists in it."""

    items: tuple[Value, ...]
    place: Place
    size: int


@dataclass(frozen=True)
class Call:
    """A call of a constructor, with what stands between its brackets."""

    function: str
    positional: tuple[Value, ...]
    keywords: tuple[tuple[str, Value, Place], ...]
    place: Place
    size: int = 1


Value = Text | Whole | Sequence | Call


@dataclass
class Statements:
    """What a text assigns.

    Attributes:
        named: constructor calls by the name that they are assigned to, in order of appearance.
        bare: constructor calls that are assigned to no name.
        unread: why the first statement that is neither could not be read, with its place; None if all could.
    """

    named: dict[str, Call] = field(default_factory=dict)
    bare: list[Call] = field(default_factory=list)
    unread: str | None = None


class _UnreadableError(GenotypeError):
    """A statement is not one that this module understands; no error unless a genotype depends on it."""


def read_statements(text: str, where: str, constructors: Iterable[str]) -> Statements:
    """Return the constructor calls of a Python text, by name.

    Statements that are indented (in functions and classes) are passed over.

    Args:
        text: the text; may be anything.
        where: prefix of error messages, such as a file name.
        constructors: names of the constructors.

    Raises:
        GenotypeError: with line and column: a constructor's call cannot be read, a string is not closed, or a bound
            on length, nesting or the number of values is passed.
    """
    if len(text) > _MOST_CHARACTERS:
        raise GenotypeError(f"{where}: {len(text)} characters are more than the {_MOST_CHARACTERS} that are read")
    return _Reader(text, where, tuple(constructors)).statements()


class _Reader:
    """A recursive-descent parser over the tokens of one text; its recursion is bounded by `_DEEPEST`."""

    def __init__(self, text: str, where: str, constructors: tuple[str, ...]) -> None:
        self._where, self._constructors = where, constructors
        self._tokens, self._at, self._depth = tokens(text, where), 0, 0
        self._made = 0
        self._known: dict[str, Value | str] = {}  # values of names; for those that could not be read, why

    def statements(self) -> Statements:
        found = Statements()
        while self._token.kind != "end":
            if self._token.kind == "line":
                self._at += 1
                continue
            # only a first statement may be indented (a bare constructor after blanks): others are in a block
            indented = self._token.place.column > 1 and self._at > 0 and self._tokens[self._at - 1].value != ";"
            if indented and (found.named or found.bare or found.unread):
                self._skip_line()
            else:
                self._statement(found)
        return found

    def _statement(self, found: Statements) -> None:
        first = self._token
        name = None
        if first.kind == "name" and self._peek(1) == "=" and self._peek(2) != "=":
            name = first.value
            self._at += 2
        concerns_us = self._token.kind == "name" and self._token.value in self._constructors and self._peek(1) == "("
        try:
            value = self._sum()
            if self._token.kind not in ("line", "end"):
                raise self._unreadable(f"{shown(self._token.value)} is not expected here")
        except _UnreadableError as error:
            if concerns_us:
                raise GenotypeError(f"{self._where}: {error}") from None
            if name is not None:
                self._known[name] = str(error)
            found.unread = found.unread or str(error)
            self._depth = 0
            self._skip_line()
            return
        if name is not None:
            self._known[name] = value
            found.named.pop(name, None)
        if isinstance(value, Call):
            if name is None:
                found.bare.append(value)
            else:
                found.named[name] = value

    # -- expressions -----------------------------------------------------------------------------------------------

    def _sum(self) -> Value:
        value = self._product()
        while self._token.value == "+" and self._token.kind == "symbol":
            place = self._next().place
            right = self._product()
            if not isinstance(value, Sequence) or not isinstance(right, Sequence):
                raise self._unreadable("+ joins lists only", place)
            value = self._sequence(value.items + right.items, value.place)
        return value

    def _product(self) -> Value:
        value = self._single()
        while self._token.value == "*" and self._token.kind == "symbol":
            place = self._next().place
            times = self._single()
            if not isinstance(value, Sequence) or not isinstance(times, Whole):
                raise self._unreadable("* repeats a list, as in [0] * 4", place)
            count = max(times.value, 0)
            self._count((value.size - 1) * count, len(value.items) * count, place)
            value = self._sequence(value.items * count, value.place)
        return value

    def _single(self) -> Value:
        token = self._next()
        if token.kind == "text":
            return Text(self._string(token), token.place)
        if token.kind == "number":
            return Whole(self._whole(token), token.place)
        if token.kind == "symbol" and token.value == "-" and self._token.kind == "number":
            return Whole(-self._whole(self._next()), token.place)
        if token.kind == "symbol" and token.value in "([":
            return self._bracket(token)
        if token.kind == "name":
            if self._token.value == "(" and self._token.kind == "symbol":
                return self._call(token)
            return self._variable(token)
        if token.kind in ("end", "line"):
            raise self._unreadable("the text ends where a value is expected", token.place)
        raise self._unreadable(f"{shown(token.value)} stands where a value is expected", token.place)

    def _variable(self, token: Token) -> Value:
        known = self._known.get(token.value)
        if known is None:
            names = [*self._known, *self._constructors]
            raise self._unreadable(f"unknown name {shown(token.value)}{nearest(token.value[:60], names)}", token.place)
        if isinstance(known, str):
            raise self._unreadable(f"{shown(token.value)} could not be read ({known})", token.place)
        return known if isinstance(known, Call) else replace(known, place=token.place)

    def _bracket(self, opening: Token) -> Value:
        """Read a list or a tuple; round brackets round one value are only brackets."""
        closing = ")" if opening.value == "(" else "]"
        self._enter(opening)
        items: list[Value] = []
        commas = 0
        while not self._at_symbol(closing):
            items.append(self._sum())
            if not self._at_symbol(closing):
                self._expect(",", f"or {closing!r} for the bracket of {opening.place}")
                commas += 1
        self._leave()
        if closing == ")" and len(items) == 1 and not commas:
            return items[0]
        return self._sequence(tuple(items), opening.place)

    def _call(self, name: Token) -> Value:
        if name.value != "range" and name.value not in self._constructors:
            known = ("range", *self._constructors)
            raise self._unreadable(
                f"{shown(name.value)} is not a genotype's constructor{nearest(name.value[:60], known)}", name.place
            )
        opening = self._next()
        self._enter(opening)
        positional: list[Value] = []
        keywords: list[tuple[str, Value, Place]] = []
        while not self._at_symbol(")"):
            keyword = self._token
            if keyword.kind == "name" and self._peek(1) == "=":
                self._at += 2
                keywords.append((keyword.value, self._sum(), keyword.place))
            elif keywords:
                raise self._unreadable(f"{shown(keyword.value)} follows a named argument and needs a name too")
            else:
                positional.append(self._sum())
            if not self._at_symbol(")"):
                self._expect(",", f"or ')' for the bracket of {opening.place}")
        self._leave()
        if name.value == "range":
            return self._range(positional, keywords, name.place)
        return Call(name.value, tuple(positional), tuple(keywords), name.place)

    def _range(self, positional: list[Value], keywords: list[tuple[str, Value, Place]], place: Place) -> Sequence:
        numbers = [value.value for value in positional if isinstance(value, Whole)]
        if keywords or not 1 <= len(positional) <= 3 or len(numbers) < len(positional) or numbers[2:] == [0]:
            raise self._unreadable("range takes one to three whole numbers, as in range(2, 6)", place)
        values = range(*numbers)
        self._count(len(values), len(values), place)
        return self._sequence(tuple(Whole(value, place) for value in values), place)

    def _sequence(self, items: tuple[Value, ...], place: Place) -> Sequence:
        size = 1 + sum(item.size for item in items)
        self._made += len(items)
        self._count(size, 0, place)
        return Sequence(items, place, size)

    def _string(self, token: Token) -> str:
        quote = token.value[-1]
        prefix, _, rest = token.value.partition(quote)
        rest = quote + rest
        width = 3 if len(rest) >= 6 and rest.startswith(quote * 3) else 1
        if prefix.lower() not in ("", "u", "r") or "\\" in rest:
            raise self._unreadable("only plain strings without escapes are read", token.place)
        return rest[width:-width]

    def _whole(self, token: Token) -> int:
        if not re.fullmatch(r"[0-9]+", token.value) or len(token.value) > _MOST_DIGITS:
            raise self._unreadable(
                f"{shown(token.value)} is not a whole number of at most {_MOST_DIGITS} digits", token.place
            )
        return int(token.value)

    # -- tokens ----------------------------------------------------------------------------------------------------

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._token
        if token.kind != "end":
            self._at += 1
        return token

    def _peek(self, ahead: int) -> str:
        """Return the symbol that stands `ahead`, or nothing if no symbol does."""
        at = self._at + ahead
        return self._tokens[at].value if at < len(self._tokens) and self._tokens[at].kind == "symbol" else ""

    def _at_symbol(self, symbol: str) -> bool:
        return self._token.kind == "symbol" and self._token.value == symbol

    def _expect(self, symbol: str, more: str) -> None:
        if not self._at_symbol(symbol):
            found = "the end of the text" if self._token.kind == "end" else shown(self._token.value)
            raise self._unreadable(f"expected {symbol!r} {more}, found {found}")
        self._at += 1

    def _enter(self, opening: Token) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._unreadable(f"brackets are nested deeper than {_DEEPEST}", opening.place)

    def _leave(self) -> None:
        self._at += 1  # the closing bracket
        self._depth -= 1

    def _skip_line(self) -> None:
        while self._token.kind not in ("line", "end"):
            self._at += 1

    def _unreadable(self, reason: str, place: Place | None = None) -> _UnreadableError:
        return _UnreadableError(f"{place or self._token.place}: {reason}")

    def _count(self, size: int, more: int, place: Place) -> None:
        """Check the bounds on one list of `size` values and on all lists, `more` values to come included."""
        if size > _MOST_VALUES:
            complain(self._where, place, f"a list of more than {_MOST_VALUES} values")
        if self._made + more > _MOST_MADE:
            complain(self._where, place, f"lists of more than {_MOST_MADE} values in all")
