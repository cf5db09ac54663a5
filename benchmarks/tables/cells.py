"""The space of the tables cells-*.jsonl: five nested cells of three nodes, two edges a node; genotypes as short text.

A genotype is five words, one for each cell. A word has a pair for each edge, two pairs a node: the state from which
the edge comes (0 and 1 are the cell's inputs, 2 the first node) and the index of its operation in `OPERATIONS`. So
``0312...`` says: node 2 reads state 0 by sep_conv_3x3 and state 1 by skip_connect, and so on.
"""

from __future__ import annotations

import random

from ddarts.genotype.genotype import CellGenotype, Edge, Genotype

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
CELLS, NODES, REDUCTIONS = 5, 3, (1, 3)
_TARGETS = [node + 2 for node in range(NODES) for _ in range(2)]


def encode(genotype: Genotype) -> str:
    """Write a genotype of this space as text; its name is not kept.

    Raises:
        ValueError: it has other cells, nodes without exactly two edges, or other operations.
    """
    words = []
    for position, cell in enumerate(genotype.cells):
        edges = sorted(cell.edges, key=lambda edge: (edge.target, edge.source))
        fits = [e.target for e in edges] == _TARGETS and cell.concat == tuple(range(2, NODES + 2))
        if not fits or cell.reduction != (position in REDUCTIONS):
            raise ValueError(f"cell {position} is not of the table's space")
        words.append("".join(f"{e.source}{OPERATIONS.index(e.operation)}" for e in edges))
    if len(words) != CELLS:
        raise ValueError(f"{len(words)} cells, the table's space has {CELLS}")
    return " ".join(words)


def decode(text: str) -> Genotype:
    """Read what `encode` wrote."""
    cells = []
    for position, word in enumerate(text.split()):
        pairs = [(int(word[i]), OPERATIONS[int(word[i + 1])]) for i in range(0, len(word), 2)]
        edges = tuple(Edge(name, source, target) for (source, name), target in zip(pairs, _TARGETS, strict=True))
        cells.append(CellGenotype(edges, tuple(range(2, NODES + 2)), position in REDUCTIONS))
    return Genotype(tuple(cells))


def neighbour(text: str, draw: random.Random, changes: int = 1) -> str:
    """Change so many edges of a genotype at random: each gets another operation, or comes from another state."""
    words = text.split()
    for _ in range(changes):
        cell, edge = draw.randrange(CELLS), draw.randrange(2 * NODES)
        pairs = [words[cell][i : i + 2] for i in range(0, 4 * NODES, 2)]
        node = edge // 2
        used = {pairs[2 * node][0], pairs[2 * node + 1][0]}
        free = [str(s) for s in range(node + 2) if str(s) not in used]
        source, operation = pairs[edge]
        if free and draw.random() < 0.5:
            source = draw.choice(free)
        else:
            operation = draw.choice([str(o) for o in range(len(OPERATIONS)) if str(o) != operation])
        pairs[edge] = source + operation
        pairs[2 * node : 2 * node + 2] = sorted(pairs[2 * node : 2 * node + 2])
        words[cell] = "".join(pairs)
    return " ".join(words)
