"""The small network in which operations are measured."""

import pytest

from ddarts.errors import DDartsError, SettingsError
from ddarts.genotype.genotype import Edge
from ddarts.genotype.reference_network import reference_network, with_operation
from ddarts.nn.pruning import live_edges, live_states
from ddarts.space.operations import BUILT_IN_OPERATIONS


def test_cells_are_residual_layers_that_read_the_cell_before():
    network = reference_network(cells=3, positions=7)
    assert network.reductions == (1, 2)
    assert network.cells[0].edges == network.cells[2].edges
    assert network.cells[0].edges == (
        Edge("simple_conv_3x3", 1, 2),
        Edge("simple_conv_3x3", 2, 3),
        Edge("skip_connect", 1, 3),
        Edge("simple_conv_3x3", 3, 4),
        Edge("simple_conv_3x3", 4, 5),
        Edge("skip_connect", 3, 5),
        Edge("simple_conv_3x3", 5, 6),
    )
    assert network.cells[0].concat == (2, 3, 4, 5, 6)


@pytest.mark.parametrize("cells", [1, 2, 3, 5])
@pytest.mark.parametrize("positions", [1, 2, 3, 4, 12])
def test_every_position_takes_part(cells, positions):
    network = reference_network(cells, positions)
    assert set(range(cells)) <= live_states(network)
    for cell in network.cells:
        assert live_edges(cell) == tuple(range(positions))


def test_an_operation_changes_one_edge_of_one_cell():
    network = reference_network()
    for operation in BUILT_IN_OPERATIONS:
        changed = with_operation(network, 1, 2, operation)
        edges = [edge for cell in changed.cells for edge in cell.edges]
        before = [edge for cell in network.cells for edge in cell.edges]
        assert [e for e, b in zip(edges, before, strict=True) if e != b] == (
            [] if operation == "skip_connect" else [Edge(operation, 1, 3)]
        )
        assert changed.cells[1].edges[2].operation == operation


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((3, 0, "skip_connect"), "cell = 3 is out of range; the network has cells 0 to 2"),
        ((0, 4, "skip_connect"), "position = 4 is out of range; the cell has 0 to 3"),
        ((0, 0, "skip_conect"), "unknown operation 'skip_conect'; did you mean 'skip_connect'"),
    ],
)
def test_a_placement_that_is_not_there_is_told(arguments, told):
    with pytest.raises(DDartsError, match=told):
        with_operation(reference_network(), *arguments)


def test_a_network_needs_a_cell_and_a_position():
    with pytest.raises(SettingsError, match="needs at least one of each"):
        reference_network(0, 4)
