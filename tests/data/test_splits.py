from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddarts.data import (
    Images,
    class_weights,
    halves,
    halves_index,
    load_data,
    search_parts,
    split,
    uneven_classes,
    with_classes,
)
from ddarts.data.splits import limited, stratified
from ddarts.errors import DataError, SettingsError


def hashes(images: Images | None) -> set[str]:
    assert images is not None
    found = {hashlib.sha256(pixels.numpy().tobytes()).hexdigest() for pixels in images.pixels}
    assert len(found) == len(images), "the test needs unique images"
    return found


def blank(labels: torch.Tensor) -> Images:
    return Images(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), labels)


def test_all_parts_of_a_real_folder_are_disjoint_and_complete(make_folder: Callable[..., Path]) -> None:
    root = make_folder({"cat": 21, "dog": 33, "owl": 7})
    data = load_data(str(root))
    parts = split(data, validation=0.2, seed=3)
    weights, alphas = halves(parts.train, seed=3)
    found = [hashes(p) for p in (weights, alphas, parts.validation, parts.test)]
    assert sum(map(len, found)) == len(set().union(*found)) == 21 + 33 + 7
    assert all(found)


def test_own_parts_of_a_folder_stay_what_they_are(make_folder: Callable[..., Path]) -> None:
    for part, count in (("train", 8), ("val", 3), ("test", 4)):
        root = make_folder({"cat": count, "dog": count}, part=part)
    data = load_data(str(root))
    parts = split(data, validation=0.5, seed=0)
    assert parts.train is data.train
    assert parts.validation is data.validation
    assert parts.validation_index is None
    found = [hashes(p) for p in (parts.train, parts.validation, parts.test)]
    assert [len(f) for f in found] == [16, 6, 8]
    assert len(set().union(*found)) == 30


def test_digits_parts_are_disjoint_by_index_and_stratified() -> None:
    data = load_data("digits")
    parts = split(data, validation=0.1, seed=0)
    assert parts.validation_index is not None
    both = torch.cat([parts.train_index, parts.validation_index])
    assert torch.equal(both.sort().values, torch.arange(len(data.train)))
    assert torch.equal(parts.train.pixels[:], data.train.pixels[parts.train_index])
    assert parts.validation is not None
    share = parts.validation.labels.bincount() / data.train.labels.bincount()
    assert share.min() > 0.09
    assert share.max() < 0.11


def test_split_follows_the_seed_and_the_test_part_does_not() -> None:
    first, second = (split(load_data("digits"), validation=0.1, seed=s) for s in (0, 1))
    again = split(load_data("digits"), validation=0.1, seed=0)
    assert torch.equal(first.train_index, again.train_index)
    assert not torch.equal(first.train_index, second.train_index)
    assert first.test is not None
    assert second.test is not None
    assert torch.equal(first.test.pixels[:], second.test.pixels[:])


def test_no_validation_leaves_all_for_training() -> None:
    data = load_data("digits")
    parts = split(data, validation=0, seed=0)
    assert parts.validation is None
    assert len(parts.train) == len(data.train)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=60), st.integers(0, 9))
def test_halves_are_disjoint_complete_and_even(labels: list[int], seed: int) -> None:
    images = blank(torch.tensor(labels))
    first, second = halves_index(images, seed=seed)
    assert sorted(first.tolist() + second.tolist()) == list(range(len(labels)))
    assert abs(len(first) - len(second)) <= 1
    a, b = (images.labels[i].bincount(minlength=6) for i in (first, second))
    assert (a - b).abs().max() <= 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_stratified_takes_some_and_leaves_some_of_each_class(labels: list[int], share: float) -> None:
    known = torch.tensor(labels)
    kept, taken = stratified(known, share, 0, "a test")
    assert sorted(kept.tolist() + taken.tolist()) == list(range(len(labels)))
    for label, count in zip(*known.unique(return_counts=True), strict=True):
        assert (known[kept] == label).sum() >= 1
        assert count == 1 or (known[taken] == label).sum() >= 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(5, 80))
def test_limit_keeps_the_share_of_each_class(labels: list[int], limit: int) -> None:
    known = torch.tensor(labels)
    kept = limited(known, limit)
    assert len(kept) == len(kept.unique()) == min(limit, len(labels))
    before, after = known.bincount(minlength=5), known[kept].bincount(minlength=5)
    assert ((after > 0) == (before > 0)).all()
    assert (after <= before).all()
    assert torch.equal(kept, limited(known, limit))
    if len(labels) > limit and (before[before > 0] * limit >= len(labels)).all():
        assert ((before * limit / len(labels)) - after).abs().max() < 1


def test_a_limit_below_the_number_of_classes_is_refused() -> None:
    with pytest.raises(DataError, match="limit 3: the data has 10 classes; keep 10 images or more"):
        load_data("digits", limit=3)


def test_a_validation_part_that_cannot_be_spared_is_refused(make_folder: Callable[..., Path]) -> None:
    make_folder({"cat": 1, "dog": 1}, part="train")
    root = make_folder({"cat": 1, "dog": 1}, part="test")
    with pytest.raises(DataError, match=r"validation 0.1: no class has two training images.*--validation 0"):
        split(load_data(str(root)), validation=0.1, seed=0)


def test_one_image_has_no_halves() -> None:
    with pytest.raises(DataError, match="1 training image: a search needs one half"):
        halves(blank(torch.tensor([0])), seed=0)


# -- parts of a search -------------------------------------------------------------------------------------------------


def test_a_search_may_use_shares_of_each_class_and_no_image_twice() -> None:
    labels = torch.tensor([0] * 200 + [1] * 40 + [2] * 2)
    pixels = torch.arange(242, dtype=torch.uint8)[:, None, None, None]
    weights, alphas = search_parts(Images(pixels, labels), seed=1, weights=0.1, alphas=0.025)
    assert weights.labels.bincount().tolist() == [20, 4, 1]
    assert alphas.labels.bincount().tolist() == [5, 1, 1]
    assert not set(weights.pixels[:].flatten().tolist()) & set(alphas.pixels[:].flatten().tolist())
    other, _ = search_parts(Images(pixels, labels), seed=2, weights=0.1, alphas=0.025)
    assert not torch.equal(weights.pixels[:], other.pixels[:])


def test_without_shares_a_search_has_halves() -> None:
    images = Images(torch.arange(40, dtype=torch.uint8)[:, None, None, None], torch.arange(40) % 2)
    found, expected = search_parts(images, seed=1), halves(images, seed=1)
    assert all(torch.equal(a.pixels[:], b.pixels[:]) for a, b in zip(found, expected, strict=True))
    assert len(search_parts(images, seed=1, weights=0.1)[1]) == 20


def test_shares_that_overlap_are_refused() -> None:
    images = Images(torch.zeros(40, 1, 1, 1, dtype=torch.uint8), torch.arange(40) % 2)
    with pytest.raises(SettingsError, match=r"weights_share = 0.8 and alphas_share = 0.5 add up to more than 1"):
        search_parts(images, seed=0, weights=0.8)


def test_a_search_may_use_some_classes_numbered_anew() -> None:
    data = load_data("digits", limit=300)
    few = with_classes(data, 4, seed=3)
    assert len(few.classes) == 4
    assert list(few.classes) == sorted(few.classes)
    assert few.test is not None
    for part, whole in ((few.train, data.train), (few.test, data.test)):
        assert whole is not None
        for number, name in enumerate(few.classes):
            expected = whole.pixels[whole.labels == data.classes.index(name)]
            assert torch.equal(part.pixels[part.labels == number], expected)
    assert with_classes(data, 4, seed=3).classes == few.classes != with_classes(data, 4, seed=4).classes
    assert with_classes(data, 10, seed=3) is data
    with pytest.raises(SettingsError, match="search_classes = 11, but the data has 10 classes; choose 2 to 10"):
        with_classes(data, 11, seed=3)


def test_small_and_uneven_classes_are_named(make_folder: Callable[..., Path]) -> None:
    uneven = load_data(str(make_folder({"ant": 12, "bee": 2, "cow": 6, "dog": 80})))
    assert uneven_classes(uneven) == [
        "classes with fewer than 10 training images: bee (1), cow (5); add some",
        "classes are uneven: dog has 68 training images, bee 1; accuracy favours large classes (--balance)",
    ]
    assert uneven_classes(load_data("digits")) == []


def test_class_weights_are_inverse_to_the_images_of_a_class_and_one_in_the_mean() -> None:
    labels = torch.tensor([0] * 40 + [1] * 2)
    weights = class_weights(labels, 2)
    assert weights.tolist() == [0.5250000357627869, 10.5]
    assert weights[labels].mean().item() == pytest.approx(1)
