"""Convolutions as blocks call them, and 1x1 convolutions with their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ddarts.kernels import discrete, operators
from ddarts.nn.batch_norm import BatchStatistics, batch_norm_gradient, normalise
from ddarts.nn.dispatch import channels_last, on_cpu, working

#: Kernel, stride, padding, dilation and groups of the convolutions that the package has a kernel for, and the most
#: channels with which it is faster than oneDNN's.
_3X3, _WIDEST = ((3, 3), (1, 1), (1, 1), (1, 1), 1), 128

#: Side of the images that pointwise convolutions are given on the CPU.
_TILE = 8


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return ``conv(x)`` for a convolution without bias.

    Without gradients it is just that, so that an exported graph holds a plain convolution. With gradients, a 3x3
    convolution of stride 1 takes the package's kernel where that is faster. A 1x1 convolution with a stride reads every
    second pixel only: those are picked first, and the convolution itself has stride 1. The result is the same. With a
    stride of its own, oneDNN's weight gradient for channels-last images of few channels (below 16 with AVX-512, below 8
    with AVX2) writes past the end of its workspace: wrong gradients, a hang or a crash (oneDNN issue 6035, in PyTorch
    2.14).
    """
    if not torch.is_grad_enabled():
        return conv(x)
    if _fits(conv, x):
        return discrete.conv3x3(working(x), conv.weight)
    if conv.kernel_size != (1, 1) or conv.stride == (1, 1):
        return conv(x)
    down, right = conv.stride
    return F.conv2d(x[:, :, ::down, ::right], conv.weight, None, 1, 0, 1, conv.groups)


def _fits(conv: nn.Conv2d, x: Tensor) -> bool:
    """Return whether the kernel for 3x3 convolutions takes this one, and is faster than oneDNN's."""
    narrow, wide = sorted((conv.in_channels, conv.out_channels))
    geometry = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
    return geometry == _3X3 and 8 < wide <= _WIDEST and on_cpu(x) and operators.fits(x, narrow)


def pointwise(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """1x1 convolution in groups, in the dtype of `x`: [B, G * I, H, W] by [G * O, I, 1, 1] to [B, G * O, H, W]."""
    weight = weight.to(x.dtype)
    batch, channels, height, width = x.shape
    if on_cpu(x) and height * width > _TILE**2 and batch * height * width % _TILE**2 == 0:
        # pixels do not see each other, so any shape will do; on this one oneDNN is faster with few channels
        tiles = x.permute(0, 2, 3, 1).reshape(-1, _TILE, _TILE, channels).permute(0, 3, 1, 2)
        out = F.conv2d(tiles, weight, None, 1, 0, 1, groups)
        return out.permute(0, 2, 3, 1).reshape(batch, height, width, -1).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, None, 1, 0, 1, groups)


def pointwise_input_gradient(grad: Tensor, weight: Tensor, groups: int) -> Tensor:
    """The gradient at the input of `pointwise`: again a 1x1 convolution, by each group's weight transposed."""
    transposed = weight.view(groups, -1, weight.shape[1]).transpose(1, 2).reshape(-1, weight.shape[0] // groups, 1, 1)
    return pointwise(grad, transposed, groups)


def pointwise_weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """The gradient at the weight of `pointwise`, whose input was `x`."""
    found = torch.ops.aten.convolution_backward(
        grad, x, weight.to(x.dtype), None, [1, 1], [0, 0], [1, 1], False, [0, 0], groups, [False, True, False]
    )[1]
    return found.to(weight.dtype)


def relu_pointwise_norm(x: Tensor, weight: Tensor, norm: BatchStatistics) -> Tensor:
    """ReLU - pointwise convolution - batch norm: [B, I, H, W] by [O, I, 1, 1] to [B, O, H, W].

    Only `x` is saved for the backward pass. It cannot be differentiated twice.
    """
    return _ReluPointwiseNorm.apply(working(x), weight, norm)  # type: ignore[return-value]


class _ReluPointwiseNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, norm: BatchStatistics) -> Tensor:
        u = pointwise(F.relu(x), weight, 1)
        mean, var = norm.measure(u)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.mode = norm.mode
        return normalise(u, mean, var)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, mean, var = ctx.saved_tensors
        relu = F.relu(x)
        grad, _ = batch_norm_gradient(ctx.mode, channels_last(grads[0]), pointwise(relu, weight, 1), mean, var)
        at_x = at_weight = None
        if ctx.needs_input_grad[1]:
            at_weight = pointwise_weight_gradient(grad, relu, weight, 1)
        if ctx.needs_input_grad[0]:
            at_x = torch.ops.aten.threshold_backward(pointwise_input_gradient(grad, weight, 1), x, 0)
        return at_x, at_weight, None
