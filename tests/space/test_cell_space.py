import json
import subprocess
import sys
from pathlib import Path

import pytest

from ddarts.errors import GenotypeError, SettingsError
from ddarts.space import cell_space as spaces
from ddarts.space.cell_space import SearchSpace, build_space, cell_edges, default_reductions

GOLDEN = Path(__file__).parents[1] / "reference" / "golden"


def test_operations_stand_in_the_published_order() -> None:
    published = json.loads((GOLDEN / "published.json").read_text())["primitives"]
    assert list(spaces.DARTS_OPERATIONS) == published["darts"]
    assert list(spaces.DARTOPTI_OPERATIONS) == published["dartopti"]


def test_edges_are_numbered_node_by_node() -> None:
    assert cell_edges(1) == ((0, 2), (1, 2))
    assert cell_edges(2) == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert len(cell_edges(4)) == 14


@pytest.mark.parametrize(("cells", "expected"), [(1, (0,)), (2, (0, 1)), (3, (1, 2)), (8, (2, 5)), (14, (4, 9))])
def test_reductions_stand_at_one_and_two_thirds(cells: int, expected: tuple[int, ...]) -> None:
    assert default_reductions(cells) == expected


def test_a_space_has_one_alpha_a_cell_and_all_nodes_in_the_output() -> None:
    space = build_space("dartopti", cells=5, nodes=3, reductions=(4,))
    assert (space.cells, space.searched_cells, space.concat, space.reductions) == (5, 5, (2, 3, 4), (4,))
    assert space.edges == cell_edges(3)
    assert build_space(cells=8).reductions == (2, 5)


def test_cells_that_share_gates_are_searched_once() -> None:
    space = SearchSpace(spaces.DARTS_OPERATIONS, 4, (2, 3, 4, 5), (0, 1, 1, 0), (1,))
    assert (space.cells, space.searched_cells) == (4, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "dart"}, "unknown search space 'dart'; did you mean 'dart"),
        ({"cells": 0}, "cells = 0 is out of range; a network needs at least one cell"),
        ({"nodes": 0}, "nodes = 0 is out of range; choose 1 to 8 nodes per cell"),
        ({"nodes": 9}, "nodes = 9 is out of range; choose 1 to 8 nodes per cell"),
        ({"reductions": (8,)}, r"reductions \[8\] must lie between 0 and 7, the last cell"),
        ({"reductions": (5, 2)}, r"reductions \[5, 2\] must be distinct and in ascending order"),
        ({"reductions": (2, 2)}, r"reductions \[2, 2\] must be distinct"),
    ],
)
def test_a_space_out_of_range_says_what_would_fit(settings: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build_space(**settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operations": ()}, r"operations \[\] must be distinct and at least one"),
        ({"operations": ("skip_connect", "skip_connect")}, "must be distinct and at least one"),
        ({"concat": ()}, r"concat \[\] must name distinct states from 2 to 3"),
        ({"concat": (1,)}, r"concat \[1\] must name distinct states from 2 to 3"),
        ({"concat": (2, 2)}, r"concat \[2, 2\] must name distinct states"),
        ({"sequence": ()}, "a network needs at least one cell"),
        ({"sequence": (0, 2)}, r"sequence \[0, 2\] must use every index from 0 to its largest"),
        ({"sequence": (-1, 0)}, r"sequence \[-1, 0\] must use every index"),
        ({"sequence": (10**12,)}, r"sequence \[1000000000000\] must use every index"),
    ],
)
def test_a_space_that_does_not_hold_together_is_refused(change: dict, message: str) -> None:
    fields = {"operations": ("skip_connect",), "nodes": 2, "concat": (2, 3), "sequence": (0, 1), "reductions": ()}
    with pytest.raises(SettingsError, match=message):
        SearchSpace(**(fields | change))


def test_an_unknown_operation_is_named_with_the_nearest() -> None:
    with pytest.raises(GenotypeError, match="operations: unknown operation 'max_pol_3x3'; did you mean 'max_pool_3x3'"):
        SearchSpace(("max_pol_3x3",), 1, (2,), (0,), ())


def test_architecture_needs_no_torch() -> None:
    code = (
        "import sys, ddarts.genotype.derive, ddarts.genotype.deepen, ddarts.genotype.gates; "
        "sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
