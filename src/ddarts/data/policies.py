"""Augmentation policies on whole batches: every image draws its own operations, and each operation runs once a batch.

The operations, their ranges and the tables are those of torchvision's transforms (tests compare them), which work image
by image: 128 images of 32x32 pixels take them 70 to 380 ms on a core, and this module 6 to 60 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from ddarts.data.augment import Share, centred, sample

#: The operations of RandAugment (Cubuk et al., arXiv 1909.13719), in torchvision's order; AutoAugment also inverts.
OPERATIONS = (
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
    "Invert",
)
_SIGNED = OPERATIONS[1:10]
_AUGMIX = range(1, 14)  # all but Identity and Invert


@dataclass(frozen=True)
class Ranges:
    """Magnitudes at full strength.

    Attributes:
        shear: tangent of the angle.
        translate: share of the side, or pixels if more than 1.
        rotate: degrees.
        colour: change of the factor of brightness, colour, contrast and sharpness.
        bits: bits that posterising keeps at strength 0, and how many fewer at full strength.
    """

    shear: float = 0.3
    translate: float = 150 / 331
    rotate: float = 30.0
    colour: float = 0.9
    bits: tuple[int, int] = (8, 4)

    def magnitude(self, operation: str, strength: Tensor, height: int, width: int) -> Tensor:
        """Return what an operation is to do at strengths of 0 to 1, without a sign."""
        if operation.startswith("Shear"):
            return strength * self.shear
        if operation.startswith("Translate"):
            side = width if operation.endswith("X") else height
            return (strength * (self.translate if self.translate > 1 else self.translate * side)).trunc()
        if operation == "Rotate":
            return strength * self.rotate
        if operation == "Posterize":
            return self.bits[0] - (strength * self.bits[1]).round()
        return 1 - strength if operation == "Solarize" else strength * self.colour


_STANDARD = Ranges()
_WIDE = Ranges(0.99, 32.0, 135.0, 0.99, (8, 6))  # TrivialAugment (Müller & Hutter, arXiv 2103.10158)
_MIXED = Ranges(translate=1 / 3, bits=(4, 4))  # AugMix (Hendrycks et al., arXiv 1912.02781)


def apply_policy(pixels: Tensor, policy: str, random: torch.Generator, share: Share | None = None) -> Tensor:
    """Apply a policy to each image of uint8 [B, 1 or 3, H, W].

    Args:
        pixels: images.
        policy: "autoaugment" (for CIFAR-10), "randaugment", "trivialaugment" or "augmix".
        random: CPU generator.
        share: which part of a batch the images are; all of it if None.
    """
    grey = pixels.shape[1] == 1
    # The operations treat the channels of a grey image alike, so any one of the three is the result.
    changed = _POLICIES[policy](pixels.expand(-1, 3, -1, -1), _Draws(random, share or Share.of(len(pixels))))
    return changed[:, :1] if grey else changed


class _Draws:
    """Random numbers, one for each image at hand, drawn for the whole batch."""

    def __init__(self, random: torch.Generator, share: Share) -> None:
        self.random, self.whole, self.rows = random, share.whole, share.rows

    def whole_numbers(self, low: int, high: int) -> Tensor:
        """Return int64 [B], from `low` to `high` - 1."""
        return torch.randint(low, high, (self.whole,), generator=self.random)[self.rows]

    def fractions(self, *shape: int) -> Tensor:
        """Return float32 [B, ...], 0 to 1."""
        return torch.rand(self.whole, *shape, generator=self.random)[self.rows]

    def shares(self, count: int) -> Tensor:
        """Return float32 [B, count], each row from the flat Dirichlet distribution."""
        parts = -self.fractions(count).clamp(min=1e-12).log()
        return parts / parts.sum(1, keepdim=True)


def _randaugment(pixels: Tensor, draws: _Draws) -> Tensor:
    for _ in range(2):
        operation = draws.whole_numbers(0, 14)
        strength = torch.full((len(pixels),), 9 / 30)
        pixels = apply_operations(pixels, operation, strength, draws.fractions() <= 0.5, _STANDARD)
    return pixels


def _trivialaugment(pixels: Tensor, draws: _Draws) -> Tensor:
    operation, strength = draws.whole_numbers(0, 14), draws.whole_numbers(0, 31) / 30
    return apply_operations(pixels, operation, strength, draws.fractions() <= 0.5, _WIDE)


def _autoaugment(pixels: Tensor, draws: _Draws) -> Tensor:
    table = _autoaugment_table()
    chosen = table[draws.whole_numbers(0, len(table))]  # [B, 2, 3]
    for operation, probability, strength in chosen.unbind(1)[0].unbind(1), chosen.unbind(1)[1].unbind(1):
        acts = draws.fractions() <= probability
        pixels = apply_operations(pixels, operation.long() * acts, strength, draws.fractions() <= 0.5, _STANDARD)
    return pixels


@cache
def _autoaugment_table() -> Tensor:
    """The 25 pairs of (operation, probability, strength) for CIFAR-10 (Cubuk et al., arXiv 1805.09501), [25, 2, 3]."""
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy  # a second to import

    policies = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
    rows = [[(OPERATIONS.index(name), p, (number or 0) / 9) for name, p, number in pair] for pair in policies]
    return torch.tensor(rows)


def _augmix(pixels: Tensor, draws: _Draws) -> Tensor:
    """Mix the images with three chains of one to three operations each."""
    own = draws.shares(2)
    weights = draws.shares(3) * own[:, 1:]
    mixed = own[:, 0, None, None, None] * pixels
    for chain in range(3):
        depth, changed = draws.whole_numbers(1, 4), pixels
        for place in range(3):
            operation = draws.whole_numbers(_AUGMIX.start, _AUGMIX.stop) * (place < depth)
            strength, negative = draws.whole_numbers(0, 3) / 9, draws.fractions() <= 0.5
            changed = apply_operations(changed, operation, strength, negative, _MIXED, mode="bilinear")
        mixed += weights[:, chain, None, None, None] * changed
    return mixed.to(torch.uint8)


_POLICIES: dict[str, Callable[[Tensor, _Draws], Tensor]] = {
    "autoaugment": _autoaugment,
    "randaugment": _randaugment,
    "trivialaugment": _trivialaugment,
    "augmix": _augmix,
}


def apply_operations(
    pixels: Tensor, operation: Tensor, strength: Tensor, negative: Tensor, ranges: Ranges, *, mode: str = "nearest"
) -> Tensor:
    """Apply to each image of uint8 [B, 3, H, W] an operation of its own.

    Args:
        pixels: images.
        operation: int64 [B], index into `OPERATIONS`.
        strength: float32 [B], 0 to 1, of the range of the operation.
        negative: bool [B], whether a signed magnitude is negative.
        ranges: magnitudes at full strength.
        mode: how geometric operations interpolate, "nearest" or "bilinear"; black enters.
    """
    changed, moved = pixels.clone(), []
    for number in operation.unique().tolist():
        if (name := OPERATIONS[number]) == "Identity":
            continue
        rows = (operation == number).nonzero().flatten()
        magnitude = ranges.magnitude(name, strength[rows], *pixels.shape[2:])
        if name in _SIGNED:
            magnitude = torch.where(negative[rows], -magnitude, magnitude)
        if name in _MATRICES:
            moved.append((rows, _MATRICES[name](magnitude, *pixels.shape[2:])))
        else:
            changed[rows] = _apply(name, pixels[rows], magnitude)
    if moved:  # all geometric operations at once
        rows, matrices = (torch.cat(parts) for parts in zip(*moved, strict=True))
        places = centred(pixels.shape[2:]) @ matrices.transpose(1, 2)[:, None]
        changed[rows] = sample(pixels[rows], places, mode)
    return changed


def _apply(name: str, x: Tensor, magnitude: Tensor) -> Tensor:
    """Apply one operation that moves nothing to uint8 [N, 3, H, W] with magnitudes [N]."""
    factor = magnitude[:, None, None, None]
    if name in ("Brightness", "Color", "Contrast", "Sharpness"):
        image = x.float()
        return (image * (1 + factor) - _DEGENERATE[name](image) * factor).clamp(0, 255).to(torch.uint8)
    if name == "Posterize":
        return x & (256 - 2 ** (8 - factor)).to(torch.uint8)
    if name == "Solarize":
        return torch.where(x >= 255 * factor, 255 - x, x)
    if name == "Invert":
        return 255 - x
    from torchvision.transforms.v2 import functional as vision

    return vision.autocontrast(x) if name == "AutoContrast" else vision.equalize(x)


def _grey(image: Tensor) -> Tensor:
    weights = torch.tensor([0.2989, 0.587, 0.114])[:, None, None]
    return (image * weights).sum(1, keepdim=True).floor_()


def _blurred(image: Tensor) -> Tensor:
    """Return the images smoothed by a 3x3 kernel, their edges as they were."""
    if min(image.shape[2:]) <= 2:
        return image
    kernel = torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]).div(13).expand(3, 1, 3, 3)
    out = image.clone()
    out[:, :, 1:-1, 1:-1] = functional.conv2d(image, kernel, groups=3).round_()
    return out


#: What an image is moved away from (factor above 1) or towards (below 1).
_DEGENERATE: dict[str, Callable[[Tensor], Tensor]] = {
    "Brightness": torch.zeros_like,
    "Color": _grey,
    "Contrast": lambda image: _grey(image).mean((1, 2, 3), keepdim=True),
    "Sharpness": _blurred,
}


def _matrix(*entries: Tensor | float) -> Tensor:
    """Return [N, 2, 3]: from coordinates of the output, in pixels from the centre, to those of the input."""
    some = next(e for e in entries if isinstance(e, Tensor))
    return torch.stack([e if isinstance(e, Tensor) else torch.full_like(some, e) for e in entries], 1).view(-1, 2, 3)


def _rotation(m: Tensor, height: int, width: int) -> Tensor:
    sin, cos = m.deg2rad().sin(), m.deg2rad().cos()
    return _matrix(cos, -sin, 0.0, sin, cos, 0.0)


_MATRICES: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "ShearX": lambda m, height, width: _matrix(1.0, m, m * height / 2, 0.0, 1.0, 0.0),
    "ShearY": lambda m, height, width: _matrix(1.0, 0.0, 0.0, m, 1.0, m * width / 2),
    "TranslateX": lambda m, height, width: _matrix(1.0, 0.0, -m, 0.0, 1.0, 0.0),
    "TranslateY": lambda m, height, width: _matrix(1.0, 0.0, 0.0, 0.0, 1.0, -m),
    "Rotate": _rotation,
}
