from __future__ import annotations

import torch
from torch import nn

from ddarts.cost.activations import _Alive, peak_activation_bytes
from tests.deploy.conftest import make_network

IMAGE = 4 * 4 * 4  # bytes of one channel of 4x4 pixels


def test_it_is_what_is_counted_by_hand() -> None:
    first, second = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 3, padding=1)
    # the images, the first result, the second result
    assert peak_activation_bytes(nn.Sequential(first, second), (1, 1, 4, 4)) == (1 + 2 + 1) * IMAGE
    # a ReLU in place needs nothing, another needs a second copy
    assert peak_activation_bytes(nn.Sequential(first, nn.ReLU(inplace=True), second), (1, 1, 4, 4)) == 4 * IMAGE
    assert peak_activation_bytes(nn.Sequential(first, nn.ReLU(), second), (1, 1, 4, 4)) == (1 + 2 + 2) * IMAGE
    # what is dropped does not add up: a long chain needs no more than its widest step
    chain = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(9)))
    assert peak_activation_bytes(chain, (1, 1, 4, 4)) == 3 * IMAGE


def test_it_grows_with_the_batch_and_leaves_the_network_alone() -> None:
    network = make_network()
    one, eight = (peak_activation_bytes(network, (batch, 1, 9, 9)) for batch in (1, 8))
    assert eight == 8 * one
    assert next(network.parameters()).device.type == "cpu"
    network.train()
    assert peak_activation_bytes(network, (1, 1, 9, 9)) == one
    assert network.training


def test_real_tensors_need_the_same() -> None:
    network = make_network()
    x = torch.randn(4, 1, 9, 9)
    left_out = [t.untyped_storage() for t in (*network.parameters(), *network.buffers())]
    with torch.no_grad(), _Alive(left_out) as alive:
        alive.see(x)
        network(x)
    assert alive.peak == peak_activation_bytes(network, x.shape)
