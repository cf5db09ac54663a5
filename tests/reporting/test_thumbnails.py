import io
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from ddarts.reporting.thumbnails import read_thumbnail, thumbnail, write_thumbnails


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_small_images_stay_as_they_are() -> None:
    pixels = torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(3, 4, 5)
    picture = opened(thumbnail(pixels))
    assert (picture.mode, picture.size) == ("RGB", (5, 4))
    assert numpy.array_equal(numpy.asarray(picture), pixels.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_of_other_channels_the_first_is_shown_in_grey(channels: int) -> None:
    pixels = torch.randint(0, 255, (channels, 6, 6), dtype=torch.uint8)
    picture = opened(thumbnail(pixels))
    assert picture.mode == "L"
    assert numpy.array_equal(numpy.asarray(picture), pixels[0].numpy())


def test_large_images_are_scaled_down() -> None:
    assert opened(thumbnail(torch.zeros(3, 400, 200, dtype=torch.uint8))).size == (48, 96)


def test_pictures_are_written_read_and_replaced(tmp_path: Path) -> None:
    one, two = (thumbnail(torch.full((1, 3, 3), value, dtype=torch.uint8)) for value in (1, 2))
    write_thumbnails(tmp_path, (one, two))
    assert (read_thumbnail(tmp_path, 0), read_thumbnail(tmp_path, 1)) == (one, two)
    write_thumbnails(tmp_path, (two,))
    assert (read_thumbnail(tmp_path, 0), read_thumbnail(tmp_path, 1)) == (two, None)


def test_what_is_no_small_png_is_not_taken_in(tmp_path: Path) -> None:
    (tmp_path / "mistakes").mkdir()
    (tmp_path / "mistakes" / "00.png").write_bytes(b"<script>")
    (tmp_path / "mistakes" / "01.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100_000))
    assert read_thumbnail(tmp_path, 0) is None
    assert read_thumbnail(tmp_path, 1) is None
