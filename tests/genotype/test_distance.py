"""The distance between architectures: the published values, and what makes it a metric."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddarts.errors import GenotypeError, SettingsError
from ddarts.genotype.distance import (
    CellDifference,
    architecture_distance,
    cell_differences,
    cell_distance,
    cell_distances,
    edge_rows,
    edit_distance,
    row_set_distance,
)
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.operation_weights import OperationWeights
from ddarts.genotype.zoo.baselines import BASELINES, baseline
from ddarts.space.cell_space import cell_edges
from ddarts.space.operations import BUILT_IN_OPERATIONS
from tests.reference.golden import golden_json

# -- published values ----------------------------------------------------------------------------------------------


def test_all_published_distances_are_met():
    golden = golden_json("distances")
    rows = {
        name: [
            edge_rows([Edge(op, source, target) for op, target, source in cell], max(data["concat"]) - 1)
            for cell in data["genes"]
        ]
        for name, data in golden["genotypes"].items()
    }
    assert len(golden["distances"]) == 70
    for pair in golden["distances"]:
        found = [row_set_distance(a, b) for a, b in zip(rows[pair["a"]], rows[pair["b"]], strict=False)]
        assert sum(found) / len(found) == pytest.approx(pair["distance"], abs=1e-9), pair


def test_published_distances_are_met_by_genotypes():
    golden = golden_json("distances")
    genotypes = {}
    for name, data in golden["genotypes"].items():
        try:
            cells = [
                CellGenotype(tuple(Edge(op, source, target) for op, target, source in cell), tuple(data["concat"]))
                for cell in data["genes"]
            ]
        except GenotypeError:
            assert name == "Xception_cifar100_edge"  # nothing reaches the output of its last cell
            continue
        genotypes[name] = Genotype(tuple(cells))
    pairs = [pair for pair in golden["distances"] if {pair["a"], pair["b"]} <= genotypes.keys()]
    assert len(pairs) > 60
    for pair in pairs:
        found = architecture_distance(genotypes[pair["a"]], genotypes[pair["b"]])
        assert found == pytest.approx(pair["distance"], abs=1e-9), pair


def test_the_published_weights_are_those_of_the_reference():
    assert dict(OperationWeights.published().weights) == golden_json("published")["op_weights"]


def test_an_expanded_baseline_may_be_at_another_distance_than_its_published_list_of_cells():
    """The published list of ResNet18 has one cell, which stands in four places: only that one is compared there."""
    data = golden_json("distances")["genotypes"]["ResNet50_cifar10_edge"]
    result = Genotype(
        tuple(
            CellGenotype(tuple(Edge(op, source, target) for op, target, source in cell), tuple(data["concat"]))
            for cell in data["genes"]
        )
    )
    whole = baseline("resnet18")
    first = Genotype(whole.cells[:1])
    assert architecture_distance(first, result) == pytest.approx(0.16937822879496817, abs=1e-9)  # the golden figure
    assert architecture_distance(whole, result) == pytest.approx(0.16912342850843293, abs=1e-9)


# -- what is compared ----------------------------------------------------------------------------------------------

SKIP = CellGenotype((Edge("skip_connect", 0, 2),), (2,))
POOL = CellGenotype((Edge("max_pool_3x3", 0, 2),), (2,))
BOTH = CellGenotype((Edge("skip_connect", 0, 2), Edge("max_pool_3x3", 1, 2)), (2,))
W = OperationWeights.published()


def share(*operations):
    return sum(W.weights[o] for o in operations) / sum(W.weights.values())


def test_an_edge_without_operations_is_a_row():
    assert edge_rows(SKIP.edges, SKIP.nodes) == {frozenset({"skip_connect"}), frozenset()}
    assert edge_rows(BOTH.edges, BOTH.nodes) == {frozenset({"skip_connect"}), frozenset({"max_pool_3x3"})}


def test_the_distance_of_cells_worked_out_by_hand():
    # the pool's row is nearer to the empty row than to the skip's; back likewise
    assert cell_distance(SKIP, POOL) == pytest.approx(max(share("skip_connect"), share("max_pool_3x3")))
    # the empty row of SKIP has no equal in BOTH, the pool's row none in SKIP
    assert cell_distance(SKIP, BOTH) == pytest.approx(max(share("skip_connect"), share("max_pool_3x3")))


def test_the_same_rows_on_other_edges_are_no_distance_apart():
    moved = CellGenotype((Edge("skip_connect", 1, 2), Edge("max_pool_3x3", 0, 2)), (2,), reduction=True)
    assert moved != BOTH
    assert cell_distance(moved, BOTH) == 0


def test_weights_count():
    heavy = OperationWeights(dict.fromkeys(BUILT_IN_OPERATIONS, 1.0) | {"max_pool_3x3": 9.0})
    assert cell_distance(SKIP, POOL, heavy) == pytest.approx(9 / 20)


def test_spaces_of_different_operations_compare_over_all_operations():
    darts = CellGenotype((Edge("sep_conv_3x3", 0, 2), Edge("sep_conv_3x3", 1, 2)), (2,))
    opti = CellGenotype((Edge("bottleneck_1x3x1", 0, 2), Edge("bottleneck_1x3x1", 1, 2)), (2,))
    assert cell_distance(darts, opti) == pytest.approx(share("sep_conv_3x3", "bottleneck_1x3x1"))


def test_architectures_of_unequal_length_compare_over_the_shorter_or_with_a_penalty():
    long, short = Genotype((SKIP, BOTH, SKIP, SKIP)), Genotype((SKIP, SKIP))
    there = share("max_pool_3x3")
    assert cell_distances(long, short) == pytest.approx((0, there))
    assert architecture_distance(long, short) == pytest.approx(there / 2)
    assert cell_distances(long, short, unequal="penalty") == pytest.approx((0, there, 1, 1))
    assert architecture_distance(short, long, unequal="penalty") == pytest.approx((there + 2) / 4)
    with pytest.raises(SettingsError, match="unknown value of unequal: 'penlty'; did you mean 'penalty'"):
        architecture_distance(long, short, unequal="penlty")  # type: ignore[arg-type]


def test_over_the_shorter_alone_is_no_metric():
    """The counterexample of the docstring."""
    x, y = Genotype((SKIP, SKIP)), Genotype((SKIP, BOTH))
    middle = Genotype((SKIP,))
    assert architecture_distance(x, middle) == architecture_distance(middle, y) == 0 < architecture_distance(x, y)


# -- a metric ------------------------------------------------------------------------------------------------------


@st.composite
def cells(draw: st.DrawFn) -> CellGenotype:
    nodes = draw(st.integers(1, 3))
    # few operations on few edges, so that equal rows are common
    choices = st.tuples(st.sampled_from(BUILT_IN_OPERATIONS[:4]), st.sampled_from(cell_edges(nodes)))
    found = {Edge(op, *edge) for op, edge in draw(st.lists(choices, max_size=8))}
    anchor = Edge(draw(st.sampled_from(BUILT_IN_OPERATIONS[:4])), 0, nodes + 1)
    return CellGenotype(tuple(sorted(found | {anchor})), tuple(range(2, nodes + 2)), draw(st.booleans()))


weightings = st.builds(
    lambda values: OperationWeights(dict(zip(BUILT_IN_OPERATIONS, values, strict=True))),
    st.lists(st.floats(1e-3, 1e3), min_size=len(BUILT_IN_OPERATIONS), max_size=len(BUILT_IN_OPERATIONS)),
)


def lists(count: int, size: int | None = None) -> st.SearchStrategy:
    """`count` architectures, of one length unless `size` is None."""
    if size is None:
        return st.tuples(*[st.lists(cells(), min_size=1, max_size=4).map(lambda c: Genotype(tuple(c)))] * count)
    return st.tuples(*[st.lists(cells(), min_size=size, max_size=size).map(lambda c: Genotype(tuple(c)))] * count)


equal_length = st.integers(1, 3).flatmap(lambda size: lists(3, size))


def rows(genotype: Genotype) -> list:
    return [edge_rows(cell.edges, cell.nodes) for cell in genotype.cells]


@given(equal_length, weightings)
def test_identity_zero_exactly_if_the_sets_of_rows_are_equal(architectures, weights):
    a, b, _ = architectures
    assert architecture_distance(a, a, weights) == 0
    assert (architecture_distance(a, b, weights) == 0) == (rows(a) == rows(b))


@given(equal_length, weightings)
def test_symmetry(architectures, weights):
    a, b, _ = architectures
    assert architecture_distance(a, b, weights) == architecture_distance(b, a, weights)
    assert 0 <= architecture_distance(a, b, weights) <= 1


@given(equal_length, weightings)
def test_triangle_inequality(architectures, weights):
    a, b, c = architectures
    detour = architecture_distance(a, b, weights) + architecture_distance(b, c, weights)
    assert architecture_distance(a, c, weights) <= detour + 1e-12


@given(lists(3), weightings)
def test_with_the_penalty_it_is_a_metric_on_all_lengths(architectures, weights):
    a, b, c = architectures

    def apart(x, y):
        return architecture_distance(x, y, weights, "penalty")

    assert (apart(a, b) == 0) == (rows(a) == rows(b))
    assert apart(a, b) == apart(b, a)
    assert apart(a, c) <= apart(a, b) + apart(b, c) + 1e-12


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_at_no_distance_from_itself(name):
    assert architecture_distance(baseline(name), baseline(name)) == 0


# -- edit distance and differences ---------------------------------------------------------------------------------


@given(lists(2))
def test_the_edit_distance_is_zero_exactly_for_equal_networks_and_symmetric(architectures):
    a, b = architectures
    assert (edit_distance(a, b) == 0) == (a.canonical() == b.canonical())
    assert edit_distance(a, b) == edit_distance(b, a)
    assert 0 <= edit_distance(a, b) <= 1


@given(lists(3))
def test_the_edit_distance_keeps_the_triangle_inequality(architectures):
    a, b, c = architectures
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c) + 1e-12


@given(lists(2))
def test_differences_lead_from_one_architecture_to_the_other(architectures):
    a, b = architectures
    found = {difference.position: difference for difference in cell_differences(a, b)}
    for i in range(max(len(a), len(b))):
        first, second = (set(g.cells[i].pruned().edges) if i < len(g) else set() for g in (a, b))
        if i in found:
            old, new = ({pair[k] for pair in found[i].changed} for k in (0, 1))
            assert all(x[1:] == y[1:] and x != y for x, y in found[i].changed)
            first = first - set(found[i].removed) - old | set(found[i].added) | new
        assert first == second


def test_a_dropped_operation_is_reported_although_the_hausdorff_distance_is_zero():
    """Two edges have the same row: without one of them the set of rows is the same."""
    skip, other = Edge("skip_connect", 0, 2), Edge("skip_connect", 0, 3)
    before = Genotype((CellGenotype((skip, other), (2, 3)),))
    after = Genotype((CellGenotype((skip,), (2, 3)),))
    assert architecture_distance(before, after) == 0
    assert edit_distance(before, after) == pytest.approx(2 / 5)  # the operation and the output of its node
    assert cell_differences(before, after) == (CellDifference(0, (), (other,), ()),)
    assert cell_differences(before, before) == ()
