"""The modules of standard networks (`ddarts.space.standard`) and of the space `residual`."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from ddarts.nn.batch_norm import norm_relu
from ddarts.nn.choice_network import Block, Slot
from ddarts.nn.inverted_residual import ConvBN, Residual, skip
from ddarts.nn.mobile import Mobile, layers_of
from ddarts.nn.operations import conv
from ddarts.nn.pointwise import convolve
from ddarts.space import residual
from ddarts.space.choice_space import ChoiceSpace
from ddarts.space.mobile import SKIP
from ddarts.space.standard import NETWORKS


class BasicBlock(Residual):
    """3x3 convolution - BN - ReLU - 3x3 convolution - BN, plus the shortcut, then ReLU (arXiv 1512.03385, figure 2).

    Maps [B, inputs, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)]. The shortcut is the identity, or where
    the shape changes a 1x1 convolution without batch norm, as in the ResNet-8 of MLPerf Tiny.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        stride: 1 or 2, of the first convolution and the shortcut.
        expansion: channels between the convolutions over `outputs`.
        affine: whether batch norms have a scale and a shift (False during a search).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, *, expansion: int = 1, affine: bool = True) -> None:
        super().__init__()
        hidden = expansion * outputs
        self.conv1 = conv(inputs, hidden, 3, stride=stride)
        self.norm1 = nn.BatchNorm2d(hidden, affine=affine)
        self.conv2 = conv(hidden, outputs, 3)
        self.norm2 = nn.BatchNorm2d(outputs, affine=affine)
        self.shortcut = None if stride == 1 and inputs == outputs else conv(inputs, outputs, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block."""
        y = convolve(self.conv2, norm_relu(self.norm1, convolve(self.conv1, x)))
        return self.joined(x if self.shortcut is None else convolve(self.shortcut, x), self.norm2, y, relu=True)


class Standard:
    """Base of the skeletons: knows the stages of its space, a standard network's or `residual`."""

    def __init__(self, space: ChoiceSpace) -> None:
        name = space.name.partition(":")[2]
        self.stages = NETWORKS[name] if name else residual.STAGES

    @classmethod
    def of_space(cls, space: ChoiceSpace) -> Self:
        """Return the skeleton of a space."""
        return cls(space)


class ResNet(Standard):
    """3x3 convolution - three stages of basic blocks (arXiv 1512.03385, section 4.2).

    With 8 layers and C = 16 this is the ResNet-8 of MLPerf Tiny (arXiv 2106.07597) without the biases of convolutions,
    which batch norms follow. The stem for large images is that of ResNet-18: a 7x7 convolution and a maximum pool, both
    of stride 2.
    """

    @staticmethod
    def candidate(name: str, inputs: int, outputs: int, stride: int, *, affine: bool) -> nn.Module:
        """Build a basic block, ``residual`` or ``basic_e<expansion>``, or ``skip``."""
        if name == SKIP:
            return skip(inputs, outputs, stride, affine=affine)
        return BasicBlock(inputs, outputs, stride, expansion=1 + name.endswith("_e2"), affine=affine)

    def blocks(self, slot: Slot, *, channels: int, in_channels: int, stem: str) -> list[Block]:
        """Build the network before its pooling; the stages have C, 2C and 4C channels."""
        first = Block("stem", ConvBN(in_channels, channels, 3, relu=True), channels)
        if stem == "imagenet":
            layers = ConvBN(in_channels, channels, 7, 2, relu=True), nn.MaxPool2d(3, 2, 1)
            first = Block("stem", nn.Sequential(*layers), channels, 4)
        return layers_of(self.stages, slot, first)


class MobileNetV2(Standard):
    """3x3 convolution - inverted residuals in seven stages - 1x1 convolution (arXiv 1801.04381, table 2).

    The stem has C channels, 32 in the published network; the last convolution has 40 C. With the stem for small images,
    it and the second stage keep the resolution: 32 pixels become 4.
    """

    @staticmethod
    def candidate(name: str, inputs: int, outputs: int, stride: int, *, affine: bool) -> nn.Module:
        """Build an inverted residual."""
        return Mobile.candidate(name, inputs, outputs, stride, affine=affine)

    def blocks(self, slot: Slot, *, channels: int, in_channels: int, stem: str) -> list[Block]:
        """Build the network before its pooling."""
        large = stem == "imagenet"
        first = Block("stem", ConvBN(in_channels, channels, 3, 1 + large, relu=True), channels, 1 + large)
        blocks = layers_of(self.stages, slot, first, halves=1 if large else None)
        head = ConvBN(blocks[-1].outputs, 40 * channels, relu=True)
        return [*blocks, Block("head", head, 40 * channels)]
