"""The mixed cell of the supernet: every edge holds every operation, weighted by sigmoid gates."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddarts.architecture.spaces import INPUT_STATES, SearchSpace
from ddarts.models.fan import BatchStatistics, Fan, FanOutput, factorized_reduction


class Preprocess(nn.Module):
    """Bring a cell's input to the cell's width: ReLU - 1x1 conv - BN, or a factorized reduction to halve it."""

    def __init__(self, channels_in: int, channels: int, *, halve: bool) -> None:
        super().__init__()
        self.norm = BatchStatistics(channels)
        self.conv: nn.Conv2d | None = None
        self.even: nn.Conv2d | None = None
        self.odd: nn.Conv2d | None = None
        if halve:
            self.even = nn.Conv2d(channels_in, channels - channels // 2, 1, 2, bias=False)
            self.odd = nn.Conv2d(channels_in, channels // 2, 1, 2, bias=False) if channels > 1 else None
        else:
            self.conv = nn.Conv2d(channels_in, channels, 1, bias=False)

    def forward(self, x: Tensor, *, track: bool = False) -> Tensor:
        """[B, C_in, H, W] -> [B, C, H', W']."""
        x = F.relu(x)
        if self.conv is not None:
            x = self.conv(x)
        else:
            assert self.even is not None
            x = factorized_reduction(x, self.even, self.odd)
        return self.norm(x, track=track)


class MixedCell(nn.Module):
    """One cell of the supernet (paper, section 3.1).

    Args:
        space: operations and nodes.
        channels_0, channels_1: widths of the two inputs.
        channels: C, width of the nodes.
        concat: states that the output concatenates.
        reduction: edges from states 0 and 1 have stride 2.
        halve_0: state 0 has twice the resolution of state 1 (the cell before was a reduction).
    """

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
        self.nodes, self.concat = space.nodes, concat
        self.preprocess_0 = Preprocess(channels_0, channels, halve=halve_0)
        self.preprocess_1 = Preprocess(channels_1, channels, halve=False)
        self.fans = nn.ModuleList()  # one for each state that has a later node
        self._rows: list[list[int]] = []  # for each state, the rows of alpha of the edges that leave it
        edges = {edge: row for row, edge in enumerate(space.edges)}
        for state in range(self.nodes + INPUT_STATES - 1):
            targets = [t for t in range(INPUT_STATES, self.nodes + INPUT_STATES) if t > state]
            stride = 2 if reduction and state < INPUT_STATES else 1
            self.fans.append(Fan(space.operations, channels, len(targets), stride))
            self._rows.append([edges[state, t] for t in targets])

    def forward(
        self,
        state_0: Tensor | None,
        state_1: Tensor | None,
        gates: Tensor,
        *,
        track: bool = False,
        known: dict[int, FanOutput] | None = None,
        keep: dict[int, FanOutput] | None = None,
    ) -> Tensor | None:
        """Compute the cell's output [B, len(concat) * C, H', W'].

        Args:
            state_0, state_1: outputs of the two cells before, or None for a cell that is ablated: its output is zero,
                and so is all that follows from it alone (a convolution, pool or batch norm of zeros is zero).
            gates: [edges, operations].
            track: move running statistics.
            known: fan outputs of states 0 and 1 from another pass with the same inputs, used instead of computing them.
            keep: filled with the fan outputs of states 0 and 1, for use as `known`.

        Returns:
            the output, or None if both inputs are None.
        """
        if state_0 is None and state_1 is None:
            return None
        sums: list[Tensor | None] = [None] * self.nodes
        states: list[Tensor | None] = [None, None]
        known = known or {}
        if state_0 is not None and 0 not in known:
            states[0] = self.preprocess_0(state_0, track=track)
        if state_1 is not None and 1 not in known:
            states[1] = self.preprocess_1(state_1, track=track)
        for index, fan in enumerate(self.fans):
            if index >= INPUT_STATES:
                states.append(sums[index - INPUT_STATES])
            output = known.get(index)
            if output is None:
                x = states[index]
                if x is None:
                    continue
                output = fan(x, track=track)
            if keep is not None and index < INPUT_STATES:
                keep[index] = output
            parts = fan.gate(output, gates[self._rows[index]], track=track)  # type: ignore[operator]
            for target, part in zip(range(self.nodes - len(parts), self.nodes), parts, strict=True):
                before = sums[target]
                sums[target] = part if before is None else before + part
        chosen = [sums[s - INPUT_STATES] for s in self.concat]
        return torch.cat([c for c in chosen if c is not None], 1)
