"""Shortlist and verify: which candidates, in which order, and that the winner is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ddarts.data import Batches, ImageData, load_data
from ddarts.genotype.derive import derive_genotype
from ddarts.genotype.gates import Gates
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.random import random_genotype
from ddarts.runs.folder import RunFolder
from ddarts.searching.shortlist import belief, candidates, effects, one_shot_loss, standardised
from ddarts.space.cell_space import SearchSpace, build_space
from ddarts.space.spaces import SPACES
from ddarts.supernet.supernet import Supernet
from tests.searching.small import gates_of, metrics_of, search

SHORT: dict[str, Any] = {
    "epochs": 2,
    "ablation": "off",
    "shortlist": 6,
    "shortlist_trials": 3,
    "shortlist_steps": 3,
    "checkpoint_steps": 2,
}


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits", limit=60)


@pytest.fixture
def supernet() -> tuple[Supernet, list[Tensor], Tensor, Tensor]:
    space = build_space(cells=3, nodes=2)
    torch.manual_seed(0)
    net = Supernet(space, channels=2, classes=3).double().train()
    gates = [torch.rand(alpha.shape, dtype=torch.float64) for alpha in net.alphas]
    return net, gates, torch.randn(8, 3, 8, 8, dtype=torch.float64), torch.arange(8) % 3


def shortlist(path: Path) -> list[dict[str, Any]]:
    return list(RunFolder.open(path).metrics("shortlist", "trial"))


def test_after_a_one_shot_search_the_lowest_losses_with_its_weights_are_trained_first_and_the_winner_gives_the_gates(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: dict[Genotype, float] = {}

    def noted(net: Any, genotype: Any, *others: Any) -> float:
        scored[genotype.canonical()] = one_shot_loss(net, genotype, *others)
        return scored[genotype.canonical()]

    monkeypatch.setattr("ddarts.searching.shortlist.one_shot_loss", noted)
    options = {"epochs": 2, "shortlist": 12, "shortlist_trials": 3, "shortlist_steps": 3}
    found = search(tmp_path / "run", digits, strategy="one-shot", **options)
    assert len(scored) == 12
    epochs = list(RunFolder.open(tmp_path / "run").metrics("search", "epoch"))
    assert [record["epoch"] for record in epochs] == [1, 2]
    assert not {"gates", "parameter_free", "search_loss"} & epochs[-1].keys()  # there are no alpha steps
    trained = [Genotype.from_json(r["genotype"]).canonical() for r in shortlist(tmp_path / "run")]
    assert trained[:2] == sorted(scored, key=scored.__getitem__)[:2]
    assert len(set(trained)) == 3  # the last one is chosen by what these have shown
    assert found.genotype.canonical() in trained
    assert derive_genotype(Gates.load(tmp_path / "run"), "darts").canonical() == found.genotype.canonical()


@pytest.mark.parametrize("by", ["one-shot", "gates", "effect"])
def test_the_most_accurate_of_the_derived_genotype_and_its_candidates_wins(
    tmp_path: Path, digits: ImageData, by: str
) -> None:
    found = search(tmp_path / "run", digits, **SHORT, shortlist_by=by)
    records = shortlist(tmp_path / "run")
    assert [(r["epoch"], r["trial_steps"]) for r in records] == [(0, 3)] * 3
    first = [Genotype.from_json(r["genotype"]) for r in records[:3]]
    assert first[0].cells == derive_genotype(found.gates, "darts").cells
    assert len({g.canonical() for g in first}) == 3
    best = max(records, key=lambda r: r["score"])
    assert found.genotype.cells == Genotype.from_json(best["genotype"]).cells
    assert Genotype.load(tmp_path / "run") == found.genotype
    assert found.genotype.name == "run-darts"
    assert Gates.load(tmp_path / "run") == found.gates
    assert found.search_s > sum(r["seconds"] for r in records) > 0


def test_a_search_that_is_killed_in_its_shortlist_ends_as_one_that_is_not(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = search(tmp_path / "whole", digits, **SHORT)
    original = Batches.batch
    for fatal in (1, 5):
        seen = 0

        def batch(batches: Batches, epoch: int, step: int, fatal: int = fatal) -> tuple[Tensor, Tensor]:
            nonlocal seen
            seen += batches.label == "train"
            if seen == fatal:
                raise MemoryError("killed")
            return original(batches, epoch, step)

        with monkeypatch.context() as patch:
            patch.setattr(Batches, "batch", batch)
            with pytest.raises(MemoryError):
                search(tmp_path / "killed", digits, **SHORT)
        assert not (tmp_path / "killed" / "genotype.json").exists()
    resumed = search(tmp_path / "killed", digits, **SHORT)
    assert gates_of(tmp_path / "killed") == gates_of(tmp_path / "whole")
    assert metrics_of(tmp_path / "killed") == metrics_of(tmp_path / "whole")
    assert resumed.genotype.cells == whole.genotype.cells


def test_without_a_shortlist_the_derived_genotype_is_kept(tmp_path: Path, digits: ImageData) -> None:
    found = search(tmp_path / "run", digits, epochs=1)
    assert found.genotype == derive_genotype(found.gates, "darts", name="run-darts")
    assert not shortlist(tmp_path / "run")


def test_candidates_follow_the_gates_and_are_all_different() -> None:
    space = build_space(cells=3, nodes=2)
    derived = random_genotype(space, seed=0)
    beliefs = [torch.full((len(space.edges), len(space.operations)), -20.0) for _ in range(3)]
    for cell in beliefs:
        cell[:, [2, 5]] = 0.0  # two operations on every edge, all else all but impossible
    found = candidates(space, beliefs, derived, 40, seed=1)
    assert len({g.canonical() for g in [derived, *found]}) == 41
    assert found == candidates(space, beliefs, derived, 40, seed=1)
    assert found[:10] != candidates(space, beliefs, derived, 10, seed=2)
    likely = {space.operations[2], space.operations[5]}
    drawn = [g for g in found if set(g.operations) <= likely]
    assert len(drawn) >= 20
    assert {len(cell.edges) for g in drawn for cell in g.cells} == {4}
    near = [
        g for g in found if sum(a != b for a, b in zip(g.cells, derived.cells, strict=True)) <= 3 and g not in drawn
    ]
    assert len(near) >= 15


def test_a_small_space_gives_the_candidates_that_it_has() -> None:
    space = SearchSpace(("skip_connect", "sep_conv_3x3"), 1, (2,), (0,), ())
    derived = random_genotype(space, seed=0)
    assert len(candidates(space, [torch.zeros(2, 2)], derived, 50, seed=0)) == 3


def test_neighbours_of_a_pruned_genotype_are_valid() -> None:
    """Node 2 has no input, and the only edge may come to read it."""
    space = build_space(cells=1, nodes=2, reductions=())
    derived = Genotype((CellGenotype((Edge("skip_connect", 0, 3),), (2, 3)),))
    found = candidates(space, [torch.zeros(len(space.edges), len(space.operations))], derived, 60, seed=0)
    assert len(found) == 60
    assert all(g.canonical() for g in found)


def test_candidates_of_a_choice_space() -> None:
    space = SPACES.get("mobile")
    derived = random_genotype(space, seed=0)
    beliefs = [torch.zeros(1, len(choice.candidates)) for choice in space.choices]
    assert len({g.choices for g in candidates(space, beliefs, derived, 20, seed=0)}) == 20


def test_an_effect_is_the_rise_of_the_loss_without_the_operation_and_without_its_edge(
    supernet: tuple[Supernet, list[Tensor], Tensor, Tensor],
) -> None:
    net, gates, x, y = supernet
    found = effects(net, gates, x, y)

    def loss(cell: int, *place: int) -> float:
        changed = [g.clone() for g in gates]
        if place:
            changed[cell][place] = 0
        with torch.no_grad():
            return F.cross_entropy(net.trunk(x, changed, track=False).logits, y).item()

    for cell, edge, operation in ((0, 0, 3), (1, 4, 0), (2, 2, 6)):
        expected = loss(cell, edge, operation) + loss(cell, edge) - 2 * loss(cell)
        assert found[cell][edge, operation].item() == pytest.approx(expected)
    assert [g.shape for g in found] == [g.shape for g in gates]


def test_the_one_shot_loss_is_that_of_the_supernet_with_one_operation_on_each_edge(
    supernet: tuple[Supernet, list[Tensor], Tensor, Tensor],
) -> None:
    net, _, x, y = supernet
    before = {name: value.clone() for name, value in net.state_dict().items()}
    genotype = random_genotype(net.space, seed=0)
    gates = [torch.zeros(a.shape, dtype=torch.float64) for a in net.alphas]
    for cell, gate in zip(genotype.cells, gates, strict=True):
        for edge in cell.edges:
            gate[net.space.edges.index((edge.source, edge.target)), net.space.operations.index(edge.operation)] = 1
    with torch.no_grad():
        losses = [F.cross_entropy(net.trunk(b, gates, track=False).logits, y).item() for b in (x, x + 1)]
    assert one_shot_loss(net, genotype, [(x, y), (x + 1, y)]) == pytest.approx(sum(losses) / 2)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_beliefs_of_a_genotype_add_up_and_effects_have_a_common_unit() -> None:
    space = build_space(cells=3, nodes=1)
    genotype = random_genotype(space, seed=0)
    beliefs = [torch.arange(14.0).reshape(2, 7)] * 3
    assert belief(space, beliefs, genotype) == sum(
        7 * edge.source + space.operations.index(edge.operation) for cell in genotype.cells for edge in cell.edges
    )
    assert standardised(7 * beliefs[0]).std(correction=0).item() == pytest.approx(1)
