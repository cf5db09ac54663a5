"""Depthwise convolution whose gradients are fast on the CPU.

PyTorch's CPU backend differentiates dilated and 5x5 depthwise kernels by slow paths (10 to 50 times the forward time
on the shapes of a search). The gradient with respect to the input of a stride-1 convolution is itself a convolution
with the kernel flipped, and the gradient of a 5x5 or dilated kernel splits into gradients of plain 3x3 kernels, which
are fast. Both rearrangements give the same numbers; `tests/models/test_convolution.py` compares them with PyTorch's
own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DepthwiseConv(nn.Conv2d):
    """Depthwise convolution without bias: [B, C, H, W] -> [B, C, ceil(H / stride), ceil(W / stride)].

    A plain `nn.Conv2d(C, C, groups=C)` in parameters, initialisation and numbers.
    """

    def __init__(self, channels: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel - 1) // 2
        super().__init__(channels, channels, kernel, stride, padding, dilation=dilation, groups=channels, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `input` [B, C, H, W]."""
        x = input
        if x.device.type == "cpu" and torch.is_grad_enabled():
            weight = self.weight
            if torch.is_autocast_enabled("cpu"):  # a custom function is outside autocast's list
                x, weight = x.to(torch.get_autocast_dtype("cpu")), weight.to(torch.get_autocast_dtype("cpu"))
            return _Depthwise.apply(x, weight, self.stride[0], self.padding[0], self.dilation[0])
        return super().forward(input)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
        keep_input = ctx.needs_input_grad[1]  # in the alpha step weights need no gradient: then x is not kept
        ctx.save_for_backward(weight, x if keep_input else None)
        ctx.geometry = (stride, padding, dilation, x.shape[2:])
        return F.conv2d(x, weight, None, stride, padding, dilation, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (grad,) = grads
        weight, x = ctx.saved_tensors
        stride, padding, dilation, size = ctx.geometry
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _input_gradient(grad, weight, stride, padding, dilation, size)
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(grad, x, weight, stride, padding, dilation)
        return grad_x, grad_weight, None, None, None


def _input_gradient(
    grad: Tensor, weight: Tensor, stride: int, padding: int, dilation: int, size: tuple[int, int]
) -> Tensor:
    """Gradient with respect to the input, as a convolution of the output's gradient with the flipped kernel."""
    channels, kernel = weight.shape[0], weight.shape[-1]
    if stride > 1:  # spread the gradient over the full grid, zeros between
        spread = grad.new_zeros((grad.shape[0], channels, *size)).contiguous(memory_format=torch.channels_last)
        spread[:, :, ::stride, ::stride] = grad
        grad = spread
    back = dilation * (kernel - 1) - padding
    return F.conv2d(grad, weight.flip(2, 3), None, 1, back, dilation, channels)


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
    geometry = ([stride, stride], [padding, padding], [dilation, dilation])
    result = torch.ops.aten.convolution_backward(
        grad, x, weight, None, *geometry, False, [0, 0], weight.shape[0], [False, True, False]
    )
    return result[1]
