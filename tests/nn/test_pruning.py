from __future__ import annotations

from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.nn.pruning import live_cells, live_edges, live_inputs

_SKIP = "skip_connect"


def _cell(*edges: tuple[int, int], concat: tuple[int, ...] = (2, 3)) -> CellGenotype:
    return CellGenotype(tuple(Edge(_SKIP, source, target) for source, target in edges), concat)


def test_edges_from_a_node_without_input_are_dead() -> None:
    assert live_edges(_cell((0, 2), (3, 4), (2, 4), concat=(2, 4))) == (0, 2)


def test_edges_to_a_node_that_nobody_reads_are_dead() -> None:
    assert live_edges(_cell((0, 2), (1, 3), (2, 4), (4, 5), concat=(3, 4))) == (0, 1, 2)


def test_an_input_that_feeds_only_dead_nodes_is_not_read() -> None:
    assert live_inputs(_cell((0, 2), (1, 3), concat=(2,))) == {0}
    assert live_inputs(_cell((0, 2), (1, 3), concat=(2, 3))) == {0, 1}


def test_cells_that_only_the_cell_after_next_skips_are_dead() -> None:
    odd = _cell((0, 2), concat=(2,))  # reads the cell before the last only
    both = _cell((0, 2), (1, 2), concat=(2,))
    assert live_cells(Genotype((both, both, both, both))) == (0, 1, 2, 3)
    assert live_cells(Genotype((odd, odd, odd, odd))) == (1, 3)
    assert live_cells(Genotype((both, odd, both, odd))) == (1, 3)
    assert live_cells(Genotype((both, both, odd, both))) == (0, 1, 2, 3)
