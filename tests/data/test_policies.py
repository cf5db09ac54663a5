from __future__ import annotations

import pytest
import torch
from torchvision.transforms import InterpolationMode, v2

from ddarts.data.augment import POLICIES
from ddarts.data.policies import _MIXED, _STANDARD, _WIDE, OPERATIONS, Ranges, apply_operations, apply_policy


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=random(9)).to(torch.uint8)


@pytest.mark.parametrize("policy", [p for p in POLICIES if p != "none"])
@pytest.mark.parametrize("channels", [1, 3])
def test_policies_change_images_reproducibly(policy: str, channels: int) -> None:
    before = noise(6, channels, 12, 10)
    after = apply_policy(before, policy, random(5))
    assert after.shape == before.shape
    assert after.dtype == torch.uint8
    assert not torch.equal(after, before)
    assert torch.equal(after, apply_policy(before, policy, random(5)))
    assert not torch.equal(after, apply_policy(before, policy, random(6)))


def test_a_policy_treats_a_grey_image_as_the_colour_image_of_equal_channels() -> None:
    grey = noise(8, 1, 9, 9)
    for policy in ("autoaugment", "randaugment", "trivialaugment", "augmix"):
        colour = apply_policy(grey.expand(-1, 3, -1, -1).contiguous(), policy, random(1))
        assert torch.equal(colour[:, :1].expand_as(colour), colour)
        assert torch.equal(apply_policy(grey, policy, random(1)), colour[:, :1])


_SPACES = [
    (v2.RandAugment, "_AUGMENTATION_SPACE", 31, _STANDARD, "nearest"),
    (v2.AutoAugment, "_AUGMENTATION_SPACE", 10, _STANDARD, "nearest"),
    (v2.TrivialAugmentWide, "_AUGMENTATION_SPACE", 31, _WIDE, "nearest"),
    (v2.AugMix, "_AUGMENTATION_SPACE", 10, _MIXED, "bilinear"),
]


@pytest.mark.parametrize(("kind", "space", "bins", "ranges", "mode"), _SPACES)
def test_operations_are_those_of_torchvision(kind: type, space: str, bins: int, ranges: Ranges, mode: str) -> None:
    """Every image of a batch gets an operation and a magnitude of its own; torchvision does them one by one."""
    one = kind()
    names = list(getattr(kind, space))
    numbers = [n for n, name in enumerate(OPERATIONS) if name in names]
    operation = torch.tensor(numbers).repeat(6)
    number = torch.randint(0, bins, operation.shape, generator=random(1))
    negative = torch.rand(operation.shape, generator=random(2)) < 0.5
    before = noise(len(operation), 3, 17, 14)
    after = apply_operations(before, operation, number / (bins - 1), negative, ranges, mode=mode)
    wrong = 0
    for row, name in enumerate(OPERATIONS[n] for n in operation.tolist()):
        magnitudes, signed = getattr(kind, space)[name]
        values = magnitudes(bins, 17, 14)
        magnitude = 0.0 if values is None else float(values[number[row]])
        sign = -1 if signed and negative[row] else 1
        expected = one._apply_image_or_video_transform(  # type: ignore[attr-defined]
            before[row], name, sign * magnitude, interpolation=InterpolationMode(mode), fill={}
        )
        off = (expected.int() - after[row].int()).abs()
        wrong += int((off > 1).sum())  # rounding may end on the other side, of a value or of a place between two pixels
        assert (off > 1).float().mean() < 0.05, (name, magnitude)
    assert wrong < 0.002 * before.numel()


def test_an_image_draws_each_operation_as_often_as_any_other() -> None:
    """On a grey image, the geometric operations and a few of the others leave black."""
    grey = torch.full((4000, 3, 4, 4), 100, dtype=torch.uint8)
    after = apply_policy(grey, "trivialaugment", random(3))
    black = (after == 0).flatten(1).any(1).float().mean()
    assert 0.2 < black < 0.5  # five geometric operations of fourteen, at most magnitudes
