"""The mixed cell of the supernet: every edge holds every operation, weighted by sigmoid gates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddarts.nn.batch_norm import BatchStatistics
from ddarts.nn.factorized_reduce import factorized_reduction
from ddarts.nn.pointwise import relu_pointwise_norm
from ddarts.space.cell_space import INPUT_STATES, SearchSpace
from ddarts.supernet.grouped_edges import GroupedEdges, Precomputed, mix_again


class Preprocess(nn.Module):
    """Bring a cell's input to the cell's width: ReLU - 1x1 conv - BN, or a factorized reduction to halve it."""

    def __init__(self, channels_in: int, channels: int, *, halve: bool) -> None:
        super().__init__()
        self.norm = BatchStatistics(channels)
        self.conv: nn.Conv2d | None = None
        self.conv1: nn.Conv2d | None = None
        self.conv2: nn.Conv2d | None = None
        if halve:
            self.conv1 = nn.Conv2d(channels_in, channels - channels // 2, 1, 2, bias=False)
            self.conv2 = nn.Conv2d(channels_in, channels // 2, 1, 2, bias=False) if channels > 1 else None
        else:
            self.conv = nn.Conv2d(channels_in, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C, H', W']."""
        if self.conv is not None:
            return relu_pointwise_norm(x, self.conv.weight, self.norm)
        assert self.conv1 is not None
        return self.norm(factorized_reduction(F.relu(x), self.conv1, self.conv2))


class MixedCell(nn.Module):
    """One cell of the supernet (paper, section 3.1).

    Args:
        space: operations and nodes.
        channels_0, channels_1: widths of the two inputs.
        channels: C, width of the nodes.
        concat: states that the output concatenates.
        reduction: edges from states 0 and 1 have stride 2.
        halve_0: state 0 has twice the resolution of state 1 (the cell before was a reduction).

    Attributes:
        send: `GroupedEdges.send`, or the same compiled (`ddarts.supernet.backends.inductor`).
    """

    send: Callable[..., tuple[list[Tensor], Precomputed | None]] = staticmethod(GroupedEdges.send)

    def __init__(
        self,
        space: SearchSpace,
        channels_0: int,
        channels_1: int,
        channels: int,
        *,
        concat: tuple[int, ...],
        reduction: bool,
        halve_0: bool,
    ) -> None:
        super().__init__()
        # nodes after the last one that is concatenated reach no output: their weights would never get a gradient
        self.nodes, self.concat = max(concat) - INPUT_STATES + 1, concat
        self.preprocess_0 = Preprocess(channels_0, channels, halve=halve_0)
        self.preprocess_1 = Preprocess(channels_1, channels, halve=False)
        self.grouped_edges = nn.ModuleList()  # one for each state that has a later node
        edges = {edge: row for row, edge in enumerate(space.edges)}
        for state in range(self.nodes + INPUT_STATES - 1):
            targets = [t for t in range(INPUT_STATES, self.nodes + INPUT_STATES) if t > state]
            stride = 2 if reduction and state < INPUT_STATES else 1
            self.grouped_edges.append(GroupedEdges(space.operations, channels, len(targets), stride))
            # the rows of alpha of the edges that leave the state; a buffer, so that no step copies it to a device
            self.register_buffer(f"_rows_{state}", torch.tensor([edges[state, t] for t in targets]), persistent=False)

    def forward(
        self,
        state_0: Tensor | None,
        state_1: Tensor | None,
        gates: Tensor,
        *,
        precomputed: dict[int, Precomputed] | None = None,
        keep: dict[int, Precomputed] | None = None,
    ) -> Tensor | None:
        """Compute the cell's output [B, len(concat) * C, H', W'].

        Args:
            state_0, state_1: outputs of the two cells before, or None for a cell that is ablated: its output is zero,
                and so is all that follows from it alone (a convolution, pool or batch norm of zeros is zero).
            gates: [edges, operations].
            precomputed: what the operations on states 0 and 1 gave in another pass with the same inputs.
            keep: filled with what the operations on states 0 and 1 give, for use as `precomputed`.

        Returns:
            the output, or None if both inputs are None.
        """
        if state_0 is None and state_1 is None:
            return None
        sums: list[Tensor | None] = [None] * self.nodes
        states: list[Tensor | None] = [None, None]
        precomputed = precomputed or {}
        if state_0 is not None and 0 not in precomputed:
            states[0] = self.preprocess_0(state_0)
        if state_1 is not None and 1 not in precomputed:
            states[1] = self.preprocess_1(state_1)
        for index, edges in enumerate(self.grouped_edges):
            if index >= INPUT_STATES:
                states.append(sums[index - INPUT_STATES])
            x, before = states[index], precomputed.get(index)
            if x is None and before is None:
                continue
            rows = gates.index_select(0, getattr(self, f"_rows_{index}"))
            later = slice(self.nodes - len(rows), self.nodes)
            if before is not None:
                sums[later] = mix_again(rows, before, sums[later])
                continue
            wanted = keep is not None and index < INPUT_STATES
            sums[later], found = self.send(edges, x, rows, sums[later], keep=wanted)
            if keep is not None and found is not None:
                keep[index] = found
        chosen = [sums[s - INPUT_STATES] for s in self.concat]
        return torch.cat([c for c in chosen if c is not None], 1)
