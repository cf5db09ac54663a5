"""The supernet's skip connection at stride 2: two 1x1 convolutions, of the even pixels and of the odd ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_LAST = torch.channels_last


def factorized_reduction(relu: Tensor, even: nn.Conv2d, odd: nn.Conv2d | None, edges: int = 1) -> Tensor:
    """Halve [B, C, H, W] by two 1x1 convolutions of stride 2, the second on the image shifted by one pixel.

    Odd sizes are padded by zeros at the far side so that both halves have ceil(H / 2) x ceil(W / 2) pixels. The
    results of each of the `edges` groups are concatenated: [B, E * C, H', W'].
    """
    # pixels are picked first: a 1x1 convolution with a stride of its own may crash (ddarts.nn.pointwise)
    of_even, of_odd = _EvenOdd.apply(relu)  # type: ignore[misc]
    first = F.conv2d(of_even, even.weight)
    if odd is None:  # a single channel
        return first
    second = F.conv2d(of_odd, odd.weight)
    if edges == 1:
        return torch.cat([first, second], 1)
    # Side by side within each edge, in channels-last order: the result decides the memory format of all that follows.
    b, _, h, w = first.shape
    halves = [half.permute(0, 2, 3, 1).reshape(b, h, w, edges, -1) for half in (first, second)]
    return torch.cat(halves, 4).flatten(3, 4).permute(0, 3, 1, 2)


class _EvenOdd(torch.autograd.Function):
    """The pixels (0, 0), (0, 2), ... and (1, 1), (1, 3), ... of [B, C, H, W], the latter with zeros beyond the border.

    PyTorch's own gradient of a slice is channels-first, which makes all gradients before it slow.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.shape = x.shape
        even, odd = x[:, :, ::2, ::2], x[:, :, 1::2, 1::2]
        border = 0, even.shape[3] - odd.shape[3], 0, even.shape[2] - odd.shape[2]
        return even.contiguous(memory_format=_LAST), F.pad(odd, border).contiguous(memory_format=_LAST)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # type: ignore[override]
        even, odd = grads
        height, width = ctx.shape[2:]
        at_x = torch.empty(ctx.shape, dtype=even.dtype, device=even.device, memory_format=_LAST).zero_()
        at_x[:, :, ::2, ::2] = even
        at_x[:, :, 1::2, 1::2] = odd[:, :, : height // 2, : width // 2]
        return at_x
