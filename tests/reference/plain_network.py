"""A discrete network written down plainly, module for module as its state dicts are published.

Its tensors have the published names because its modules are nested that way, and it computes what the published code
computes: nodes in the order of the edges, all of them concatenated unless told otherwise. One module an operation,
memory as PyTorch lays it out, PyTorch's own convolutions: what the package's network is compared and timed with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def _depthwise(width: int, kernel: int, stride: int, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(width, width, kernel, stride, padding, dilation=dilation, groups=width, bias=False)


def _pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def _separable(width: int, kernel: int, stride: int) -> _Wrapped:
    return _Wrapped(
        _depthwise(width, kernel, stride), _pointwise(width, width), nn.BatchNorm2d(width), nn.ReLU(),
        _depthwise(width, kernel, 1), _pointwise(width, width), nn.BatchNorm2d(width),
    )  # fmt: skip


def _dilated(width: int, kernel: int, stride: int) -> _Wrapped:
    return _Wrapped(_depthwise(width, kernel, stride, 2), _pointwise(width, width), nn.BatchNorm2d(width))


def _cross(width: int, kernel: int, stride: int) -> list[nn.Module]:
    row = nn.Conv2d(width, width, (1, kernel), (1, stride), (0, kernel // 2), bias=False)
    column = nn.Conv2d(width, width, (kernel, 1), (stride, 1), (kernel // 2, 0), bias=False)
    return [row, column, nn.BatchNorm2d(width)]


def _bottleneck(width: int, stride: int) -> _Wrapped:
    return _Wrapped(
        _pointwise(width, width), nn.BatchNorm2d(width),
        nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width),
        _pointwise(width, 4 * width), nn.BatchNorm2d(4 * width), nn.ReLU(),
        _pointwise(4 * width, width), nn.BatchNorm2d(width),
    )  # fmt: skip


_BUILD: dict[str, Callable[[int, int], nn.Module]] = {
    "max_pool_3x3": lambda w, s: nn.MaxPool2d(3, s, 1),
    "avg_pool_3x3": lambda w, s: nn.AvgPool2d(3, s, 1, count_include_pad=False),
    "skip_connect": lambda w, s: nn.Identity() if s == 1 else _Halved(w, w),
    "conv_3x1_1x3": lambda w, s: _Wrapped(*_cross(w, 3, s)),
    "conv_7x1_1x7": lambda w, s: nn.Sequential(nn.ReLU(), *_cross(w, 7, s)),
    "simple_conv_1x1": lambda w, s: _convolution(w, w, 1, s),
    "simple_conv_3x3": lambda w, s: _convolution(w, w, 3, s),
    "sep_conv_3x3": lambda w, s: _separable(w, 3, s),
    "sep_conv_5x5": lambda w, s: _separable(w, 5, s),
    "dil_conv_3x3": lambda w, s: _dilated(w, 3, s),
    "dil_conv_5x5": lambda w, s: _dilated(w, 5, s),
    "bottleneck_1x3x1": _bottleneck,
}


class _PlainCell(nn.Module):
    def __init__(
        self,
        edges: Sequence[PlainEdge],
        inputs: tuple[int, int],
        width: int,
        halves: bool,
        halve0: bool,
        concat: Sequence[int] | None,
    ) -> None:
        super().__init__()
        self.preprocess0 = _Halved(inputs[0], width) if halve0 else _convolution(inputs[0], width, 1)
        self.preprocess1 = _convolution(inputs[1], width, 1)
        self._ops = nn.ModuleDict()
        for name, target, source in edges:
            node = self._ops[str(target)] if str(target) in self._ops else nn.ModuleDict()
            place = node[str(source)] if str(source) in node else nn.ModuleList()
            place.append(_BUILD[name](width, 2 if halves and source < 2 else 1))
            node[str(source)] = place
            self._ops[str(target)] = node
        self.concat = list(self._ops) if concat is None else [str(state) for state in concat]
        self.outputs = len(self.concat) * width

    def forward(self, input0: Tensor, input1: Tensor) -> Tensor:
        states = {"0": self.preprocess0(input0), "1": self.preprocess1(input1)}
        for target, node in self._ops.items():
            states[target] = sum(op(states[source]) for source, ops in node.items() for op in ops)
        return torch.cat([states[state] for state in self.concat], dim=1)


class PlainNetwork(nn.Module):
    """Cells of `edges`, those at `reductions` halve; fresh statistics, so that none of them are 0 and 1.

    `concat` has the states that each cell concatenates, all of its nodes if not given.
    """

    def __init__(
        self,
        cells: Sequence[Sequence[PlainEdge]],
        reductions: Sequence[int],
        *,
        channels: int = 4,
        in_channels: int = 3,
        classes: int = 3,
        stem: str = "cifar",
        concat: Sequence[Sequence[int]] | None = None,
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
            chosen = None if concat is None else concat[position]
            cell = _PlainCell(edges, (widths[-2], widths[-1]), width, halves, halved, chosen)
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
