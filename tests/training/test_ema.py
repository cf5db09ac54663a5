from __future__ import annotations

import torch

from ddarts.genotype.random import random_genotype
from ddarts.nn.network import Network
from ddarts.space.cell_space import build_space
from ddarts.training.ema import WeightAverage


def _network() -> Network:
    return Network(random_genotype(build_space(cells=1, nodes=1, reductions=()), seed=0), channels=2)


def test_weights_and_buffers_approach_a_constant() -> None:
    network = _network()
    average = WeightAverage(network, 0.5)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(3)
    for step in range(40):
        average.update(network, step)
    for tensor in average.network.state_dict().values():
        torch.testing.assert_close(tensor.float(), torch.full_like(tensor, 3).float())


def test_one_update_is_the_formula() -> None:
    network = _network()
    average = WeightAverage(network, 0.9)
    before = network.classifier.weight.detach().clone()
    with torch.no_grad():
        network.classifier.weight.add_(1)
    average.update(network, 1000)
    torch.testing.assert_close(average.network.classifier.weight, before + 0.1)


def test_the_decay_rises_from_a_tenth() -> None:
    network = _network()
    average = WeightAverage(network, 0.9)
    before = network.classifier.weight.detach().clone()
    with torch.no_grad():
        network.classifier.weight.add_(1)
    average.update(network, 0)
    torch.testing.assert_close(average.network.classifier.weight, before + 0.9)


def test_the_average_never_trains_and_the_network_is_not_touched() -> None:
    network = _network().train()
    average = WeightAverage(network, 0.9)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    average.update(network, 0)
    assert not average.network.training
    assert not any(p.requires_grad for p in average.network.parameters())
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
