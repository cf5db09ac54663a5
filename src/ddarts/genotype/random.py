"""Random genotypes, which a search has to beat at the same size, and random neighbours of a genotype."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import overload

from ddarts.errors import SettingsError
from ddarts.genotype.choices import AnyGenotype, ChoiceGenotype, random_choices
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.runtime.seeds import derive_seed
from ddarts.space.cell_space import SearchSpace
from ddarts.space.choice_space import ChoiceSpace


@overload
def random_genotype(space: SearchSpace, *, seed: int, edges_per_node: int = ...) -> Genotype: ...
@overload
def random_genotype(space: SearchSpace | ChoiceSpace, *, seed: int, edges_per_node: int = ...) -> AnyGenotype: ...
def random_genotype(space: SearchSpace | ChoiceSpace, *, seed: int, edges_per_node: int = 2) -> AnyGenotype:
    """Draw a genotype: every node gets edges from distinct earlier states, each with one operation, all equally likely.

    Two edges per node is the size of a genotype that the rules `darts` and `threshold_sparse` derive. Cells that share
    gates (`space.sequence`) share the draw. A node with fewer earlier states than `edges_per_node` takes them all.
    In a choice space all candidates are equally likely.

    Raises:
        SettingsError: `edges_per_node` is below 1.
    """
    if isinstance(space, ChoiceSpace):
        return random_choices(space, seed=seed)
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


def first_genotype(space: SearchSpace | ChoiceSpace, *, seed: int) -> AnyGenotype:
    """Return the hand-made network of a choice space that has one, else a random genotype."""
    if isinstance(space, ChoiceSpace) and space.known:
        return ChoiceGenotype(space.name, space.known)
    return random_genotype(space, seed=seed)


def mutate(space: SearchSpace | ChoiceSpace, genotype: AnyGenotype, draw: random.Random) -> AnyGenotype:
    """Return a neighbour: in one cell one edge gets another operation or another source, both equally likely.

    Cells that share gates (`space.sequence`) change together. An edge for which there is nothing else to choose (a
    space of one operation, a node that reads every earlier state) keeps what it has. In a choice space one choice gets
    another candidate.
    """
    if isinstance(space, ChoiceSpace):
        index = draw.choice([i for i, choice in enumerate(space.choices) if len(choice.candidates) > 1] or [0])
        choices = list(genotype.choices) if isinstance(genotype, ChoiceGenotype) else []
        others = [name for name in space.choices[index].candidates if name != choices[index]]
        choices[index] = draw.choice(others or choices[index : index + 1])
        return ChoiceGenotype(space.name, tuple(choices), genotype.name)
    assert isinstance(genotype, Genotype)
    searched = draw.randrange(space.searched_cells)
    cell = genotype.cells[space.sequence.index(searched)]
    edges = list(cell.edges)
    index = draw.randrange(len(edges))
    edge = edges[index]
    taken = {e.source for e in edges if e.target == edge.target}
    operations = [name for name in space.operations if name != edge.operation]
    sources = [source for source in range(edge.target) if source not in taken]
    if operations and (not sources or draw.random() < 0.5):
        edges[index] = edge._replace(operation=draw.choice(operations))
    elif sources:
        edges[index] = edge._replace(source=draw.choice(sources))
    cells = tuple(
        replace(c, edges=tuple(edges)) if space.sequence[position] == searched else c
        for position, c in enumerate(genotype.cells)
    )
    return Genotype(cells, genotype.name)
