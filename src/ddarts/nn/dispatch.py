"""How operations of the package run on a tensor: where, in which precision, in which memory order."""

from __future__ import annotations

import torch
from torch import Tensor


def on_cpu(x: Tensor) -> bool:
    """Return whether operations on `x` take the paths that are made for the CPU.

    A compiler gets the plain operations: it makes kernels of them itself, and knows how for every device.
    """
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def working(x: Tensor) -> Tensor:
    """Return `x` in the precision in which autocast would run a convolution of it."""
    kind = x.device.type
    if kind != "meta" and torch.is_autocast_enabled(kind):
        return x.to(torch.get_autocast_dtype(kind))
    return x


def channels_last(x: Tensor) -> Tensor:
    """Return `x` [B, C, H, W] in channels-last memory, without a copy if it is so already."""
    return x.contiguous(memory_format=torch.channels_last)
