"""3x3 pools of a supernet's states, by the fastest way to the same numbers.

PyTorch's pools take 4 to 8 times as long on the CPU, in channels-last memory, as what they are made of: a maximum of
shifted images, and a depthwise convolution with ones (docs/performance.md).
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from ddarts.nn.convolution import depthwise_constant
from ddarts.nn.dispatch import on_cpu


def max_pool(x: Tensor, stride: int) -> Tensor:
    """``F.max_pool2d(x, 3, stride, 1)``: [B, C, H, W] -> [B, C, ceil(H / stride), ceil(W / stride)].

    With a graph, or on another device than the CPU, it is just that: its gradient needs to know where each maximum was.
    """
    if stride != 1 or not on_cpu(x) or (torch.is_grad_enabled() and x.requires_grad):
        return F.max_pool2d(x, 3, stride, 1)
    for dim in (2, 3):
        length = x.shape[dim]
        if length == 1:
            continue
        ahead, behind = x.narrow(dim, 1, length - 1), x.narrow(dim, 0, length - 1)
        best = x.clone(memory_format=torch.channels_last)
        best.narrow(dim, 0, length - 1).copy_(torch.maximum(ahead, behind))
        inner = best.narrow(dim, 1, length - 1)
        torch.maximum(inner, behind, out=inner)
        x = best
    return x


def average_pool(x: Tensor, stride: int) -> Tensor:
    """``F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)``, in shape as `max_pool`."""
    # PyTorch's compiler takes ten seconds for the gradient of windows of several sizes, and none for a convolution
    compiling = torch.compiler.is_compiling()
    if x.device.type != "cpu" and not compiling:
        return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
    sums = depthwise_constant(x, x.new_ones((x.shape[1], 1, 3, 3)), stride)
    shares = _shares if compiling else _kept_shares
    return sums * shares(x.shape[2], x.shape[3], stride, sums.dtype, x.device)


def _shares(height: int, width: int, stride: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """One over the number of pixels that each window covers, [H', W']."""
    exact = torch.promote_types(dtype, torch.float32)
    down, right = (_covered(length, stride, device).to(exact) for length in (height, width))
    return (down[:, None] * right).reciprocal().to(dtype)


def _covered(length: int, stride: int, device: torch.device) -> Tensor:
    """How many pixels of a row of `length` each window covers, [ceil(length / stride)]."""
    middle = torch.arange(0, length, stride, device=device)
    # comparisons, not maxima of places: at the gradient of those PyTorch's compiler (2.14.1) fails for GPUs
    return 1 + (middle > 0).int() + (middle < length - 1).int()


@functools.lru_cache(maxsize=64)
def _kept_shares(height: int, width: int, stride: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # it may serve a graph later
        return _shares(height, width, stride, dtype, device)
