"""Two 1x1 convolutions of stride 2 against the same on a shifted image."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ddarts.nn.factorized_reduce import factorized_reduction


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1), (2, 5)])
@pytest.mark.parametrize("channels", [1, 4, 5])
@pytest.mark.parametrize("edges", [1, 3])
def test_the_reduction_is_that_of_each_edge_side_by_side(size: tuple[int, int], channels: int, edges: int) -> None:
    first, second = channels - channels // 2, channels // 2
    x = torch.randn(2, channels, *size, dtype=torch.float64, requires_grad=True)
    even = nn.Conv2d(channels, edges * first, 1, 2, bias=False).double()
    odd = nn.Conv2d(channels, edges * second, 1, 2, bias=False).double() if second else None
    found = factorized_reduction(x, even, odd, edges)
    shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
    parts = []
    for edge in range(edges):
        parts.append(F.conv2d(x, even.weight[edge * first : (edge + 1) * first], stride=2))
        if odd is not None:
            parts.append(F.conv2d(shifted, odd.weight[edge * second : (edge + 1) * second], stride=2))
    expected = torch.cat(parts, 1)
    torch.testing.assert_close(found, expected)
    inputs = [x, even.weight, *([] if odd is None else [odd.weight])]
    grad = torch.randn_like(found)
    torch.testing.assert_close(torch.autograd.grad(found, inputs, grad), torch.autograd.grad(expected, inputs, grad))


def test_gradients_stay_channels_last() -> None:
    x = torch.randn(2, 4, 7, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    factorized_reduction(x, nn.Conv2d(4, 2, 1, 2, bias=False), nn.Conv2d(4, 2, 1, 2, bias=False)).sum().backward()
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=torch.channels_last)
