"""The supernet's pools are PyTorch's pools."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ddarts.nn.pools import average_pool, max_pool

_SIZES = [(1, 1), (1, 4), (2, 3), (5, 7), (8, 8)]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("graph", [False, True])
def test_pools_are_pytorchs(size: tuple[int, int], stride: int, graph: bool) -> None:
    x = torch.randn(2, 3, *size).contiguous(memory_format=torch.channels_last).requires_grad_(graph)
    before = x.detach().clone()
    largest, mean = max_pool(x, stride), average_pool(x, stride)
    assert torch.equal(largest, F.max_pool2d(x, 3, stride, 1))
    torch.testing.assert_close(mean, F.avg_pool2d(x, 3, stride, 1, count_include_pad=False))
    for result in (largest, mean):
        assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, before)


def test_a_value_that_is_not_a_number_reaches_its_neighbours() -> None:
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = torch.nan
    assert torch.equal(max_pool(x, 1).isnan(), F.max_pool2d(x, 3, 1, 1).isnan())


@pytest.mark.parametrize("stride", [1, 2])
def test_the_average_has_pytorchs_gradient_and_keeps_no_state(stride: int) -> None:
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    found = torch.autograd.grad(average_pool(x, stride).pow(3).sum(), x)
    expected = torch.autograd.grad(F.avg_pool2d(x, 3, stride, 1, count_include_pad=False).pow(3).sum(), x)
    torch.testing.assert_close(found, expected)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape), lambda t: t):
        average_pool(x, stride)
    assert x.shape not in kept
