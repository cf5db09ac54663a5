from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from ddarts.data.sources.pickled import read_pickle
from ddarts.errors import DataError


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(1, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_and_arrays_come_out_as_they_went_in(protocol: int) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 12)
    value = {
        "data": pixels,
        b"labels": [3, 300, 70000, -1, 2**40],
        "names": ["cat", "dög"],
        "more": (None, True, False, 0.5, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {}, []),
        "wide": np.array([1, -2], dtype=">i4"),
        "fortran": np.asfortranarray(pixels),
    }
    read = read_pickle(pickle.dumps(value, protocol=protocol), "a file")
    for key in ("data", "wide", "fortran"):
        assert np.array_equal(read[key], value[key])
    assert {k: v for k, v in read.items() if not isinstance(v, np.ndarray)} == {
        k: v for k, v in value.items() if not isinstance(v, np.ndarray)
    }


def test_a_python_2_pickle_is_read() -> None:
    def text(value: bytes) -> bytes:  # a Python 2 str
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value

    raw = bytes(range(256)) + bytes(range(44))
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\0\x85" + text(b"b") + b"\x87Rq\x04"
        b"(K\x01K\x03Kd\x86cnumpy\ndtype\nq\x05" + text(b"u1") + b"K\0K\x01\x87Rq\x06(K\x03" + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89" + text(raw) + b"tb"
    )  # fmt: skip
    data = b"\x80\x02}q\x01(" + text(b"data") + array + text(b"labels") + b"]q\x07(K\x01K\x09eu."
    read = read_pickle(data, "a file")
    assert read["labels"] == [1, 9]
    assert read["data"].tobytes() == raw
    assert read["data"].shape == (3, 100)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    data = pickle.dumps({"data": Hostile(trace)}, protocol=protocol)
    with pytest.raises(DataError, match=r"batch: wants to run (posix|nt)\.system, which is no data; download it again"):
        read_pickle(data, "batch")
    assert not trace.exists()
    pickle.loads(data)  # noqa: S301  (what Python's own reader does with it)
    assert trace.exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", r"wants to run builtins.eval"),
        (b"cnumpy\nload\n(S'x'\ntR.", r"wants to run numpy.load"),
        (b"(S'ls'\nios\nsystem\n.", "holds the pickle instruction INST"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "holds the pickle instruction NEWOBJ"),
        (b"\x82\x01.", "holds the pickle instruction EXT1"),
        (b"Pid\n.", "holds the pickle instruction PERSID"),
        (b"cnumpy\nndarray\n.", "holds a function or a type"),
        (b"]K\x01R.", "calls something that is no function"),
        (b"]}b.", "sets the state of something that is no array"),
        (b"cnumpy\ndtype\n(S'O8'\ntR.", "holds an array of 'O8', not of whole numbers"),
        (pickle.dumps(np.array([object()])), "holds an array of 'O8'"),
        (pickle.dumps(np.zeros(2)), "holds an array of 'f8'"),
        (pickle.dumps(np.zeros(9, np.uint8), 2)[:-9], "not a whole data pickle"),
        (b"", "not a whole data pickle"),
        (b"<html>404</html>", "not a whole data pickle"),
        (b"K\x01K\x02a.", "adds to something that is no list"),
        (b"K\x01K\x02K\x03s.", "sets an item of something that is no dictionary"),
        (b"]q\0h\0a.", "nested more deeply"),
        (b"}K\x01K\x02s.", "has a dictionary key that is no text"),
        (b"(K\x01K\x02d.", "has a dictionary key that is no text"),
        (b"}(K\x01K\x02u.", "has a dictionary key that is no text"),
        (b"K\x01K\x02\x93.", "names a function by something that is no text"),
        (b"h\x09.", "not a whole data pickle"),
    ],
)
def test_broken_and_odd_pickles_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_pickle(data, "a file")


def shared_tuples() -> bytes:
    """A tuple of two tuples of two tuples ..., 100 deep: 400 bytes that take 2**100 steps to hash, compare or print."""
    return b"K\x01" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(100))


@pytest.mark.parametrize(
    "data",
    [
        b"}" + shared_tuples() + b"K\x01s.",
        b"c_codecs\nencode\n(X\x01\0\0\0a" + shared_tuples() + b"tR.",
        shared_tuples() + b"X\x01\0\0\0a\x93.",
        b"cnumpy\ndtype\n(" + shared_tuples() + b"tR.",
        b"cnumpy\ndtype\n(S'u1'\ntR(K\x03" + shared_tuples() + b"NNNtb.",
    ],
)
def test_tuples_shared_by_tuples_are_not_walked_through(data: bytes) -> None:
    with pytest.raises(DataError, match="batch: "):
        read_pickle(data, "batch")


def test_a_text_encoded_many_times_does_not_fill_the_memory() -> None:
    many = b"c_codecs\nencode\nq\1X\xe8\3\0\0" + b"a" * 1000 + b"q\2" + b"h\1h\2\x85R" * 100
    with pytest.raises(DataError, match="unpacks to much more than its size"):
        read_pickle(many + b".", "batch")


def test_lists_that_hold_each_other_many_times_stay_small() -> None:
    value: list = [0]
    for _ in range(7):
        value = [value] * 1000  # 10**21 numbers if each were copied
    assert len(read_pickle(pickle.dumps(value), "a file")) == 1000
