"""Searches and trainings in a choice space: the same loop, checkpoints and files as for cells."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.tables.spaces import MACRO
from ddarts.config.schema import TrainOptions, TrainSettings
from ddarts.data import ImageData
from ddarts.errors import Stopped
from ddarts.genotype.choices import ChoiceGates, ChoiceGenotype, load_genotype, random_choices
from ddarts.genotype.derive import derive_genotype
from ddarts.genotype.gates import load_gates
from ddarts.hub.saved import load_model
from ddarts.nn.choice_network import ChoiceNetwork
from ddarts.runs.folder import RunFolder
from ddarts.searching import loop
from ddarts.training.loop import train_network
from tests.searching.small import gates_of, made_up, metrics_of, search

SPACE = MACRO.name


@pytest.fixture(scope="module")
def images() -> ImageData:
    return made_up(height=9, width=9)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, images: ImageData) -> Path:
    path = tmp_path_factory.mktemp("search") / "run"
    search(path, images, space=SPACE, epochs=2)
    return path


def test_a_search_ends_with_gates_and_the_genotype_that_they_give(searched: Path) -> None:
    gates, genotype = load_gates(searched), load_genotype(searched)
    assert isinstance(gates, ChoiceGates)
    assert isinstance(genotype, ChoiceGenotype)
    assert genotype.canonical() == derive_genotype(gates).canonical()
    best = [max(row) for (row,) in gates.values]
    assert [row[i] for (row,), i in zip(gates.values, genotype.indices, strict=True)] == best


def test_every_choice_has_its_own_contribution(searched: Path) -> None:
    last = [r for r in metrics_of(searched) if r["kind"] == "epoch"][-1]
    assert len(set(last["marginal"])) == len(MACRO)


def test_a_search_that_was_stopped_ends_with_the_same_bits(
    searched: Path, images: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = loop._Search.weight_step

    def weight_step(search: Any) -> None:
        original(search)
        if search.steps_done == 3:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Search, "weight_step", weight_step)
        with pytest.raises(Stopped):
            search(tmp_path / "run", images, space=SPACE, epochs=2)
    search(tmp_path / "run", images, space=SPACE, epochs=2)
    assert gates_of(tmp_path / "run") == gates_of(searched)


@pytest.mark.parametrize("kind", ["zero", "random"])
def test_both_kinds_of_ablation_find_something(kind: str, images: ImageData, tmp_path: Path) -> None:
    outcome = search(tmp_path / "run", images, space=SPACE, epochs=1, ablation_kind=kind)
    assert isinstance(outcome.genotype, ChoiceGenotype)


@pytest.mark.parametrize("strategy", ["darts", "gdas", "one-shot", "random", "evolution"])
def test_other_strategies_search_the_same_space(strategy: str, images: ImageData, tmp_path: Path) -> None:
    sizes = {"trials": 2, "trial_steps": 1} if strategy in ("random", "evolution") else {}
    sizes |= {"shortlist": 4, "shortlist_trials": 2, "shortlist_steps": 1} if strategy == "one-shot" else {}
    outcome = search(tmp_path / "run", images, space=SPACE, epochs=1, strategy=strategy, **sizes)
    assert isinstance(outcome.genotype, ChoiceGenotype)


def test_a_trained_network_of_choices_survives_its_folder(images: ImageData, tmp_path: Path) -> None:
    genotype = random_choices(MACRO, seed=1)
    options = TrainOptions(channels=2, epochs=1, batch=20, steps_per_epoch=2, drop_path=0.3)
    settings = TrainSettings(threads=1, device="cpu", validation=0.1, train=options)
    with RunFolder.create(tmp_path / "run") as run:
        network = train_network(genotype, settings, images, run, quiet=True).network
    saved = load_model(tmp_path / "run").network
    assert isinstance(saved, ChoiceNetwork)
    assert saved.genotype == genotype
    trained = network.state_dict()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in saved.state_dict().items())
