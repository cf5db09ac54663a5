"""Searches that start from a hand-made network (DARTOpti)."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from ddarts.data import Batches, ImageData, load_data
from ddarts.errors import GenotypeError, Stopped
from ddarts.genotype.derive import derive_genotype
from ddarts.genotype.gates import Gates
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.operation_weights import OperationWeights
from ddarts.genotype.zoo.baselines import BASELINES, baseline
from ddarts.runs.folder import RunFolder
from ddarts.searching import loop
from ddarts.searching.start import StartingPoint, build_supernet
from ddarts.supernet.supernet import Supernet
from tests.searching.gradients import sigmoid_gates
from tests.searching.small import gates_of, made_up, metrics_of, search, settings

#: A baseline of two cells of unequal size, quick to search.
SMALL = Genotype(
    (
        CellGenotype((Edge("sep_conv_3x3", 0, 2),), (2,)),
        CellGenotype((Edge("simple_conv_3x3", 1, 2), Edge("skip_connect", 2, 3)), (3,), reduction=True),
    ),
    "small",
)


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits", limit=100)


@pytest.fixture
def wanted(tmp_path: Path) -> dict[str, Any]:
    SMALL.save(tmp_path / "small.json")
    return {
        "baseline": str(tmp_path / "small.json"),
        "pretrain_epochs": 2,
        "steps_per_epoch": 3,
        "method": "threshold_edge",
        "ablation_sample": 1,
        "stop_on_distance": False,
    }


@pytest.mark.parametrize("name", BASELINES)
def test_the_supernet_of_a_baseline_gives_it_back_before_the_first_step(name: str) -> None:
    net = build_supernet(settings(baseline=name), made_up(height=32, width=32), baseline(name))
    gates = Gates.from_space(net.space, [g.detach().double().tolist() for g in sigmoid_gates(net)])
    assert derive_genotype(gates, "threshold_edge", 0.85).canonical() == baseline(name).canonical()


def test_cells_of_one_entry_share_alphas_but_not_weights() -> None:
    net = build_supernet(settings(baseline="resnet18"), made_up(), baseline("resnet18"))
    assert (len(net.alphas), len(net.cells)) == (1, 4)
    weights = [{p.data_ptr() for p in cell.parameters()} for cell in net.cells]
    assert not set.intersection(*weights)


def test_pretraining_moves_weights_and_no_alpha(
    tmp_path: Path, digits: ImageData, wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, torch.Tensor, torch.Tensor]] = []
    original = loop._Search.end_epoch

    def end_epoch(search: Any, progress: Any) -> None:
        net: Supernet = search.state.net
        seen.append((search.state.epoch, net.alphas[0].detach().clone(), net.classifier.weight.detach().clone()))
        original(search, progress)

    monkeypatch.setattr(loop._Search, "end_epoch", end_epoch)
    search(tmp_path / "run", digits, **wanted)
    start = build_supernet(settings(**wanted), digits, SMALL)
    assert [epoch for epoch, _, _ in seen] == [1, 2, 3, 4]
    for epoch, alpha, weight in seen:
        assert torch.equal(alpha, start.alphas[0]) == (epoch <= 2)
        assert not torch.equal(weight, start.classifier.weight)
    run = RunFolder(tmp_path / "run")
    assert [r["epoch"] for r in run.metrics("pretrain", "epoch")] == [1, 2]
    assert [(r["epoch"], r["step"]) for r in run.metrics("search", "epoch")] == [(1, 9), (2, 12)]


def test_the_distance_is_logged_every_epoch(tmp_path: Path, digits: ImageData, wanted: dict[str, Any]) -> None:
    search(tmp_path / "run", digits, **wanted, alpha_lr=3.0)
    for kind in ("distance", "edit_distance"):
        distances = [r[kind] for r in RunFolder(tmp_path / "run").metrics("search", "epoch")]
        assert len(distances) == 2
        assert max(d for d in distances if d is not None) > 0


def test_a_steady_distance_ends_the_search_and_the_last_gates_are_kept(
    tmp_path: Path, digits: ImageData, wanted: dict[str, Any]
) -> None:
    """An alpha just under the threshold crosses it at once; nothing else gets there."""
    wanted |= {"epochs": 9, "stop_on_distance": True, "unused_alpha": 1.73, "alpha_lr": 0.02, "distance_tolerance": 1.0}
    outcome = search(tmp_path / "run", digits, **wanted, distance_epochs=2)
    records = RunFolder(tmp_path / "run").metrics("search", "epoch")
    started = next(i for i, r in enumerate(records) if r["distance"])
    assert len(records) == max(started, 2) + 1 < 9
    assert outcome.stopped is not None
    assert "distance to the baseline" in outcome.stopped
    assert "(edit distance 0." in outcome.stopped
    assert outcome.best_epoch == len(records)
    assert [[list(row) for row in cell] for cell in outcome.gates.values] == records[-1]["gates"]


def test_a_search_from_a_baseline_stopped_anywhere_ends_with_the_bits_of_an_uninterrupted_one(
    tmp_path: Path, digits: ImageData, wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tmp_path / "whole", digits, **wanted)
    original = loop._Search.weight_step
    for at in (2, 3, 5, 7, 11):  # within and at the end of the pre-training, and in the search

        def weight_step(search: Any, at: int = at) -> None:
            original(search)
            if search.steps_done + 1 == at:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(loop._Search, "weight_step", weight_step)
        with pytest.raises(Stopped, match=f"step {at}"):
            search(tmp_path / "run", digits, **wanted)
    monkeypatch.setattr(loop._Search, "weight_step", original)
    search(tmp_path / "run", digits, **wanted)
    assert gates_of(tmp_path / "run") == gates_of(tmp_path / "whole")
    assert metrics_of(tmp_path / "run") == metrics_of(tmp_path / "whole")


def test_pretraining_draws_no_image_of_the_alpha_half(
    tmp_path: Path, digits: ImageData, wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    original = Batches.batch

    def batch(batches: Batches, epoch: int, step: int) -> Any:
        drawn.append(batches.label)
        return original(batches, epoch, step)

    monkeypatch.setattr(Batches, "batch", batch)
    search(tmp_path / "run", digits, **wanted)
    assert set(drawn[:6]) == {"search weights"}
    assert drawn[6:8] == ["search alphas", "search weights"]


def test_a_search_without_a_baseline_may_be_pretrained_too(tmp_path: Path, digits: ImageData) -> None:
    search(tmp_path / "run", digits, pretrain_epochs=1, epochs=1, steps_per_epoch=2)
    run = RunFolder(tmp_path / "run")
    assert len(run.metrics("pretrain", "epoch")) == len(run.metrics("search", "epoch")) == 1
    assert "distance" not in run.metrics("search", "epoch")[0]


def test_a_run_keeps_its_starting_point_whatever_becomes_of_the_files(tmp_path: Path, wanted: dict[str, Any]) -> None:
    weights = OperationWeights({**OperationWeights.published().weights, "sep_conv_3x3": 1.0}, "mine")
    weights.save(tmp_path / "weights.json")
    options = settings(**wanted, operation_weights=str(tmp_path / "weights.json"))
    start = StartingPoint.of(options.search)
    assert start is not None
    assert start.weights == weights
    with RunFolder.create(tmp_path / "run") as run:
        start.save(run.path)
        (tmp_path / "small.json").unlink()
        (tmp_path / "weights.json").unlink()
        assert StartingPoint.of(options.search, run) == start
    with pytest.raises(GenotypeError, match=r"small\.json: no such genotype file"):
        StartingPoint.of(options.search)
