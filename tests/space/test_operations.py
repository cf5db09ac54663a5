"""Registered operations: one class each, and known everywhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch
from torch import Tensor

from ddarts import testing
from ddarts.cost.counting import count_parameters
from ddarts.deploy.breakdown import cost_by_operation
from ddarts.errors import GenotypeError, SettingsError
from ddarts.genotype.derive import derive_genotype
from ddarts.genotype.distance import architecture_distance
from ddarts.genotype.gates import Gates
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.interop.writers import to_reference_text
from ddarts.genotype.operation_weights import OperationWeights
from ddarts.genotype.random import random_genotype
from ddarts.hub.reference_names import reference_names
from ddarts.nn.network import Network
from ddarts.nn.operations import build_operation
from ddarts.reporting.drawing import cell_scene
from ddarts.space.cell_space import SearchSpace, build_space, cell_space
from ddarts.space.choice_space import find_choice_space
from ddarts.space.operations import (
    BUILT_IN_OPERATIONS,
    OPERATIONS,
    Operation,
    check_operation,
    is_parameter_free,
    register_operation,
)
from ddarts.space.spaces import SPACES
from ddarts.supernet.supernet import Supernet
from tests.reference.custom_operation import GatedConv, Negation, registered
from tests.reference.supernet_mapping import build_twins
from tests.runtime.test_registry import install

MIXED = ("sep_conv_3x3", "gated_conv_3x3", "max_pool_3x3", "negation")


@pytest.fixture
def custom() -> Iterator[None]:
    with registered(GatedConv, Negation):
        yield


def space_of(operations: tuple[str, ...] = MIXED) -> SearchSpace:
    return SearchSpace(operations, 2, (2, 3), (0, 1), (1,))


@pytest.mark.parametrize("name", [*BUILT_IN_OPERATIONS, "gated_conv_3x3", "negation"])
def test_an_operation_passes_the_conformance_checks(name: str, custom: None) -> None:
    testing.check_operation(name)


@pytest.mark.parametrize("name", BUILT_IN_OPERATIONS)
def test_without_weights_means_without_parameters(name: str) -> None:
    assert is_parameter_free(name) == (count_parameters(build_operation(name, 4, 1)) == 0)


def test_the_costs_of_an_operation_by_hand() -> None:
    assert OPERATIONS.get("simple_conv_3x3").costs(4, 2, 8, 8)[:2] == (4 * 4 * 9 + 8, 4 * 4 * 9 * 16)


def test_a_built_in_name_cannot_be_registered_and_no_name_twice(custom: None) -> None:
    class Skip(Operation):
        name = "skip_connect"

    for operation in (Skip, GatedConv):
        with pytest.raises(SettingsError, match=f"operation '{operation.name}' is registered already"):
            register_operation(operation)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [({}, "operation ''"), ({"name": "a b"}, "operation 'a b'"), ({"name": "mine", "kind": "poool"}, "kind 'poool'")],
)
def test_a_class_without_a_usable_name_or_kind_is_refused(attributes: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        register_operation(type("Mine", (Operation,), attributes))


def test_what_is_no_operation_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"is not a subclass of ddarts\.space\.operations\.Operation"):
        OPERATIONS.register("mine", lambda channels, stride, affine: None)


def test_an_operation_comes_from_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from ddarts.space.operations import Operation\nclass Far(Operation):\n    name = 'far_conv'\n"
    install(tmp_path, monkeypatch, "far_conv = offers_module:Far", source, group="ddarts.operations")
    monkeypatch.setattr(OPERATIONS, "_entry_points", None)
    monkeypatch.setattr(OPERATIONS, "_values", dict(OPERATIONS._values))
    assert check_operation("far_conv") == "far_conv"


def test_an_entry_point_must_have_the_name_of_its_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from ddarts.space.operations import Operation\nclass Far(Operation):\n    name = 'far_conv'\n"
    install(tmp_path, monkeypatch, "near_conv = offers_module:Far", source, group="ddarts.operations")
    monkeypatch.setattr(OPERATIONS, "_entry_points", None)
    with pytest.raises(SettingsError, match=r"near_conv.*cannot be loaded: .*its class has the name 'far_conv'"):
        check_operation("near_conv")


def test_a_third_cell_space_is_one_registration() -> None:
    SPACES.register("tiny", cell_space(("skip_connect", "sep_conv_3x3")))
    try:
        assert build_space("tiny", cells=3).operations == ("skip_connect", "sep_conv_3x3")
    finally:
        SPACES.unregister("tiny")
    with pytest.raises(SettingsError, match="unknown search space 'tiny'"):
        build_space("tiny")


def test_spaces_of_cells_and_of_choices_are_told_apart() -> None:
    with pytest.raises(SettingsError, match="search space 'mobile' does not consist of cells"):
        build_space("mobile")
    with pytest.raises(GenotypeError, match=r"g\.json: search space 'darts' consists of cells, not of choices"):
        find_choice_space("darts", "g.json")


# -- an operation of another package, everywhere -----------------------------------------------------------------------


def test_a_genotype_is_written_read_drawn_and_built(custom: None, tmp_path: Path) -> None:
    cell = CellGenotype((Edge("gated_conv_3x3", 0, 2), Edge("negation", 1, 2)), (2,))
    genotype = Genotype((cell,))
    genotype.save(tmp_path / "g.json")
    assert Genotype.load(tmp_path / "g.json") == genotype
    assert cell.parameter_free_share == 0.5
    drawn = repr(cell_scene(cell))
    assert "gated 3x3" in drawn
    assert "label other" in drawn
    network = Network(genotype, channels=4, classes=3)
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 3)
    x = torch.randn(1, 3, 8, 8)
    rows = {row.name: row for row in cost_by_operation(network.eval(), (3, 8, 8), lambda: network(x), perf_counter)}
    assert rows["gated_conv_3x3"].macs > 0


def test_without_its_package_a_genotype_says_which_operation_is_unknown(tmp_path: Path) -> None:
    with registered(GatedConv):
        Genotype((CellGenotype((Edge("gated_conv_3x3", 0, 2),), (2,)),)).save(tmp_path / "g.json")
    with pytest.raises(GenotypeError, match="unknown operation 'gated_conv_3x3'"):
        Genotype.load(tmp_path / "g.json")


@pytest.mark.parametrize("operations", [MIXED, ("gated_conv_3x3", "negation")])
@pytest.mark.parametrize("recompute", [False, True])
def test_ablations_are_the_reference_s_and_move_no_statistics(
    operations: tuple[str, ...], recompute: bool, custom: None
) -> None:
    torch.manual_seed(0)
    fast, plain = build_twins(space_of(operations), 4, classes=3)
    fast.recompute = recompute
    before = {name: value.clone() for name, value in fast.state_dict().items()}
    x, gates = torch.randn(4, 3, 8, 8, dtype=torch.float64), [torch.rand(5, len(operations)).double() for _ in range(2)]
    other = torch.rand_like(gates[0])
    for graph in (False, True):
        with torch.set_grad_enabled(graph):
            trunk = fast.trunk(x, gates, track=False, keep=not graph)
            for i in range(2):
                starts = [trunk.states[k] for k in fast.branch_starts(i)]
                for replacement in (None, other):
                    logits = fast.branch(i, starts, gates, replacement, precomputed=trunk.precomputed)
                    torch.testing.assert_close(logits, plain.ablated(x, gates, i, replacement), rtol=1e-9, atol=1e-11)
                    if graph and logits.requires_grad:
                        logits.sum().backward(retain_graph=True)
    assert all(torch.equal(value, before[name]) for name, value in fast.state_dict().items())
    fast(x, gates)
    moved = {name for name, value in fast.state_dict().items() if not torch.equal(value, before[name])}
    assert any(".plain." in name and "running_mean" in name for name in moved)


def test_other_programs_do_not_know_it(custom: None) -> None:
    genotype = Genotype((CellGenotype((Edge("negation", 0, 2),), (2,)),))
    with pytest.raises(GenotypeError, match=r"operation negation is not known to other programs; keep .* as JSON"):
        to_reference_text(genotype)
    with pytest.raises(GenotypeError, match="cell 0: the reference code has no operation negation"):
        reference_names(Network(genotype, channels=2))


def test_gates_are_derived_and_random_genotypes_drawn(custom: None) -> None:
    space = space_of()
    values = [[[0.1, 0.9, 0.2, 0.3]] * 5] * 2
    derived = derive_genotype(Gates.from_space(space, values), "darts", 0.5)
    assert {edge.operation for cell in derived.cells for edge in cell.edges} == {"gated_conv_3x3"}
    drawn = {e.operation for s in range(9) for cell in random_genotype(space, seed=s).cells for e in cell.edges}
    assert drawn == set(MIXED)


def test_a_distance_needs_its_weight(custom: None) -> None:
    a, b = (Genotype((CellGenotype((Edge(o, 0, 2),), (2,)),)) for o in ("gated_conv_3x3", "skip_connect"))
    with pytest.raises(GenotypeError, match=r"operation gated_conv_3x3 has no weight.*ddarts measure-operations"):
        architecture_distance(a, b)
    weights = OperationWeights({**OperationWeights.published().weights, "gated_conv_3x3": 83.0})
    assert 0 < architecture_distance(a, b, weights) < 1
    assert OperationWeights.from_dict(weights.to_dict()) == weights


def test_the_names_of_operations_need_no_torch() -> None:
    code = "import sys, ddarts.space.operations as o; o.OPERATIONS.names(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_supernet_of_built_in_operations_holds_no_plain_module() -> None:
    net = Supernet(build_space("dartopti", cells=2, nodes=1), channels=2)
    assert not any(".plain." in name for name in net.state_dict())
    assert all(isinstance(t, Tensor) for t in net.state_dict().values())
