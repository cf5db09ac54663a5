"""Where a search starts: the space and the alphas of a baseline."""

import math

import pytest

from ddarts.errors import SettingsError
from ddarts.genotype.derive import derive_genotype
from ddarts.genotype.gates import Gates
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.starting import search_space, starting_alphas
from ddarts.genotype.zoo.baselines import BASELINES, baseline
from ddarts.space.cell_space import DARTOPTI_OPERATIONS, DARTS_OPERATIONS


def starting_gates(genotype, **options):
    space = search_space("auto", baseline=genotype, **options)
    alphas = starting_alphas(space, genotype)
    return Gates.from_space(space, [[[1 / (1 + math.exp(-a)) for a in row] for row in cell] for cell in alphas])


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("name", BASELINES)
def test_gates_at_the_start_give_the_baseline_back(name, share):
    genotype = baseline(name)
    gates = starting_gates(genotype, share_gates=share)
    derived = derive_genotype(gates, "threshold_edge", 0.85)
    assert derived.canonical() == genotype.canonical()
    assert gates.space.searched_cells == (len({c.edges for c in genotype.cells}) if share else len(genotype))


def odd_network():
    """Return cells of unequal size: concatenations that skip nodes, a node without input, reductions first and last."""
    first = CellGenotype((Edge("skip_connect", 0, 2), Edge("sep_conv_3x3", 2, 4)), (4, 3), reduction=True)
    second = CellGenotype((Edge("max_pool_3x3", 1, 2), Edge("dil_conv_5x5", 0, 2)), (2,))
    return Genotype((first, second, CellGenotype(first.edges, first.concat), first), "odd")


def test_a_baseline_of_unequal_cells_is_given_back_cell_by_cell():
    genotype = odd_network()
    gates = starting_gates(genotype)
    space = gates.space
    assert (space.nodes, space.sequence, space.reductions) == (3, (0, 1, 0, 0), (0, 3))
    assert (space.concat_of(0), space.concat_of(1)) == ((4, 3), (2,))
    assert derive_genotype(gates, "threshold_edge", 0.85).canonical() == genotype.canonical()


def test_gates_of_unequal_concatenations_survive_a_file(tmp_path):
    gates = starting_gates(odd_network())
    gates.save(tmp_path / "gates.json")
    assert Gates.load(tmp_path / "gates.json") == gates


def test_the_space_is_dartopti_with_a_baseline_and_darts_without():
    assert search_space("auto", baseline=baseline("resnet18")).operations == DARTOPTI_OPERATIONS
    assert search_space("auto").operations == DARTS_OPERATIONS
    assert search_space("dartopti", cells=3).operations == DARTOPTI_OPERATIONS


def test_an_operation_outside_the_space_is_named_with_the_way_out():
    with pytest.raises(SettingsError, match=r"'ResNet18', cell 0: simple_conv_3x3 is not an .* darts; choose"):
        search_space("darts", baseline=baseline("resnet18"))


def test_a_baseline_of_darts_operations_may_be_searched_in_the_darts_space():
    assert search_space("darts", baseline=odd_network()).operations == DARTS_OPERATIONS


def test_a_baseline_with_too_many_nodes_is_refused():
    cell = CellGenotype((Edge("skip_connect", 0, 11),), (11,))
    with pytest.raises(SettingsError, match="nodes = 10 is out of range"):
        search_space("auto", baseline=Genotype((cell,)))


def test_alphas_are_used_where_the_baseline_has_an_operation_and_unused_elsewhere():
    genotype = baseline("resnet18")
    space = search_space("auto", baseline=genotype)
    (cell,) = starting_alphas(space, genotype, used=3.0, unused=-1.0)
    found = {
        Edge(operation, *edge)
        for edge, row in zip(space.edges, cell, strict=True)
        for operation, alpha in zip(space.operations, row, strict=True)
        if alpha == 3.0
    }
    assert found == set(genotype.cells[0].edges)
    assert {alpha for row in cell for alpha in row} == {3.0, -1.0}
