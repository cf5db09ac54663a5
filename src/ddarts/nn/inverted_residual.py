"""The inverted residual block of phone networks (MobileNetV2, arXiv 1801.04381; MobileNetV3, arXiv 1905.02244)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ddarts.nn.batch_norm import norm_relu
from ddarts.nn.operations import conv, depthwise
from ddarts.nn.pointwise import convolve


class SqueezeExcitation(nn.Module):
    """Scale each channel by a number from 0 to 1 that depends on the means of all channels (arXiv 1709.01507).

    Mean - 1x1 convolution to a quarter of the channels - ReLU - 1x1 convolution - hard sigmoid.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(channels // 4, 1)
        self.reduce = nn.Conv2d(channels, narrow, 1)
        self.expand = nn.Conv2d(narrow, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of `x` [B, C, H, W]."""
        scale = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * F.hardsigmoid(scale)


class Residual(nn.Module):
    """Base of blocks that add their input to what they compute.

    Attributes:
        residual: whether they do.
        drop_path: factors [B, 1, 1, 1] of what they compute (stochastic depth), or None.
    """

    residual = True
    drop_path: Tensor | None = None

    def joined(self, x: Tensor, norm: nn.BatchNorm2d, y: Tensor, *, relu: bool = False) -> Tensor:
        """Return the input `x` plus the normalised `y`, both [B, C, H, W], rectified if told."""
        if self.drop_path is None:
            return norm_relu(norm, y, x, relu=relu)
        y = norm_relu(norm, y, relu=False)
        y = x + y * self.drop_path.to(y.dtype)
        return F.relu_(y) if relu else y


class InvertedResidual(Residual):
    """1x1 convolution to expansion * inputs - BN - ReLU - depthwise - BN - ReLU - 1x1 convolution - BN, plus the input.

    Maps [B, inputs, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)]. The input is added where it has the
    shape of the output. An expansion of 1 has no first convolution.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        expansion: channels of the depthwise convolution over `inputs`.
        kernel: side of the depthwise kernel, odd.
        stride: 1 or 2.
        squeeze: whether squeeze-and-excitation follows the depthwise convolution.
        affine: whether batch norms have a scale and a shift (False during a search).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        expansion: int,
        kernel: int,
        stride: int = 1,
        squeeze: bool = False,
        affine: bool = True,
    ) -> None:
        super().__init__()
        hidden = expansion * inputs
        self.residual = stride == 1 and inputs == outputs
        self.expand = None if expansion == 1 else conv(inputs, hidden, 1)
        self.norm1 = None if expansion == 1 else nn.BatchNorm2d(hidden, affine=affine)
        self.depthwise = depthwise(hidden, kernel, stride=stride)
        self.norm2 = nn.BatchNorm2d(hidden, affine=affine)
        self.squeeze = SqueezeExcitation(hidden) if squeeze else None
        self.project = conv(hidden, outputs, 1)
        self.norm3 = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block."""
        y = x
        if self.expand is not None and self.norm1 is not None:
            y = norm_relu(self.norm1, self.expand(y))
        y = norm_relu(self.norm2, self.depthwise(y))
        if self.squeeze is not None:
            y = self.squeeze(y)
        y = self.project(y)
        return self.joined(x, self.norm3, y) if self.residual else norm_relu(self.norm3, y, relu=False)


class ConvBN(nn.Module):
    """Convolution - batch norm, with or without a ReLU after them."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, relu: bool = False, affine: bool = True
    ) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs, kernel, stride=stride)
        self.norm = nn.BatchNorm2d(outputs, affine=affine)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)]."""
        return norm_relu(self.norm, convolve(self.conv, x), relu=self.relu)


def skip(inputs: int, outputs: int, stride: int, *, affine: bool = True) -> nn.Module:
    """Return the identity, or a strided 1x1 convolution with batch norm where the shape changes."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return ConvBN(inputs, outputs, 1, stride, affine=affine)
