from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from ddarts.data import load_data
from ddarts.data.sources.idx import DEBIAN_FASHION, read_idx
from ddarts.errors import DataError


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder: Path, *, train: int = 30, test: int = 20, classes: int = 10, zipped: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", train), ("t10k", test)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 6, 5), dtype=np.uint8)
        labels = (np.arange(count) % classes).astype(np.uint8)
        for name, array in ((f"{prefix}-images-idx3-ubyte", pixels), (f"{prefix}-labels-idx1-ubyte", labels)):
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / name).write_bytes(idx(array))
    return folder


@pytest.mark.parametrize("zipped", [False, True])
def test_fashion_mnist_is_read_plain_and_gzipped(tmp_path: Path, zipped: bool) -> None:
    data = load_data(f"fashion-mnist:{write(tmp_path, zipped=zipped)}")
    assert data.name == "fashion-mnist"
    assert data.classes[-1] == "Ankle boot"
    assert data.flip
    assert data.train.pixels.shape == (30, 1, 6, 5)
    assert data.train.labels.tolist() == [n % 10 for n in range(30)]
    assert np.array_equal(
        data.train.pixels[:, 0].numpy(), np.random.default_rng(30).integers(0, 256, (30, 6, 5), dtype=np.uint8)
    )
    assert data.test is not None
    assert len(data.test) == 20


def test_torchvisions_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "data" / "MNIST" / "raw")
    assert len(load_data(f"mnist:{tmp_path / 'data'}").train) == 30
    monkeypatch.chdir(tmp_path)
    assert len(load_data("mnist").train) == 30


def test_mnist_is_not_mirrored_and_counts_its_classes(tmp_path: Path) -> None:
    data = load_data(f"mnist:{write(tmp_path, classes=4)}")
    assert not data.flip
    assert data.classes == ("0", "1", "2", "3")


def test_an_idx_folder_needs_no_name(tmp_path: Path) -> None:
    assert load_data(str(write(tmp_path / "kuzushiji"))).name == "kuzushiji"


def test_missing_fashion_mnist_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no IDX files in .*; run apt-get install dataset-fashion-mnist, or say"):
        load_data(f"fashion-mnist:{tmp_path}")


def test_a_missing_companion_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="no t10k-labels file"):
        load_data(f"mnist:{tmp_path}")


def test_labels_and_images_must_be_as_many(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(29, np.uint8)))
    with pytest.raises(DataError, match="train-labels-idx1-ubyte: 29 labels for 30 images"):
        load_data(f"mnist:{tmp_path}")


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label 10, but fashion-mnist has 10 classes"):
        load_data(f"fashion-mnist:{write(tmp_path, classes=11)}")


GOOD = idx(np.zeros((2, 3, 4), np.uint8))
# without the time of day: it would be in the names of tests, and two processes may collect them in different seconds
ZIPPED = gzip.compress(GOOD, mtime=0)


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("a", b"", "not an IDX file of bytes in 3 dimensions"),
        ("a", GOOD[:10], "not an IDX file of bytes in 3 dimensions"),
        ("a", idx(np.zeros(9, np.uint8)), "not an IDX file of bytes in 3 dimensions"),
        ("a", b"\0\0\x0d\3" + GOOD[4:], "not an IDX file of bytes in 3 dimensions"),
        ("a", GOOD[:-1], "promises 24 bytes and 23 follow"),
        ("a", GOOD + b"x", "promises 24 bytes and more follow"),
        ("a", GOOD[:4] + b"\xff" * 12, "promises 4294967295 x 4294967295 x 4294967295 bytes"),
        ("a", idx(np.zeros((0, 3, 4), np.uint8)), "promises 0 x 3 x 4 bytes"),
        ("a.gz", GOOD, "cannot be read: Not a gzipped file"),
        ("a.gz", ZIPPED[:-12], "cannot be read: Compressed file ended before"),
        ("a.gz", gzip.compress(GOOD + bytes(10**7), mtime=0), "promises 24 bytes and more follow"),
        ("a.gz", ZIPPED[:-8] + bytes(8), "cannot be read: CRC check failed"),
    ],
)
def test_hostile_idx_files_are_refused(tmp_path: Path, name: str, body: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(DataError, match=reason):
        read_idx(tmp_path / name, 3)


@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_a_header_claims_no_memory_that_the_file_does_not_fill(tmp_path: Path, name: str) -> None:
    body = GOOD[:4] + struct.pack(">3I", 2**11, 2**10, 2**12) + bytes(50)  # 8 GiB
    (tmp_path / name).write_bytes(gzip.compress(body, mtime=0) if name == "a.gz" else body)
    tracemalloc.start()
    with pytest.raises(DataError, match="promises 8589934592 bytes and 50 follow"):
        read_idx(tmp_path / name, 3)
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


@pytest.mark.skipif(not DEBIAN_FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_debians_labels_can_be_read() -> None:
    labels = read_idx(DEBIAN_FASHION / "t10k-labels-idx1-ubyte.gz", 1)
    assert np.bincount(labels).tolist() == [1000] * 10
