"""Operations run forward and back by hand against autograd over their plain definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ddarts.nn.batch_norm import BatchStatistics
from ddarts.supernet.backends.torch_chains import Operation, run_backward, run_forward
from ddarts.supernet.chains import Chain, Depthwise, FanRun, Separable, spread

_EDGES, _CHANNELS = 2, 3
_WIDE = _EDGES * _CHANNELS


def _weights(chain: Chain) -> list[Tensor]:
    depthwise, pointwise = (_WIDE, 1, 3, 3), (_WIDE, _CHANNELS, 1, 1)
    shapes = [depthwise, pointwise] * (2 if isinstance(chain, Separable) else 1)
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
    chain = Separable(BatchStatistics(_WIDE).double(), stride) if separable else Depthwise(stride, 2)
    operation = Operation(chain, True, BatchStatistics(_WIDE).double(), 0)
    x = torch.randn(2, _CHANNELS, 6, 5, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    weights, scale = _weights(chain), torch.rand(_WIDE, dtype=torch.float64, requires_grad=True)
    expected = _plainly(x, weights, scale, stride, 1 if separable else 2)
    grad = torch.randn_like(expected).contiguous(memory_format=torch.channels_last)
    at_x, at_scale, *at_weights = torch.autograd.grad(expected, [x, scale, *weights], grad)

    with torch.no_grad():
        run = FanRun(spread(x, _EDGES), (6, 5), _EDGES, False, trained)
        kept, (u, mean, var) = run_forward(operation, x, weights, run)
        torch.testing.assert_close(operation.norm.apply_to(u, mean, var, scale), expected)
        assert len(kept) == operation.keeps
        found = run_backward(operation, x, weights, kept, grad, scale, run, None, wanted=True)
        torch.testing.assert_close(found[0], at_x)
        torch.testing.assert_close(found[1], at_scale)
        for of_weight, right in zip(found[2], at_weights, strict=True):
            assert of_weight is None if not trained else torch.allclose(of_weight, right)  # type: ignore[arg-type]
        more = run_backward(operation, x, weights, kept, grad, scale, run, torch.ones_like(x), wanted=True)[0]
        torch.testing.assert_close(more, at_x + 1)
        none = run_backward(operation, x, weights, kept, grad, scale, run, None, wanted=False)[0]
        assert none is None
