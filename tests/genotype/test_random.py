from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from ddarts.errors import SettingsError
from ddarts.genotype.random import random_genotype
from ddarts.space.cell_space import build_space


def test_every_node_has_two_distinct_sources_and_cells_differ() -> None:
    space = build_space("darts", cells=8, nodes=4)
    genotype = random_genotype(space, seed=3)
    assert genotype.reductions == space.reductions
    for cell in genotype.cells:
        assert Counter(e.target for e in cell.edges) == {2: 2, 3: 2, 4: 2, 5: 2}
        assert len({(e.source, e.target) for e in cell.edges}) == 8
        assert cell.concat == space.concat
    assert len({cell.edges for cell in genotype.cells}) == 8


def test_the_seed_decides() -> None:
    space = build_space("dartopti", cells=4, nodes=3)
    assert random_genotype(space, seed=1) == random_genotype(space, seed=1)
    assert random_genotype(space, seed=1).cells != random_genotype(space, seed=2).cells


def test_every_operation_and_source_is_drawn_about_equally_often() -> None:
    space = build_space("darts", cells=90, nodes=4)
    cells = random_genotype(space, seed=0).cells
    operations = Counter(e.operation for cell in cells for e in cell.edges)
    assert set(operations) == set(space.operations)
    assert all(abs(n - 720 / 7) < 40 for n in operations.values())
    sources = Counter(e.source for cell in cells for e in cell.edges if e.target == 5)
    assert all(abs(sources[s] - 180 / 5) < 20 for s in range(5))


def test_cells_that_share_gates_share_the_draw() -> None:
    space = dataclasses.replace(build_space(cells=4), sequence=(0, 0, 1, 0))
    cells = random_genotype(space, seed=0).cells
    assert cells[0].edges == cells[1].edges == cells[3].edges != cells[2].edges


def test_a_node_takes_all_sources_when_it_has_fewer_than_asked() -> None:
    genotype = random_genotype(build_space(cells=1, nodes=2), seed=0, edges_per_node=3)
    assert Counter(e.target for e in genotype.cells[0].edges) == {2: 2, 3: 3}


def test_no_edges_a_node_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"edges_per_node = 0 is out of range"):
        random_genotype(build_space(cells=1), seed=0, edges_per_node=0)
