"""Which resolutions a network fits: stems and reduction cells halve the image, rounding up."""

from __future__ import annotations

from typing import Literal

from ddarts.errors import SettingsError
from ddarts.genotype.choices import AnyGenotype, ChoiceGenotype
from ddarts.space.cell_space import SearchSpace
from ddarts.space.choice_space import ChoiceSpace

Stem = Literal["cifar", "imagenet"]

#: How often each stem halves the resolution: the CIFAR stem keeps it, the ImageNet stem divides it by 4.
STEM_HALVINGS: dict[str, int] = {"cifar": 0, "imagenet": 2}

#: From this many pixels a side on, "auto" means the ImageNet stem.
_LARGE_IMAGE = 128


def choose_stem(stem: str, height: int, width: int) -> Stem:
    """Return the stem that the setting `stem` ("auto", "cifar" or "imagenet") means for images of this size in pixels.

    "auto" is the ImageNet stem for images of at least 128 pixels on the shorter side, else the CIFAR stem.

    Raises:
        SettingsError: another name.
    """
    if stem == "auto":
        return "imagenet" if min(height, width) >= _LARGE_IMAGE else "cifar"
    if stem == "cifar" or stem == "imagenet":
        return stem
    raise SettingsError(f"unknown stem {stem!r}; choose auto, cifar or imagenet")


def check_resolution(height: int, width: int, reductions: int, stem: str = "cifar", *, half: float = 0.0) -> None:
    """Raise unless every halving of the network finds at least 2 pixels to halve.

    Args:
        height, width: size of the images in pixels.
        reductions: number of reduction cells.
        stem: "cifar" or "imagenet" (which halves twice itself).
        half: share of the steps that see images of half the height and width.

    Raises:
        SettingsError: the image is too small; the message says how many reductions would fit and which size is needed.
    """
    if half > 0:
        try:
            check_resolution(height // 2, width // 2, reductions, stem)
        except SettingsError as error:
            raise SettingsError(f"half_resolution = {half}: {error}; or set it to 0") from None
    halvings = STEM_HALVINGS[stem]
    possible = (min(height, width) - 1).bit_length()  # ceil(s / 2**k) is at least 2 for every k below this
    if possible >= halvings + reductions:
        return
    needed = 2 ** (halvings + reductions - 1) + 1
    size = f"images of {height}x{width} pixels are too small for {reductions} reduction{'s' * (reductions != 1)}"
    if possible < halvings:
        raise SettingsError(
            f"{size} after the {stem} stem, which alone divides the side by {2**halvings}; "
            f"choose stem = cifar or a resolution of at least {needed}"
        )
    fit = possible - halvings
    raise SettingsError(
        f"{size} after the {stem} stem: {fit} would fit; choose at most {fit} or a resolution of at least {needed}"
    )


def check_images(
    height: int, width: int, of: SearchSpace | ChoiceSpace | AnyGenotype, stem: str = "cifar", *, half: float = 0.0
) -> None:
    """Raise unless images of this size fit the networks of a space, or that of a genotype; see `check_resolution`.

    Raises:
        SettingsError: they are too small.
    """
    check_resolution(height, width, len(of.reductions), stem, half=half)
    space = of.facts if isinstance(of, ChoiceGenotype) else of
    if not isinstance(space, ChoiceSpace):
        return
    needed = space.smallest * (2 if half else 1)
    if min(height, width) < needed:
        raise SettingsError(
            f"images of {height}x{width} pixels are too small for {space.name}; "
            f"choose a resolution of at least {needed}"
        )
