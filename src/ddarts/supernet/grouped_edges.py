"""Everything that leaves one state of a supernet cell, computed together.

In a cell, state j feeds every later node over an edge of its own, and each edge holds every candidate operation. This
module computes one operation for all E edges that leave a state at once: the E sets of weights lie side by side as
groups of one convolution, so that a cell needs a few large kernels instead of hundreds of small ones. What the edges
share is computed once: ReLU, the two pools and their batch norm.

The weights and what each operation does with them are here; running it, batch norm, gates and sums are in
`ddarts.supernet.mixed_op`, and the chains that keep little memory in `ddarts.supernet.chains`.

Shapes: B images, C channels of the cell, E edges, [B, C, H, W] states, [B, E * C, H', W'] groups, edge-major. All
tensors are channels-last in memory. The slow, plain twin is tests/reference/plain_supernet.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddarts.nn.batch_norm import BatchStatistics
from ddarts.nn.convolution import DepthwiseConv
from ddarts.nn.factorized_reduce import factorized_reduction
from ddarts.nn.pointwise import convolve
from ddarts.nn.pools import average_pool, max_pool
from ddarts.space.cell_space import check_operation
from ddarts.supernet.chains import Chain, Depthwise, Given, Separable
from ddarts.supernet.mixed_op import Branch, Measured, Shared, weigh

#: Operations whose result is the same for all edges of a state, so that it is computed once.
_SHARED = ("max_pool_3x3", "avg_pool_3x3", "skip_connect")


class _Branch(nn.Module):
    """One operation on E edges up to, not including, its last batch norm. Subclasses say how."""

    def __init__(self, channels: int, edges: int) -> None:
        super().__init__()
        self.norm = BatchStatistics(edges * channels)

    def forward(self, state: _State, track: bool) -> tuple[Chain, tuple[Tensor, ...], Tensor | None]:
        """Return what leads to [B, E * C, H', W']: a chain, what it takes, and a last pointwise weight if any."""
        raise NotImplementedError


@dataclass
class _State:
    """A state [B, C, H, W] and what several operations want of it, computed at most once."""

    x: Tensor
    _relu: Tensor | None = None

    @property
    def relu(self) -> Tensor:
        """max(x, 0), [B, C, H, W]."""
        if self._relu is None:
            self._relu = F.relu(self.x)
        return self._relu


class _SeparableConv(_Branch):
    """(ReLU - depthwise - pointwise - BN) twice."""

    def __init__(self, channels: int, edges: int, stride: int, kernel: int) -> None:
        super().__init__(channels, edges)
        wide = edges * channels
        self.depthwise_1 = DepthwiseConv(wide, kernel, stride=stride)
        self.pointwise_1 = nn.Conv2d(wide, wide, 1, groups=edges, bias=False)
        self.norm_1 = BatchStatistics(wide)
        self.depthwise_2 = DepthwiseConv(wide, kernel)
        self.pointwise_2 = nn.Conv2d(wide, wide, 1, groups=edges, bias=False)
        self.chain = Separable(self.norm_1, stride)

    def forward(self, state: _State, track: bool) -> tuple[Chain, tuple[Tensor, ...], Tensor | None]:
        weights = self.depthwise_1.weight, self.pointwise_1.weight, self.depthwise_2.weight
        return self.chain, weights, self.pointwise_2.weight


class _DilatedConv(_Branch):
    """ReLU - depthwise of dilation 2 - pointwise - BN."""

    def __init__(self, channels: int, edges: int, stride: int, kernel: int) -> None:
        super().__init__(channels, edges)
        wide = edges * channels
        self.depthwise = DepthwiseConv(wide, kernel, stride=stride, dilation=2)
        self.pointwise = nn.Conv2d(wide, wide, 1, groups=edges, bias=False)
        self.chain = Depthwise(stride, 2)

    def forward(self, state: _State, track: bool) -> tuple[Chain, tuple[Tensor, ...], Tensor | None]:
        return self.chain, (self.depthwise.weight,), self.pointwise.weight


class _SimpleConv(_Branch):
    """ReLU - conv - BN. All edges read the same input, so their kernels form one dense convolution."""

    def __init__(self, channels: int, edges: int, stride: int, kernel: int) -> None:
        super().__init__(channels, edges)
        self.conv = nn.Conv2d(channels, edges * channels, kernel, stride, kernel // 2, bias=False)

    def forward(self, state: _State, track: bool) -> tuple[Chain, tuple[Tensor, ...], Tensor | None]:
        return Given(), (convolve(self.conv, state.relu),), None


class _CrossConv(_Branch):
    """ReLU - 1xk (stride on the width) - kx1 (stride on the height) - BN."""

    def __init__(self, channels: int, edges: int, stride: int, kernel: int) -> None:
        super().__init__(channels, edges)
        wide, pad = edges * channels, kernel // 2
        self.row = nn.Conv2d(channels, wide, (1, kernel), (1, stride), (0, pad), bias=False)
        self.column = nn.Conv2d(wide, wide, (kernel, 1), (stride, 1), (pad, 0), groups=edges, bias=False)

    def forward(self, state: _State, track: bool) -> tuple[Chain, tuple[Tensor, ...], Tensor | None]:
        return Given(), (self.column(self.row(state.relu)),), None


class _Bottleneck(_Branch):
    """ReLU - 1x1 C->C - BN - 3x3 C->C - BN - 1x1 C->4C - BN - ReLU - 1x1 4C->C - BN."""

    def __init__(self, channels: int, edges: int, stride: int, kernel: int) -> None:
        super().__init__(channels, edges)
        wide = edges * channels
        self.reduce = nn.Conv2d(channels, wide, 1, bias=False)
        self.norm_1 = BatchStatistics(wide)
        self.conv = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=edges, bias=False)
        self.norm_2 = BatchStatistics(wide)
        self.expand = nn.Conv2d(wide, 4 * wide, 1, groups=edges, bias=False)
        self.norm_3 = BatchStatistics(4 * wide)
        self.project = nn.Conv2d(4 * wide, wide, 1, groups=edges, bias=False)

    def forward(self, state: _State, track: bool) -> tuple[Chain, tuple[Tensor, ...], Tensor | None]:
        x = self.norm_1(self.reduce(state.relu), track=track)
        x = self.norm_2(self.conv(x), track=track)
        return Given(), (F.relu_(self.norm_3(self.expand(x), track=track)),), self.project.weight


class _Reduction(_Branch):
    """skip_connect at stride 2: ReLU - two stride-2 1x1 convs, one of them shifted by a pixel - concatenation - BN."""

    def __init__(self, channels: int, edges: int, stride: int, kernel: int) -> None:
        super().__init__(channels, edges)
        self.edges = edges
        self.even = nn.Conv2d(channels, edges * (channels - channels // 2), 1, stride, bias=False)
        self.odd = nn.Conv2d(channels, edges * (channels // 2), 1, stride, bias=False) if channels > 1 else None

    def forward(self, state: _State, track: bool) -> tuple[Chain, tuple[Tensor, ...], Tensor | None]:
        return Given(), (factorized_reduction(state.relu, self.even, self.odd, self.edges),), None


_BRANCHES: dict[str, tuple[Callable[[int, int, int, int], _Branch], int]] = {
    "conv_3x1_1x3": (_CrossConv, 3),
    "conv_7x1_1x7": (_CrossConv, 7),
    "simple_conv_1x1": (_SimpleConv, 1),
    "simple_conv_3x3": (_SimpleConv, 3),
    "sep_conv_3x3": (_SeparableConv, 3),
    "sep_conv_5x5": (_SeparableConv, 5),
    "dil_conv_3x3": (_DilatedConv, 3),
    "dil_conv_5x5": (_DilatedConv, 5),
    "bottleneck_1x3x1": (_Bottleneck, 3),
    "skip_connect": (_Reduction, 1),  # at stride 2 only; at stride 1 it is shared by all edges
}


@dataclass(frozen=True)
class FanOutput:
    """What one state sends over its edges, before the last batch norms and the gates.

    Attributes:
        x: the state [B, C, H, W].
        branches: the operations with weights of their own.
        shared: the operations that all edges share.
    """

    x: Tensor
    branches: tuple[Branch, ...]
    shared: tuple[Shared, ...]


class Fan(nn.Module):
    """All candidate operations on all E edges that leave one state.

    Args:
        operations: names in the order of alpha's columns.
        channels: C.
        edges: E, the number of later nodes.
        stride: 1, or 2 for the inputs of a reduction cell.
    """

    def __init__(self, operations: tuple[str, ...], channels: int, edges: int, stride: int) -> None:
        super().__init__()
        self.channels, self.edges, self.stride = channels, edges, stride
        self.branches = nn.ModuleDict()
        self.pool_norms = nn.ModuleDict()
        self._branch_columns: list[int] = []
        self._shared_columns: list[int] = []
        self._shared_names: list[str] = []
        for column, name in enumerate(operations):
            check_operation(name)
            if name in _SHARED and not (name == "skip_connect" and stride > 1):
                self._shared_columns.append(column)
                self._shared_names.append(name)
                if name != "skip_connect":
                    self.pool_norms[name] = BatchStatistics(channels)
            else:
                build, kernel = _BRANCHES[name]
                self.branches[name] = build(channels, edges, stride, kernel)
                self._branch_columns.append(column)

    def forward(self, x: Tensor, *, track: bool = False) -> FanOutput:
        """Gather every operation on `x` [B, C, H, W]; gates are not needed yet.

        Pools, and operations that autograd runs, are run here; chains are run by `gate`.
        """
        state = _State(x)
        branches = [
            Branch(*branch(state, track), branch.norm, column)  # type: ignore[arg-type]
            for branch, column in zip(self.branches.values(), self._branch_columns, strict=True)
        ]
        norms = dict(self.pool_norms.items())
        shared = [
            Shared(self._run_shared(name, x), norms.get(name), column)  # type: ignore[arg-type]
            for name, column in zip(self._shared_names, self._shared_columns, strict=True)
        ]
        return FanOutput(x, tuple(branches), tuple(shared))

    def send(
        self,
        x: Tensor,
        gates: Tensor,
        sums: Sequence[Tensor | None] | None = None,
        *,
        track: bool = False,
        keep: bool = False,
    ) -> tuple[list[Tensor], Measured | None]:
        """`forward` and `gate` in one: what `ddarts.supernet.backends.inductor` compiles."""
        return self.gate(self(x, track=track), gates, sums, track=track, keep=keep)

    def gate(
        self,
        output: FanOutput,
        gates: Tensor,
        sums: Sequence[Tensor | None] | None = None,
        *,
        track: bool = False,
        keep: bool = False,
    ) -> tuple[list[Tensor], Measured | None]:
        """Weigh operations by their gates and add them to the sums of the nodes that the edges lead to.

        Args:
            output: what `forward` returned.
            gates: [E, operations], 0 to 1.
            sums: for each edge, what its node has received so far [B, C, H', W'], or None for nothing.
            track: move the running statistics of each operation's last batch norm.
            keep: also return what `ddarts.supernet.mixed_op.weigh_again` can weigh by other gates.

        Returns:
            the new sums, [B, C, H', W'] for each edge, and what was kept.
        """
        before = [None] * self.edges if sums is None else sums
        return weigh(output.x, gates, output.branches, output.shared, before, track=track, keep=keep)

    def _run_shared(self, name: str, x: Tensor) -> Tensor:
        if name == "max_pool_3x3":
            return max_pool(x, self.stride)
        if name == "avg_pool_3x3":
            return average_pool(x, self.stride)
        # PyTorch's compiler refuses a function that is given one tensor twice
        return x.view_as(x) if torch.compiler.is_compiling() else x
