"""The mixed cell: what it does without an input, with precomputed results, and in which order it concatenates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ddarts.nn.batch_norm import running_statistics
from ddarts.space.cell_space import DARTOPTI_OPERATIONS, DARTS_OPERATIONS, SearchSpace
from ddarts.supernet.cell import MixedCell, Preprocess
from ddarts.supernet.grouped_edges import Precomputed

_SKIP = ("skip_connect",)


def _space(operations: tuple[str, ...] = DARTS_OPERATIONS, nodes: int = 3, concat: tuple[int, ...] = ()) -> SearchSpace:
    return SearchSpace(operations, nodes, concat or tuple(range(2, nodes + 2)), (0,), ())


def _cell(space: SearchSpace, *, reduction: bool = False, halve_0: bool = False) -> MixedCell:
    return MixedCell(space, 6, 8, 4, concat=space.concat_of(0), reduction=reduction, halve_0=halve_0).double()


def _inputs(halve_0: bool = False) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    side = 16 if halve_0 else 8
    return torch.randn(2, 6, side, side).double(), torch.randn(2, 8, 8, 8).double()


def _gates(space: SearchSpace) -> Tensor:
    return torch.rand(len(space.edges), len(space.operations)).double()


@pytest.mark.parametrize("operations", [DARTS_OPERATIONS, DARTOPTI_OPERATIONS])
@pytest.mark.parametrize("reduction", [False, True])
@pytest.mark.parametrize("halve_0", [False, True])
def test_a_removed_input_is_an_input_of_zeros(operations: tuple[str, ...], reduction: bool, halve_0: bool) -> None:
    space = _space(operations)
    cell, gates = _cell(space, reduction=reduction, halve_0=halve_0), _gates(space)
    s0, s1 = _inputs(halve_0)
    z0, z1 = torch.zeros_like(s0), torch.zeros_like(s1)
    assert cell(s0, s1, gates).shape == ((2, 12, 4, 4) if reduction else (2, 12, 8, 8))
    torch.testing.assert_close(cell(None, s1, gates), cell(z0, s1, gates))
    torch.testing.assert_close(cell(s0, None, gates), cell(s0, z1, gates))
    assert cell(None, None, gates) is None
    assert not cell(z0, z1, gates).any()


@pytest.mark.parametrize("reduction", [False, True])
def test_precomputed_results_give_the_same_bits_as_computing_them(reduction: bool) -> None:
    space = _space()
    cell = _cell(space, reduction=reduction)
    s0, s1 = _inputs()
    saved: dict[int, Precomputed] = {}
    cell(s0, s1, _gates(space), keep=saved)
    assert set(saved) == {0, 1}
    other = _gates(space)  # they do not depend on gates
    expected = cell(s0, s1, other)
    for precomputed in (saved, {0: saved[0]}, {1: saved[1]}):
        assert torch.equal(cell(s0, s1, other, precomputed=precomputed), expected)
    assert torch.equal(cell(torch.full_like(s0, torch.nan), s1, other, precomputed=saved | {}), expected)


def test_nodes_are_concatenated_in_the_order_of_concat() -> None:
    every, some = _space(), _space(concat=(4, 2))
    full = _cell(every)
    part = _cell(some)
    part.load_state_dict(full.state_dict())
    gates = _gates(every)
    s0, s1 = _inputs()
    nodes = full(s0, s1, gates).split(4, 1)
    assert torch.equal(part(s0, s1, gates), torch.cat([nodes[2], nodes[0]], 1))


def test_each_gate_stands_on_its_own_edge() -> None:
    """With identities alone, node n is the sum of gate[edge] * state over the edges that lead to it."""
    space = _space(_SKIP, nodes=4)
    cell = _cell(space)
    s0, s1 = _inputs()
    gates = _gates(space)
    states = [cell.preprocess_0(s0), cell.preprocess_1(s1)]
    for target in range(2, 6):
        rows = [(source, row) for row, (source, t) in enumerate(space.edges) if t == target]
        states.append(torch.stack([gates[row, 0] * states[source] for source, row in rows]).sum(0))
    torch.testing.assert_close(cell(s0, s1, gates), torch.cat(states[2:], 1))


def test_statistics_move_unless_they_are_held() -> None:
    space = _space()
    cell = _cell(space)
    before = {k: v.clone() for k, v in cell.state_dict().items()}
    with running_statistics(cell, track=False):
        cell(*_inputs(), _gates(space))
    assert all(torch.equal(v, before[k]) for k, v in cell.state_dict().items())
    cell(*_inputs(), _gates(space))
    assert {k for k, v in cell.state_dict().items() if not torch.equal(v, before[k])} == {
        k for k in before if "running" in k
    }


@pytest.mark.parametrize(("size", "halved"), [((8, 8), (4, 4)), ((7, 5), (4, 3)), ((1, 1), (1, 1))])
def test_preprocessing_brings_an_input_to_the_width_and_maybe_half_the_size(
    size: tuple[int, int], halved: tuple[int, int]
) -> None:
    for channels in (1, 5, 6):
        x = torch.randn(3, 7, *size)
        assert Preprocess(7, channels, halve=False)(x).shape == (3, channels, *size)
        assert Preprocess(7, channels, halve=True)(x).shape == (3, channels, *halved)
        assert torch.equal(Preprocess(7, channels, halve=True)(-x.abs()), torch.zeros(3, channels, *halved))
