"""The supernet: a network of mixed cells, each with architecture weights of its own (paper, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ddarts.nn.recompute import recomputed
from ddarts.nn.stems import build_stem
from ddarts.space.cell_space import SearchSpace
from ddarts.supernet.cell import MixedCell
from ddarts.supernet.mixed_op import Measured

#: Standard deviation of the initial alphas: gates start at 1/2, a little apart.
_ALPHA_SPREAD = 1e-3


@dataclass
class Trunk:
    """One pass through the whole supernet, kept for the branches that leave it.

    Attributes:
        logits: [B, classes].
        states: outputs of the stem (two) and of every cell; cell k reads states[k] and states[k + 1].
        fans: for each cell, what its states 0 and 1 send out before the gates; empty if not kept.
    """

    logits: Tensor
    states: list[Tensor]
    fans: list[dict[int, Measured]] = field(default_factory=list)


class Supernet(nn.Module):
    """Every cell holds every operation on every edge, weighted by gates = sigmoid(alpha).

    Args:
        space: operations, nodes, the sequence of cells and the reductions.
        channels: C of the first cell; it doubles at each reduction.
        in_channels: channels of the images.
        classes: number of classes.
        stem: "cifar" or "imagenet".

    Attributes:
        recompute: keep only what goes from cell to cell for the backward pass, and run each cell once more in it: the
            same numbers with less memory, at the cost of one more pass.
    """

    recompute = False

    def __init__(
        self, space: SearchSpace, *, channels: int = 16, in_channels: int = 3, classes: int = 10, stem: str = "cifar"
    ) -> None:
        super().__init__()
        self.space = space
        self.stem = build_stem(stem, in_channels, channels)
        widths, halved = list(self.stem.outputs), self.stem.halves
        self.cells = nn.ModuleList()
        for position, searched in enumerate(space.sequence):
            concat = space.concat_of(searched)
            reduction = position in space.reductions
            channels *= 2 if reduction else 1
            cell = MixedCell(
                space, widths[-2], widths[-1], channels, concat=concat, reduction=reduction, halve_0=halved
            )
            self.cells.append(cell)
            widths.append(len(concat) * channels)
            halved = reduction
        self.classifier = nn.Linear(widths[-1], classes)
        shape = (len(space.edges), len(space.operations))
        self.alphas = nn.ParameterList(
            nn.Parameter(_ALPHA_SPREAD * torch.randn(shape)) for _ in range(space.searched_cells)
        )

    def architecture_parameters(self) -> list[nn.Parameter]:
        """The alphas, one [edges, operations] for each searched cell."""
        return list(self.alphas)

    def set_alphas(self, values: Sequence[Sequence[Sequence[float]]]) -> None:
        """Set the alphas to [searched cell][edge][operation]."""
        with torch.no_grad():
            for alpha, value in zip(self.alphas, values, strict=True):
                alpha.copy_(torch.tensor(value))

    def weight_parameters(self) -> list[nn.Parameter]:
        """Every parameter that is not an alpha."""
        return [p for name, p in self.named_parameters() if not name.startswith("alphas.")]

    def gates(self) -> list[Tensor]:
        """sigmoid(alpha) of each searched cell, [edges, operations]."""
        return [torch.sigmoid(alpha) for alpha in self.alphas]

    @contextmanager
    def weights_frozen(self) -> Iterator[None]:
        """Inside, weights need no gradient: an alpha step neither computes nor touches any."""
        weights = [p for p in self.weight_parameters() if p.requires_grad]
        for weight in weights:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in weights:
                weight.requires_grad_(True)

    def forward(self, x: Tensor, gates: list[Tensor] | None = None, *, constant_gates: bool = False) -> Tensor:
        """Logits [B, classes] of images [B, in_channels, H, W]; in training mode running statistics move.

        `constant_gates` is for the weight step: no gradient reaches the alphas. (Gates passed in by Fabric's wrapper
        would be rounded to the working precision.)
        """
        gates = self.gates() if gates is None else gates
        if constant_gates:
            gates = [gate.detach() for gate in gates]
        return self.trunk(x, gates, track=self.training).logits

    def trunk(self, x: Tensor, gates: list[Tensor] | None = None, *, track: bool, keep_fans: bool = False) -> Trunk:
        """Run the whole network and keep what branches need.

        Args:
            x: images [B, in_channels, H, W].
            gates: for each searched cell, [edges, operations]; sigmoid(alpha) if None.
            track: move the batch norms' running statistics (training mode only).
            keep_fans: keep the fan outputs of each cell's two inputs; costs no memory while a graph holds them anyway.
        """
        gates = self.gates() if gates is None else gates
        with self._stem_statistics(track):
            states: list[Tensor] = list(self.stem(x.contiguous(memory_format=torch.channels_last)))
        fans: list[dict[int, Measured]] = []
        for position, entry in enumerate(self.space.sequence):
            keep: dict[int, Measured] | None = {} if keep_fans else None
            output = self._run_cell(position, states[-2], states[-1], gates[entry], track=track, keep=keep)
            assert output is not None
            states.append(output)
            if keep is not None:
                fans.append(keep)
        return Trunk(self._head(states[-1]), states, fans)

    def positions(self, searched: int) -> tuple[int, ...]:
        """Positions in the network of the cells that use the alpha of `searched`."""
        return tuple(k for k, entry in enumerate(self.space.sequence) if entry == searched)

    def branch(
        self,
        searched: int,
        state_0: Tensor,
        state_1: Tensor,
        gates: list[Tensor],
        replacement: Tensor | None,
        *,
        fans: Sequence[dict[int, Measured]] | None = None,
    ) -> Tensor:
        """Logits of the supernet with one searched cell ablated, from the first place where that makes a difference.

        Args:
            searched: which searched cell is ablated, at every position that shares its alpha.
            state_0, state_1: the trunk's states that the first of those positions reads.
            gates: gates of all searched cells.
            replacement: gates [edges, operations] in place of the cell's own, or None to remove the cell.
            fans: the trunk's kept fan outputs by position, to be used where a cell's input is the trunk's.

        Returns:
            logits [B, classes]. Running statistics stay as they are.
        """
        ablated = set(self.positions(searched))
        first = min(ablated)
        before: Tensor | None = state_0
        last: Tensor | None = state_1
        for position in range(first, self.space.cells):
            if position in ablated and replacement is None:
                before, last = last, None
                continue
            known: dict[int, Measured] = {}
            if fans is not None and position == first:
                known = fans[position]
            elif fans is not None and position == first + 1:  # its state 0 is the trunk's, its state 1 is not
                known = {0: fans[position][0]}
            chosen = replacement if position in ablated else gates[self.space.sequence[position]]
            before, last = last, self._run_cell(position, before, last, chosen, known=known)
        if last is None:
            last = state_1.new_zeros((state_1.shape[0], self.classifier.in_features, 1, 1))
        return self._head(last)

    def _run_cell(self, position: int, *inputs: Tensor | None, **options: Any) -> Tensor | None:
        """Call a cell, with recomputation if that is asked for and there is a backward pass to come."""
        cell = self.cells[position]
        if self.recompute and torch.is_grad_enabled():
            assert options.get("keep") is None, "cells that are computed twice keep nothing for others"
            return recomputed(cell, *inputs, **options)
        return cell(*inputs, **options)

    def _head(self, x: Tensor) -> Tensor:
        return self.classifier(x.mean((2, 3)))

    @contextmanager
    def _stem_statistics(self, track: bool) -> Iterator[None]:
        """The stem's batch norms are PyTorch's own: tell them whether to move their running statistics."""
        norms = [m for m in self.stem.modules() if isinstance(m, nn.BatchNorm2d)] if self.training else []
        for norm in norms:
            norm.track_running_stats = track
        try:
            yield
        finally:
            for norm in norms:
                norm.track_running_stats = True
