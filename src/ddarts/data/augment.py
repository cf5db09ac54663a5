"""Random changes to training images, every sample with its own, all from one counter-based seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn import functional

from ddarts.config.schema import Policy
from ddarts.data.transfer import send
from ddarts.errors import SettingsError, nearest

POLICIES: tuple[str, ...] = get_args(Policy)


#: Side in pixels from which crops are of random size: a shift of a few pixels says little about a large image.
RESIZED_FROM = 64
#: Least share of the area that a crop of random size keeps. ImageNet recipes say 0.08, but of images that are larger
#: than what the network sees; here they have been fitted to it already.
_LEAST_AREA = 0.25


@dataclass(frozen=True)
class Augment:
    """What to do to training images.

    Attributes:
        flip: mirror every other image, at random.
        crop: pixels of black padding on each side before a random crop to the old size; 0 for none.
        resized: take a crop of 25 to 100 % of the area, 3:4 to 4:3, and scale it to the old size.
        cutout: side in pixels of a square set to the mean, at a random place (partly outside, too); 0 for none.
        policy: one of `POLICIES`; the policies need 1 or 3 channels.

    Raises:
        SettingsError: a negative number or an unknown policy.
    """

    flip: bool = False
    crop: int = 0
    resized: bool = False
    cutout: int = 0
    policy: str = "none"

    def __post_init__(self) -> None:
        for name in ("crop", "cutout"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} {getattr(self, name)}: must be 0 (none) or more pixels")
        if self.policy not in POLICIES:
            raise SettingsError(f"policy {self.policy!r}: unknown{nearest(self.policy, POLICIES)}")

    @classmethod
    def at(cls, height: int, width: int, *, crop: int | None = None, shift: int = 4, **others: Any) -> Augment:
        """Return the augmentation for images of a size.

        Args:
            height, width: pixels.
            crop: as the attribute. If None, it is `shift` below `RESIZED_FROM` pixels and ``resized`` from there on.
            shift: see `crop`.
            **others: the other attributes.
        """
        if crop is None and min(height, width) >= RESIZED_FROM:
            return cls(resized=True, **others)
        return cls(crop=shift if crop is None else crop, **others)

    def check_channels(self, channels: int) -> None:
        """Raise SettingsError if the policy cannot treat images of so many channels."""
        if self.policy != "none" and channels not in (1, 3):
            raise SettingsError(
                f"policy {self.policy!r}: needs images of 1 or 3 channels, not {channels}; use policy none"
            )


@dataclass(frozen=True)
class Share:
    """Which images of a batch are at hand, where several processes share one batch.

    Random numbers are drawn for the whole batch and used for the share, so that an image changes in the same way
    whoever holds it.

    Attributes:
        start: place of the first image in the batch.
        count: images at hand.
        whole: images in the batch.
    """

    start: int
    count: int
    whole: int

    @classmethod
    def of(cls, batch: int, rank: int = 0, ranks: int = 1) -> Share:
        """Return the contiguous share of process `rank` of `ranks` in a batch that they share evenly."""
        return cls(rank * (batch // ranks), batch // ranks, batch)

    @property
    def rows(self) -> slice:
        """Places of the images at hand in the batch."""
        return slice(self.start, self.start + self.count)


def crop_and_flip(
    pixels: Tensor, *, crop: int, flip: bool, random: torch.Generator, share: Share | None = None
) -> Tensor:
    """Shift each image by up to `crop` pixels either way (black enters) and mirror it with probability 1/2.

    Args:
        pixels: [B, C, H, W], any device.
        crop: largest shift in pixels, 0 for none.
        flip: whether to mirror.
        random: CPU generator, so that every device makes the same choices.
        share: which part of a batch the images are; all of it if None.
    """
    batch, _, height, width = pixels.shape
    share = share or Share.of(batch)
    if crop > 0:
        shift = send(torch.randint(0, 2 * crop + 1, (2, share.whole), generator=random)[:, share.rows], pixels.device)
        windows = functional.pad(pixels, (crop,) * 4).unfold(2, height, 1).unfold(3, width, 1)
        # [B, C, 2 crop + 1, 2 crop + 1, H, W], a view: picking a window a sample copies each pixel once
        pixels = windows[torch.arange(batch, device=pixels.device), :, shift[0], shift[1]]
    if flip:
        mirrored = send(torch.rand(share.whole, generator=random)[share.rows] < 0.5, pixels.device)
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
    return pixels


def resized_crop(pixels: Tensor, random: torch.Generator, share: Share | None = None) -> Tensor:
    """Scale a random part of each image of uint8 [B, C, H, W] to the whole (Szegedy et al., arXiv 1409.4842).

    The part has 25 to 100 % of the area and, where it fits, an aspect ratio of 3/4 to 4/3 of the image's.
    """
    batch, _, height, width = pixels.shape
    share = share or Share.of(batch)
    area, ratio, x, y = (torch.rand(4, share.whole, generator=random)[:, share.rows]).unbind(0)
    area = _LEAST_AREA + (1 - _LEAST_AREA) * area
    ratio = torch.exp((2 * ratio - 1) * math.log(4 / 3) / 2)
    wide, tall = (area.sqrt() * ratio).clamp(max=1), (area.sqrt() / ratio).clamp(max=1)
    left, top = (2 * x - 1) * (1 - wide) * width / 2, (2 * y - 1) * (1 - tall) * height / 2
    nothing = torch.zeros_like(wide)
    matrices = torch.stack([wide, nothing, left, nothing, tall, top], 1).view(-1, 2, 3)
    places = centred((height, width)) @ matrices.transpose(1, 2)[:, None]
    return sample(pixels, places.to(pixels.device), "bilinear", "border")


def cutout(x: Tensor, side: int, random: torch.Generator, share: Share | None = None) -> Tensor:
    """Set a square of `side` pixels to 0 in each image of [B, C, H, W] (DeVries & Taylor, arXiv 1708.04552).

    The centre is uniform over the image, so the square may lie partly outside. `x` is normalised: 0 is the mean.
    """
    batch, _, height, width = x.shape
    share = share or Share.of(batch)
    top = send(torch.randint(0, height, (share.whole, 1), generator=random)[share.rows], x.device) - side // 2
    left = send(torch.randint(0, width, (share.whole, 1), generator=random)[share.rows], x.device) - side // 2
    row = torch.arange(height, device=x.device)
    column = torch.arange(width, device=x.device)
    rows = (row >= top) & (row < top + side)
    columns = (column >= left) & (column < left + side)
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def mix(x: Tensor, mixup: float, cutmix: float, random: Random) -> tuple[Tensor, float]:
    """Mix each image of a batch with the one at the mirrored place of the batch.

    The label of an image then counts by the share that is returned, and that of its partner, ``labels.flip(0)``, by the
    rest. Several processes that share a batch mix within their shares.

    Args:
        x: normalised images [B, C, H, W]; may be changed.
        mixup: alpha of the symmetric Beta distribution of the share, where the result is a weighted sum of both images
            (Zhang et al., arXiv 1710.09412); 0 for none.
        cutmix: alpha, where a rectangle of the partner replaces the image's (Yun et al., arXiv 1905.04899); 0 for
            none. If neither is 0, each batch is mixed in one of the two ways at random.
        random: of the share, the way and the rectangle.

    Returns:
        The mixed images, and the share of the images themselves, 0 to 1.
    """
    if not (mixup or cutmix):
        return x, 1.0
    cuts = cutmix > 0 and (mixup == 0 or random.random() < 0.5)
    share = random.betavariate(*(2 * [cutmix if cuts else mixup]))
    if not cuts:
        return torch.lerp(x.flip(0), x, share), share
    height, width = x.shape[2:]
    tall, wide = (round(side * math.sqrt(1 - share)) for side in (height, width))
    y, left = random.randint(0, height), random.randint(0, width)  # centre; partly outside at the borders
    rows = slice(max(y - tall // 2, 0), min(y - tall // 2 + tall, height))
    columns = slice(max(left - wide // 2, 0), min(left - wide // 2 + wide, width))
    partner = x.flip(0)[:, :, rows, columns]
    x[:, :, rows, columns] = partner
    return x, 1 - partner.shape[2] * partner.shape[3] / (height * width)


def centred(size: Sequence[int]) -> Tensor:
    """Return (x, y, 1) of every pixel, from the centre of the image: [H, W, 3]."""
    y, x = (torch.arange(n) - (n - 1) / 2 for n in size)
    return torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones(len(y), len(x))], 2)


def sample(x: Tensor, places: Tensor, mode: str, padding: str = "zeros") -> Tensor:
    """Return uint8 [N, C, H', W']: images [N, C, H, W] read at `places` [N, H', W', 2], in pixels from the centre."""
    grid = places / (torch.tensor(x.shape[:1:-1], device=x.device) / 2)
    read = functional.grid_sample(x.float(), grid, mode=mode, padding_mode=padding, align_corners=False)
    return read.round_().to(torch.uint8)
