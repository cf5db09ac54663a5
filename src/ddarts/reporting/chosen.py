"""The gates behind a genotype: which gate each chosen operation had, and how far it was above its runner-up."""

from __future__ import annotations

from dataclasses import dataclass

from ddarts.genotype.derive import choose_edges, edge_margins
from ddarts.genotype.gates import Gates
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype


@dataclass(frozen=True)
class CellEvidence:
    """What the search says about one cell of a genotype.

    Attributes:
        searched: index of the searched cell that it comes from; None if it comes from none of them.
        gates: gate of each of its edges, 0 to 1.
        margins: gate minus the runner-up's, for each edge that something competes with.
    """

    searched: int | None
    gates: dict[Edge, float]
    margins: dict[Edge, float]


def evidence(
    genotype: Genotype, gates: Gates, method: str = "threshold_sparse", threshold: float = 0.85
) -> list[CellEvidence]:
    """Find for each cell of a genotype the searched cell that it comes from, and the gates of its edges.

    A genotype as long as the search has its cells in the same places; in a deeper one a cell is known by its edges. A
    cell that the gates cannot have given, because the genotype comes from elsewhere, has no evidence.

    Args:
        genotype: what was derived.
        gates: what it was derived from.
        method: the rule.
        threshold: the rule's threshold.
    """
    derived = [frozenset(choose_edges(cell, gates.operations, gates.nodes, method, threshold)) for cell in gates.values]
    found = []
    for position, cell in enumerate(genotype.cells):
        # its own place first, then cells of the same kind, then any
        order = sorted(
            range(len(gates.sequence)),
            key=lambda p: (p != position, (p in gates.reductions) != cell.reduction, p),
        )
        places = [gates.sequence[p] for p in order]
        searched = next((s for s in places if cell.edges and derived[s] >= frozenset(cell.edges)), None)
        if searched is None:
            found.append(CellEvidence(None, {}, {}))
            continue
        margins = edge_margins(gates.values[searched], gates.operations, gates.nodes, method, threshold)
        found.append(
            CellEvidence(
                searched,
                _gates_of(cell, gates, searched),
                {edge: margins[edge] for edge in cell.edges if edge in margins},
            )
        )
    return found


def _gates_of(cell: CellGenotype, gates: Gates, searched: int) -> dict[Edge, float]:
    rows = dict(zip(gates.space.edges, gates.values[searched], strict=True))
    return {e: rows[e.source, e.target][gates.operations.index(e.operation)] for e in cell.edges}
