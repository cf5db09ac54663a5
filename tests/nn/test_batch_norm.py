"""Statistics of batch norm against double precision; of two processes: tests/end_to_end/test_two_processes.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ddarts.kernels import operators
from ddarts.nn.batch_norm import batch_statistics, norm_relu, running_statistics


def _images(channels: int, batch: int, height: int, width: int) -> torch.Tensor:
    torch.manual_seed(0)
    return (torch.randn(batch, channels, height, width) + 1).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(32, 32, 32), (1, 3, 3), (7, 29, 29), (1, 1031, 1)])  # 1031 is a prime number
def test_statistics_are_those_of_double_precision(size: tuple[int, int, int]) -> None:
    x = _images(6, *size)
    running_mean, running_var = torch.zeros(6), torch.ones(6)
    found = batch_statistics(x, (running_mean, running_var, 0.1))
    var, mean = torch.var_mean(x.double(), (0, 2, 3), correction=0)
    torch.testing.assert_close(found, (mean.float(), var.float()), rtol=3e-6, atol=3e-6)
    unbiased = x.double().var((0, 2, 3)).float()
    torch.testing.assert_close(running_mean, 0.1 * mean.float(), rtol=3e-6, atol=1e-6)
    torch.testing.assert_close(running_var, 0.9 + 0.1 * unbiased, rtol=3e-6, atol=1e-6)


def test_long_sums_are_much_more_exact_than_those_of_one_kernel() -> None:
    x = _images(16, 32, 32, 32)
    exact = x.double().mean((0, 2, 3))
    at_once = (torch.batch_norm_update_stats(x, None, None, 0.0)[0] - exact).abs().max()
    assert (batch_statistics(x)[0] - exact).abs().max() < at_once / 5


def test_statistics_of_half_precision_images_are_single_precision() -> None:
    x = _images(16, 8, 16, 16)
    mean, var = batch_statistics(x.bfloat16())
    assert mean.dtype == var.dtype == torch.float32
    expected = batch_statistics(x.bfloat16().float())
    torch.testing.assert_close((mean, var), expected, rtol=1e-5, atol=1e-5)


def _norm(affine: bool) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(8, affine=affine)
    if affine:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    return norm


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_batch_norm_and_relu_are_those_of_the_modules(affine: bool, added: bool, relu: bool) -> None:
    x, extra, grad = (_images(8, 4, 6, 6) * (i + 1) for i in range(3))
    found = []
    for kernels in (False, True):
        torch.manual_seed(1)
        norm, leaves = _norm(affine), [t.clone().requires_grad_() for t in (x, extra)]
        if kernels and not operators.fits(x, 8):
            pytest.skip("no build of the kernels")
        if kernels:
            y = norm_relu(norm, leaves[0], leaves[1] if added else None, relu=relu)
        else:
            y = norm(leaves[0]) + (leaves[1] if added else 0)
            y = F.relu(y) if relu else y
        y.backward(grad)
        gradients = [t.grad for t in (*leaves[: 1 + added], *norm.parameters())]
        found.append([y.detach(), *gradients, *norm.buffers()])
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=2e-5)


def test_batch_norm_and_relu_leave_running_statistics_alone_where_they_are_not_tracked() -> None:
    norm, x = _norm(True), _images(8, 4, 6, 6).requires_grad_()
    before = [t.clone() for t in norm.buffers()]
    with running_statistics(norm, track=False):
        norm_relu(norm, x).sum().backward()
    torch.testing.assert_close(list(norm.buffers()), before, rtol=0, atol=0)
    assert x.grad is not None


def test_batch_norm_and_relu_in_evaluation_use_running_statistics() -> None:
    norm, x = _norm(True).eval(), _images(8, 4, 6, 6).requires_grad_()
    norm.running_mean = torch.arange(8.0)
    assert norm_relu(norm, x).equal(F.relu(norm(x)))
    with torch.no_grad():
        assert norm_relu(norm, x, x, relu=False).equal(x + norm(x))
