from __future__ import annotations

import torch
from torch import nn

from ddarts.cost.counting import count_macs, count_parameters
from ddarts.genotype.random import random_genotype
from ddarts.nn.network import Network
from ddarts.space.cell_space import build_space


def _network(auxiliary: bool) -> Network:
    torch.manual_seed(0)
    return Network(random_genotype(build_space(cells=3, nodes=2), seed=0), channels=4, auxiliary=auxiliary)


def test_the_auxiliary_head_counts_only_if_asked() -> None:
    with_head, without = _network(auxiliary=True), _network(auxiliary=False)
    assert count_parameters(with_head) == count_parameters(without) == sum(p.numel() for p in without.parameters())
    assert count_parameters(with_head, auxiliary=True) == sum(p.numel() for p in with_head.parameters())


def test_macs_are_those_of_the_textbook() -> None:
    grouped = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(8), nn.Flatten())
    assert count_macs(grouped, (4, 6, 6)) == 8 * 3 * 3 * (2 * 3 * 3)
    assert count_macs(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2)) == 60


def test_counting_leaves_the_network_as_it_was() -> None:
    network = _network(auxiliary=True).train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    macs = count_macs(network, (3, 8, 8))
    assert macs == count_macs(_network(auxiliary=False), (3, 8, 8)) > 0
    assert network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_macs_grow_with_the_area() -> None:
    network = Network(random_genotype(build_space(cells=1, nodes=1, reductions=()), seed=0), channels=4)
    head = 10 * network.outputs
    assert count_macs(network, (3, 16, 8)) - head == 2 * (count_macs(network, (3, 8, 8)) - head)
