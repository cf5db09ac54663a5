"""Images that stay in their files give the batches of images in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from ddarts.data import Augment, Batches, ImageData, load_data, search_parts, split
from ddarts.data import encoded as encoded_module
from ddarts.data import loaded as loaded_module
from ddarts.data.streamed import StreamedPixels
from ddarts.errors import DataError

Maker = Callable[..., Path]


def batches(data: ImageData, workers: int, policy: str = "none", steps: int | None = None) -> Batches:
    augment = Augment(flip=True, crop=2, cutout=3, policy=policy)
    train = split(data, validation=0.2, seed=3).train
    return Batches(
        train, 6, seed=1, label="train", mean=data.mean, std=data.std, augment=augment, workers=workers, steps=steps
    )


def check_same(first: ImageData, second: ImageData) -> None:
    names = ("name", "classes", "channels", "height", "width", "mean", "std", "flip", "skipped")
    assert [getattr(first, n) for n in names] == [getattr(second, n) for n in names]
    for part in ("train", "validation", "test"):
        a, b = getattr(first, part), getattr(second, part)
        assert (a is None) == (b is None)
        if a is not None:
            assert isinstance(b.pixels, StreamedPixels)
            assert torch.equal(a.labels, b.labels)
            assert torch.equal(a.pixels, b.pixels[:])


@pytest.mark.parametrize("grey", [False, True])
def test_a_streamed_folder_is_the_one_in_memory(make_folder: Maker, grey: bool) -> None:
    root = make_folder({"cat": 9, "dog": 12}, part="train", grey=grey)
    make_folder({"cat": 3, "dog": 2}, part="val", grey=grey, size=(9, 9))
    (root / "train" / "cat" / "000.png").write_bytes(b"not an image")
    whole = (root / "train" / "dog" / "001.png").read_bytes()
    (root / "train" / "dog" / "001.png").write_bytes(whole[: len(whole) // 2])
    held, streamed = load_data(str(root)), load_data(str(root), stream="yes")
    check_same(held, streamed)
    assert len(held.skipped) == 2


def test_grey_photographs_stored_in_colour_become_grey(make_folder: Maker) -> None:
    root = make_folder({"cat": 9, "dog": 12}, grey=True)
    for path in root.rglob("*.png"):
        Image.open(path).convert("RGB").save(path)
    held, streamed = load_data(str(root)), load_data(str(root), stream="yes")
    assert streamed.channels == 1
    check_same(held, streamed)


@pytest.mark.parametrize("policy", ["none", "trivialaugment"])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_streamed_images_are_those_of_images_in_memory(
    make_folder: Maker, workers: int, policy: str
) -> None:
    root = str(make_folder({"cat": 15, "dog": 18}))
    held = batches(load_data(root), 0, policy)
    streamed = batches(load_data(root, stream="yes"), workers, policy, steps=2)
    for epoch, step in ((1, 0), (1, 1), (2, 0), (2, 1), (1, 1), (1, 2)):  # a jump, and a step beyond those foreseen
        for a, b in zip(held.batch(epoch, step), streamed.batch(epoch, step), strict=True):
            assert torch.equal(a, b)
    for first, second in zip(held.in_order(4), streamed.in_order(4), strict=True):
        assert torch.equal(first[0], second[0])


def test_streamed_parquet_is_that_in_memory(make_folder: Maker, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    paths = sorted(make_folder({"cat": 15, "dog": 18}).rglob("*.png"))
    (tmp_path / "table").mkdir()
    for number, part in enumerate((paths[:20], paths[20:])):
        rows = {"image": [p.read_bytes() for p in part], "label": [p.parent.name for p in part]}
        pq.write_table(pa.table(rows), tmp_path / "table" / f"train-{number}.parquet", row_group_size=4)
    held, streamed = load_data(str(tmp_path / "table")), load_data(str(tmp_path / "table"), stream="yes")
    check_same(held, streamed)
    assert torch.equal(batches(held, 0).batch(1, 1)[0], batches(streamed, 1).batch(1, 1)[0])


def test_selecting_from_streamed_images_decodes_none(make_folder: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data(str(make_folder({"cat": 30, "dog": 40})), stream="yes")
    monkeypatch.setattr("ddarts.data.streamed.decode", None)
    weights, alphas = search_parts(split(data, validation=0.2, seed=0).train, seed=0, weights=0.2, alphas=0.1)
    assert isinstance(weights.pixels, StreamedPixels)
    assert 0 < len(alphas) < len(weights)


def test_data_is_streamed_when_it_would_take_too_much_memory(
    make_folder: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(make_folder({"cat": 9, "dog": 12}))
    assert isinstance(load_data(root, stream="auto").train.pixels, torch.Tensor)
    monkeypatch.setattr(loaded_module, "MEMORY_BUDGET", 21 * 3 * 12 * 10 - 1)
    data = load_data(root, stream="auto")
    assert isinstance(data.train.pixels, StreamedPixels)
    with pytest.raises(DataError, match="or set --stream yes"):
        load_data(root, stream="no")


def test_of_much_data_a_part_is_looked_through(make_folder: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder({"cat": 30, "dog": 40})
    monkeypatch.setattr(encoded_module, "LOOK", 20)
    data = load_data(str(root), stream="yes")
    exact = load_data(str(root))
    assert len(data.train) == len(exact.train)
    assert data.mean != exact.mean
    assert data.mean == pytest.approx(exact.mean, abs=0.05)


def test_an_image_found_broken_while_streaming_is_black_or_an_error(
    make_folder: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder({"cat": 9, "dog": 12})
    data, strict = load_data(str(root), stream="yes"), load_data(str(root), stream="yes", strict=True)
    (root / "cat" / "001.png").write_bytes(b"gone")
    pixels = data.train.pixels[:]
    assert (pixels.flatten(1).sum(1) == 0).sum() == 1
    path = root / "cat" / "001.png"
    said = capsys.readouterr().err
    assert said == f"ddarts: warning: {path}: not an image of a known format; taken for a black image\n"
    with pytest.raises(DataError, match=r"001.png: not an image of a known format; fix or remove the file"):
        strict.train.pixels[:]
    one = Batches(strict.train, len(strict.train), seed=0, label="t", mean=data.mean, std=data.std, workers=1)
    with pytest.raises(DataError, match=r"^\S+001.png: not an image of a known format; fix or remove the file"):
        one.batch(1, 0)


def test_known_data_sets_cannot_be_streamed() -> None:
    with pytest.raises(DataError, match="digits: only images in class folders or Parquet files can be streamed"):
        load_data("digits", stream="yes")
