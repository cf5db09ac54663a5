"""The distance between architectures (paper, section 5; specification, section 8).

A cell counts as the set of its edge rows. A row is the set of operations on one edge, and every edge of the full cell
gives one: an edge without operations gives the empty row. Two rows are as far apart as the weights of the operations
in which they differ, over the sum of the weights of all operations. Two cells are as far apart as their sets of rows
in the sense of Hausdorff, and two architectures as their cells are in the mean, in order.

What is compared: the distance of two cells is 0 exactly if their sets of rows are equal. Between which states an edge
leads, how many edges have the same row, what is concatenated and where reductions stand play no part. On sets of
rows, and on lists of them of equal length, the distance is a metric: 0 only for equals, symmetric, and never longer
than the way round by a third. How lists of unequal length behave is told at `architecture_distance`.

Rows are compared over all operations that ddarts knows, the twelve of the DARTOpti space. They hold the union of any
two spaces, so architectures of different spaces compare as they are, and all distances have one scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence, Set
from itertools import zip_longest
from typing import Literal

from ddarts.errors import SettingsError, nearest
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.operation_weights import OperationWeights
from ddarts.space.cell_space import cell_edges

Row = frozenset[str]
Unequal = Literal["shorter", "penalty"]

#: What may be done about architectures of unequal length.
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
        unequal: what to do if one has more cells. "shorter" compares as many cells as both have, as published. It is
            no metric then: architectures (x, y), (x) and (x, z) are 0, 0 and more than 0 apart. "penalty" counts each
            cell without a partner as 1 and takes the mean over the longer architecture. That is a metric on
            architectures of all lengths: no two cells are further apart than 1, so a cell that is not there behaves
            like one more cell, and the mean over the longer can only grow on a detour over a longer third.

    Raises:
        SettingsError: `unequal` is neither.
    """
    return mean_distance(cell_distances(a, b, weights, unequal))


def mean_distance(distances: Sequence[float]) -> float:
    """Return the distance of two architectures from the distances of their cells, of which there is at least one."""
    return math.fsum(distances) / len(distances)
