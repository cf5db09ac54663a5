"""A discrete network written down plainly, module for module as its state dicts are published.

Its tensors have the published names because its modules are nested that way, and it computes what the published code
computes: nodes in the order of the edges, all of them concatenated. A few operations are enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: (operation, to, from), as published genotypes list them
PlainEdge = tuple[str, int, int]


class _Wrapped(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.op = nn.Sequential(nn.ReLU(), *layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class _Halved(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return self.bn(torch.cat((self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])), dim=1))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> _Wrapped:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return _Wrapped(layer, nn.BatchNorm2d(outputs))


def _operation(name: str, width: int, stride: int) -> nn.Module:
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else _Halved(width, width)
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, 1)
    if name == "conv_7x1_1x7":
        return nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, width, (1, 7), (1, stride), (0, 3), bias=False),
            nn.Conv2d(width, width, (7, 1), (stride, 1), (3, 0), bias=False),
            nn.BatchNorm2d(width),
        )
    return _convolution(width, width, {"simple_conv_1x1": 1, "simple_conv_3x3": 3}[name], stride)


class _PlainCell(nn.Module):
    def __init__(
        self, edges: Sequence[PlainEdge], inputs: tuple[int, int], width: int, halves: bool, halve0: bool
    ) -> None:
        super().__init__()
        self.preprocess0 = _Halved(inputs[0], width) if halve0 else _convolution(inputs[0], width, 1)
        self.preprocess1 = _convolution(inputs[1], width, 1)
        self._ops = nn.ModuleDict()
        for name, target, source in edges:
            node = self._ops[str(target)] if str(target) in self._ops else nn.ModuleDict()
            place = node[str(source)] if str(source) in node else nn.ModuleList()
            place.append(_operation(name, width, 2 if halves and source < 2 else 1))
            node[str(source)] = place
            self._ops[str(target)] = node
        self.outputs = len(self._ops) * width

    def forward(self, input0: Tensor, input1: Tensor) -> Tensor:
        states = {"0": self.preprocess0(input0), "1": self.preprocess1(input1)}
        for target, node in self._ops.items():
            states[target] = sum(op(states[source]) for source, ops in node.items() for op in ops)
        return torch.cat(list(states.values())[2:], dim=1)


class PlainNetwork(nn.Module):
    """Cells of `edges`, those at `reductions` halve; fresh statistics, so that none of them are 0 and 1."""

    def __init__(
        self,
        cells: Sequence[Sequence[PlainEdge]],
        reductions: Sequence[int],
        *,
        channels: int = 4,
        in_channels: int = 3,
        classes: int = 3,
        stem: str = "cifar",
    ) -> None:
        super().__init__()
        if stem == "cifar":
            widths = [3 * channels] * 2
            self.stem = nn.Sequential(
                nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0])
            )
        else:
            widths, half = [channels] * 2, channels // 2
            self.stem0 = nn.Sequential(
                nn.Conv2d(in_channels, half, 3, 2, 1, bias=False),
                nn.BatchNorm2d(half),
                nn.ReLU(),
                nn.Conv2d(half, channels, 3, 1, 1, bias=False),
                nn.BatchNorm2d(channels),
            )
            self.stem1 = nn.Sequential(
                nn.ReLU(), nn.Conv2d(channels, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels)
            )
        self.cells = nn.ModuleList()
        halved, width = stem != "cifar", channels
        for position, edges in enumerate(cells):
            halves = position in reductions
            width *= 2 if halves else 1
            cell = _PlainCell(edges, (widths[-2], widths[-1]), width, halves, halved)
            self.cells.append(cell)
            widths.append(cell.outputs)
            halved = halves
        self.classifier = nn.Linear(widths[-1], classes)
        for name, tensor in self.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim < 2:
                tensor.uniform_(0.5, 1.5) if "var" in name or "weight" in name else tensor.uniform_(-0.5, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes]."""
        state0 = self.stem(x) if hasattr(self, "stem") else self.stem0(x)
        state1 = state0 if hasattr(self, "stem") else self.stem1(state0)
        for cell in self.cells:
            state0, state1 = state1, cell(state0, state1)
        return self.classifier(state1.mean((2, 3)))
