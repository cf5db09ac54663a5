from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image

import ddarts
from ddarts.deploy.samples import data_images, made_images, named_images
from ddarts.errors import DataError
from ddarts.nn.preprocessing import Preprocessing

DIGITS = Preprocessing(1, (8, 8), (0.3,), (0.3,), tuple("0123456789"))


def test_test_images_of_the_data_come_first() -> None:
    found = data_images({"data": "digits", "resolution": None}, DIGITS)
    assert not isinstance(found, str)
    assert found.source == "64 test images of digits"
    test = ddarts.load_data("digits").test
    assert test is not None
    assert torch.equal(found.pixels[0], test.pixels[0])
    assert torch.equal(found.pixels[-1], test.pixels[-1])


def test_data_that_is_gone_or_changed_is_told(tmp_path: Path) -> None:
    assert data_images({}, DIGITS) == "the run does not say what data it used"
    assert "cannot be read" in str(data_images({"data": str(tmp_path / "gone")}, DIGITS))
    other = dataclasses.replace(DIGITS, resolution=(9, 9))
    assert "no longer of the model's size" in str(data_images({"data": "digits"}, other))


def test_named_images_are_fitted(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("RGB", (30, 20), (255, 255, 255)).save(path)
    found = named_images([path], DIGITS)
    assert found.pixels.shape == (1, 1, 8, 8)
    assert found.source == "1 image that was named"
    with pytest.raises(DataError):
        named_images([tmp_path / "none.png"], DIGITS)


def test_made_images_are_the_same_every_time() -> None:
    assert torch.equal(made_images(DIGITS).pixels, made_images(DIGITS).pixels)
