"""Stems: the first layers of a network, before the cells (specification, section 1; DARTS, arXiv 1806.09055, A.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ddarts.errors import SettingsError, nearest
from ddarts.nn.operations import conv


class CifarStem(nn.Module):
    """3x3 convolution to 3C channels - batch norm; keeps the resolution and gives both input states of the first cell.

    Attributes:
        outputs: channels of the two states.
        halves: whether the second state has half the resolution of the first.
        states: (reduction, module) of the two states.
        first: name of the convolution that reads the images.
    """

    halves = False
    states = ((1, "stem.norm"), (1, "stem.norm"))
    first = "conv"

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.outputs = (3 * channels, 3 * channels)
        self.conv = conv(inputs, 3 * channels, 3)
        self.norm = nn.BatchNorm2d(3 * channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images [B, inputs, H, W] to the two states, each rectified: [B, 3C, H, W] twice (the same tensor)."""
        state = F.relu_(self.norm(self.conv(x)))
        return state, state


class ImageNetStem(nn.Module):
    """Two stems that halve the resolution one after the other: state 0 has half, state 1 a quarter of the images' side.

    First 3x3 convolution (stride 2) to C/2 - BN - ReLU - 3x3 convolution to C - BN, then ReLU - 3x3 convolution (stride
    2) - BN.

    Attributes:
        outputs: channels of the two states.
        halves: whether the second state has half the resolution of the first.
        states: (reduction, module) of the two states.
        first: name of the convolution that reads the images.
    """

    halves = True
    states = ((2, "stem.norm2"), (4, "stem.norm3"))
    first = "conv1"

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        narrow = max(channels // 2, 1)
        self.outputs = (channels, channels)
        self.conv1 = conv(inputs, narrow, 3, stride=2)
        self.norm1 = nn.BatchNorm2d(narrow)
        self.conv2 = conv(narrow, channels, 3)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv3: nn.Conv2d | None = conv(channels, channels, 3, stride=2)
        self.norm3: nn.BatchNorm2d | None = nn.BatchNorm2d(channels)

    def drop_second(self) -> None:
        """Remove the layers of state 1, in a network that never reads it."""
        self.conv3 = self.norm3 = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images [B, inputs, H, W] to the two states, each rectified: [B, C, H/2, W/2] and [B, C, H/4, W/4].

        Without the layers of state 1, state 0 stands in for it.
        """
        state0 = F.relu_(self.norm2(self.conv2(F.relu_(self.norm1(self.conv1(x))))))
        if self.conv3 is None or self.norm3 is None:
            return state0, state0
        return state0, F.relu_(self.norm3(self.conv3(state0)))


#: The stems by name.
STEMS: dict[str, type[CifarStem] | type[ImageNetStem]] = {"cifar": CifarStem, "imagenet": ImageNetStem}


def build_stem(name: str, inputs: int, channels: int) -> CifarStem | ImageNetStem:
    """Build the stem `name` ("cifar" or "imagenet") for images of `inputs` channels before cells of width `channels`.

    Raises:
        SettingsError: unknown name.
    """
    if name not in STEMS:
        raise SettingsError(f"unknown stem {name!r}{nearest(name, STEMS)}")
    return STEMS[name](inputs, channels)
