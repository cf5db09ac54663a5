from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ddarts.data import load_data
from ddarts.errors import DataError

SHARED = Path(os.environ.get("DDARTS_SHARED", Path(__file__).parents[2] / ".." / "shared")) / "data" / "cifar10"


def png(number: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write(
    path: Path,
    labels: list[Any],
    *,
    first: int = 0,
    image: str = "image",
    label: str = "label",
    binary: bool = False,
    metadata: dict[str, str] | None = None,
    images: list[bytes | None] | None = None,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = images or [png(first + n) for n in range(len(labels))]
    rows = pa.array(data, pa.binary()) if binary else pa.array([{"bytes": b, "path": "x.png"} for b in data])
    table = pa.table({image: rows, label: pa.array(labels)}).replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=4)
    return path


@pytest.mark.parametrize("binary", [False, True])
def test_images_labels_and_parts_are_found(tmp_path: Path, binary: bool) -> None:
    write(tmp_path / "train-00000-of-00002.parquet", [0, 1] * 5, binary=binary)
    write(tmp_path / "train-00001-of-00002.parquet", [1, 0] * 3, first=10, binary=binary)
    write(tmp_path / "validation.parquet", [0], first=30, binary=binary)
    write(tmp_path / "test-00000-of-00001.parquet", [1, 1], first=40, binary=binary)
    data = load_data(str(tmp_path), limit=1000)
    assert data.train.labels.tolist() == [0, 1] * 5 + [1, 0] * 3
    assert data.validation is not None
    assert data.test is not None
    assert (len(data.validation), len(data.test)) == (1, 2)
    for part, first in ((data.train, 0), (data.validation, 30), (data.test, 40)):
        for number, pixels in enumerate(part.pixels):
            expected = np.asarray(Image.open(io.BytesIO(png(first + number))))
            assert np.array_equal(pixels.numpy().transpose(1, 2, 0), expected)


def test_a_limit_picks_the_right_rows_across_files_and_row_groups(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet", [0, 1] * 10)
    write(tmp_path / "train-1.parquet", [0, 1] * 10, first=20)
    write(tmp_path / "test.parquet", [0, 1], first=50)
    whole, some = load_data(str(tmp_path)), load_data(str(tmp_path), limit=7)
    label_of = {p.numpy().tobytes(): int(n) for p, n in zip(whole.train.pixels, whole.train.labels, strict=True)}
    assert [label_of[p.numpy().tobytes()] for p in some.train.pixels] == some.train.labels.tolist()
    assert sorted(some.train.labels.bincount().tolist()) == [3, 4]


HF = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}}}


@pytest.mark.parametrize(
    ("labels", "metadata", "classes"),
    [
        ([0, 1], {"class_names": "cat,dog"}, ("cat", "dog")),
        ([0, 1], {"class_names": '["cat", "dog"]'}, ("cat", "dog")),
        ([0, 1], {"huggingface": json.dumps(HF)}, ("cat", "dog")),
        ([0, 1], {"huggingface": "{broken"}, ("0", "1")),
        ([0, 1], {"huggingface": '{"info": [1]}'}, ("0", "1")),
        ([7, 3], None, ("3", "7")),
        (["dog", "cat"], None, ("cat", "dog")),
    ],
)
def test_class_names_come_from_metadata_or_labels(
    tmp_path: Path, labels: list[Any], metadata: dict[str, str] | None, classes: tuple[str, ...]
) -> None:
    write(tmp_path / "train.parquet", labels * 3, metadata=metadata)
    data = load_data(str(tmp_path))
    assert data.classes == classes
    assert data.flip is (classes == ("cat", "dog"))


@pytest.mark.parametrize("where", ["data/train-0.parquet", "train/0000.parquet", "part-0.parquet"])
def test_files_may_lie_in_a_folder_or_name_no_part(tmp_path: Path, where: str) -> None:
    write(tmp_path / where, [0, 1] * 5)
    data = load_data(str(tmp_path))
    assert data.test is not None
    assert (len(data.train), len(data.test)) == (8, 2)


def test_columns_of_other_names_are_found_by_their_type(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1] * 3, image="scan", label="diagnosis")
    assert len(load_data(str(tmp_path)).train) == 4


def test_broken_rows_are_named_and_skipped(tmp_path: Path) -> None:
    images = [png(n) for n in range(8)]
    path = write(tmp_path / "train.parquet", [0, 1] * 5, images=[*images, b"broken", None])
    write(tmp_path / "test.parquet", [0, 1])
    data = load_data(str(tmp_path))
    assert len(data.train) == 8
    assert data.skipped == (f"{path} row 8: not an image of a known format", f"{path} row 9: no image bytes")
    with pytest.raises(DataError, match=r"train\.parquet row 8: not an image of a known format; fix or remove"):
        load_data(str(tmp_path), strict=True)


@pytest.mark.parametrize(
    ("labels", "metadata", "reason"),
    [
        ([0, 2], {"class_names": "cat,dog"}, "label 2, but the 2 class names allow 0 to 1"),
        ([0, -1], {"class_names": "cat,dog"}, "label -1, but the 2 class names allow 0 to 1"),
        ([0, 1], {"class_names": "cat,cat"}, "two classes have the same name"),
        ([0, 1], {"class_names": "cat,dog,emu"}, "class 'emu' has no readable training image"),
        ([0, None], None, "row 1 of train.parquet and its like has no label"),
        ([0, 0], None, r"one class only \('0'\)"),
        ([0.5, 1.5], None, r"cannot tell a label column \(int, text\) among: image: struct<.*>, label: double"),
        ([], None, "no rows"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, labels: list, metadata: Any, reason: str) -> None:
    if labels:
        write(tmp_path / "train.parquet", labels, metadata=metadata)
    else:
        schema = pa.schema([("image", pa.binary()), ("label", pa.int64())])
        pq.write_table(schema.empty_table(), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=reason):
        load_data(str(tmp_path))


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 but not really PAR1")
    with pytest.raises(DataError, match=r"train\.parquet: not a whole Parquet file: .*; copy it again"):
        load_data(str(tmp_path))


def test_text_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "train.parquet", [0, 1], image="picture")
    path.write_bytes(path.read_bytes().replace(b"picture", b"\xfficture"))
    with pytest.raises(DataError, match=r"train\.parquet: not a whole Parquet file: .*; copy it again"):
        load_data(str(tmp_path))


def test_a_pipe_is_no_parquet_file(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1] * 4)
    os.mkfifo(tmp_path / "test.parquet")
    assert len(load_data(str(tmp_path)).train) == 6


def test_files_of_unknown_part_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1])
    write(tmp_path / "extra.parquet", [0, 1])
    with pytest.raises(DataError, match=r"extra\.parquet: neither train, validation nor test by its name, beside"):
        load_data(str(tmp_path))


def test_test_files_alone_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "test.parquet", [0, 1])
    with pytest.raises(DataError, match=r"no train\*\.parquet, only test\.parquet; add the training images"):
        load_data(str(tmp_path))


def test_without_pyarrow_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "train.parquet", [0, 1])
    for name in [n for n in sys.modules if n.split(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=r'needs pyarrow; pip install "ddarts\[parquet\]"'):
        load_data(str(tmp_path))


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real CIFAR-10 in ../shared (or under DDARTS_SHARED)")
def test_the_first_rows_of_real_cifar10(tmp_path: Path) -> None:
    for part in ("train", "test"):  # a slice of each: the whole takes seconds
        rows = next(pq.ParquetFile(SHARED / f"{part}.parquet").iter_batches(200))
        pq.write_table(pa.Table.from_batches([rows]), tmp_path / f"{part}.parquet")
    data = load_data(str(tmp_path), limit=100)
    assert data.classes[0] == "airplane"
    assert len(data.classes) == 10
    assert data.flip
    assert data.train.pixels.shape == (100, 3, 32, 32)
    assert data.test is not None
    assert len(data.test) == 200
    assert data.skipped == ()
    assert 0.4 < data.mean[0] < 0.6
    assert 0.2 < data.std[0] < 0.3
