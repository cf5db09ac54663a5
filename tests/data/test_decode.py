from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ddarts.data.decode import Peek, Undecodable, _centre, decode, peek, quiet_decoding, read_image
from ddarts.errors import DataError


def encoded(image: Image.Image, kind: str = "PNG", **kwargs: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **kwargs)
    return stream.getvalue()


def ramp(*shape: int) -> np.ndarray:
    return np.linspace(0, 255, int(np.prod(shape))).round().astype(np.uint8).reshape(shape)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header promises so many pixels, with next to none behind it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")


def test_grey_and_colour_keep_their_pixels() -> None:
    grey, colour = ramp(5, 7), ramp(4, 6, 3)
    assert peek(encoded(Image.fromarray(grey))) == Peek(5, 7, True)
    assert peek(encoded(Image.fromarray(colour))) == Peek(4, 6, False)
    assert np.array_equal(decode(encoded(Image.fromarray(grey)), 1, 5, 7), grey[None])
    assert np.array_equal(decode(encoded(Image.fromarray(colour)), 3, 4, 6), colour.transpose(2, 0, 1))


def test_a_grey_image_among_colour_ones_gets_three_equal_channels() -> None:
    grey = ramp(5, 7)
    assert np.array_equal(decode(encoded(Image.fromarray(grey)), 3, 5, 7), np.stack([grey] * 3))


def test_sixteen_bits_are_scaled_not_cut_off() -> None:
    deep = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    data = encoded(Image.fromarray(deep))
    assert peek(data).grey
    assert decode(data, 1, 1, 4).tolist() == [[[0, 1, 128, 255]]]
    tiff = encoded(Image.fromarray(deep.astype(np.int32)), "TIFF")
    assert decode(tiff, 1, 1, 4).tolist() == [[[0, 1, 128, 255]]]


def test_fractions_from_zero_to_one_are_scaled() -> None:
    tiff = encoded(Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)), "TIFF")
    assert decode(tiff, 1, 1, 3).tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.array([[0.0, np.nan]], dtype=np.float32), "pixels that are not numbers"),
        (np.array([[-4.0, 1.0]], dtype=np.float32), "fractional pixels of -4 to 1"),
        (np.array([[0, 70000]], dtype=np.int32), "pixels of 0 to 70000, more than 16 bits"),
    ],
)
def test_pixels_of_unknown_scale_are_refused(pixels: np.ndarray, reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        decode(encoded(Image.fromarray(pixels), "TIFF"), 1, 1, 2)


def test_transparency_is_laid_on_white() -> None:
    rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 0]]], dtype=np.uint8)
    assert decode(encoded(Image.fromarray(rgba)), 3, 1, 2).transpose(1, 2, 0).tolist() == [
        [[200, 0, 0], [255, 255, 255]]
    ]
    grey = Image.new("LA", (2, 1), (10, 0))
    grey.putpixel((1, 0), (10, 255))
    assert peek(encoded(grey)).grey
    assert decode(encoded(grey), 1, 1, 2).tolist() == [[[255, 10]]]


def test_a_palette_becomes_colour() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decode(encoded(image), 3, 1, 2)[:, 0, :].tolist() == [[10, 40], [20, 50], [30, 60]]


@pytest.mark.parametrize(("mode", "kind"), [("1", "PNG"), ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("P", "GIF")])
def test_other_modes_can_be_read(mode: str, kind: str) -> None:
    data = encoded(Image.new(mode, (6, 5)), kind)
    assert peek(data)[:2] == (5, 6)
    assert decode(data, 3, 5, 6).shape == (3, 5, 6)


def test_exif_orientation_is_applied() -> None:
    image = Image.fromarray(np.repeat(ramp(8, 1), 16, axis=1))  # 8 high, 16 wide, dark on top
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise: dark on the right
    data = encoded(image, "JPEG", exif=exif, quality=95)
    assert peek(data) == Peek(16, 8, True)
    upright = decode(data, 1, 16, 8)[0].astype(int)
    assert (upright[:, 0] > upright[:, -1] + 200).all()


def test_a_larger_image_is_shrunk_to_cover_and_its_centre_kept() -> None:
    wide = np.zeros((20, 60), dtype=np.uint8)
    wide[:, 20:40] = 200  # the central square
    assert decode(encoded(Image.fromarray(wide)), 1, 10, 10)[0, :, 1:-1].min() == 200


@settings(max_examples=300, deadline=None)
@given(*[st.integers(1, 4000)] * 2, *[st.integers(1, 500)] * 2)
def test_the_centre_lies_inside_and_has_the_wanted_shape(width: int, height: int, wide: int, tall: int) -> None:
    left, top, right, bottom = _centre((width, height), (wide, tall))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert (right - left) / (bottom - top) == pytest.approx(wide / tall)
    assert right - left == pytest.approx(width) or bottom - top == pytest.approx(height)


def test_shrinking_does_not_alias() -> None:
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
    small = decode(encoded(Image.fromarray(stripes)), 1, 8, 8)
    assert np.abs(small.astype(int) - 127).max() < 20


def test_a_large_jpeg_drafted_at_low_scale_looks_the_same() -> None:
    smooth = np.add.outer(np.arange(512), np.arange(512)) // 4
    data = encoded(Image.fromarray(smooth.astype(np.uint8)), "JPEG", quality=95)
    exact = np.asarray(Image.open(io.BytesIO(data)).resize((16, 16), Image.Resampling.BILINEAR), dtype=int)
    assert np.abs(decode(data, 1, 16, 16)[0] - exact).max() <= 3


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an image of a known format"),
        (b"hello, I am a picture", "not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
        (None, "no image bytes"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes | None, reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        peek(data)
    with pytest.raises(Undecodable, match=reason):
        decode(data, 3, 4, 4)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_image_has_a_header_but_does_not_decode(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)[:-400]
    assert peek(data)[:2] == (40, 40)
    with pytest.raises(Undecodable, match=r"truncated|broken"):
        decode(data, 3, 40, 40)


@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000)])
def test_a_decompression_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    with quiet_decoding(), pytest.raises(Undecodable, match=r"more than \d+ pixels, a decompression bomb perhaps"):
        peek(png_of_size(*size))


def test_a_broken_exif_block_does_not_cost_the_image() -> None:
    data = encoded(Image.fromarray(ramp(8, 8)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with quiet_decoding():
        assert peek(data) == Peek(8, 8, True)
        assert decode(data, 1, 8, 8).shape == (1, 8, 8)


def test_read_image_fits_a_file_to_a_network(tmp_path: Path) -> None:
    Image.fromarray(ramp(30, 20, 3)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", channels=1, height=8, width=8)
    assert image.shape == (1, 8, 8)
    assert image.dtype == torch.uint8


def test_read_image_names_the_broken_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"a\.png: not an image of a known format; give an image file \(PNG, JPEG"):
        read_image(tmp_path / "a.png", channels=3, height=8, width=8)
    with pytest.raises(DataError, match=r"b\.png: No such file or directory"):
        read_image(tmp_path / "b.png", channels=3, height=8, width=8)
    with pytest.raises(DataError, match="gives 1 or 3 channels, not 5"):
        read_image(tmp_path / "a.png", channels=5, height=8, width=8)
