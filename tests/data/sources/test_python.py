from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from ddarts.data import given_data, load_data
from ddarts.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(40) % 2


def all_pixels(data: Any) -> torch.Tensor:
    return torch.cat([data.train.pixels[:], data.test.pixels[:]])


@pytest.mark.parametrize(
    "images",
    [
        PIXELS,
        PIXELS.transpose(0, 3, 1, 2),
        torch.from_numpy(PIXELS),
        torch.from_numpy(PIXELS).permute(0, 3, 1, 2),
        PIXELS.astype(np.int64),
        PIXELS / 255,
        torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255,
    ],
)
def test_arrays_and_tensors_of_any_layout_are_the_same_images(images: Any) -> None:
    data = load_data((images, LABELS))
    expected = load_data((PIXELS, LABELS))
    assert (len(data.train), len(data.test or ())) == (34, 6)
    assert data.train.pixels.shape == (34, 3, 6, 5)
    assert torch.equal(all_pixels(data), all_pixels(expected))
    assert data.classes == ("0", "1")


def test_test_images_know_their_positions() -> None:
    test = load_data((PIXELS, LABELS)).test
    assert test is not None
    assert test.names is not None
    for name, pixels in zip(test.names, test.pixels[:], strict=True):
        position = int(name.removeprefix("arrays[").removesuffix("]"))
        assert np.array_equal(PIXELS[position].transpose(2, 0, 1), pixels.numpy())


def test_labels_may_be_texts_or_numbers_with_gaps() -> None:
    named = load_data((PIXELS[..., 0], np.where(LABELS == 0, "dog", "cat")))
    assert named.classes == ("cat", "dog")
    assert named.channels == 1
    assert named.flip
    assert load_data((PIXELS, torch.from_numpy(LABELS) * 5 - 1)).classes == ("-1", "4")


def test_a_torch_dataset_names_its_classes() -> None:
    dataset = TensorDataset(torch.from_numpy(PIXELS).permute(0, 3, 1, 2), torch.from_numpy(LABELS))
    dataset.classes = ["cat", "dog"]  # type: ignore[attr-defined]
    data = load_data(dataset, resolution=4)
    assert data.classes == ("cat", "dog")
    assert data.train.pixels.shape == (34, 3, 4, 4)
    assert given_data(dataset).description.startswith("dataset 40x3x6x5 sha256:")


def test_what_load_data_returned_can_be_loaded_again() -> None:
    first = load_data("digits")
    again = load_data(first)
    assert torch.equal(again.train.pixels[:], first.train.pixels[:])
    assert (again.classes, again.mean, again.flip) == (first.classes, first.mean, first.flip)
    small = load_data(first, resolution=4, limit=100)
    assert small.train.pixels.shape == (100, 1, 4, 4)
    assert small.mean == load_data("digits", resolution=4, limit=100).mean


def test_the_description_follows_every_pixel_and_label() -> None:
    description = given_data((PIXELS, LABELS)).description
    assert description.startswith("arrays 40x6x5x3 sha256:")
    assert given_data((PIXELS.copy(), LABELS.tolist())).description == description
    other, labels = PIXELS.copy(), LABELS.copy()
    other[39, 5, 4, 2] ^= 1
    labels[0] ^= 1
    assert given_data((other, LABELS)).description != description
    assert given_data((PIXELS, labels)).description != description
    with pytest.raises(DataError, match=r"data 'arrays 40x.*' was given from Python; give the same data again"):
        load_data(description)


def test_a_path_is_a_folder_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="'digits': no such data set or folder"):
        load_data(Path("digits"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (7, "data of type int: must be the name of a data set, a folder, a pair"),
        ((PIXELS[0, 0], LABELS), "images of shape 5x3: must be"),
        ((PIXELS[..., :2], LABELS), "images of shape 40x6x5x2: must be"),
        ((PIXELS, LABELS[:9]), "labels of shape 9 and type int64: must be one whole number or text for each of the 40"),
        ((PIXELS, LABELS / 2), "labels of shape 40 and type float64"),
        ((PIXELS - 300.0, LABELS), "images of -300 to -45 as float64: .* give images before normalisation"),
        ((PIXELS * np.nan, LABELS), "images of nan to nan as float64"),
        ((PIXELS, LABELS * 0), "one class only"),
        (TensorDataset(torch.zeros(0, 1, 4, 4), torch.zeros(0)), "dataset: it is empty"),
        ([(PIXELS[0], 0)] * 2, "images: no array of numbers"),
        ((["a", "b"], [0, 1]), "images: no array of numbers"),
    ],
)
def test_data_that_do_not_fit_are_refused(data: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        load_data(data)
