"""Read the data out of a pickle without running it.

A pickle is a small program, and Python's own reader obeys it. This one walks over the opcodes, which runs nothing,
and understands only those that build plain values and NumPy arrays of whole numbers; at any other it stops.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ddarts.errors import DataError

_MARK = object()
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")


@dataclass(eq=False)
class _Name:
    """Stands for a function or class that the pickle names; it is never looked up."""

    module: str
    name: str


@dataclass(eq=False)
class _Type:
    """Stands for a NumPy dtype."""

    code: str
    order: str = "|"

    def numpy(self) -> np.dtype:
        return np.dtype(self.order.replace("|", "=") + self.code)


@dataclass(eq=False)
class _Array:
    """Stands for a NumPy array until all is read."""

    value: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))


def read_pickle(data: bytes, place: str) -> Any:
    """Return dictionaries, lists, tuples, strings, bytes, numbers and arrays of whole numbers; nothing else comes out.

    Text of Python 2 pickles is read as Latin-1.

    Raises:
        DataError: the pickle is broken or holds anything else; `place` names the file in the message.
    """
    try:
        return _plain(_run(data), {})
    except DataError as error:
        raise DataError(f"{place}: {error}; download it again from a source that you trust") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{place}: not a whole data pickle: {reason}; download it again") from error


def _run(data: bytes) -> Any:
    stack: list[Any] = []
    made = 0  # bytes of arrays and encoded texts; shared ones could multiply a small file
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name == "STOP":
            return stack.pop()
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(_global(*argument.split(" ", 1)))
        elif name in _ACTIONS:
            _ACTIONS[name](stack)
            if name in ("REDUCE", "BUILD"):
                made += _size(stack[-1])
                if made > 4 * len(data):
                    raise DataError("unpacks to much more than its size")
        elif name not in ("PROTO", "FRAME"):
            raise DataError(f"holds the pickle instruction {name}, which plain data does not need")
    raise ValueError("it ends early")


def _size(value: Any) -> int:
    return value.value.nbytes if isinstance(value, _Array) else len(value) if isinstance(value, bytes) else 0


def _global(module: Any, name: Any) -> _Name:
    if type(module) is not str or type(name) is not str:
        raise DataError("names a function by something that is no text")
    allowed = (
        (module in _MULTIARRAY and name == "_reconstruct")
        or (module in _NUMERIC and name == "_frombuffer")
        or (module == "numpy" and name in ("ndarray", "dtype"))
        or (module == "_codecs" and name == "encode")
    )
    if not allowed:
        raise DataError(f"wants to run {module}.{name}, which is no data")
    return _Name(module, name)


def _reduce(stack: list[Any]) -> None:
    arguments = stack.pop()
    function = stack.pop()
    if not isinstance(function, _Name):
        raise DataError("calls something that is no function")
    stack.append(_CALLS[function.name](*arguments))


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if type(encoding) is not str or encoding not in ("latin1", "latin-1"):
        raise DataError("holds text in another encoding than Latin-1")
    return text.encode("latin-1")


def _dtype(code: str | bytes, *_: object) -> _Type:
    text = code.decode("latin-1") if isinstance(code, bytes) else code
    if not re.fullmatch(r"[iu][1248]", text):
        raise DataError(f"holds an array of {text!r}, not of whole numbers")
    return _Type(text)


def _frombuffer(buffer: bytes, kind: _Type, shape: tuple[int, ...], order: str = "C") -> _Array:
    return _Array(_array(buffer, kind, shape, order == "F"))


def _array(buffer: bytes | str, kind: _Type, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
    raw = buffer.encode("latin-1") if isinstance(buffer, str) else bytes(buffer)  # str: a Python 2 pickle
    return np.frombuffer(raw, kind.numpy()).reshape(shape, order="F" if fortran else "C")


def _build(stack: list[Any]) -> None:
    state = stack.pop()
    target = stack[-1]
    if isinstance(target, _Type):
        order = state[1].decode("latin-1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise DataError("holds an array of unknown byte order")
        target.order = order
    elif isinstance(target, _Array):
        _, shape, kind, fortran, buffer = state
        if not isinstance(kind, _Type):
            raise DataError("holds an array without a type")
        target.value = _array(buffer, kind, shape, bool(fortran))
    else:
        raise DataError("sets the state of something that is no array")


def _since_mark(stack: list[Any]) -> list[Any]:
    for start in range(len(stack) - 1, -1, -1):
        if stack[start] is _MARK:
            items = stack[start + 1 :]
            del stack[start:]
            return items
    raise ValueError("a mark is missing")


def _key(value: Any) -> str | bytes:
    # Shared tuples can be nested so that a few bytes take for ever to hash; no data set has such keys.
    if type(value) not in (str, bytes):
        raise DataError("has a dictionary key that is no text")
    return value


def _pairs(items: list[Any]) -> dict[str | bytes, Any]:
    return {_key(k): v for k, v in zip(items[::2], items[1::2], strict=True)}


def _append(stack: list[Any]) -> None:
    item = stack.pop()
    _a_list(stack[-1]).append(item)


def _appends(stack: list[Any]) -> None:
    items = _since_mark(stack)
    _a_list(stack[-1]).extend(items)


def _setitem(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    _a_dict(stack[-1])[_key(key)] = value


def _setitems(stack: list[Any]) -> None:
    items = _since_mark(stack)
    _a_dict(stack[-1]).update(_pairs(items))


def _a_list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise DataError("adds to something that is no list")
    return value


def _a_dict(value: Any) -> dict[Any, Any]:
    if type(value) is not dict:
        raise DataError("sets an item of something that is no dictionary")
    return value


def _tuple_of(count: int) -> Callable[[list[Any]], None]:
    def act(stack: list[Any]) -> None:
        items = tuple(stack[-count:])
        if len(items) < count:
            raise ValueError("a value is missing")
        del stack[-count:]
        stack.append(items)

    return act


def _stack_global(stack: list[Any]) -> None:
    name, module = stack.pop(), stack.pop()
    stack.append(_global(module, name))


# fmt: off
_VALUES = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
))
# fmt: on
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
}
_ACTIONS: dict[str, Callable[[list[Any]], None]] = {
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _setitem,
    "SETITEMS": _setitems,
    "LIST": lambda stack: stack.append(_since_mark(stack)),
    "TUPLE": lambda stack: stack.append(tuple(_since_mark(stack))),
    "DICT": lambda stack: stack.append(_pairs(_since_mark(stack))),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "POP": lambda stack: stack.__delitem__(-1),
    "DUP": lambda stack: stack.append(stack[-1]),
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "BUILD": _build,
}
_CALLS: dict[str, Callable[..., Any]] = {
    "_reconstruct": lambda *_: _Array(),
    "_frombuffer": _frombuffer,
    "dtype": _dtype,
    "encode": _encode,
    "ndarray": lambda *_: _Array(),
}


def _plain(value: Any, done: dict[int, Any], depth: int = 0) -> Any:
    """Return `value` with arrays in place of their stand-ins.

    Each container is copied once (`done`, by identity): lists that hold each other many times over stay small.
    """
    if id(value) in done:
        return done[id(value)]
    if depth > 8:
        raise DataError("is nested more deeply than a data set")
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, _Name | _Type) or value is _MARK:
        raise DataError("holds a function or a type among its data")
    if isinstance(value, dict):
        done[id(value)] = {k: _plain(v, done, depth + 1) for k, v in value.items()}
    elif isinstance(value, list | tuple):
        done[id(value)] = type(value)(_plain(v, done, depth + 1) for v in value)
    return done.get(id(value), value)
