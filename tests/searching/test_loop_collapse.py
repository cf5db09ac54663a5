"""The collapse watch within a search: alphas are pushed from outside, everything else is real."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from ddarts.data import Batches, ImageData, load_data
from ddarts.errors import Stopped
from ddarts.genotype.gates import Gates
from ddarts.runs.folder import RunFolder
from ddarts.searching import loop
from ddarts.space.cell_space import DARTS_OPERATIONS
from tests.searching.small import gates_in, gates_of, search

SEPARABLE, POOL = DARTS_OPERATIONS.index("sep_conv_3x3"), DARTS_OPERATIONS.index("max_pool_3x3")

#: A search of 4 epochs, alphas pushed to 3 and -3 (gates 0.95 and 0.05), with the decision taken by threshold.
WANTED: dict[str, Any] = {
    "epochs": 4,
    "method": "threshold_sparse",
    "stop_on_collapse": True,
    "ablation": "off",
    "steps_per_epoch": 2,
}


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits", limit=100)


def push(patch: pytest.MonkeyPatch, *plan: str) -> None:
    """Before each alpha step of epoch k, set the alphas as `plan[k]` says: all cells hold convolutions, but cell 1 is

    - "pools": all pools,
    - "hair": all pools by a hair, no gate being decided,
    - "open": convolutions by a hair, no gate being decided,
    - "good": like the others.
    """
    original = loop._Search.alpha_step

    def alpha_step(searching: loop._Search) -> dict[str, Any]:
        wish = plan[searching.state.epoch - 1]
        with torch.no_grad():
            for cell, alpha in enumerate(searching.state.net.alphas):
                alpha.fill_(-3)
                odd = cell == 1 and wish != "good"
                alpha[:, POOL if odd and wish != "open" else SEPARABLE] = 0.5 if odd and wish != "pools" else 3.0
        return original(searching)

    patch.setattr(loop._Search, "alpha_step", alpha_step)


def epochs_of(path: Path) -> list[dict[str, Any]]:
    return RunFolder(path).metrics("search", "epoch")


def test_a_collapse_ends_the_search_with_the_gates_of_the_best_epoch_before_it(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    push(monkeypatch, "good", "good", "pools", "good")
    outcome = search(tmp_path / "run", digits, **WANTED)
    epochs = epochs_of(tmp_path / "run")
    assert [r["epoch"] for r in epochs] == [1, 2, 3]
    best = max(epochs[:2], key=lambda r: (r["search_accuracy"], r["epoch"]))
    assert outcome.best_epoch == best["epoch"]
    assert outcome.gates == gates_in(best, outcome.gates) == Gates.load(tmp_path / "run")
    assert outcome.stopped == (
        f"epoch 3: cell 1 would be made of pools and identities only; "
        f"the gates of epoch {best['epoch']} are kept (stop_on_collapse)"
    )
    assert epochs[2]["parameter_free"] == [0, 1, 0]
    assert "pool" not in str(outcome.genotype.operations)


def test_a_stopped_search_stays_stopped(tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        push(patch, "good", "pools", "good", "good")
        first = search(tmp_path / "run", digits, **WANTED)
    monkeypatch.setattr(Batches, "batch", lambda *_: pytest.fail("searched on"))
    second = search(tmp_path / "run", digits, **WANTED)
    assert (second.stopped, second.best_epoch, second.gates) == (first.stopped, 1, first.gates)


def test_the_best_epoch_survives_a_resume(tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    push(monkeypatch, "good", "good", "pools", "good")
    search(tmp_path / "whole", digits, **WANTED)
    original, count = Batches.batch, 0

    def batch(batches: Batches, epoch: int, step: int) -> Any:
        nonlocal count
        count += 1
        if count == 2 * 5:
            signal.raise_signal(signal.SIGINT)
        return original(batches, epoch, step)

    monkeypatch.setattr(Batches, "batch", batch)
    with pytest.raises(Stopped, match="stopped at epoch 3, step 5"):
        search(tmp_path / "parts", digits, **WANTED)
    outcome = search(tmp_path / "parts", digits, **WANTED)
    assert outcome.stopped is not None
    assert gates_of(tmp_path / "parts") == gates_of(tmp_path / "whole")


def test_a_collapse_in_the_last_epoch_falls_back_too(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(monkeypatch, "good", "good", "good", "pools")
    outcome = search(tmp_path / "run", digits, **WANTED)
    assert len(epochs_of(tmp_path / "run")) == 4
    assert outcome.stopped is not None
    assert outcome.stopped.startswith("epoch 4: cell 1 would be")
    assert outcome.best_epoch < 4


def test_a_search_may_be_told_to_go_on(tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    push(monkeypatch, "good", "pools", "pools", "pools")
    outcome = search(tmp_path / "run", digits, **{**WANTED, "stop_on_collapse": False})
    assert (outcome.best_epoch, outcome.stopped) == (4, None)
    assert outcome.gates == gates_in(epochs_of(tmp_path / "run")[-1], outcome.gates)
    assert {e.operation for e in outcome.genotype.cells[1].edges} == {"max_pool_3x3"}


def test_without_a_good_epoch_there_is_nothing_to_fall_back_on(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(monkeypatch, "pools", "pools", "good", "good")
    outcome = search(tmp_path / "run", digits, **WANTED)
    assert (outcome.best_epoch, outcome.stopped) == (4, None)


def test_pools_ahead_among_undecided_gates_do_not_stop_a_search(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Early in a search gates lie near 1/2, and pools may lead by a hair."""
    push(monkeypatch, "good", "hair", "hair", "good")
    outcome = search(tmp_path / "run", digits, **WANTED)
    assert outcome.stopped is None
    assert [r["parameter_free"][1] for r in epochs_of(tmp_path / "run")] == [0, 1, 1, 0]


def test_an_epoch_in_which_pools_lead_is_not_fallen_back_on(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(monkeypatch, "good", "hair", "hair", "pools")
    assert search(tmp_path / "run", digits, **WANTED).best_epoch == 1


def test_a_search_goes_on_while_no_epoch_could_give_a_genotype(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Falling back on gates below the threshold would end the search with an empty cell."""
    push(monkeypatch, "open", "pools", "good", "good")
    outcome = search(tmp_path / "run", digits, **WANTED)
    assert (outcome.best_epoch, outcome.stopped) == (4, None)
