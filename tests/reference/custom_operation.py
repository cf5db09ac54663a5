"""An operation as a stranger would add it: a gated convolution, in one class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ddarts.space.operations import OPERATIONS, Operation, register_operation


class Gated(nn.Module):
    """conv - BN, times the sigmoid of another convolution."""

    def __init__(self, channels: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.gate = nn.Conv2d(channels, channels, 1, stride)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) * torch.sigmoid(self.gate(x))


class GatedConv(Operation):
    name = "gated_conv_3x3"
    label = "gated 3x3"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        return Gated(channels, stride, affine)


class Negation(Operation):
    name = "negation"
    has_weights = False
    norm_in_search = True

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        class Negate(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return -x[:, :, ::stride, ::stride]

        return Negate()


@contextmanager
def registered(*operations: type[Operation]) -> Iterator[None]:
    """Have operations registered inside the context."""
    try:
        for operation in operations:
            register_operation(operation)
        yield
    finally:
        for operation in operations:
            OPERATIONS.unregister(operation.name)
