from __future__ import annotations

from typing import Literal

import pytest
import torch

from ddarts.cost.counting import count_macs, count_parameters
from ddarts.cost.standard import DEPTHS, standard_network
from ddarts.nn.choice_network import build_network


def costs(name_or_genotype, channels: int, images: tuple[int, int, int]) -> tuple[int, int]:
    with torch.device("meta"):
        network = build_network(name_or_genotype, channels=channels, in_channels=images[0])
    return count_parameters(network), count_macs(network, images)


def test_the_costs_of_resnet8_give_resnet8() -> None:
    found = standard_network("resnet", 77_850, 12_501_632, (3, 32, 32), classes=10, stem="cifar")
    assert found is not None
    assert found.name == "standard:resnet8"
    assert found.size == (16, "cifar")


@pytest.mark.parametrize("kind", DEPTHS)
def test_it_is_not_above_the_costs_and_one_channel_more_would_be(kind: Literal["resnet", "mobilenet"]) -> None:
    images, limits = (1, 16, 16), (60_000, 2_000_000)
    found = standard_network(kind, *limits, images, classes=10, stem="cifar")
    assert found is not None
    assert found.size is not None
    at, above = (costs(found, found.size.channels + more, images) for more in (0, 1))
    assert all(cost <= limit for cost, limit in zip(at, limits, strict=True))
    assert any(cost > limit for cost, limit in zip(above, limits, strict=True))


def test_there_is_none_below_the_smallest_or_for_tiny_images() -> None:
    assert standard_network("resnet", 200, 10**6, (3, 32, 32), classes=10, stem="cifar") is None
    assert standard_network("mobilenet", 10**6, 10**8, (3, 4, 4), classes=10, stem="cifar") is None
