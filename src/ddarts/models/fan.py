"""Everything that leaves one state of a supernet cell, computed together.

In a cell, state j feeds every later node over an edge of its own, and each edge holds every candidate operation. This
module computes one operation for all E edges that leave a state at once: the E sets of weights lie side by side as
groups of one convolution, so that a cell needs a few large kernels instead of hundreds of small ones. What the edges
share is computed once: ReLU, the two pools and their batch norm.

The gates enter as the scale of each operation's last batch norm, so weighting costs no pass over memory and the
gradient of a gate is the batch norm's own scale gradient.

Shapes: B images, C channels of the cell, E edges, [B, C, H, W] states, [B, E * C, H', W'] groups, edge-major. All
tensors are channels-last in memory. The slow, plain twin is tests/reference/plain_supernet.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddarts.architecture.spaces import check_operation
from ddarts.errors import SettingsError
from ddarts.models.convolution import DepthwiseConv
from ddarts.models.pointwise import convolve
from ddarts.models.syncnorm import sync_batch_norm

#: Operations whose result is the same for all edges of a state, so that it is computed once.
_SHARED = ("max_pool_3x3", "avg_pool_3x3", "skip_connect")


class BatchStatistics(nn.Module):
    """Batch norm without affine parameters, as everywhere in a supernet; an optional scale stands in for them.

    `track` decides whether a training pass moves the running statistics: only the weight step's trunk pass does.

    Attributes:
        synchronised: whether training statistics are those of all processes (`ddarts.models.syncnorm`).
    """

    running_mean: Tensor
    running_var: Tensor
    synchronised = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, *, track: bool, scale: Tensor | None = None) -> Tensor:
        """Normalise `x` [B, C, H, W] over B, H, W and multiply channel c by ``scale[c]``."""
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, scale, None, False)
        if self.synchronised:
            mean, var = (self.running_mean, self.running_var) if track else (None, None)
            return sync_batch_norm(x, scale, None, mean, var, 0.1)
        if x.shape[0] * x.shape[2] * x.shape[3] < 2:
            raise SettingsError("batch norm needs more than one value a channel; use a larger batch or resolution")
        if track:
            return F.batch_norm(x, self.running_mean, self.running_var, scale, None, True)
        return F.batch_norm(x, None, None, scale, None, True)


class _Branch(nn.Module):
    """One operation on E edges up to, not including, its last batch norm. Subclasses say how."""

    def __init__(self, channels: int, edges: int) -> None:
        super().__init__()
        self.norm = BatchStatistics(edges * channels)

    def forward(self, state: _State, track: bool) -> Tensor:
        """Return [B, E * C, H', W'], not yet normalised."""
        raise NotImplementedError


@dataclass
class _State:
    """A state and what several operations want of it, each computed at most once."""

    x: Tensor
    edges: int
    _relu: Tensor | None = None
    _spread: Tensor | None = None

    @property
    def relu(self) -> Tensor:
        """max(x, 0), [B, C, H, W]."""
        if self._relu is None:
            self._relu = F.relu(self.x)
        return self._relu

    @property
    def spread(self) -> Tensor:
        """max(x, 0) once for every edge, [B, E * C, H, W]."""
        if self._spread is None:
            self._spread = torch.cat([self.relu] * self.edges, 1)  # `repeat` would lose channels-last
        return self._spread


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

    def forward(self, state: _State, track: bool) -> Tensor:
        x = self.pointwise_1(self.depthwise_1(state.spread))
        x = F.relu_(self.norm_1(x, track=track))
        return self.pointwise_2(self.depthwise_2(x))


class _DilatedConv(_Branch):
    """ReLU - depthwise of dilation 2 - pointwise - BN."""

    def __init__(self, channels: int, edges: int, stride: int, kernel: int) -> None:
        super().__init__(channels, edges)
        wide = edges * channels
        self.depthwise = DepthwiseConv(wide, kernel, stride=stride, dilation=2)
        self.pointwise = nn.Conv2d(wide, wide, 1, groups=edges, bias=False)

    def forward(self, state: _State, track: bool) -> Tensor:
        return self.pointwise(self.depthwise(state.spread))


class _SimpleConv(_Branch):
    """ReLU - conv - BN. All edges read the same input, so their kernels form one dense convolution."""

    def __init__(self, channels: int, edges: int, stride: int, kernel: int) -> None:
        super().__init__(channels, edges)
        self.conv = nn.Conv2d(channels, edges * channels, kernel, stride, kernel // 2, bias=False)

    def forward(self, state: _State, track: bool) -> Tensor:
        return convolve(self.conv, state.relu)


class _CrossConv(_Branch):
    """ReLU - 1xk (stride on the width) - kx1 (stride on the height) - BN."""

    def __init__(self, channels: int, edges: int, stride: int, kernel: int) -> None:
        super().__init__(channels, edges)
        wide, pad = edges * channels, kernel // 2
        self.row = nn.Conv2d(channels, wide, (1, kernel), (1, stride), (0, pad), bias=False)
        self.column = nn.Conv2d(wide, wide, (kernel, 1), (stride, 1), (pad, 0), groups=edges, bias=False)

    def forward(self, state: _State, track: bool) -> Tensor:
        return self.column(self.row(state.relu))


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

    def forward(self, state: _State, track: bool) -> Tensor:
        x = self.norm_1(self.reduce(state.relu), track=track)
        x = self.norm_2(self.conv(x), track=track)
        x = F.relu_(self.norm_3(self.expand(x), track=track))
        return self.project(x)


class _Reduction(_Branch):
    """skip_connect at stride 2: ReLU - two stride-2 1x1 convs, one of them shifted by a pixel - concatenation - BN."""

    def __init__(self, channels: int, edges: int, stride: int, kernel: int) -> None:
        super().__init__(channels, edges)
        self.edges = edges
        self.even = nn.Conv2d(channels, edges * (channels - channels // 2), 1, stride, bias=False)
        self.odd = nn.Conv2d(channels, edges * (channels // 2), 1, stride, bias=False) if channels > 1 else None

    def forward(self, state: _State, track: bool) -> Tensor:
        return factorized_reduction(state.relu, self.even, self.odd, self.edges)


def factorized_reduction(relu: Tensor, even: nn.Conv2d, odd: nn.Conv2d | None, edges: int = 1) -> Tensor:
    """Halve [B, C, H, W] by two 1x1 convolutions of stride 2, the second on the image shifted by one pixel.

    Odd sizes are padded by zeros at the far side so that both halves have ceil(H / 2) x ceil(W / 2) pixels. The
    results of each of the `edges` groups are laid side by side: [B, E * C, H', W'].
    """
    first = convolve(even, relu)
    if odd is None:  # a single channel
        return first
    height, width = relu.shape[2:]
    second = convolve(odd, F.pad(relu[:, :, 1:, 1:], (0, width % 2, 0, height % 2)))
    if edges == 1:
        return torch.cat([first, second], 1)
    # Side by side within each edge, in channels-last order: the result decides the memory format of all that follows.
    b, _, h, w = first.shape
    halves = [half.permute(0, 2, 3, 1).reshape(b, h, w, edges, -1) for half in (first, second)]
    return torch.cat(halves, 4).flatten(3, 4).permute(0, 3, 1, 2)


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
    """What one state sends over its edges before the gates are applied.

    Attributes:
        branches: for each operation with weights of its own, [B, E * C, H', W'] before its last batch norm.
        shared: the operations that all edges share, each [B, C, H', W'].
    """

    branches: tuple[Tensor, ...]
    shared: tuple[Tensor, ...]


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
        """Run every operation on `x` [B, C, H, W]; gates are not needed yet."""
        state = _State(x, self.edges)
        branches = tuple(branch(state, track) for branch in self.branches.values())
        shared = tuple(self._run_shared(name, x, track) for name in self._shared_names)
        return FanOutput(branches, shared)

    def gate(self, output: FanOutput, gates: Tensor, *, track: bool = False) -> list[Tensor]:
        """Weigh operations by their gates and add them up, edge by edge.

        Args:
            output: what `forward` returned.
            gates: [E, operations], 0 to 1.
            track: move the running statistics of each operation's last batch norm.

        Returns:
            one tensor [B, C, H', W'] for each edge.
        """
        edges, total = self.edges, None
        for column, branch, raw in zip(self._branch_columns, self.branches.values(), output.branches, strict=True):
            scale = gates[:, column].repeat_interleave(self.channels)
            gated = branch.norm(raw, track=track, scale=scale)  # type: ignore[operator]
            total = gated if total is None else total + gated
        parts = list(total.split(self.channels, 1)) if total is not None else []
        if output.shared:
            mixed = self._mix_shared(output.shared, gates[:, self._shared_columns])
            parts = [a + b for a, b in zip(parts, mixed, strict=True)] if parts else mixed
        assert len(parts) == edges
        return parts

    def _run_shared(self, name: str, x: Tensor, track: bool) -> Tensor:
        if name == "max_pool_3x3":
            return self.pool_norms[name](F.max_pool2d(x, 3, self.stride, 1), track=track)
        if name == "avg_pool_3x3":
            pooled = F.avg_pool2d(x, 3, self.stride, 1, count_include_pad=False)
            return self.pool_norms[name](pooled, track=track)
        return x

    def _mix_shared(self, shared: tuple[Tensor, ...], gates: Tensor) -> list[Tensor]:
        """Sum of gates[e, k] * shared[k] for every edge e, as one matrix product over flattened images."""
        b, c, h, w = shared[0].shape
        rows = torch.stack([s.permute(0, 2, 3, 1).reshape(-1) for s in shared])
        mixed = gates.to(rows.dtype) @ rows
        return [m.view(b, h, w, c).permute(0, 3, 1, 2) for m in mixed.unbind(0)]
