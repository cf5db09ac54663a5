"""The small network in which single operations are measured (paper, section 5; specification, section 8).

Its cells are residual layers as in ResNet18: two 3x3 convolutions in a row and an identity past both, over and over.
Every cell reads the cell before it, so that every position takes part. In the published code a cell reads the one
before that instead, all cells change together, and positions once measured keep the last operation tried there; none of
that is done here.
"""

from __future__ import annotations

from ddarts.errors import SettingsError
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.space.cell_space import INPUT_STATES, default_reductions
from ddarts.space.operations import check_operation

_CONVOLUTION, _IDENTITY = "simple_conv_3x3", "skip_connect"
_LAYER = 3  # edges: convolution, convolution, identity


def reference_network(cells: int = 3, positions: int = 4) -> Genotype:
    """Return the network before anything is placed in it.

    Args:
        cells: cells in a row; reductions stand at n//3 and 2n//3.
        positions: edges of a cell, in turn convolution, convolution, identity past both.

    Raises:
        SettingsError: fewer than 1 of either.
    """
    if cells < 1 or positions < 1:
        raise SettingsError(f"cells = {cells}, positions = {positions}: a reference network needs at least one of each")
    edges: list[Edge] = []
    node = INPUT_STATES - 1  # the output of the cell before
    for position in range(positions):
        kind = position % _LAYER
        if kind == _LAYER - 1:
            edges.append(Edge(_IDENTITY, edges[-2].source, node))
        else:
            edges.append(Edge(_CONVOLUTION, node, node + 1))
            node += 1
    concat = tuple(range(INPUT_STATES, node + 1))
    reductions = default_reductions(cells)
    layers = tuple(CellGenotype(tuple(edges), concat, position in reductions) for position in range(cells))
    return Genotype(layers, "reference network")


def with_operation(network: Genotype, cell: int, position: int, operation: str) -> Genotype:
    """Return `network` with one edge changed: `operation` alone in its place.

    Args:
        network: the reference network.
        cell: which cell, from 0.
        position: which of its edges, from 0.
        operation: what stands there.

    Raises:
        SettingsError: there is no such cell or position.
        GenotypeError: there is no such operation.
    """
    if not 0 <= cell < len(network):
        raise SettingsError(f"cell = {cell} is out of range; the network has cells 0 to {len(network) - 1}")
    before = network.cells[cell]
    if not 0 <= position < len(before.edges):
        raise SettingsError(f"position = {position} is out of range; the cell has 0 to {len(before.edges) - 1}")
    check_operation(operation)
    edges = list(before.edges)
    edges[position] = edges[position]._replace(operation=operation)
    changed = CellGenotype(tuple(edges), before.concat, before.reduction)
    return Genotype((*network.cells[:cell], changed, *network.cells[cell + 1 :]), network.name)
