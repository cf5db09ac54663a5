"""The supernet: a network of mixed cells, each with architecture weights of its own (paper, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ddarts.nn.batch_norm import running_statistics
from ddarts.nn.recompute import recomputed
from ddarts.nn.stems import build_stem
from ddarts.space.cell_space import SearchSpace
from ddarts.supernet.cell import MixedCell
from ddarts.supernet.grouped_edges import Precomputed
from ddarts.supernet.interface import Searchable, Trunk


class Supernet(Searchable[SearchSpace]):
    """Every cell holds every operation on every edge, each multiplied by its gate.

    Args:
        space: operations, nodes, the sequence of cells and the reductions.
        channels: C of the first cell; it doubles at each reduction.
        in_channels: channels of the images.
        classes: number of classes.
        stem: "cifar" or "imagenet".

    Attributes:
        sizes: the arguments but `space`, by name.
    """

    def __init__(
        self, space: SearchSpace, *, channels: int = 16, in_channels: int = 3, classes: int = 10, stem: str = "cifar"
    ) -> None:
        super().__init__()
        self.space = space
        self.sizes: dict[str, Any] = {
            "channels": channels,
            "in_channels": in_channels,
            "classes": classes,
            "stem": stem,
        }
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
        self.add_alphas([(len(space.edges), len(space.operations))] * space.searched_cells)

    def trunk(self, x: Tensor, gates: Sequence[Tensor], *, track: bool, keep: bool = False) -> Trunk:
        """See `Searchable.trunk`. What is precomputed costs no memory while a graph holds it anyway."""
        with running_statistics(self, track=track):
            states: list[Tensor] = list(self.stem(x.contiguous(memory_format=torch.channels_last)))
            precomputed: list[
                dict[int, Precomputed]
            ] = []  # by position: the operations on states 0 and 1, before gates
            for position, entry in enumerate(self.space.sequence):
                of_cell: dict[int, Precomputed] | None = {} if keep else None
                output = self._run_cell(position, states[-2], states[-1], gates[entry], keep=of_cell)
                assert output is not None
                states.append(output)
                if of_cell is not None:
                    precomputed.append(of_cell)
        return Trunk(self._head(states[-1]), states, precomputed or None)

    def positions(self, searched: int) -> tuple[int, ...]:
        """Positions in the network of the cells that use the alpha of `searched`."""
        return tuple(k for k, entry in enumerate(self.space.sequence) if entry == searched)

    def branch_starts(self, searched: int) -> tuple[int, ...]:
        """See `Searchable.branch_starts`: cell k reads states k and k + 1."""
        first = self.positions(searched)[0]
        return first, first + 1

    def branch(
        self,
        searched: int,
        starts: Sequence[Tensor],
        gates: Sequence[Tensor],
        replacement: Tensor | None,
        *,
        precomputed: Sequence[dict[int, Precomputed]] | None = None,
    ) -> Tensor:
        """See `Searchable.branch`. The output of a cell that is removed is 0."""
        ablated = set(self.positions(searched))
        first = min(ablated)
        before: Tensor | None
        last: Tensor | None
        before, last = starts
        with running_statistics(self, track=False):
            for position in range(first, self.space.cells):
                if position in ablated and replacement is None:
                    before, last = last, None
                    continue
                known: dict[int, Precomputed] = {}
                if precomputed is not None and position == first:
                    known = precomputed[position]
                elif (
                    precomputed is not None and position == first + 1
                ):  # its state 0 is the trunk's, its state 1 is not
                    known = {0: precomputed[position][0]}
                chosen = replacement if position in ablated else gates[self.space.sequence[position]]
                before, last = last, self._run_cell(position, before, last, chosen, precomputed=known)
        if last is None:
            last = starts[1].new_zeros((len(starts[1]), self.classifier.in_features, 1, 1))
        return self._head(last)

    def _run_cell(self, position: int, *inputs: Tensor | None, **options: Any) -> Tensor | None:
        """Call a cell, with recomputation if that is asked for and there is a backward pass to come."""
        cell = self.cells[position]
        if self.recompute and torch.is_grad_enabled():
            assert options.get("keep") is None, "cells that are computed twice precompute nothing for others"
            return recomputed(cell, *inputs, **options)
        return cell(*inputs, **options)

    def _head(self, x: Tensor) -> Tensor:
        return self.classifier(x.mean((2, 3)))
