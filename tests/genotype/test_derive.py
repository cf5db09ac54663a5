import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddarts.errors import GenotypeError, SettingsError
from ddarts.genotype.derive import (
    RULES,
    Margin,
    choose_edges,
    derive_genotype,
    edge_margins,
    margins,
    parameter_free_share,
)
from ddarts.genotype.gates import Gates
from ddarts.genotype.genotype import CellGenotype, Edge
from ddarts.space.cell_space import SearchSpace, build_space, cell_edges

GOLDEN = Path(__file__).parents[1] / "reference" / "golden"
PARSED = json.loads((GOLDEN / "parse.json").read_text())
THREE = ("max_pool_3x3", "skip_connect", "sep_conv_3x3")


def in_reference_form(edges: tuple[Edge, ...], method: str) -> list[list]:
    """The reference writes (operation, to, from), and for `darts` the older (operation, from)."""
    if method == "darts":
        return [[e.operation, e.source] for e in edges]
    return [[e.operation, e.target, e.source] for e in edges]


@pytest.mark.parametrize("case", PARSED, ids=lambda c: f"{c['method']}-{c['steps']}-{len(c['primitives'])}")
def test_every_rule_gives_the_genes_of_the_reference_in_its_order(case: dict) -> None:
    assert len(case["gates"]) == len(case["genes"]) > 0
    for cell_gates, genes in zip(case["gates"], case["genes"], strict=True):
        edges = choose_edges(cell_gates, case["primitives"], case["steps"], case["method"], case["threshold"])
        assert in_reference_form(edges, case["method"]) == genes


def two_node_cell(**rows: list[float]) -> list[list[float]]:
    """Gates of a cell with two nodes and three operations; an edge is named e02, e12, e03, e13 or e23."""
    return [rows.get(f"e{s}{t}", [0.1, 0.1, 0.1]) for s, t in cell_edges(2)]


def test_equal_edges_are_taken_from_the_lower_source_and_equal_operations_in_order_of_the_space() -> None:
    cell = two_node_cell(e03=[0.1, 0.9, 0.9], e13=[0.9, 0.1, 0.9], e23=[0.9, 0.9, 0.9])
    edges = [e for e in choose_edges(cell, THREE, 2, "threshold_sparse", 0.85) if e.target == 3]
    assert edges == [Edge("skip_connect", 0, 3), Edge("max_pool_3x3", 1, 3)]


def test_threshold_edge_prefers_the_last_of_equal_operations() -> None:
    cell = two_node_cell(e02=[0.9, 0.9, 0.9])
    edges = choose_edges(cell, THREE, 2, "threshold_edge", 0.85)
    assert edges == (Edge("skip_connect", 0, 2), Edge("sep_conv_3x3", 0, 2))


def test_a_gate_at_the_threshold_is_accepted() -> None:
    cell = two_node_cell(e02=[0.85, 0.1, 0.1])
    for method in RULES[1:]:
        assert choose_edges(cell, THREE, 2, method, 0.85) == (Edge("max_pool_3x3", 0, 2),)


def gates_of(*cells: list[list[float]], sequence: tuple[int, ...] | None = None, reductions=(), concat=(2, 3)) -> Gates:
    space = SearchSpace(THREE, 2, concat, sequence or tuple(range(len(cells))), reductions)
    return Gates.from_space(space, cells)


def test_a_node_without_an_input_is_left_out_with_what_only_it_fed() -> None:
    cell = two_node_cell(e23=[0.1, 0.1, 0.9], e13=[0.1, 0.88, 0.1])
    derived = derive_genotype(gates_of(cell))
    assert derived.cells == (CellGenotype((Edge("skip_connect", 1, 3),), (3,)),)


@pytest.mark.parametrize(
    ("cell", "concat", "reason"),
    [
        (two_node_cell(e02=[0.1, 0.8412, 0.1]), (2, 3), "its largest gate is 0.8412, below the threshold 0.85"),
        (two_node_cell(e23=[0.1, 0.1, 0.9]), (2, 3), "no output node has an input at threshold 0.85"),
        (two_node_cell(e02=[0.1, 0.1, 0.9]), (3,), "no output node has an input at threshold 0.85"),
    ],
    ids=["nothing chosen", "fed by nothing", "not in the output"],
)
def test_an_empty_cell_is_an_error_that_names_it(cell: list, concat: tuple[int, ...], reason: str) -> None:
    full = two_node_cell(e02=[0.1, 0.1, 0.9], e23=[0.1, 0.1, 0.9])
    with pytest.raises(GenotypeError) as caught:
        derive_genotype(gates_of(full, cell, concat=concat))
    assert str(caught.value).startswith(f"cell 1 would be empty: {reason}")
    assert str(caught.value).endswith("lower the threshold, search longer, or use method darts")


def test_cells_that_share_gates_differ_only_in_their_stride() -> None:
    one = two_node_cell(e02=[0.9, 0.1, 0.1])
    two = two_node_cell(e12=[0.1, 0.1, 0.9])
    derived = derive_genotype(gates_of(one, two, sequence=(0, 1, 1, 0), reductions=(2,)), name="shared")
    assert derived.name == "shared"
    assert derived.reductions == (2,)
    assert [cell.edges for cell in derived.cells] == [
        (Edge("max_pool_3x3", 0, 2),),
        (Edge("sep_conv_3x3", 1, 2),),
        (Edge("sep_conv_3x3", 1, 2),),
        (Edge("max_pool_3x3", 0, 2),),
    ]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(SettingsError, match=r"threshold = .* is out of range; choose a number from 0 to 1"):
        derive_genotype(gates_of(two_node_cell()), threshold=threshold)


def test_an_unknown_rule_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="unknown method 'threshold_spars'; did you mean 'threshold_sparse'"):
        derive_genotype(gates_of(two_node_cell()), method="threshold_spars")


@st.composite
def random_gates(draw: st.DrawFn) -> Gates:
    nodes = draw(st.integers(1, 3))
    space = build_space("darts", cells=draw(st.integers(1, 3)), nodes=nodes)
    gate = st.floats(0, 1) | st.sampled_from([0.0, 0.5, 0.9, 1.0])  # ties are likely
    row = st.lists(gate, min_size=7, max_size=7)
    cell = st.lists(row, min_size=len(space.edges), max_size=len(space.edges))
    return Gates.from_space(space, draw(st.lists(cell, min_size=space.cells, max_size=space.cells)))


@given(random_gates(), st.floats(0, 1))
def test_each_rule_keeps_its_word_about_thresholds_and_counts(gates: Gates, threshold: float) -> None:
    for cell in gates.values:
        gate = {
            Edge(op, s, t): cell[i][j]
            for i, (s, t) in enumerate(cell_edges(gates.nodes))
            for j, op in enumerate(gates.operations)
        }
        chosen = {rule: choose_edges(cell, gates.operations, gates.nodes, rule, threshold) for rule in RULES}
        assert set(chosen["threshold_complete"]) == {e for e, value in gate.items() if value >= threshold}
        assert set(chosen["threshold_sparse"]) == {e for e in chosen["darts"] if gate[e] >= threshold}
        assert set(chosen["threshold_edge"]) <= set(chosen["threshold_complete"])
        for target in range(2, gates.nodes + 2):
            two = [e for e in chosen["darts"] if e.target == target]
            assert len({e.source for e in two}) == 2
            assert gate[two[0]] >= gate[two[1]]
            left = [
                value for e, value in gate.items() if e.target == target and e.source not in {x.source for x in two}
            ]
            assert all(gate[two[1]] >= value for value in left)
        for source, target in cell_edges(gates.nodes):
            pair = [gate[e] for e in chosen["threshold_edge"] if (e.source, e.target) == (source, target)]
            assert len(pair) <= 2
            assert all(a <= b for a, b in pairwise(pair))


@given(random_gates())
def test_the_darts_rule_always_gives_a_whole_genotype(gates: Gates) -> None:
    derived = derive_genotype(gates, "darts")
    assert all(cell.nodes == gates.nodes for cell in derived.cells)
    assert derived.reductions == gates.reductions


# -- collapse watch --------------------------------------------------------------------------------------------------


def test_the_parameter_free_share_counts_pools_and_identities_of_each_cell() -> None:
    collapsed = two_node_cell(e02=[0.9, 0.1, 0.1], e03=[0.1, 0.9, 0.1])
    half = two_node_cell(e02=[0.9, 0.1, 0.1], e03=[0.1, 0.1, 0.9])
    nothing = two_node_cell()
    assert parameter_free_share(gates_of(collapsed, half, nothing)) == (1.0, 0.5, 0.0)


def test_the_parameter_free_share_leaves_out_nodes_without_an_input() -> None:
    unfed = two_node_cell(e23=[0.1, 0.1, 0.9], e13=[0.9, 0.1, 0.1])
    assert parameter_free_share(gates_of(unfed)) == (1.0,)


def test_the_runner_up_is_the_best_gate_that_would_drive_the_choice_out() -> None:
    cell = two_node_cell(e02=[0.9, 0.2, 0.1], e03=[0.95, 0.1, 0.6], e13=[0.1, 0.7, 0.1], e23=[0.1, 0.1, 0.9])
    found = edge_margins(cell, THREE, 2, "threshold_sparse", 0.85)
    assert found == pytest.approx(
        {
            Edge("max_pool_3x3", 0, 2): 0.9 - 0.2,  # both edges of node 2 are taken: its own edge's second
            Edge("max_pool_3x3", 0, 3): 0.95 - 0.7,  # the edge from 1 that was left out
            Edge("sep_conv_3x3", 2, 3): 0.9 - 0.7,
        }
    )
    assert margins(gates_of(cell)) == (Margin(pytest.approx(0.2), pytest.approx((0.7 + 0.25 + 0.2) / 3)),)


def test_rules_that_take_every_edge_compare_within_the_edge() -> None:
    cell = two_node_cell(e02=[0.9, 0.86, 0.88])
    assert edge_margins(cell, THREE, 2, "threshold_edge", 0.85) == pytest.approx(
        {Edge("sep_conv_3x3", 0, 2): 0.02, Edge("max_pool_3x3", 0, 2): 0.04}
    )
    assert edge_margins(cell, THREE, 2, "threshold_complete", 0.85) == {}


def test_margins_are_zero_where_nothing_is_decided() -> None:
    assert margins(gates_of(two_node_cell())) == (Margin(0.0, 0.0),)
    assert margins(gates_of(two_node_cell()), "darts") == (Margin(0.0, 0.0),)
    single = Gates(("skip_connect",), 1, (2,), (0,), (), (((0.9,), (0.9,)),))
    assert margins(single) == (Margin(0.0, 0.0),)


@given(random_gates(), st.sampled_from(RULES), st.floats(0, 1))
def test_margins_lie_between_zero_and_one(gates: Gates, method: str, threshold: float) -> None:
    for margin in margins(gates, method, threshold):
        assert 0 <= margin.smallest <= margin.mean + 1e-12 <= 1 + 1e-12
