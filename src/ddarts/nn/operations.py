"""The candidate operations as modules, one name each (specification, section 1; DARTS, arXiv 1806.09055, A.1.1).

Every operation maps [B, C, H, W] to [B, C, H, W], or to [B, C, ceil(H / 2), ceil(W / 2)] at stride 2.

Most operations begin with a ReLU. They derive from `Rectified`, whose `after_relu` takes an input that is rectified
already: a cell rectifies each of its states once for all the operations that read it.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from ddarts.errors import SettingsError
from ddarts.nn.convolution import DepthwiseConv
from ddarts.nn.pointwise import convolve
from ddarts.space.operations import OPERATIONS


class Rectified(nn.Module):
    """A module that begins with a ReLU: ``forward(x) == after_relu(relu(x))``."""

    def after_relu(self, x: Tensor) -> Tensor:
        """Apply everything but the first ReLU; `x` is [B, C, H, W] without negative values and is not changed."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Rectify `x` [B, C, H, W], then the rest."""
        return self.after_relu(F.relu(x))


def conv(inputs: int, outputs: int, kernel: int | tuple[int, int], *, stride: int | tuple[int, int] = 1) -> nn.Conv2d:
    """Return a convolution without bias, padded so that stride 1 keeps the size."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    return nn.Conv2d(inputs, outputs, (height, width), stride, (height // 2, width // 2), bias=False)


def depthwise(channels: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Return a convolution of each channel with itself, padded so that stride 1 keeps the size."""
    if kernel <= 5 and (stride == 1 or dilation > 1):
        return DepthwiseConv(channels, kernel, stride=stride, dilation=dilation)  # its gradients are faster on the CPU
    return nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)


class ReLUConvBN(Rectified):
    """ReLU - convolution - batch norm: [B, inputs, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)]."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, affine: bool = True) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs, kernel, stride=stride)
        self.norm = nn.BatchNorm2d(outputs, affine=affine)

    def after_relu(self, x: Tensor) -> Tensor:
        """Convolution - batch norm of a rectified input."""
        return self.norm(convolve(self.conv, x))


class FactorizedReduce(Rectified):
    """ReLU - two 1x1 convolutions of stride 2, one shifted by a pixel, concatenated - batch norm.

    [B, inputs, H, W] to [B, outputs, ceil(H / 2), ceil(W / 2)]. Of an odd number of outputs the first convolution gives
    one more than the second (which a single output leaves out). An odd side is padded with a zero at its end: both
    convolutions then see the same number of positions, even in a map of a single pixel.
    """

    def __init__(self, inputs: int, outputs: int, *, affine: bool = True) -> None:
        super().__init__()
        second = outputs // 2
        self.conv1 = nn.Conv2d(inputs, outputs - second, 1, 2, bias=False)
        self.conv2 = nn.Conv2d(inputs, second, 1, 2, bias=False) if second else None
        self.norm = nn.BatchNorm2d(outputs, affine=affine)

    def after_relu(self, x: Tensor) -> Tensor:
        """Both convolutions - concatenation - batch norm of a rectified input."""
        x = _pad_to_even(x)
        if self.conv2 is None:
            return self.norm(convolve(self.conv1, x))
        return self.norm(torch.cat((convolve(self.conv1, x), convolve(self.conv2, x[:, :, 1:, 1:])), dim=1))


@torch.fx.wrap  # one node in a traced graph: what it does depends on the size
def _pad_to_even(x: Tensor) -> Tensor:
    """Add a row and a column of zeros to [B, C, H, W] where H and W are odd."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x


class SeparableConv(Rectified):
    """Twice ReLU - depthwise - pointwise - batch norm; the first depthwise convolution has the stride."""

    def __init__(self, channels: int, kernel: int, stride: int, *, affine: bool = True) -> None:
        super().__init__()
        self.depthwise1 = depthwise(channels, kernel, stride=stride)
        self.pointwise1 = conv(channels, channels, 1)
        self.norm1 = nn.BatchNorm2d(channels, affine=affine)
        self.depthwise2 = depthwise(channels, kernel)
        self.pointwise2 = conv(channels, channels, 1)
        self.norm2 = nn.BatchNorm2d(channels, affine=affine)

    def after_relu(self, x: Tensor) -> Tensor:
        """Everything after the first ReLU."""
        x = F.relu_(self.norm1(self.pointwise1(self.depthwise1(x))))
        return self.norm2(self.pointwise2(self.depthwise2(x)))


class DilatedConv(Rectified):
    """ReLU - depthwise convolution of dilation 2 - pointwise - batch norm."""

    def __init__(self, channels: int, kernel: int, stride: int, *, affine: bool = True) -> None:
        super().__init__()
        self.depthwise = depthwise(channels, kernel, stride=stride, dilation=2)
        self.pointwise = conv(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def after_relu(self, x: Tensor) -> Tensor:
        """Depthwise - pointwise - batch norm of a rectified input."""
        return self.norm(self.pointwise(self.depthwise(x)))


class ConvPair(Rectified):
    """ReLU - 1xk convolution (stride along the width) - kx1 convolution (stride along the height) - batch norm."""

    def __init__(self, channels: int, kernel: int, stride: int, *, affine: bool = True) -> None:
        super().__init__()
        self.along_width = conv(channels, channels, (1, kernel), stride=(1, stride))
        self.along_height = conv(channels, channels, (kernel, 1), stride=(stride, 1))
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def after_relu(self, x: Tensor) -> Tensor:
        """Both convolutions - batch norm of a rectified input."""
        return self.norm(self.along_height(self.along_width(x)))


class Bottleneck(Rectified):
    """ReLU - 1x1 (C to C) - BN - 3x3 (stride) - BN - 1x1 (C to 4C) - BN - ReLU - 1x1 (4C to C) - BN."""

    def __init__(self, channels: int, kernel: int, stride: int, *, affine: bool = True) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels, 1)
        self.norm1 = nn.BatchNorm2d(channels, affine=affine)
        self.conv2 = conv(channels, channels, kernel, stride=stride)
        self.norm2 = nn.BatchNorm2d(channels, affine=affine)
        self.conv3 = conv(channels, 4 * channels, 1)
        self.norm3 = nn.BatchNorm2d(4 * channels, affine=affine)
        self.conv4 = conv(4 * channels, channels, 1)
        self.norm4 = nn.BatchNorm2d(channels, affine=affine)

    def after_relu(self, x: Tensor) -> Tensor:
        """Everything after the first ReLU."""
        x = self.norm2(self.conv2(self.norm1(self.conv1(x))))
        return self.norm4(self.conv4(F.relu_(self.norm3(self.conv3(x)))))


class SimpleConv(ReLUConvBN):
    """ReLU - convolution - batch norm that keeps the width."""

    def __init__(self, channels: int, kernel: int, stride: int, *, affine: bool = True) -> None:
        super().__init__(channels, channels, kernel, stride, affine=affine)


def build_max_pool(channels: int, kernel: int, stride: int, *, affine: bool = True) -> nn.Module:
    """Return a maximum pool that keeps the size at stride 1; nothing is affine in it."""
    return nn.MaxPool2d(kernel, stride, kernel // 2)


def build_average_pool(channels: int, kernel: int, stride: int, *, affine: bool = True) -> nn.Module:
    """Return an average pool that keeps the size at stride 1 and does not count padding; nothing is affine in it."""
    return nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False)


def build_skip(channels: int, kernel: int, stride: int, *, affine: bool = True) -> nn.Module:
    """Return the identity, or at stride 2 a factorized reduction."""
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine=affine)


def build_operation(name: str, channels: int, stride: int, *, affine: bool = True) -> nn.Module:
    """Build one operation of a discrete network.

    Args:
        name: a name in `ddarts.space.operations.OPERATIONS`.
        channels: C of input and output.
        stride: 1, or 2 to halve the resolution (rounding up).
        affine: whether batch norms have a scale and a shift. Pools have no batch norm here.

    Raises:
        GenotypeError: unknown name.
        SettingsError: a stride other than 1 and 2.
    """
    operation = OPERATIONS.get(name)
    if stride not in (1, 2):
        raise SettingsError(f"stride {stride!r} of {name}: only 1 and 2 are possible")
    return operation.build(channels, stride, affine)


def build_candidate(name: str, channels: int, stride: int) -> nn.Module:
    """Build one operation as a supernet holds it: no batch norm is affine, and pools are followed by one.

    Args and errors are those of `build_operation`.
    """
    module = build_operation(name, channels, stride, affine=False)
    if OPERATIONS.get(name).norm_in_search:
        return nn.Sequential(OrderedDict(operation=module, norm=nn.BatchNorm2d(channels, affine=False)))
    return module
