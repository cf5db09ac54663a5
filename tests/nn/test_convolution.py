"""The depthwise convolution gives PyTorch's own numbers, forwards and backwards, whatever the shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddarts.nn.convolution import DepthwiseConv

_KINDS = [(k, s, d) for k in (3, 5) for s in (1, 2) for d in (1, 2)]
_SIZES = [(1, 1), (1, 2), (3, 1), (2, 3), (4, 4), (5, 7), (8, 8), (9, 11), (12, 6)]

each_kind = pytest.mark.parametrize(("kernel", "stride", "dilation"), _KINDS)


def _theirs(x: Tensor, conv: nn.Conv2d) -> Tensor:
    return F.conv2d(x, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)


def _largest_difference(conv: DepthwiseConv, x: Tensor) -> float:
    """The largest relative difference, in norm, of the output and both gradients from PyTorch's."""
    ours, theirs = conv(x), _theirs(x, conv)
    assert ours.shape == theirs.shape
    grad = torch.randn_like(theirs)
    found = (ours, *torch.autograd.grad(ours, (x, conv.weight), grad))
    expected = (theirs, *torch.autograd.grad(theirs, (x, conv.weight), grad))
    for a, b in zip(found, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    errors = [(a - b).norm() / b.norm().clamp_min(1e-30) for a, b in zip(found, expected, strict=True)]
    return max(float(e.detach()) for e in errors)


def _contiguous(x: Tensor) -> Tensor:
    return x.contiguous()


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _slices(x: Tensor) -> Tensor:
    return _channels_last(torch.cat([x, x], 1))[:, x.shape[1] :]


@each_kind
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_output_and_gradients_are_those_of_pytorch(
    kernel: int, stride: int, dilation: int, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(kernel + 10 * stride + 100 * dilation)
    for channels, batch in ((1, 3), (5, 2), (16, 3), (7, 1)):
        conv = DepthwiseConv(channels, kernel, stride=stride, dilation=dilation).to(dtype)
        for size in _SIZES:
            x = _channels_last(torch.randn(batch, channels, *size, dtype=dtype)).requires_grad_()
            assert _largest_difference(conv, x) < tolerance, (channels, batch, size)


@each_kind
@pytest.mark.parametrize("layout", [_contiguous, _slices])
def test_any_memory_layout_will_do(kernel: int, stride: int, dilation: int, layout: Callable[[Tensor], Tensor]) -> None:
    conv = DepthwiseConv(6, kernel, stride=stride, dilation=dilation).double()
    for size in ((4, 4), (7, 9)):
        x = layout(torch.randn(2, 6, *size, dtype=torch.float64)).requires_grad_()
        assert _largest_difference(conv, x) < 1e-12


@each_kind
def test_gradients_are_those_of_finite_differences(kernel: int, stride: int, dilation: int) -> None:
    conv = DepthwiseConv(2, kernel, stride=stride, dilation=dilation).double()

    def run(x: Tensor, weight: Tensor) -> Any:
        return torch.func.functional_call(conv, {"weight": weight}, (x,))

    x = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, conv.weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, conv.weight), fast_mode=True)


@each_kind
def test_channels_last_stays_channels_last(kernel: int, stride: int, dilation: int) -> None:
    conv = DepthwiseConv(6, kernel, stride=stride, dilation=dilation)
    x = _channels_last(torch.randn(2, 6, 8, 8)).requires_grad_()
    y = conv(x)
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert grad.is_contiguous(memory_format=torch.channels_last)


@each_kind
def test_bfloat16_is_close_to_float32(kernel: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    conv = DepthwiseConv(16, kernel, stride=stride, dilation=dilation)
    x = _channels_last(torch.randn(4, 16, 8, 8)).requires_grad_()
    expected = torch.autograd.grad(conv(x).square().sum(), (x, conv.weight))
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    found = torch.autograd.grad(y.float().square().sum(), (x, conv.weight))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert float((a - b).norm() / b.norm()) < 0.03


def test_it_starts_with_the_weights_of_a_plain_convolution() -> None:
    torch.manual_seed(3)
    ours = DepthwiseConv(8, 5)
    torch.manual_seed(3)
    plain = nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)
    assert torch.equal(ours.weight, plain.weight)
    x = torch.randn(2, 8, 6, 6)
    with torch.no_grad():
        assert torch.equal(ours(x), plain(x))


def test_the_input_is_kept_only_while_weights_need_a_gradient() -> None:
    conv = DepthwiseConv(4, 3)
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    assert any(t is not None and t.shape == x.shape for t in conv(x).grad_fn.saved_tensors)
    conv.weight.requires_grad_(False)
    y = conv(x)
    assert all(t is None or t.shape != x.shape for t in y.grad_fn.saved_tensors)
    torch.testing.assert_close(
        torch.autograd.grad(y.sum(), x)[0], torch.autograd.grad(_theirs(x, conv).sum(), x)[0], rtol=1e-5, atol=1e-6
    )


def test_a_gradient_through_an_expanded_scalar_works() -> None:
    """`sum()` hands back a gradient of stride 0."""
    conv = DepthwiseConv(4, 5, dilation=2).double()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    (ours,) = torch.autograd.grad(conv(x).sum(), conv.weight)
    (theirs,) = torch.autograd.grad(_theirs(x, conv).sum(), conv.weight)
    torch.testing.assert_close(ours, theirs)
