from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from ddarts.data import load_data
from ddarts.errors import DataError

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCHES = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]


def batch(number: int, classes: int, count: int) -> tuple[np.ndarray, list[int]]:
    pixels = np.random.default_rng(number).integers(0, 256, (count, 3072), dtype=np.uint8)
    return pixels, [n % classes for n in range(count)]


def write10(root: Path, protocol: int = 2) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number, name in enumerate(BATCHES):
        pixels, labels = batch(number, 10, 10)
        value = {"batch_label": name, "data": pixels, "labels": labels, "filenames": [f"{n}.png" for n in range(10)]}
        (folder / name).write_bytes(pickle.dumps(value, protocol=protocol))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES, "num_vis": 3072}, protocol=protocol))
    return folder


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("inside", [False, True])
def test_cifar10_is_read_from_its_folder_or_the_one_around_it(tmp_path: Path, protocol: int, inside: bool) -> None:
    folder = write10(tmp_path, protocol)
    data = load_data(f"cifar10:{folder if inside else tmp_path}")
    assert data.name == "cifar10"
    assert data.classes == tuple(NAMES)
    assert data.flip
    assert data.train.pixels.shape == (50, 3, 32, 32)
    assert np.array_equal(data.train.pixels[10].numpy().ravel(), batch(1, 10, 10)[0][0])
    assert data.train.labels.tolist() == [n % 10 for n in range(50)]
    assert data.test is not None
    assert len(data.test) == 10


def test_cifar10_is_looked_for_in_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write10(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert len(load_data("cifar10").train) == 50


def test_a_folder_of_batches_needs_no_name(tmp_path: Path) -> None:
    write10(tmp_path)
    assert load_data(str(tmp_path)).name == "cifar10"


def test_cifar10_binary_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    for number, name in enumerate(BATCHES):
        pixels, labels = batch(number, 10, 10)
        (folder / f"{name}.bin").write_bytes(np.column_stack([np.array(labels, np.uint8), pixels]).tobytes())
    data = load_data(f"cifar10:{tmp_path}")
    assert np.array_equal(data.train.pixels[49].numpy().ravel(), batch(4, 10, 10)[0][9])
    assert data.train.labels.tolist() == [n % 10 for n in range(50)]
    (folder / "test_batch.bin").write_bytes(b"short")
    with pytest.raises(DataError, match=r"test_batch\.bin: 5 bytes, not whole records of 3073"):
        load_data(f"cifar10:{tmp_path}")


def test_cifar100_has_its_fine_classes(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for number, name in enumerate(("train", "test")):
        pixels, labels = batch(number, 100, 100)
        value = {b"data": pixels, b"fine_labels": labels, b"coarse_labels": [0] * 100}
        (folder / name).write_bytes(pickle.dumps(value, protocol=2))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"thing {n}" for n in range(100)]}, protocol=2))
    data = load_data(f"cifar100:{tmp_path}", limit=100)
    assert data.classes[99] == "thing 99"
    assert data.train.labels.tolist() == list(range(100))


def test_absent_batches_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cifar10: no cifar-10-batches-py in .*; download https://.*tar.gz, unpack it"):
        load_data(f"cifar10:{tmp_path}")


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    (write10(tmp_path) / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3: cannot be read: No such file or directory; unpack"):
        load_data(f"cifar10:{tmp_path}")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1, 2], "a list, not a dictionary"),
        ({"data": 3}, "no 'labels' in it, only data; is it a batch of cifar10"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "not 3072 bytes and one label of 0 to 9 an image"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, "not 3072 bytes and one label of 0 to 9 an image"),
        ({"data": np.zeros((1, 3072), np.int32), "labels": [0]}, "not 3072 bytes and one label of 0 to 9 an image"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": "0"}, "not 3072 bytes and one label of 0 to 9 an image"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": np.array([77])}, "labels 77 to 77, but cifar10 has 10"),
    ],
)
def test_batches_of_another_content_are_refused(tmp_path: Path, value: object, reason: str) -> None:
    (write10(tmp_path) / "test_batch").write_bytes(pickle.dumps(value))
    with pytest.raises(DataError, match=reason):
        load_data(f"cifar10:{tmp_path}")


def test_class_names_must_be_as_many_as_the_classes(tmp_path: Path) -> None:
    (write10(tmp_path) / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES[:9]}))
    with pytest.raises(DataError, match=r"9 class names \(9 different\), but cifar10 has 10 classes"):
        load_data(f"cifar10:{tmp_path}")
