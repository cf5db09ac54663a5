"""1x1 convolutions with a stride, kept away from a CPU kernel that writes beyond its memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return ``conv(x)`` for a convolution without bias.

    Without gradients it is just that, so that an exported graph holds a plain convolution. With gradients, a 1x1
    convolution with a stride reads every second pixel only: those are picked first, and the convolution itself has
    stride 1. The result is the same. With a stride of its own, oneDNN's weight gradient for channels-last images of few
    channels (below 16 with AVX-512, below 8 with AVX2) writes past the end of its workspace: wrong gradients, a hang or
    a crash (oneDNN issue 6035, in PyTorch 2.14).
    """
    if conv.kernel_size != (1, 1) or conv.stride == (1, 1) or not torch.is_grad_enabled():
        return conv(x)
    down, right = conv.stride
    return F.conv2d(x[:, :, ::down, ::right], conv.weight, None, 1, 0, 1, conv.groups)
