"""Depthwise convolution whose gradients are fast on the CPU.

PyTorch's CPU backend has one fast kernel for the weight gradient of a depthwise convolution. It takes kernels of at
most 3 columns (any number of rows, no more than the output has) without dilation; all else goes to a path that is 4 to
50 times slower on the shapes of a search. Here every case is brought to that kernel, in channels-last memory:

- 5 columns are two gradients of 3 columns, on views of one buffer that lie two pixels apart.
- Dilation 2 or stride 2: two neighbouring pixels of a row count as one pixel with twice the channels. That is a view,
  and steps of two columns become steps of one. Steps of two rows are every second row of a taller kernel.
- Dilation 2 at stride 2 reads and moves every second pixel only: it is a plain convolution of those.

The gradient with respect to the input is a convolution with the kernel flipped, whose forward kernel is fast. All of
these add up the same products as PyTorch's own gradients; `tests/nn/test_convolution.py` compares them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddarts.nn.dispatch import on_cpu


class DepthwiseConv(nn.Conv2d):
    """Depthwise convolution without bias: [B, C, H, W] -> [B, C, ceil(H / stride), ceil(W / stride)].

    A plain `nn.Conv2d(C, C, groups=C)` in parameters, initialisation and numbers.

    Args:
        channels: C.
        kernel: 3 or 5.
        stride: 1 or 2.
        dilation: 1 or 2.
    """

    def __init__(self, channels: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
        assert kernel in (3, 5)
        assert {stride, dilation} <= {1, 2}
        padding = dilation * (kernel - 1) // 2
        super().__init__(channels, channels, kernel, stride, padding, dilation=dilation, groups=channels, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `input` [B, C, H, W]."""
        x = input
        if on_cpu(x) and torch.is_grad_enabled():
            weight = self.weight
            if torch.is_autocast_enabled("cpu"):  # a custom function is outside autocast's list
                x, weight = x.to(torch.get_autocast_dtype("cpu")), weight.to(torch.get_autocast_dtype("cpu"))
            return _Depthwise.apply(x, weight, self.stride[0], self.dilation[0])
        return super().forward(input)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        keep_input = ctx.needs_input_grad[1]  # in the alpha step weights need no gradient: then x is not kept
        ctx.save_for_backward(weight, x if keep_input else None)
        ctx.geometry = (stride, dilation, x.shape[2:])
        return depthwise(x, weight, stride, dilation)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad,) = grads
        weight, x = ctx.saved_tensors
        stride, dilation, size = ctx.geometry
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = depthwise_input_gradient(grad, weight, stride, dilation, size)
        if ctx.needs_input_grad[1]:
            grad_weight = depthwise_weight_gradient(grad, x, weight, stride, dilation)
        return grad_x, grad_weight, None, None


def depthwise(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """Convolve `x` [B, C, H, W] with one kernel a channel [C, 1, k, k]: [B, C, ceil(H / stride), ceil(W / stride)]."""
    channels, _, kernel, _ = weight.shape
    return F.conv2d(x, weight, None, stride, dilation * (kernel // 2), dilation, channels)


def depthwise_constant(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """`depthwise` by a weight that is not trained: `x` is not kept for the backward pass."""
    return _Depthwise.apply(x, weight, stride, 1) if torch.is_grad_enabled() else depthwise(x, weight, stride)  # type: ignore[return-value]


def depthwise_input_gradient(grad: Tensor, weight: Tensor, stride: int, dilation: int, size: tuple[int, int]) -> Tensor:
    """The gradient [B, C, H, W] at the input of `depthwise`, of size (H, W), from the one at its output.

    On the CPU: the output's gradient convolved with the flipped kernel.
    """
    if not on_cpu(grad):
        shape = (*grad.shape[:2], *size)  # only shape and memory format of the input are read
        x = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last)
        return _plain_gradients(grad, x, weight, stride, dilation, (True, False))[0]
    channels, _, kernel, _ = weight.shape
    flipped = weight.flip(2, 3)
    if stride == 1:
        return F.conv2d(grad, flipped, None, 1, dilation * (kernel // 2), dilation, channels)
    # Zeros between the pixels of the gradient; or of the result, where every second input pixel is never read.
    if dilation == 2:
        grad = F.conv2d(grad, flipped, None, 1, kernel // 2, 1, channels)
    spread = _channels_first(grad.new_zeros((grad.shape[0], *size, channels)))
    spread[:, :, ::2, ::2] = grad
    return spread if dilation == 2 else F.conv2d(spread, flipped, None, 1, kernel // 2, 1, channels)


def depthwise_weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """The gradient [C, 1, k, k] at the weight of `depthwise`: its input correlated with the output's gradient."""
    if not on_cpu(grad):
        return _plain_gradients(grad, x, weight, stride, dilation, (False, True))[1]
    kernel = weight.shape[-1]
    if stride == 2 and dilation == 2:
        x, stride, dilation = x[:, :, ::2, ::2], 1, 1
    if dilation == 2:
        folded = (_three_columns if kernel == 3 else _five_columns)(_fold(grad), _fold(x), 2 * kernel - 1)
        even, odd = folded[:, :, ::2].chunk(2)
        return even + odd
    if stride == 2 and kernel == 5:
        even, odd = _three_columns(torch.cat([grad, grad], 1), _fold(x), 5, (2, 1)).chunk(2)
        return torch.stack([even, odd], -1).flatten(-2)[..., :5]  # columns 0, 2, 4 and 1, 3
    if kernel == 5:
        return _five_columns(grad, x, 5)
    return _three_columns(grad, x, 3, (stride, stride))


def _three_columns(grad: Tensor, x: Tensor, rows: int, stride: tuple[int, int] = (1, 1), margin: int = 1) -> Tensor:
    """Gradient of a [rows, 3] kernel by PyTorch's own; `margin` columns of zeros belong to each side of `x`."""
    pad = rows // 2
    if grad.shape[2] < rows:  # the fast kernel wants as many rows as the kernel has: give it the zeros explicitly
        x, pad = _channels_first(F.pad(_channels_last(x), (0, 0, 0, 0, pad, pad))), 0
    channels = x.shape[1]
    shape = grad.new_empty((channels, 1, rows, 3))  # only its shape is read
    return torch.ops.aten.convolution_backward(
        grad, x, shape, None, stride, [pad, margin], [1, 1], False, [0, 0], channels, [False, True, False]
    )[1]


def _five_columns(grad: Tensor, x: Tensor, rows: int) -> Tensor:
    """Gradient of a [rows, 5] kernel: columns 0 to 2 and 3 to 4 from the same pixels, seen with two zeros before or
    after each row."""
    x = _channels_last(x)
    batch, height, width, channels = x.shape
    two = 2 * channels
    shape = (batch, height, width + 2, channels)
    count = batch * height * (width + 2) * channels
    buffer = x.new_empty(count + two)
    buffer[:two] = 0
    after = buffer[two:].view(shape)
    after[:, :, :width] = x
    after[:, :, width:] = 0
    before = buffer[:count].view(shape)  # the zeros at the end of each row stand before the next
    left = _three_columns(grad, _channels_first(before), rows, margin=0)
    right = _three_columns(grad, _channels_first(after), rows, margin=0)
    return torch.cat([left, right[..., 1:]], -1)


def _fold(x: Tensor) -> Tensor:
    """Two neighbouring columns become one with twice the channels: [B, 2 * C, H, ceil(W / 2)], even columns first."""
    x = _channels_last(x)
    batch, height, width, channels = x.shape
    if width % 2:
        x = F.pad(x, (0, 0, 0, 1))
    return _channels_first(x.reshape(batch, height, (width + 1) // 2, 2 * channels))


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _plain_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, dilation: int, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """PyTorch's own gradients at the input and the weight."""
    channels, _, kernel, _ = weight.shape
    pad, zero, step, spread = [dilation * (kernel // 2)] * 2, [0, 0], [stride] * 2, [dilation] * 2
    return torch.ops.aten.convolution_backward(
        grad, x, weight, None, step, pad, spread, False, zero, channels, [*wanted, False]
    )[:2]
