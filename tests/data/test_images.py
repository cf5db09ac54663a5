from __future__ import annotations

import pytest
import torch

from ddarts.data.images import Images, SelectedPixels, channel_statistics


def test_statistics_equal_those_of_the_scaled_pixels() -> None:
    pixels = torch.randint(0, 256, (50, 3, 7, 5), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mean, std = channel_statistics(pixels)
    scaled = pixels.double() / 255
    assert mean == pytest.approx(scaled.mean(dim=(0, 2, 3)).tolist(), abs=1e-12)
    assert std == pytest.approx(scaled.std(dim=(0, 2, 3), correction=0).tolist(), abs=1e-12)


def test_statistics_do_not_depend_on_the_order_of_images() -> None:
    pixels = torch.randint(0, 256, (40, 2, 6, 6), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    assert channel_statistics(pixels) == channel_statistics(pixels.flip(0))


def test_a_constant_channel_has_standard_deviation_one() -> None:
    assert channel_statistics(torch.full((3, 1, 4, 4), 51, dtype=torch.uint8)) == ((pytest.approx(0.2),), (1.0,))


def test_images_refuse_labels_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"labels must be int64 \[2\] .*, not torch.int64 \[3\]"):
        Images(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))


def test_images_refuse_pixels_that_are_not_bytes() -> None:
    with pytest.raises(ValueError, match="pixels must be uint8"):
        Images(torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64))


def test_a_selection_is_a_view_that_indexes_as_its_copy_would() -> None:
    pixels = torch.arange(10 * 3 * 2 * 2).reshape(10, 3, 2, 2).to(torch.uint8)
    images = Images(pixels, torch.arange(10))
    view = images.select(torch.tensor([7, 3, 9, 1])).select(torch.tensor([2, 0, 1]))
    assert isinstance(view.pixels, SelectedPixels)
    assert view.pixels.base is pixels
    assert view.labels.tolist() == [9, 7, 3]
    copied = pixels[view.labels]
    assert view.pixels.shape == copied.shape
    assert view.pixels.nbytes == copied.nbytes
    assert torch.equal(view.pixels[:], copied)
    assert torch.equal(view.pixels[1:], copied[1:])
    assert torch.equal(view.pixels[torch.tensor([2, 2, 0])], copied[[2, 2, 0]])
    assert torch.equal(view.pixels[1], copied[1])
    assert channel_statistics(view.pixels) == channel_statistics(copied)
