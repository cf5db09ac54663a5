"""Searches that are stopped, killed or that go wrong."""

from __future__ import annotations

import math
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ddarts.data import Batches, ImageData, load_data
from ddarts.errors import DivergedError, RunError, Stopped
from ddarts.runs.folder import RunFolder
from ddarts.searching import loop
from tests.searching.small import EPOCHS, STEPS, gates_of, made_up, metrics_of, search

#: Kinds of search that differ in what a checkpoint has to hold (running means, sampled cells) or in their batches.
KINDS: list[dict[str, Any]] = [
    {},
    {"ablation_kind": "random", "ablation_sample": 1, "precision": "bf16"},
    {"balance": "sampling"},
]


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits", limit=100)


class Whole:
    """Uninterrupted searches, one for each kind."""

    def __init__(self, folder: Path, data: ImageData) -> None:
        self.paths = [folder / str(i) for i in range(len(KINDS))]
        for path, kind in zip(self.paths, KINDS, strict=True):
            search(path, data, **kind)


@pytest.fixture(scope="module")
def whole(digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole"), digits)


def on_batches(patch: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
    """Call `act` with the number of the batch (from 1) whenever one is drawn; each step draws two."""
    original, count = Batches.batch, 0

    def batch(batches: Batches, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        nonlocal count
        count += 1
        act(count)
        return original(batches, epoch, step)

    patch.setattr(Batches, "batch", batch)


# -- stopped and killed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_a_search_stopped_at_random_steps_ends_with_the_bits_of_an_uninterrupted_one(
    tmp_path: Path, digits: ImageData, whole: Whole, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    draw = random.Random(kind)
    steps = sorted({*draw.sample(range(1, EPOCHS * STEPS), 2), STEPS})  # anywhere, and at the end of an epoch
    stops = []
    for i, step in enumerate(steps):
        with monkeypatch.context() as patch:
            before = steps[i - 1] if i else 0
            batch = 2 * (step - before) - draw.randrange(2)  # in the alpha step or in the weight step
            on_batches(patch, lambda n, batch=batch: signal.raise_signal(signal.SIGINT) if n == batch else None)
            with pytest.raises(Stopped) as caught:
                search(tmp_path / "run", digits, **KINDS[kind])
            stops.append(str(caught.value))
    places = [f"epoch {(step - 1) // STEPS + 1}, step {step}" for step in steps]
    assert stops == [f"stopped at {place}; resume with: ddarts search --resume {tmp_path / 'run'}" for place in places]
    search(tmp_path / "run", digits, **KINDS[kind])
    assert gates_of(tmp_path / "run") == gates_of(whole.paths[kind])
    assert metrics_of(tmp_path / "run") == metrics_of(whole.paths[kind])


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_a_search_killed_at_random_moments_goes_on_from_its_last_checkpoint(
    tmp_path: Path, digits: ImageData, whole: Whole, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    draw = random.Random(10 + kind)
    for _ in range(2):
        moment = draw.randint(STEPS, 2 * STEPS)

        def kill(n: int, moment: int = moment) -> None:
            if n == moment:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            on_batches(patch, kill)
            with pytest.raises(KeyboardInterrupt):
                search(tmp_path / "run", digits, **KINDS[kind])
    search(tmp_path / "run", digits, **KINDS[kind])
    assert gates_of(tmp_path / "run") == gates_of(whole.paths[kind])
    assert metrics_of(tmp_path / "run") == metrics_of(whole.paths[kind])


@pytest.mark.parametrize("checkpoint", [2, 3])
def test_a_kill_between_metrics_and_checkpoint_leaves_no_line_twice(
    tmp_path: Path, digits: ImageData, whole: Whole, monkeypatch: pytest.MonkeyPatch, checkpoint: int
) -> None:
    original, count = RunFolder.save_checkpoint, 0

    def save(run: RunFolder, stage: str, state: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        if count == checkpoint:
            raise KeyboardInterrupt
        original(run, stage, state)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_checkpoint", save)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "run", digits, checkpoint_steps=5)  # each epoch ends with two checkpoints
    search(tmp_path / "run", digits, checkpoint_steps=5)
    assert metrics_of(tmp_path / "run") == metrics_of(whole.paths[0])
    assert gates_of(tmp_path / "run") == gates_of(whole.paths[0])


def test_alphas_move_after_a_resume(tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published code resumes with an optimizer of alphas that nobody reads, and its gates stand still."""
    with monkeypatch.context() as patch:
        on_batches(patch, lambda n: signal.raise_signal(signal.SIGINT) if n == 4 else None)
        with pytest.raises(Stopped):
            search(tmp_path / "run", digits)
    run = RunFolder(tmp_path / "run")
    checkpoint = run.load_checkpoint("search")
    assert checkpoint is not None
    stopped_at = [torch.sigmoid(checkpoint["net"][f"alphas.{i}"]).double() for i in range(3)]
    gates = search(tmp_path / "run", digits).gates
    for before, after in zip(stopped_at, gates.values, strict=True):
        moved = (torch.tensor(after, dtype=torch.float64) - before).abs()
        assert (moved > 0).all()
        assert moved.max() > 1e-2


def test_a_broken_newest_checkpoint_costs_a_few_steps_and_nothing_else(
    tmp_path: Path, digits: ImageData, whole: Whole, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        on_batches(patch, lambda n: signal.raise_signal(signal.SIGINT) if n == 18 else None)
        with pytest.raises(Stopped):
            search(tmp_path / "run", digits)
    newest = tmp_path / "run" / "checkpoints" / "search.pt"
    newest.write_bytes(newest.read_bytes()[:-500])
    search(tmp_path / "run", digits)
    assert "search.pt is broken" in capsys.readouterr().err
    assert gates_of(tmp_path / "run") == gates_of(whole.paths[0])
    assert metrics_of(tmp_path / "run") == metrics_of(whole.paths[0])


def test_a_finished_search_is_not_repeated(tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    first = search(tmp_path / "run", digits)
    before = gates_of(tmp_path / "run")
    (tmp_path / "run" / "gates.json").unlink()
    monkeypatch.setattr(Batches, "batch", lambda *_: pytest.fail("searched again"))
    second = search(tmp_path / "run", digits)
    assert gates_of(tmp_path / "run") == before
    assert (second.search_s, second.best_epoch) == (first.search_s, first.best_epoch)


def test_checkpoints_are_written_every_few_steps_and_every_epoch(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    original = RunFolder.save_checkpoint

    def save(run: RunFolder, stage: str, state: dict[str, Any]) -> None:
        written.append((state["epoch"], state["step"]))
        original(run, stage, state)

    monkeypatch.setattr(RunFolder, "save_checkpoint", save)
    search(tmp_path / "run", digits, checkpoint_steps=3, epochs=2)
    assert written == [(1, 3), (2, 0), (2, 1), (2, 4), (3, 0)]


def test_checkpoints_that_do_not_fit_the_search_are_refused(tmp_path: Path, digits: ImageData) -> None:
    search(tmp_path / "run", digits)
    with pytest.raises(RunError, match=r"the checkpoint is at epoch 3, step 0, past the end of 1 epoch of 5 steps"):
        search(tmp_path / "run", digits, epochs=1)
    with pytest.raises(RunError, match=r"the checkpoint is of a search with images 90, not 80; give the run the data"):
        search(tmp_path / "run", digits, validation=0.2)
    with pytest.raises(RunError, match=r"with steps per epoch 5, not 2; .* or start a new run"):
        search(tmp_path / "run", digits, steps_per_epoch=2)
    with pytest.raises(RunError, match=r"the checkpoint of the search does not fit \(RuntimeError: .*size mismatch"):
        search(tmp_path / "run", digits, channels=3)
    with pytest.raises(RunError, match=r"is of a search with classes 10, not 2"):
        search(tmp_path / "run", made_up(100))


# -- not finite --------------------------------------------------------------------------------------------------------


def poison(patch: pytest.MonkeyPatch, number: int) -> None:
    """Make the images of one batch NaN, counted from 1; each step draws one for the alphas and one for the weights."""
    original, count = Batches.batch, 0

    def batch(batches: Batches, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        nonlocal count
        count += 1
        x, y = original(batches, epoch, step)
        return (x * math.nan if count == number else x), y

    patch.setattr(Batches, "batch", batch)


def test_a_loss_that_is_not_finite_stops_with_place_and_causes(tmp_path: Path, digits: ImageData) -> None:
    with pytest.raises(DivergedError) as caught:
        search(tmp_path / "run", digits, lr=1e20, clip=1e20, precision="bf16")
    text = str(caught.value)
    assert "\n" not in text
    assert "at epoch 1, step " in text
    assert "a learning rate that is too high (lr = 1e+20, try 0.005)" in text
    assert "too little range or precision (bf16, try float32)" in text
    assert "gradients hardly clipped (clip = 1e+20, try 5)" in text
    assert "no checkpoint was written before" in text
    assert "search again in a new run" in text


@pytest.mark.parametrize(("batch", "half"), [(13, "alpha"), (14, "weight")])
def test_divergence_names_the_half_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, digits: ImageData, whole: Whole, monkeypatch: pytest.MonkeyPatch, batch: int, half: str
) -> None:
    with monkeypatch.context() as patch:
        poison(patch, batch)
        message = (
            rf"the loss on the {half} half is nan at epoch 2, step 7; .*"
            rf"the checkpoint after step 5 \(epoch 1\) is kept in {tmp_path / 'run'}"
        )
        with pytest.raises(DivergedError, match=message):
            search(tmp_path / "run", digits)
    checkpoint = RunFolder(tmp_path / "run").load_checkpoint("search")
    assert checkpoint is not None
    assert (checkpoint["epoch"], checkpoint["step"]) == (2, 0)
    assert all(t.isfinite().all() for t in checkpoint["net"].values())
    search(tmp_path / "run", digits)  # nothing was lost: without the fault it ends as if there had been none
    assert gates_of(tmp_path / "run") == gates_of(whole.paths[0])


@pytest.mark.parametrize(("call", "name"), [(2 * 4 - 1, "weight"), (2 * 4 - 2, "alphas"), (2 * 5 - 2, "alphas")])
def test_what_broke_in_the_last_step_before_a_checkpoint_never_reaches_it(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch, call: int, name: str
) -> None:
    """The losses of that step are fine, its update is not; with alphas at the end of an epoch, gates are read first."""
    calls = iter(range(10**6))
    original = loop.cosine

    def cosine(start: float, end: float, step: int, steps: int) -> float:
        return math.inf if next(calls) == call else original(start, end, step, steps)

    monkeypatch.setattr(loop, "cosine", cosine)
    wanted: dict[str, Any] = {"checkpoint_steps": 4 if call < 8 else 100, "ablation": "off"}
    with pytest.raises(DivergedError, match=rf"{name}.* is not finite at epoch 1, step {call // 2 + 1}"):
        search(tmp_path / "run", digits, **wanted)
    assert RunFolder(tmp_path / "run").load_checkpoint("search") is None


def test_losses_read_late_still_tell_the_step(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU losses are read every few steps only."""
    poison(monkeypatch, 5)
    monkeypatch.setattr(loop, "reads_every", lambda *_: 20)
    with pytest.raises(DivergedError, match=r"the loss on the alpha half is nan at epoch 1, step 3;"):
        search(tmp_path / "run", digits)


def test_divergence_is_told_even_if_no_checkpoint_can_be_read_any_more(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, count = Batches.batch, 0

    def batch(batches: Batches, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        nonlocal count
        count += 1
        x, y = original(batches, epoch, step)
        if count == 13:
            for path in (tmp_path / "run" / "checkpoints").iterdir():
                path.write_bytes(b"broken")
            x = x * math.nan
        return x, y

    monkeypatch.setattr(Batches, "batch", batch)
    with pytest.raises(DivergedError, match=r"the loss on the alpha half is nan at epoch 2, step 7"):
        search(tmp_path / "run", digits)
