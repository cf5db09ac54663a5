"""Pictures of the cells while a search runs, for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ddarts.errors import GenotypeError
from ddarts.genotype.derive import choose_edges, edge_margins
from ddarts.genotype.genotype import CellGenotype
from ddarts.reporting.drawing import cell_scene
from ddarts.reporting.picture import to_png
from ddarts.reporting.values import cell_gates
from ddarts.space.cell_space import SearchSpace

_SHARE = 0.01  # of the time of a search that may go into pictures
_FIRST_GUESS_S = 0.3  # for a cell, before one was drawn
_RULE = "darts"  # two operations a node, whatever their gates: early in a search none has reached a threshold


class CellPictures:
    """Draws what would be chosen now in every searched cell, at most so often that the search does not notice.

    Call with a record of metrics; it gives pictures for the last epoch, and for an epoch before it once enough time
    has passed since the last pictures for them to cost less than one part in a hundred.

    Args:
        space: what the search chooses from.
        epochs: of the search.
        share: of the search's time that may go into pictures.
    """

    def __init__(self, space: SearchSpace, epochs: int, *, share: float = _SHARE) -> None:
        self._space, self._epochs, self._share = space, epochs, share
        self._cost = _FIRST_GUESS_S * space.searched_cells
        self._last = time.perf_counter()

    def __call__(self, record: Mapping[str, Any]) -> dict[str, bytes]:
        """Return PNG files by name, ``cell i``; none for other records than the epochs of a search."""
        if record.get("stage") != "search" or record.get("kind") != "epoch" or not record.get("gates"):
            return {}
        start = time.perf_counter()
        if record.get("epoch") != self._epochs and (start - self._last) * self._share < self._cost:
            return {}
        pictures = {}
        for cell in range(self._space.searched_cells):
            picture = self._draw(record, cell)
            if picture is not None:
                pictures[f"cell {cell}"] = picture
        self._last = time.perf_counter()
        self._cost = self._last - start
        return pictures

    def _draw(self, record: Mapping[str, Any], cell: int) -> bytes | None:
        space = self._space
        rows = cell_gates(record, cell, len(space.edges), len(space.operations))
        known = [[0.0 if gate is None else gate for gate in row] for row in rows]
        edges = choose_edges(known, space.operations, space.nodes, _RULE, 0.0)
        gate = dict(zip(space.edges, known, strict=True))
        gates = {e: gate[e.source, e.target][space.operations.index(e.operation)] for e in edges}
        try:
            drawn = CellGenotype(tuple(edges), space.concat_of(cell), self._reduces(cell)).pruned()
        except GenotypeError:  # no node that is put out has an input
            return None
        margins = edge_margins(known, space.operations, space.nodes, _RULE, 0.0)
        title = f"cell {cell}, epoch {record.get('epoch')}"
        return to_png(cell_scene(drawn, title=title, gates=gates, margins=margins), scale=1.0)

    def _reduces(self, cell: int) -> bool:
        return self._space.sequence.index(cell) in self._space.reductions
