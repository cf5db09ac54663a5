from __future__ import annotations

import itertools

import pytest
import torch

from ddarts.cost.counting import count_macs, count_parameters
from ddarts.deploy.breakdown import CLASSIFIER, INPUTS, REST, STEM, cost_by_cell, cost_by_operation, parts_of
from ddarts.nn.network import Network
from ddarts.space.operations import BUILT_IN_OPERATIONS, is_parameter_free
from tests.deploy.conftest import make_network

SHAPE = (1, 9, 9)


@pytest.fixture(scope="module")
def network() -> Network:
    return make_network()


def measured(network: Network, table):
    """Cost by a clock that ticks once whenever it is read: every part takes the readings within it."""
    ticks = itertools.count()
    x = torch.randn(1, *SHAPE)
    with torch.no_grad():
        return table(network, SHAPE, lambda: network(x), lambda: float(next(ticks)), passes=3)


@pytest.mark.parametrize("table", [cost_by_cell, cost_by_operation])
def test_the_parts_add_up_to_the_whole(network: Network, table) -> None:
    rows = measured(network, table)
    assert sum(row.parameters for row in rows) == count_parameters(network)
    assert sum(row.macs for row in rows) == count_macs(network, SHAPE)
    assert rows[-1].name == REST
    assert rows[-1].parameters == rows[-1].macs == 0


def test_cells_are_named_in_order(network: Network) -> None:
    rows = measured(network, cost_by_cell)
    assert [row.name for row in rows] == [STEM, "cell 0", "cell 1 (reduction)", CLASSIFIER, REST]
    for row, cell in zip(rows[1:3], network.cells.values(), strict=True):
        assert row.parameters == count_parameters(cell)


def test_every_operation_is_seen_and_counted(network: Network) -> None:
    rows = {row.name: row for row in measured(network, cost_by_operation)}
    assert {*BUILT_IN_OPERATIONS, STEM, INPUTS, CLASSIFIER, REST} == rows.keys()
    for name in BUILT_IN_OPERATIONS:
        assert (rows[name].macs > 0) == (not is_parameter_free(name) or name == "skip_connect")  # one has stride 2
        assert rows[name].ms > 0
    assert rows["skip_connect"].count == 4
    assert rows[INPUTS].count == 4


def test_macs_are_those_of_each_operation_alone(network: Network) -> None:
    rows = {row.name: row for row in measured(network, cost_by_operation)}
    cells = network.cells
    for name in ("sep_conv_3x3", "dil_conv_5x5", "conv_7x1_1x7", "bottleneck_1x3x1"):
        expected = 0
        for part in parts_of(network):
            if part.name == name:
                reduction = any(part.module is m for m in cells["1"].modules())
                channels = 6 if reduction else 3
                source = next(
                    e.source
                    for p, cell in zip(cells.values(), network.genotype.cells, strict=True)
                    for i, e in enumerate(cell.edges)
                    if str(i) in p.operations and p.operations[str(i)] is part.module
                )
                side = 5 if reduction and source >= 2 else 9
                expected += count_macs(part.module, (channels, side, side))
        assert rows[name].macs == expected


def test_times_are_those_of_the_parts(network: Network) -> None:
    rows = measured(network, cost_by_operation)
    # The clock is read twice around each part and twice around the pass: a part takes one tick.
    for row in rows[:-1]:
        assert row.ms == pytest.approx(1000 * row.count)
    parts = sum(row.count for row in rows[:-1])
    assert rows[-1].ms == pytest.approx(1000 * (parts + 1))


def test_the_network_is_left_as_it_was(network: Network) -> None:
    measured(network, cost_by_operation)
    for module in network.modules():
        assert not {"forward", "after_relu"} & module.__dict__.keys()
