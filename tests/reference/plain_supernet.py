"""A supernet in the plainest form: one module for each operation and edge, contiguous memory, whole ablated passes.

Built from the description in the paper and named as the published checkpoints are, so that the reference values load
without a mapping. It is slow, and the package does not use it: it is what the package's fast supernet is compared with.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddarts.space.cell_space import SearchSpace


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, affine=False)


class Chain(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.op = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class FactorizedReduce(nn.Module):
    def __init__(self, c_in: int, c: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(c_in, c - c // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(c_in, c // 2, 1, stride=2, bias=False) if c > 1 else None
        self.bn = norm(c)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        if self.conv_2 is None:
            return self.bn(self.conv_1(x))
        shifted = torch.zeros_like(x)
        shifted[:, :, :-1, :-1] = x[:, :, 1:, 1:]
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(shifted)], 1))


def relu_conv_bn(c_in: int, c: int) -> Chain:
    return Chain(nn.ReLU(), nn.Conv2d(c_in, c, 1, bias=False), norm(c))


def separable(c: int, k: int, s: int) -> Chain:
    p = k // 2
    return Chain(
        nn.ReLU(), nn.Conv2d(c, c, k, s, p, groups=c, bias=False), nn.Conv2d(c, c, 1, bias=False), norm(c),
        nn.ReLU(), nn.Conv2d(c, c, k, 1, p, groups=c, bias=False), nn.Conv2d(c, c, 1, bias=False), norm(c),
    )  # fmt: skip


def dilated(c: int, k: int, s: int) -> Chain:
    conv = nn.Conv2d(c, c, k, s, k - 1, dilation=2, groups=c, bias=False)
    return Chain(nn.ReLU(), conv, nn.Conv2d(c, c, 1, bias=False), norm(c))


def simple(c: int, k: int, s: int) -> Chain:
    return Chain(nn.ReLU(), nn.Conv2d(c, c, k, s, k // 2, bias=False), norm(c))


def cross(c: int, k: int, s: int) -> list[nn.Module]:
    p = k // 2
    row = nn.Conv2d(c, c, (1, k), (1, s), (0, p), bias=False)
    return [nn.ReLU(), row, nn.Conv2d(c, c, (k, 1), (s, 1), (p, 0), bias=False), norm(c)]


def bottleneck(c: int, s: int) -> Chain:
    return Chain(
        nn.ReLU(), nn.Conv2d(c, c, 1, bias=False), norm(c), nn.Conv2d(c, c, 3, s, 1, bias=False), norm(c),
        nn.Conv2d(c, 4 * c, 1, bias=False), norm(4 * c), nn.ReLU(), nn.Conv2d(4 * c, c, 1, bias=False), norm(c),
    )  # fmt: skip


BUILD = {
    "conv_3x1_1x3": lambda c, s: Chain(*cross(c, 3, s)),
    "conv_7x1_1x7": lambda c, s: nn.Sequential(*cross(c, 7, s)),
    "max_pool_3x3": lambda c, s: nn.Sequential(nn.MaxPool2d(3, s, 1), norm(c)),
    "avg_pool_3x3": lambda c, s: nn.Sequential(nn.AvgPool2d(3, s, 1, count_include_pad=False), norm(c)),
    "skip_connect": lambda c, s: nn.Identity() if s == 1 else FactorizedReduce(c, c),
    "simple_conv_1x1": lambda c, s: simple(c, 1, s),
    "simple_conv_3x3": lambda c, s: simple(c, 3, s),
    "sep_conv_3x3": lambda c, s: separable(c, 3, s),
    "sep_conv_5x5": lambda c, s: separable(c, 5, s),
    "dil_conv_3x3": lambda c, s: dilated(c, 3, s),
    "dil_conv_5x5": lambda c, s: dilated(c, 5, s),
    "bottleneck_1x3x1": lambda c, s: bottleneck(c, s),
}


class PlainEdge(nn.Module):
    def __init__(self, operations: tuple[str, ...], c: int, stride: int) -> None:
        super().__init__()
        self._ops = nn.ModuleList(BUILD[name](c, stride) for name in operations)

    def forward(self, x: Tensor, gates: Tensor) -> Tensor:
        return sum(g * op(x) for g, op in zip(gates, self._ops, strict=True))  # type: ignore[return-value]


class PlainCell(nn.Module):
    def __init__(self, space: SearchSpace, c0: int, c1: int, c: int, reduction: bool, halve_0: bool) -> None:
        super().__init__()
        self.space = space
        self.preprocess0 = FactorizedReduce(c0, c) if halve_0 else relu_conv_bn(c0, c)
        self.preprocess1 = relu_conv_bn(c1, c)
        self._ops = nn.ModuleList(
            PlainEdge(space.operations, c, 2 if reduction and source < 2 else 1) for source, _ in space.edges
        )

    def forward(self, s0: Tensor, s1: Tensor, gates: Tensor) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        rows = dict(zip(self.space.edges, range(len(self._ops)), strict=True))
        for target in range(2, self.space.nodes + 2):
            terms = [self._ops[rows[j, target]](states[j], gates[rows[j, target]]) for j in range(target)]
            states.append(sum(terms))  # type: ignore[arg-type]
        return torch.cat([states[s] for s in self.space.concat], 1)


class PlainSupernet(nn.Module):
    def __init__(self, space: SearchSpace, channels: int, in_channels: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.space = space
        width = 3 * channels
        self.stem = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.cells = nn.ModuleList()
        c0 = c1 = width
        halved = False
        for k in range(space.cells):
            reduction = k in space.reductions
            channels *= 2 if reduction else 1
            self.cells.append(PlainCell(space, c0, c1, channels, reduction, halved))
            c0, c1, halved = c1, len(space.concat) * channels, reduction
        self.classifier = nn.Linear(c1, classes)

    def forward(self, x: Tensor, gates: list[Tensor], removed: int | None = None) -> Tensor:
        """Logits; the output of every cell that uses the gates of `removed` is replaced by zeros."""
        s0 = s1 = self.stem(x)
        for cell, entry in zip(self.cells, self.space.sequence, strict=True):
            out = cell(s0, s1, gates[entry])
            s0, s1 = s1, torch.zeros_like(out) if entry == removed else out
        return self.classifier(s1.mean((2, 3)))
