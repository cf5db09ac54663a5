"""Everything that leaves one state of a supernet cell, computed together.

In a cell, state j feeds every later node over an edge of its own, and each edge holds every candidate operation. This
module computes one operation for all E edges that leave a state at once: the E sets of weights are stored as groups of
one convolution, so that a cell needs a few large kernels instead of hundreds of small ones. What the edges share is
computed once: ReLU, the two pools and their batch norm.

The weights and what each operation does with them are here; running it, batch norm, gates and sums are in
`ddarts.supernet.mixed_op`. An operation without a grouped form (`ddarts.space.operations`) has a module for each edge,
run by PyTorch's autograd.

Shapes: B images, C channels of the cell, E edges, [B, C, H, W] states, [B, E * C, H', W'] groups, edge-major. All
tensors are channels-last in memory. `ddarts.supernet.reference` computes the same with one module for every operation
and edge; parameters have the same names there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddarts.nn.batch_norm import BatchStatistics
from ddarts.nn.convolution import DepthwiseConv
from ddarts.nn.dispatch import channels_last
from ddarts.nn.factorized_reduce import factorized_reduction
from ddarts.nn.operations import build_candidate
from ddarts.nn.pointwise import convolve
from ddarts.nn.pools import average_pool, max_pool
from ddarts.space.operations import OPERATIONS
from ddarts.supernet.backends.pytorch import Layer, MixedResults
from ddarts.supernet.mixed_op import DepthwiseSeparable, Grouped, PrecomputedOperation, Shared, mixed_op, remix


class GroupedOperation(nn.Module):
    """One operation on E edges: what to compute, and its inputs.

    Args:
        channels: C.
        edges: E.

    Attributes:
        last_norm: the name of the last batch norm, that of the plain module's.
        operation: what `ddarts.supernet.mixed_op` computes from the inputs.
    """

    last_norm = "norm"

    def __init__(self, channels: int, edges: int) -> None:
        super().__init__()
        norm = BatchStatistics(edges * channels)
        self.add_module(self.last_norm, norm)
        self.operation: DepthwiseSeparable | PrecomputedOperation = PrecomputedOperation(norm)

    def forward(self, state: State) -> tuple[Tensor, ...]:
        """Return the inputs of the operation on a state."""
        raise NotImplementedError


@dataclass(frozen=True)
class SharedOperation:
    """An operation whose result is the same on all edges of a state, so that it is computed once.

    Attributes:
        run: from the state [B, C, H, W] to the result [B, C, H', W'].
        norm: the batch norm after it, if there is one.
    """

    run: Callable[[Tensor], Tensor]
    norm: BatchStatistics | None = None


@dataclass
class State:
    """A state [B, C, H, W] and its ReLU, computed at most once."""

    x: Tensor
    _relu: Tensor | None = None

    @property
    def relu(self) -> Tensor:
        """max(x, 0), [B, C, H, W]."""
        if self._relu is None:
            self._relu = F.relu(self.x)
        return self._relu


class GroupedSeparableConv(GroupedOperation):
    """(ReLU - depthwise - pointwise - BN) twice."""

    last_norm = "norm2"

    def __init__(self, channels: int, edges: int, stride: int, kernel: int) -> None:
        super().__init__(channels, edges)
        wide = edges * channels
        self.depthwise1 = DepthwiseConv(wide, kernel, stride=stride)
        self.pointwise1 = nn.Conv2d(wide, wide, 1, groups=edges, bias=False)
        self.norm1 = BatchStatistics(wide)
        self.depthwise2 = DepthwiseConv(wide, kernel)
        self.pointwise2 = nn.Conv2d(wide, wide, 1, groups=edges, bias=False)
        self.operation = DepthwiseSeparable(Layer(self.norm1, stride), Layer(self.operation.norms[0]))

    def forward(self, state: State) -> tuple[Tensor, ...]:
        """Return the weights."""
        return self.depthwise1.weight, self.pointwise1.weight, self.depthwise2.weight, self.pointwise2.weight


class GroupedDilatedConv(GroupedOperation):
    """ReLU - depthwise of dilation 2 - pointwise - BN."""

    def __init__(self, channels: int, edges: int, stride: int, kernel: int) -> None:
        super().__init__(channels, edges)
        wide = edges * channels
        self.depthwise = DepthwiseConv(wide, kernel, stride=stride, dilation=2)
        self.pointwise = nn.Conv2d(wide, wide, 1, groups=edges, bias=False)
        self.operation = DepthwiseSeparable(Layer(self.operation.norms[0], stride, 2))

    def forward(self, state: State) -> tuple[Tensor, ...]:
        """Return the weights."""
        return self.depthwise.weight, self.pointwise.weight


class GroupedSimpleConv(GroupedOperation):
    """ReLU - conv - BN. All edges read the same input, so their kernels form one dense convolution."""

    def __init__(self, channels: int, edges: int, stride: int, kernel: int) -> None:
        super().__init__(channels, edges)
        self.conv = nn.Conv2d(channels, edges * channels, kernel, stride, kernel // 2, bias=False)

    def forward(self, state: State) -> tuple[Tensor, ...]:
        """Convolve."""
        return (convolve(self.conv, state.relu),)


class GroupedConvPair(GroupedOperation):
    """ReLU - 1xk (stride on the width) - kx1 (stride on the height) - BN."""

    def __init__(self, channels: int, edges: int, stride: int, kernel: int) -> None:
        super().__init__(channels, edges)
        wide, pad = edges * channels, kernel // 2
        self.along_width = nn.Conv2d(channels, wide, (1, kernel), (1, stride), (0, pad), bias=False)
        self.along_height = nn.Conv2d(wide, wide, (kernel, 1), (stride, 1), (pad, 0), groups=edges, bias=False)

    def forward(self, state: State) -> tuple[Tensor, ...]:
        """Convolve twice."""
        return (self.along_height(self.along_width(state.relu)),)


class GroupedBottleneck(GroupedOperation):
    """ReLU - 1x1 C->C - BN - 3x3 C->C - BN - 1x1 C->4C - BN - ReLU - 1x1 4C->C - BN."""

    last_norm = "norm4"

    def __init__(self, channels: int, edges: int, stride: int, kernel: int) -> None:
        super().__init__(channels, edges)
        wide = edges * channels
        self.conv1 = nn.Conv2d(channels, wide, 1, bias=False)
        self.norm1 = BatchStatistics(wide)
        self.conv2 = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=edges, bias=False)
        self.norm2 = BatchStatistics(wide)
        self.conv3 = nn.Conv2d(wide, 4 * wide, 1, groups=edges, bias=False)
        self.norm3 = BatchStatistics(4 * wide)
        self.conv4 = nn.Conv2d(4 * wide, wide, 1, groups=edges, bias=False)

    def forward(self, state: State) -> tuple[Tensor, ...]:
        """Run everything before the last convolution."""
        x = self.norm2(self.conv2(self.norm1(self.conv1(state.relu))))
        return F.relu_(self.norm3(self.conv3(x))), self.conv4.weight


class GroupedReduction(GroupedOperation):
    """skip_connect at stride 2: ReLU - two stride-2 1x1 convs, one of them shifted by a pixel - concatenation - BN."""

    def __init__(self, channels: int, edges: int, stride: int) -> None:
        super().__init__(channels, edges)
        self.edges = edges
        self.conv1 = nn.Conv2d(channels, edges * (channels - channels // 2), 1, stride, bias=False)
        self.conv2 = nn.Conv2d(channels, edges * (channels // 2), 1, stride, bias=False) if channels > 1 else None

    def forward(self, state: State) -> tuple[Tensor, ...]:
        """Convolve and concatenate."""
        return (factorized_reduction(state.relu, self.conv1, self.conv2, self.edges),)


def share_max_pool(channels: int, edges: int, stride: int, kernel: int) -> SharedOperation:
    """Return the maximum pool, the same on all edges."""
    return SharedOperation(lambda x: max_pool(x, stride), BatchStatistics(channels))


def share_average_pool(channels: int, edges: int, stride: int, kernel: int) -> SharedOperation:
    """Return the average pool, the same on all edges."""
    return SharedOperation(lambda x: average_pool(x, stride), BatchStatistics(channels))


def group_skip(channels: int, edges: int, stride: int, kernel: int) -> GroupedOperation | SharedOperation:
    """Return the identity, the same on all edges, or at stride 2 the factorized reductions."""
    return SharedOperation(_identity) if stride == 1 else GroupedReduction(channels, edges, stride)


def _identity(x: Tensor) -> Tensor:
    # PyTorch's compiler refuses a function that is given one tensor twice
    return x.view_as(x) if torch.compiler.is_compiling() else x


#: The results of an operation without a grouped form: its column of the gates, and [B, C, H', W'] of each edge.
EdgeResults = tuple[int, tuple[Tensor, ...]]


@dataclass(frozen=True)
class GroupedOutput:
    """What the operations on all edges of a state compute before the last batch norms and the gates.

    Attributes:
        x: the state [B, C, H, W].
        grouped: the operations with weights for each edge.
        shared: the operations that all edges share.
        plain: the results of operations without a grouped form, of which there is nothing left to compute.
    """

    x: Tensor
    grouped: tuple[Grouped, ...]
    shared: tuple[Shared, ...]
    plain: tuple[EdgeResults, ...]


@dataclass(frozen=True)
class Precomputed:
    """What `GroupedEdges.mix` has computed that does not depend on gates, for `GroupedEdges.mix_again`.

    Attributes:
        mixed: that of the grouped and shared operations, None if there are none.
        plain: as in `GroupedOutput`, without a graph.
    """

    mixed: MixedResults | None
    plain: tuple[EdgeResults, ...]


class GroupedEdges(nn.Module):
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
        self.plain = nn.ModuleDict()  # column -> one module for each edge
        self._branch_columns: list[int] = []
        self._shared: list[tuple[int, Callable[[Tensor], Tensor], str]] = []
        for column, name in enumerate(operations):
            form = OPERATIONS.get(name).grouped(channels, edges, stride)
            if form is None:
                self.plain[str(column)] = nn.ModuleList(build_candidate(name, channels, stride) for _ in range(edges))
            elif isinstance(form, SharedOperation):
                self._shared.append((column, form.run, name))
                if form.norm is not None:
                    self.pool_norms[name] = form.norm
            else:
                self.branches[name] = form
                self._branch_columns.append(column)

    def forward(self, x: Tensor) -> GroupedOutput:
        """Prepare every operation on `x` [B, C, H, W]; gates are not needed yet.

        Pools, and operations that autograd runs, are run here; depthwise separable convolutions are run by `mix`.
        """
        state = State(x)
        grouped = [
            Grouped(branch.operation, branch(state), column)  # type: ignore[arg-type]
            for branch, column in zip(self.branches.values(), self._branch_columns, strict=True)
        ]
        norms: dict[str, Any] = dict(self.pool_norms.items())
        shared = [Shared(run(x), norms.get(name), column) for column, run, name in self._shared]
        plain = [
            (int(column), tuple(channels_last(module(x)) for module in modules))  # type: ignore[union-attr]
            for column, modules in self.plain.items()
        ]
        return GroupedOutput(x, tuple(grouped), tuple(shared), tuple(plain))

    def send(
        self,
        x: Tensor,
        gates: Tensor,
        sums: Sequence[Tensor | None] | None = None,
        *,
        keep: bool = False,
    ) -> tuple[list[Tensor], Precomputed | None]:
        """`forward` and `mix` in one: what `ddarts.supernet.backends.inductor` compiles."""
        return self.mix(self(x), gates, sums, keep=keep)

    def mix(
        self,
        output: GroupedOutput,
        gates: Tensor,
        sums: Sequence[Tensor | None] | None = None,
        *,
        keep: bool = False,
    ) -> tuple[list[Tensor], Precomputed | None]:
        """Multiply operations by their gates and add them to the sums of the nodes that the edges lead to.

        Args:
            output: what `forward` returned.
            gates: [E, operations], 0 to 1.
            sums: for each edge, what its node has received so far [B, C, H', W'], or None for nothing.
            keep: also return what `mix_again` can multiply by other gates.

        Returns:
            the new sums, [B, C, H', W'] for each edge, and what was saved.
        """
        new = _add_plain(output.plain, gates, [None] * self.edges if sums is None else sums)
        mixed: MixedResults | None = None
        if output.grouped or output.shared:
            new, mixed = mixed_op(output.x, gates, output.grouped, output.shared, new, keep=keep)
        if not keep:
            return new, None  # type: ignore[return-value]
        plain = tuple((column, tuple(t.detach() for t in results)) for column, results in output.plain)
        return new, Precomputed(mixed, plain)  # type: ignore[return-value]


def mix_again(gates: Tensor, saved: Precomputed, sums: Sequence[Tensor | None]) -> list[Tensor]:
    """Do as `GroupedEdges.mix` does with what it has saved and other gates [E, operations], which get no gradient."""
    new = _add_plain(saved.plain, gates.detach(), sums)
    return new if saved.mixed is None else remix(gates, saved.mixed, new)  # type: ignore[return-value]


def _add_plain(plain: Sequence[EdgeResults], gates: Tensor, sums: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Add gate * result to each edge's sum."""
    new = list(sums)
    for column, results in plain:
        for edge, (result, gate) in enumerate(zip(results, gates[:, column].unbind(), strict=True)):
            term, before = result * gate.to(result.dtype), new[edge]
            new[edge] = term if before is None else before + term
    return new
