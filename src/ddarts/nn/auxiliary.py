"""The auxiliary head: a second classifier in the middle of the network that only training uses (DARTS, A.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class AuxiliaryHead(nn.Module):
    """ReLU - average pooling to 2x2 - 1x1 convolution - BN - ReLU - 2x2 convolution - BN - ReLU - linear.

    Fits maps of any size. On the 8x8 maps of CIFAR and the 7x7 maps of ImageNet it pools as DARTS does.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, 128, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(128)
        self.conv2 = nn.Conv2d(128, 768, 2, bias=False)
        self.norm2 = nn.BatchNorm2d(768)
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map a rectified cell output [B, inputs, H, W] to logits [B, classes]."""
        x = F.relu_(self.norm1(self.conv1(pool_to_2x2(x))))
        x = F.relu_(self.norm2(self.conv2(x)))
        return self.classifier(x.flatten(1))


def pool_to_2x2(x: Tensor) -> Tensor:
    """Average [B, C, H, W] over two windows a side, first and last, of 5/8 of the side: [B, C, 2, 2].

    5x5 windows at stride 3 on 8x8 maps and at stride 2 on 7x7 maps, as in DARTS; a side of 1 is seen twice.
    """
    height, width = x.shape[-2:]
    if height == 1 or width == 1:
        x = x.expand(-1, -1, 2 if height == 1 else -1, 2 if width == 1 else -1)
        height, width = x.shape[-2:]
    window = tuple(min(-(-5 * side // 8), side - 1) for side in (height, width))
    return F.avg_pool2d(x, window, (height - window[0], width - window[1]))
