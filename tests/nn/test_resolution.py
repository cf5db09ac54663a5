from __future__ import annotations

import pytest

from ddarts.errors import SettingsError
from ddarts.nn.resolution import check_resolution, choose_stem


@pytest.mark.parametrize(
    ("height", "width", "reductions", "stem"),
    [(8, 8, 3, "cifar"), (5, 9, 3, "cifar"), (32, 32, 5, "cifar"), (1, 1, 0, "cifar"), (32, 32, 3, "imagenet")],
)
def test_sizes_that_fit_pass(height: int, width: int, reductions: int, stem: str) -> None:
    check_resolution(height, width, reductions, stem)


def test_the_error_says_how_many_reductions_would_fit() -> None:
    with pytest.raises(
        SettingsError,
        match=r"images of 8x9 pixels are too small for 4 reductions after the cifar stem: 3 would fit; "
        r"choose at most 3 or a resolution of at least 9",
    ):
        check_resolution(8, 9, 4)
    with pytest.raises(SettingsError, match=r"images of 1x1 .* 0 would fit; choose at most 0 or .* at least 2"):
        check_resolution(1, 1, 1)


def test_the_needed_resolution_is_the_smallest_that_passes() -> None:
    for reductions in range(1, 6):
        for stem, halvings in (("cifar", 0), ("imagenet", 2)):
            needed = 2 ** (reductions + halvings - 1) + 1
            check_resolution(needed, needed, reductions, stem)
            with pytest.raises(SettingsError, match=rf"at least {needed}"):
                check_resolution(needed - 1, needed, reductions, stem)


def test_a_stem_that_does_not_fit_is_named() -> None:
    with pytest.raises(SettingsError, match=r"imagenet stem, which alone divides the side by 4; choose stem = cifar"):
        check_resolution(2, 2, 1, "imagenet")


def test_auto_picks_the_stem_by_size() -> None:
    assert choose_stem("auto", 32, 32) == "cifar"
    assert choose_stem("auto", 224, 128) == "imagenet"
    assert choose_stem("auto", 224, 127) == "cifar"
    assert choose_stem("imagenet", 32, 32) == "imagenet"
    with pytest.raises(SettingsError, match=r"unknown stem 'vgg'; choose auto, cifar or imagenet"):
        choose_stem("vgg", 32, 32)


def test_half_the_resolution_must_be_enough_too() -> None:
    check_resolution(10, 10, 3, half=0.5)
    with pytest.raises(SettingsError, match=r"^half_resolution = 0.5: images of 4x4 pixels are .*; or set it to 0$"):
        check_resolution(8, 8, 3, half=0.5)
