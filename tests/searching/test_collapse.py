from __future__ import annotations

import pytest

from ddarts.genotype.gates import Gates
from ddarts.searching.collapse import Health, check_health
from ddarts.space.cell_space import DARTS_OPERATIONS, build_space

BUILT_IN_OPERATIONS = {name: i for i, name in enumerate(DARTS_OPERATIONS)}
Cell = list[dict[str, float]]


def gates(*cells: Cell, low: float = 0.1) -> Gates:
    """One node, two edges a cell; each edge names the gates that are not `low`."""
    space = build_space(cells=len(cells), nodes=1, reductions=())
    values = []
    for cell in cells:
        rows = [[low] * len(BUILT_IN_OPERATIONS) for _ in range(2)]
        for row, named in zip(rows, cell, strict=True):
            for name, value in named.items():
                row[BUILT_IN_OPERATIONS[name]] = value
        values.append(rows)
    return Gates.from_space(space, values)


def watch(given: Gates, *, last: bool = False, method: str = "threshold_sparse", threshold: float = 0.85) -> Health:
    return check_health(given, method, threshold, last=last)


POOLS: Cell = [{"max_pool_3x3": 0.9}, {"skip_connect": 0.95}]
MIXED: Cell = [{"max_pool_3x3": 0.9}, {"sep_conv_3x3": 0.95}]
CONVS: Cell = [{"dil_conv_5x5": 0.9}, {"sep_conv_3x3": 0.95}]


def test_cells_of_pools_and_identities_that_are_decided_have_collapsed() -> None:
    health = watch(gates(CONVS, POOLS, MIXED, POOLS))
    assert health.collapsed == (1, 3)
    assert health.parameter_free == (0.0, 1.0, 0.5, 1.0)


@pytest.mark.parametrize(
    "cell",
    [
        [{"max_pool_3x3": 0.51}, {"skip_connect": 0.52}],  # all gates near 1/2: their order means nothing
        [{"max_pool_3x3": 0.99}, {"skip_connect": 0.84}],  # one edge is not decided yet
    ],
)
def test_an_order_of_gates_that_are_not_decided_is_no_collapse(cell: Cell) -> None:
    health = watch(gates(cell, low=0.5))
    assert health.collapsed == ()
    assert health.parameter_free == (1.0,)  # but it is shown


def test_the_last_epoch_judges_what_would_be_built() -> None:
    one_decided = [{"max_pool_3x3": 0.99}, {"sep_conv_3x3": 0.5}]  # the rule builds a cell of one pool
    assert watch(gates(one_decided)).collapsed == ()
    assert watch(gates(one_decided), last=True).collapsed == (0,)
    assert watch(gates(MIXED), last=True).collapsed == ()


def test_a_cell_left_empty_is_no_collapse_but_an_error_of_the_rule() -> None:
    assert watch(gates([{"max_pool_3x3": 0.6}, {}]), last=True).collapsed == ()


def test_gates_are_complete_once_the_rule_finds_something_in_every_cell() -> None:
    undecided: Cell = [{"sep_conv_3x3": 0.6}, {}]
    assert watch(gates(CONVS, MIXED)).complete
    assert not watch(gates(CONVS, undecided)).complete
    assert watch(gates(CONVS, undecided), method="darts").complete


def test_without_a_threshold_the_last_epoch_counts_all_choices() -> None:
    given = gates([{"max_pool_3x3": 0.6}, {"avg_pool_3x3": 0.6}])
    assert watch(given, method="darts").collapsed == ()
    assert watch(given, method="darts", last=True).collapsed == (0,)


@pytest.mark.parametrize("last", [False, True])
def test_a_rule_that_builds_several_operations_an_edge_may_save_a_cell(last: bool) -> None:
    both: Cell = [{"max_pool_3x3": 0.95, "sep_conv_3x3": 0.9}, {"skip_connect": 0.95}]
    assert watch(gates(both), last=last).collapsed == (0,)
    assert watch(gates(both), last=last, method="threshold_edge").collapsed == ()
    assert watch(gates(POOLS), last=last, method="threshold_edge").collapsed == (0,)


def test_the_margin_is_the_mean_lead_of_the_chosen_gates() -> None:
    cell: Cell = [{"max_pool_3x3": 0.9, "sep_conv_3x3": 0.7}, {"sep_conv_5x5": 0.8, "dil_conv_3x3": 0.4}]
    assert watch(gates(cell)).margin == (pytest.approx((0.2 + 0.4) / 2),)
