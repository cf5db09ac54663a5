from __future__ import annotations

from random import Random

import pytest
import torch
from torch.nn import functional

from ddarts.data.augment import Augment, Share, crop_and_flip, cutout, mix, resized_crop
from ddarts.errors import SettingsError


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=random(9)).to(torch.uint8)


def test_each_cropped_image_is_a_window_of_its_padded_self() -> None:
    before = noise(16, 2, 6, 5)
    after = crop_and_flip(before, crop=2, flip=False, random=random())
    padded = functional.pad(before, (2,) * 4)
    shifts = set()
    for old, new in zip(padded, after, strict=True):
        fits = [(i, j) for i in range(5) for j in range(5) if torch.equal(old[:, i : i + 6, j : j + 5], new)]
        assert len(fits) == 1
        shifts.add(fits[0])
    assert len(shifts) > 5  # the samples do not move together


def test_flip_mirrors_about_half_of_the_images_and_nothing_else() -> None:
    before = noise(200, 1, 3, 4)
    after = crop_and_flip(before, crop=0, flip=True, random=random())
    same = (after == before).flatten(1).all(1)
    mirrored = (after == before.flip(3)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 70 < int(mirrored.sum()) < 130


def test_nothing_asked_for_changes_nothing() -> None:
    before = noise(4, 3, 5, 5)
    assert torch.equal(crop_and_flip(before, crop=0, flip=False, random=random()), before)


@pytest.mark.parametrize("side", [1, 4, 5])
def test_cutout_erases_one_square_at_most_as_large_as_asked(side: int) -> None:
    after = cutout(torch.ones(64, 2, 9, 7), side, random())
    assert torch.equal(after[:, 0], after[:, 1])
    for image in after[:, 0]:
        rows, columns = (image == 0).nonzero(as_tuple=True)
        tall, wide = rows.unique(), columns.unique()
        assert 1 <= len(tall) <= side
        assert 1 <= len(wide) <= side
        assert len(rows) == len(tall) * len(wide)
    assert bool(((after[:, 0] == 0).flatten(1).sum(1) == side**2).any())


def test_an_unknown_policy_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match="policy 'autoaugmnt': unknown; did you mean 'autoaugment'"):
        Augment(policy="autoaugmnt")


def test_a_negative_crop_is_refused() -> None:
    with pytest.raises(SettingsError, match="crop -1: must be 0"):
        Augment(crop=-1)


def test_a_resized_crop_shows_a_part_of_the_image_that_keeps_a_quarter_of_it() -> None:
    height, width = 80, 64
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    before = torch.stack([row, column]).to(torch.uint8).expand(200, -1, -1, -1)
    after = resized_crop(before, random()).float()
    tall = (after[:, 0, -1, 0] - after[:, 0, 0, 0] + 1) / height
    wide = (after[:, 1, 0, -1] - after[:, 1, 0, 0] + 1) / width
    assert bool((tall * wide > 0.22).all())
    assert (tall * wide).min() < 0.35
    assert (tall * wide).max() > 0.85
    assert bool((after[:, 0].diff(dim=1) >= 0).all())  # neither mirrored nor turned
    assert len(after[:, 0, 0, 0].unique()) > 10


def test_the_shares_of_a_resized_batch_make_the_whole() -> None:
    before = noise(6, 3, 64, 64)
    whole = resized_crop(before, random())
    assert torch.equal(resized_crop(before[2:4], random(), Share.of(6, 1, 3)), whole[2:4])


def test_crops_follow_the_resolution_unless_told() -> None:
    assert Augment.at(32, 96) == Augment(crop=4)
    assert Augment.at(63, 63, shift=7, flip=True) == Augment(crop=7, flip=True)
    assert Augment.at(64, 96, cutout=8) == Augment(resized=True, cutout=8)
    assert Augment.at(224, 224, crop=4) == Augment(crop=4)
    assert Augment.at(224, 224, crop=0) == Augment()


def test_mixup_is_the_weighted_sum_of_an_image_and_its_partner() -> None:
    x = torch.randn(5, 3, 4, 6, generator=random())
    mixed, share = mix(x.clone(), 0.4, 0, Random(1))
    assert 0 < share < 1
    torch.testing.assert_close(mixed, share * x + (1 - share) * x.flip(0))


def test_cutmix_takes_one_rectangle_from_the_partner_and_tells_its_share() -> None:
    x = torch.arange(4.0)[:, None, None, None].expand(4, 2, 9, 7)
    for seed in range(50):
        mixed, share = mix(x.clone(), 0, 1.0, Random(seed))
        other = mixed != x
        assert bool((mixed == torch.where(other, x.flip(0), x)).all())
        assert share == pytest.approx(1 - float(other.double().mean()))
        rows, columns = other[0, 0].nonzero(as_tuple=True)
        if len(rows):
            sides = (int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1)
            assert len(rows) == sides[0] * sides[1]


def test_with_both_alphas_a_batch_is_mixed_in_one_way_or_the_other_and_with_none_not_at_all() -> None:
    x = torch.arange(4.0)[:, None, None, None].expand(4, 1, 8, 8)
    ways = {len(mix(x.clone(), 1.0, 1.0, Random(seed))[0][0].unique()) for seed in range(40)}
    assert ways == {1, 2}  # a sum is constant over the image, a rectangle is not
    same, share = mix(x, 0, 0, Random(0))
    assert same is x
    assert share == 1
