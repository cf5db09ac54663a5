"""Genotypes drawn by lot: what a search has to beat at the same size."""

from __future__ import annotations

import random

from ddarts.errors import SettingsError
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.runtime.seeds import derive_seed
from ddarts.space.cell_space import SearchSpace


def random_genotype(space: SearchSpace, *, seed: int, edges_per_node: int = 2) -> Genotype:
    """Draw a genotype: every node gets edges from distinct earlier states, each with one operation, all equally likely.

    Two edges a node is the size of a genotype that the rules `darts` and `threshold_sparse` derive. Cells that share
    gates (`space.sequence`) share the draw. A node with fewer earlier states than `edges_per_node` takes them all.

    Raises:
        SettingsError: `edges_per_node` is below 1.
    """
    if edges_per_node < 1:
        raise SettingsError(f"edges_per_node = {edges_per_node} is out of range; a node needs at least 1")
    draws = []
    for searched in range(space.searched_cells):
        draw = random.Random(derive_seed(seed, "random genotype", searched))
        edges = []
        for target in range(2, space.nodes + 2):
            for source in sorted(draw.sample(range(target), min(edges_per_node, target))):
                edges.append(Edge(draw.choice(space.operations), source, target))
        draws.append(tuple(edges))
    cells = tuple(
        CellGenotype(draws[searched], space.concat_of(searched), position in space.reductions)
        for position, searched in enumerate(space.sequence)
    )
    return Genotype(cells, f"random {seed}")
