"""Which parts of an architecture reach its output; the rest is never computed and gets no weights."""

from __future__ import annotations

from collections.abc import Collection

from ddarts.genotype.genotype import CellGenotype, Genotype


def live_edges(cell: CellGenotype) -> tuple[int, ...]:
    """Return the indices into `cell.edges` of the edges that start at a fed state and whose result reaches the output.

    Left out is what hangs on a node without an input (paper, section 3.4) and what feeds only nodes that nobody reads.
    """
    fed = cell.fed_states
    wanted = set(cell.live_concat)
    for edge in sorted(cell.edges, key=lambda e: -e.target):  # edges lead forward: readers come before what they read
        if edge.target in wanted and edge.source in fed:
            wanted.add(edge.source)
    return tuple(i for i, e in enumerate(cell.edges) if e.target in wanted and e.source in fed)


def live_inputs(cell: CellGenotype) -> frozenset[int]:
    """Return which of the input states 0 (output of the cell before the last) and 1 (the last) the cell reads."""
    return frozenset(cell.edges[i].source for i in live_edges(cell)) & {0, 1}


def live_states(genotype: Genotype, ends: Collection[int] | None = None) -> frozenset[int]:
    """Return the positions that some outputs depend on, themselves included: cells, and the stem's states -2 and -1.

    Args:
        genotype: the architecture.
        ends: positions of the outputs; None for the last cell.
    """
    live = set(ends) if ends is not None else {len(genotype) - 1}
    for position in range(max(live), -1, -1):
        if position in live:
            live |= {position - 2 + state for state in live_inputs(genotype.cells[position])}
    return frozenset(live)


def live_cells(genotype: Genotype) -> tuple[int, ...]:
    """Return the positions of the cells that the output of the last cell depends on, in ascending order."""
    return tuple(sorted(p for p in live_states(genotype) if p >= 0))
