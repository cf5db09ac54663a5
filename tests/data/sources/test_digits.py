from __future__ import annotations

from importlib.resources import files

import torch

from ddarts.data import load_data


def test_digits_are_whole() -> None:
    data = load_data("digits")
    assert data.test is not None
    assert (len(data.train), len(data.test)) == (1438, 359)
    assert data.train.pixels.shape == (1438, 1, 8, 8)
    everything = torch.cat([data.train.labels, data.test.labels])
    assert everything.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert data.classes == tuple("0123456789")
    assert data.train.pixels.max() == 255
    assert len(data.train.pixels.unique()) == 17
    assert not data.flip


def test_the_test_part_has_a_fifth_of_each_class() -> None:
    data = load_data("digits")
    assert data.test is not None
    share = data.test.labels.bincount() / (data.train.labels.bincount() + data.test.labels.bincount())
    assert (share - 0.2).abs().max() < 0.005


def test_source_and_licence_are_told_beside_the_data() -> None:
    text = files("ddarts.data.sources").joinpath("embedded/digits.txt").read_text(encoding="utf-8")
    assert "Alpaydin" in text
    assert "CC BY 4.0" in text
    assert "BSD 3-Clause" in text
