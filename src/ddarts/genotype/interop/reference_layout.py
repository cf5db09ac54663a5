"""The network that the reference code builds from a genotype, where it is not the one that the genotype says.

Only weights that were trained by that code need it (`ddarts import-weights`). Source: what the public code of D-DARTS
(aheuillet/D-DARTS, model.py) does; the specification, section 9, number 7, lists its layout as a defect.
"""

from __future__ import annotations

from dataclasses import replace

from ddarts.errors import GenotypeError
from ddarts.genotype.genotype import CellGenotype, Genotype


def reference_concat(genotype: Genotype) -> Genotype:
    """Return the genotype with cells that concatenate every node that has an edge, whatever their `concat` says.

    The reference computes the nodes, and concatenates them, in the order in which the genotype first names them.

    Raises:
        GenotypeError: a cell names a node before an earlier one; the reference would then skip edges between them.
    """
    cells = []
    for position, cell in enumerate(genotype.cells):
        nodes = tuple(dict.fromkeys(edge.target for edge in cell.edges))
        if nodes != tuple(sorted(nodes)):
            raise GenotypeError(
                f"cell {position} names its nodes in the order {', '.join(map(str, nodes))}; the reference computes "
                "them in that order and skips edges from nodes that come later: list the edges node by node, as in "
                "the reference's genotype file"
            )
        cells.append(cell if cell.live_concat == nodes else replace(cell, concat=nodes))
    return replace(genotype, cells=tuple(cells))


def reference_layout(genotype: Genotype, layers: int) -> Genotype | None:
    """Return the genotype laid out over more cells as the reference does it, or None where its code fails.

    Reductions stay at the positions that the genotype gives, while the operations of each cell are picked by where the
    reductions of the longer network should be.

    Args:
        genotype: n cells.
        layers: L >= n; with L == n the genotype is returned as it is.
    """
    count = len(genotype)
    if layers == count:
        return genotype
    first, second = count // 3, 2 * count // 3
    if len(genotype.reductions) > 2 or second - 1 - first < 1 or count - 1 - second < 1:
        return None
    cells: list[CellGenotype] = []
    for position in range(layers):
        if position < layers // 3:
            source = position % count // 3
        elif position == layers // 3:
            source = first
        elif position < 2 * layers // 3:
            source = position % (second - 1 - first) + first + 1
        elif position == 2 * layers // 3:
            source = second
        else:
            source = position % (count - 1 - second) + second + 1
        cells.append(replace(genotype.cells[source], reduction=position in genotype.reductions))
    return replace(genotype, cells=tuple(cells))
