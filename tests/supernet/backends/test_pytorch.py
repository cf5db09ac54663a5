"""Operations run forward and back by hand against autograd over their plain definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ddarts.nn.batch_norm import BatchStatistics, normalise
from ddarts.supernet.backends.pytorch import Layer, State
from ddarts.supernet.mixed_op import DepthwiseSeparable, Gradients

_EDGES, _CHANNELS = 2, 3
_WIDE = _EDGES * _CHANNELS


def _weights(layers: int) -> list[Tensor]:
    shapes = [(_WIDE, 1, 3, 3), (_WIDE, _CHANNELS, 1, 1)] * layers
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def _plainly(x: Tensor, weights: list[Tensor], scale: Tensor, stride: int, dilation: int) -> Tensor:
    x = x.repeat(1, _EDGES, 1, 1)
    for depthwise, pointwise in zip(weights[::2], weights[1::2], strict=True):
        x = F.conv2d(F.relu(x), depthwise, None, stride, dilation, dilation, _WIDE)
        x = F.conv2d(x, pointwise, None, 1, 0, 1, _EDGES)
        last = depthwise is weights[-2]
        x = F.batch_norm(x, None, None, scale if last else None, None, True)
        stride = 1
    return x


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("trained", [False, True])
def test_gradients_are_those_of_autograd(stride: int, separable: bool, trained: bool) -> None:
    torch.manual_seed(0)
    norms = [BatchStatistics(_WIDE).double() for _ in range(1 + separable)]
    layers = [Layer(norms[0], stride, 1 if separable else 2), *(Layer(norm) for norm in norms[1:])]
    operation = DepthwiseSeparable(*layers)
    x = torch.randn(2, _CHANNELS, 6, 5, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    weights, scale = _weights(len(layers)), torch.rand(_WIDE, dtype=torch.float64, requires_grad=True)
    expected = _plainly(x, weights, scale, stride, 1 if separable else 2)
    grad = torch.randn_like(expected).contiguous(memory_format=torch.channels_last)
    at_x, at_scale, *at_weights = torch.autograd.grad(expected, [x, scale, *weights], grad)

    with torch.no_grad():
        state, modes = State(x, _EDGES, trained=trained), [norm.mode for norm in norms]
        saved, result = operation.forward(state, weights, modes)
        torch.testing.assert_close(normalise(*result, scale), expected)

        def backward(before: Tensor | None, *, wanted: bool) -> Gradients:
            return operation.backward(state, weights, modes, saved, grad, scale, before, wanted=wanted)

        found = backward(None, wanted=True)
        torch.testing.assert_close(found.at_x, at_x)
        torch.testing.assert_close(found.at_scale, at_scale)
        for of_weight, right in zip(found.at_inputs, at_weights, strict=True):
            assert of_weight is None if not trained else torch.allclose(of_weight, right)  # type: ignore[arg-type]
        torch.testing.assert_close(backward(torch.ones_like(x), wanted=True).at_x, at_x + 1)
        left_out = backward(None, wanted=False)
        assert left_out.at_x is None
        torch.testing.assert_close(left_out.at_scale, at_scale)
        for of_weight, right in zip(left_out.at_inputs, at_weights, strict=True):
            assert of_weight is None if not trained else torch.allclose(of_weight, right)  # type: ignore[arg-type]
