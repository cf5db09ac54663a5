"""Statistics of batch norm against double precision; of two processes: tests/end_to_end/test_two_processes.py."""

from __future__ import annotations

import pytest
import torch

from ddarts.nn.batch_norm import batch_statistics


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
