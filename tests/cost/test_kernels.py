from __future__ import annotations

import pytest
import torch
from torch import nn

from ddarts.cost.counting import count_macs
from ddarts.cost.kernels import features, kernel_of
from ddarts.genotype.random import random_genotype
from ddarts.nn.choice_network import build_network
from ddarts.nn.operations import build_operation
from ddarts.space.cell_space import build_space


@pytest.mark.parametrize("channels", [8, 13])
def test_all_multiply_adds_of_a_network_are_counted(channels: int) -> None:
    network = build_network(random_genotype(build_space("darts", cells=3), seed=1), channels=channels).eval()
    found = features(network, (3, 16, 16))
    macs = sum(value for name, value in found.items() if name.endswith(": macs"))
    depthwise = sum(
        value * int(kernel_of(name)[10]) ** 2 / 1e3
        for name, value in found.items()
        if name.startswith("depthwise") and name.endswith(": out")
    )
    assert 1e6 * (macs + depthwise) == pytest.approx(count_macs(network, (3, 16, 16)))


def test_a_convolution_is_named_by_its_geometry_and_counted_again_where_channels_fill_no_vector() -> None:
    full = features(nn.Conv2d(16, 32, 3, 2, 1), (16, 8, 8))
    kernel = "convolution 3x3 stride 2x2"
    assert full == {f"{kernel}: calls": 1, f"{kernel}: out": 0.512, f"{kernel}: in": 1.024, f"{kernel}: macs": 0.073728}
    narrow = features(nn.Conv2d(12, 20, 1), (12, 8, 8))
    classes = {name.partition(", ")[2] for name in narrow}
    assert classes == {"", "outputs not of 8", "outputs not of 16", "not of 8", "not of 16"}
    assert {name.partition(", ")[2] for name in features(nn.Conv2d(3, 16, 3), (3, 8, 8))} == {""}


def test_an_edge_has_no_relu_at_its_begin_and_an_addition_at_its_end() -> None:
    operation = build_operation("dil_conv_3x3", 8, 1)
    alone, edge = (features(operation, (8, 4, 4), edge=edge) for edge in (False, True))
    assert {kernel_of(name) for name in alone} - {kernel_of(name) for name in edge} == {"relu"}
    assert {kernel_of(name) for name in edge} - {kernel_of(name) for name in alone} == {"add"}


def test_inference_mode_changes_no_count() -> None:
    operation = build_operation("sep_conv_3x3", 8, 2)
    found = features(operation, (8, 4, 4))
    with torch.inference_mode():
        assert features(operation, (8, 4, 4)) == found


def test_the_parts_of_a_network_add_up_and_nothing_is_changed() -> None:
    first, second = nn.Conv2d(5, 7, 3, padding=1), nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    whole = features(nn.Sequential(first, second), (5, 8, 8))
    parts = [features(first, (5, 8, 8)), features(second, (7, 8, 8))]
    assert whole == {name: sum(part.get(name, 0) for part in parts) for part in parts for name in part}
    assert first.weight.device == torch.device("cpu")
    assert features(nn.Identity(), (5, 8, 8)) == {}
