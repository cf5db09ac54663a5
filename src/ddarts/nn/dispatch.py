"""Where the package computes in ways of its own that are made for the CPU, not by PyTorch's plain operations."""

from __future__ import annotations

import torch
from torch import Tensor


def on_cpu(x: Tensor) -> bool:
    """Whether operations on `x` go the ways that are made for the CPU.

    A compiler gets the plain operations: it makes kernels of them itself, and knows how for every device.
    """
    return x.device.type == "cpu" and not torch.compiler.is_compiling()
