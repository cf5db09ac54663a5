"""Distances between architectures: Hausdorff (paper, section 5; specification, section 8) and edit distance.

**Hausdorff distance.** A cell is represented by the set of its edge rows. A row is the set of operations on one edge,
and every edge of the full cell gives one: an edge without operations gives the empty row. The distance of two rows is
the sum of the weights of the operations in which they differ, over the sum of the weights of all operations. The
distance of two cells is the Hausdorff distance of their sets of rows; that of two architectures is the mean over their
cells in order.

It is a metric on sets of rows, and on lists of them of equal length, but not on architectures: the distance of two
cells is 0 exactly if their *sets* of rows are equal. The states that an edge connects, the number of edges with the
same row, the concatenation and the positions of reductions do not count. Dropping an operation from one of several
equal edges can therefore leave the distance at 0. `architecture_distance` describes lists of unequal length.

**Edit distance.** `edit_distance` compares everything that makes a network: operations with their position, outputs and
reductions. It is 0 exactly for equal networks, and a metric on architectures of all lengths.

Rows are compared over all operations that ddarts knows, the twelve of the DARTOpti space, which contains the others, so
that architectures of different spaces are compared on one scale.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence, Set
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from ddarts.errors import SettingsError, nearest
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.operation_weights import OperationWeights
from ddarts.space.cell_space import cell_edges

Row = frozenset[str]
Unequal = Literal["shorter", "penalty"]

#: Treatments of architectures of unequal length.
UNEQUAL = ("shorter", "penalty")


def edge_rows(edges: Iterable[Edge], nodes: int) -> frozenset[Row]:
    """Return the set of rows of a cell: for each edge its operations, and the empty row if an edge has none.

    Args:
        edges: operations, each on an edge of the full cell.
        nodes: intermediate nodes of the full cell.
    """
    operations: dict[tuple[int, int], set[str]] = {}
    for edge in edges:
        operations.setdefault((edge.source, edge.target), set()).add(edge.operation)
    rows = {frozenset(found) for found in operations.values()}
    if len(operations) < len(cell_edges(nodes)):
        rows.add(frozenset())
    return frozenset(rows)


def row_set_distance(a: Set[Row], b: Set[Row], weights: OperationWeights | None = None) -> float:
    """Return the Hausdorff distance of two sets of rows, 0 to 1; neither may be empty."""
    weights = weights or OperationWeights.published()
    between = {(r, s): weights.between(r, s) for r in a for s in b}
    there = max(min(between[r, s] for s in b) for r in a)
    back = max(min(between[r, s] for r in a) for s in b)
    return max(there, back)


def cell_distance(a: CellGenotype, b: CellGenotype, weights: OperationWeights | None = None) -> float:
    """Return the distance of two cells, 0 to 1.

    Each is a full cell with the nodes that it names, in its edges or its concatenation.

    Args:
        a: a cell.
        b: another cell; it may have another number of nodes.
        weights: of the operations; the published ones if not given.
    """
    return row_set_distance(edge_rows(a.edges, a.nodes), edge_rows(b.edges, b.nodes), weights)


def cell_distances(
    a: Genotype, b: Genotype, weights: OperationWeights | None = None, unequal: Unequal = "shorter"
) -> tuple[float, ...]:
    """Return the distance of each pair of cells at the same position; see `architecture_distance`.

    With "shorter" there are as many as the shorter architecture has cells; with "penalty" as many as the longer has,
    1 for each cell that has no partner.

    Raises:
        SettingsError: `unequal` is neither.
    """
    if unequal not in UNEQUAL:
        raise SettingsError(f"unknown value of unequal: {str(unequal)[:60]!r}{nearest(str(unequal)[:60], UNEQUAL)}")
    if unequal == "shorter":
        return tuple(cell_distance(x, y, weights) for x, y in zip(a.cells, b.cells, strict=False))
    pairs = zip_longest(a.cells, b.cells)
    return tuple(1.0 if x is None or y is None else cell_distance(x, y, weights) for x, y in pairs)


def architecture_distance(
    a: Genotype, b: Genotype, weights: OperationWeights | None = None, unequal: Unequal = "shorter"
) -> float:
    """Return the distance of two architectures, 0 to 1: the mean of `cell_distances`.

    Args:
        a: an architecture.
        b: another one.
        weights: of the operations; the published ones if not given.
        unequal: treatment of architectures of unequal length. "shorter" compares as many cells as both have, as
            published. It is not a metric then: the distances between (x, y), (x) and (x, z) are 0, 0 and more than 0.
            "penalty" counts each cell without a partner as 1 and takes the mean over the longer architecture. That is
            a metric on architectures of all lengths: no distance of two cells is above 1, so a missing cell behaves
            like one more cell, and a third, longer architecture can only increase the sum of the two distances.

    Raises:
        SettingsError: `unequal` is neither.
    """
    return mean_distance(cell_distances(a, b, weights, unequal))


def mean_distance(distances: Sequence[float]) -> float:
    """Return the distance of two architectures from the distances of their cells, of which there is at least one."""
    return math.fsum(distances) / len(distances)


# -- edit distance and differences ---------------------------------------------------------------------------------


def edit_distance(a: Genotype, b: Genotype) -> float:
    """Return the share of elements in which two architectures differ, 0 to 1.

    The elements E of an architecture are, for each position of a cell: its operations (name, from, to), the states that
    it concatenates, and whether it is a reduction, after removal of what no input reaches. The distance is

        |E(a) symmetric difference E(b)| / |E(a) union E(b)|,

    the number of elements to remove and to add, normalised by the number of all elements: the Jaccard distance of two
    sets, which is a metric (Levandowsky and Winter, Nature 234, 1971). It is 0 exactly if both canonical forms have the
    same operations, outputs and reductions.
    """
    first, second = _elements(a), _elements(b)
    return len(first ^ second) / len(first | second)


def _elements(genotype: Genotype) -> set[Hashable]:
    cells = [cell.pruned() for cell in genotype.cells]
    return {(i, e) for i, cell in enumerate(cells) for e in (*cell.edges, *cell.concat, ("reduction", cell.reduction))}


@dataclass(frozen=True)
class CellDifference:
    """The operations in which two cells at one position differ.

    Attributes:
        position: of the cell in the network.
        added: operations that only the second cell has, on edges where it has more.
        removed: operations that only the first cell has, on edges where it had more.
        changed: operations of the first cell with the operation of the second on the same edge.
    """

    position: int
    added: tuple[Edge, ...]
    removed: tuple[Edge, ...]
    changed: tuple[tuple[Edge, Edge], ...]


def cell_differences(a: Genotype, b: Genotype) -> tuple[CellDifference, ...]:
    """Return the differences between two architectures, cell by cell, for the cells whose operations differ.

    A cell that only one of them has counts as added or removed as a whole. What no input reaches is left out.
    """
    found = []
    for position, cells in enumerate(zip_longest(a.cells, b.cells)):
        first, second = (frozenset(cell.pruned().edges) if cell else frozenset() for cell in cells)
        added: list[Edge] = []
        removed: list[Edge] = []
        changed: list[tuple[Edge, Edge]] = []
        for source, target in sorted({(e.source, e.target) for e in first ^ second}):
            old, new = (sorted(e for e in c if e[1:] == (source, target)) for c in (first - second, second - first))
            pairs = list(zip(old, new, strict=False))
            changed += pairs
            removed += old[len(pairs) :]
            added += new[len(pairs) :]
        if first != second:
            found.append(CellDifference(position, tuple(added), tuple(removed), tuple(changed)))
    return tuple(found)
