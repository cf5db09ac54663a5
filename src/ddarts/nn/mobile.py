"""The modules of the space `mobile` (`ddarts.space.mobile`)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ddarts.nn.choice_network import Block, Slot
from ddarts.nn.inverted_residual import ConvBN, InvertedResidual, skip
from ddarts.space.mobile import SKIP, STAGES, Stage


class Mobile:
    """3x3 convolution - inverted residual layers in five stages - 1x1 convolution to 80 times the width.

    The stem for small images keeps the resolution, which three of the stages halve: 32 pixels become 4. With the stem
    for large images the first convolution and the first stage halve it too: 224 pixels become 7.
    """

    @staticmethod
    def candidate(name: str, inputs: int, outputs: int, stride: int, *, affine: bool) -> nn.Module:
        """Build an inverted residual ``mb_e<expansion>_k<kernel>[_se]``, or ``skip``."""
        if name == SKIP:
            return skip(inputs, outputs, stride, affine=affine)
        _, expansion, kernel, *squeeze = name.split("_")
        return InvertedResidual(
            inputs,
            outputs,
            expansion=int(expansion[1:]),
            kernel=int(kernel[1:]),
            stride=stride,
            squeeze=bool(squeeze),
            affine=affine,
        )

    @staticmethod
    def blocks(slot: Slot, *, channels: int, in_channels: int, stem: str) -> list[Block]:
        """Build the network before its pooling; the stem has `channels` channels, layers 1.5 to 12 times as many."""
        large = stem == "imagenet"
        first = Block("stem", ConvBN(in_channels, channels, 3, 1 + large, relu=True), channels, 1 + large)
        blocks = layers_of(STAGES, slot, first, halves=0 if large else None)
        head = ConvBN(blocks[-1].outputs, 80 * channels, relu=True)
        return [*blocks, Block("head", head, 80 * channels)]


def layers_of(stages: Sequence[Stage], slot: Slot, stem: Block, *, halves: int | None = None) -> list[Block]:
    """Build a stem and the layers of stages after it.

    Args:
        stages: their widths are over that of the stem.
        slot: builds a layer; the choices are the layers, in order.
        stem: the first block.
        halves: index of a stage that halves the resolution whatever its stride is.
    """
    blocks = [stem]
    for index, stage in enumerate(stages):
        outputs = max(round(stage.width * stem.outputs), 1)
        for layer in range(stage.layers):
            stride = (2 if index == halves else stage.stride) if layer == 0 else 1
            number = len(blocks) - 1
            module = slot(number, blocks[-1].outputs, outputs, stride)
            blocks.append(Block(f"layer{number}", module, outputs, stride))
    return blocks
