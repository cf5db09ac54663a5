from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from ddarts.config.schema import SearchSettings
from ddarts.data import Batches, ImageData, Images, load_data, split
from ddarts.errors import DataError, GenotypeError, SettingsError
from ddarts.genotype.gates import Gates
from ddarts.genotype.genotype import Genotype
from ddarts.runs.folder import RunFolder
from ddarts.runtime.engine import launch
from ddarts.searching import loop
from ddarts.searching.loop import _Search
from tests.searching.small import EPOCHS, STEPS, gates_in, gates_of, made_up, metrics_of, search, settings


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits", limit=100)


# -- what a search makes -----------------------------------------------------------------------------------------------


def test_a_search_leaves_gates_a_genotype_metrics_and_a_checkpoint(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_LOG_STEPS", 2)
    outcome = search(tmp_path / "run", digits)
    run = RunFolder(tmp_path / "run")
    assert Gates.load(run.path) == outcome.gates
    assert Genotype.load(run.path) == outcome.genotype
    assert (outcome.best_epoch, outcome.stopped) == (EPOCHS, None)
    assert outcome.search_s > 0
    assert outcome.genotype.name == "run-darts"
    assert (len(outcome.genotype), outcome.genotype.reductions) == (3, (1, 2))
    epochs = run.metrics("search", "epoch")
    assert [(r["epoch"], r["step"]) for r in epochs] == [(1, 5), (2, 10)]
    for record in epochs:
        assert 0 <= record["search_accuracy"] <= 1
        assert 0 <= record["train_accuracy"] <= 1
        assert record["search_loss"] > 0
        assert record["train_loss"] > 0
        assert [len(record[name]) for name in ("gates", "marginal", "parameter_free", "margin")] == [3] * 4
        assert all(isinstance(m, float) for m in record["marginal"])
        assert record["elapsed_s"] > 0
    assert gates_in(epochs[-1], outcome.gates) == outcome.gates
    assert gates_in(epochs[0], outcome.gates) != outcome.gates
    steps = run.metrics("search", "step")
    assert [r["step"] for r in steps] == [2, 4, 6, 8, 10]
    expected = {"ce", "zero_one", "zero_one_weight", "marginal_mean", "train_loss", "lr", "alpha_lr"}
    assert all(expected <= r.keys() and all(math.isfinite(r[k]) for k in expected) for r in steps)
    checkpoint = run.load_checkpoint("search")
    assert checkpoint is not None
    assert (checkpoint["epoch"], checkpoint["step"]) == (EPOCHS + 1, 0)


def test_rates_and_the_zero_one_weight_follow_their_schedules(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_LOG_STEPS", 1)
    wanted: dict[str, Any] = {"lr": 0.1, "lr_min": 0.02, "alpha_lr": 0.05, "alpha_lr_min": 0.01}
    search(tmp_path / "run", digits, **wanted, zero_one_weight=8.0, zero_one_warmup=0.8, epochs=2, ablation="off")
    records = RunFolder(tmp_path / "run").metrics("search", "step")
    for i, record in enumerate(records):
        share = (1 + math.cos(math.pi * i / 10)) / 2
        assert record["lr"] == pytest.approx(0.02 + 0.08 * share)
        assert record["alpha_lr"] == pytest.approx(0.01 + 0.04 * share)
        assert record["zero_one_weight"] == pytest.approx(8 * min(1, i / 8) ** 2)
    assert len(records) == 10


def test_searching_learns(tmp_path: Path) -> None:
    data = load_data("digits", limit=600)
    search(tmp_path / "run", data, epochs=4, batch=30, channels=4, lr=0.1, ablation="off")
    first, *_, last = RunFolder(tmp_path / "run").metrics("search", "epoch")
    assert last["search_accuracy"] > 0.55 > first["search_accuracy"]
    assert last["train_loss"] < first["train_loss"]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path: Path, digits: ImageData) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        search(tmp_path / name, digits, seed=seed, epochs=2, steps_per_epoch=2)
    assert gates_of(tmp_path / "a") == gates_of(tmp_path / "b") != gates_of(tmp_path / "c")
    assert metrics_of(tmp_path / "a") == metrics_of(tmp_path / "b")


@pytest.mark.parametrize("kind", ["zero", "random"])
@pytest.mark.parametrize("use", ["gradient", "monitor", "off"])
def test_every_use_and_kind_of_ablation_runs(tmp_path: Path, digits: ImageData, use: str, kind: str) -> None:
    for name, sample in (("all", None), ("sample", 2)):
        search(
            tmp_path / name, digits, epochs=1, steps_per_epoch=2, ablation=use, ablation_kind=kind,
            ablation_sample=sample,
        )  # fmt: skip
        (record,) = RunFolder(tmp_path / name).metrics("search", "epoch")
        measured = [m is not None for m in record["marginal"]]
        assert sum(measured) == 0 if use == "off" else sum(measured) >= 2


def test_monitoring_and_off_find_the_same_and_the_gradient_something_else(tmp_path: Path, digits: ImageData) -> None:
    for use in ("gradient", "monitor", "off"):
        search(tmp_path / use, digits, epochs=1, steps_per_epoch=2, ablation=use)
    assert gates_of(tmp_path / "monitor") == gates_of(tmp_path / "off") != gates_of(tmp_path / "gradient")


def test_every_setting_of_the_search_changes_its_result(tmp_path: Path, digits: ImageData) -> None:
    short: dict[str, Any] = {"epochs": 2, "steps_per_epoch": 2}
    without: list[dict[str, Any]] = [
        {},
        {"alpha_lr": 0.1},
        {"alpha_lr_min": 0.04},
        {"alpha_weight_decay": 0.1},
        {"lr": 0.1},
        {"lr_min": 0.04},
        {"momentum": 0.5},
        {"weight_decay": 0.1},
        {"clip": 0.01},
        {"zero_one_weight": 1.0},
        {"zero_one_kind": "l1"},
        {"zero_one_schedule": "linear"},
        {"zero_one_warmup": 0.5},
        {"precision": "bf16"},
        {"validation": 0.2},
        {"batch": 8},
        {"seed": 1},
    ]
    ablated: list[dict[str, Any]] = [
        {},
        {"ablation": "monitor"},
        {"ablation_kind": "random"},
        {"ablation_weight": 7.0},
        {"ablation_sample": 3},
        {"ablation_floor": 0.5},
    ]
    for name, base, changes in (("w", {"ablation": "off"}, without), ("a", {"ablation_sample": 2}, ablated)):
        found: dict[str, Gates] = {}
        for change in changes:
            gates = search(tmp_path / f"{name}{len(found)}", digits, **{**short, **base, **change}).gates
            assert gates not in found.values(), change
            found[str(change)] = gates


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 8, 8), (5, 8, 8), (3, 7, 9), (2, 128, 128)])
def test_grey_colour_and_many_channels_of_any_size_can_be_searched(
    tmp_path: Path, channels: int, height: int, width: int
) -> None:
    data = made_up(24, channels, height, width)
    outcome = search(tmp_path / "run", data, epochs=1, steps_per_epoch=1, batch=4)
    assert len(outcome.genotype) == 3


def test_both_spaces_and_any_number_of_cells_can_be_searched(tmp_path: Path, digits: ImageData) -> None:
    shapes: list[dict[str, Any]] = [
        {"cells": 1, "reductions": ()},
        {"cells": 2, "nodes": 3, "channels": 3},
        {"cells": 2, "space": "dartopti"},
        {"cells": 5, "reductions": (4,)},
    ]
    for i, shape in enumerate(shapes):
        outcome = search(tmp_path / str(i), digits, epochs=1, steps_per_epoch=1, **shape)
        assert len(outcome.genotype) == shape["cells"]


def test_steps_per_epoch_ends_an_epoch_early(tmp_path: Path, digits: ImageData) -> None:
    search(tmp_path / "run", digits, steps_per_epoch=2, ablation="off")
    assert [r["step"] for r in RunFolder(tmp_path / "run").metrics("search", "epoch")] == [2, 4]


def test_a_rule_that_finds_nothing_names_the_cell_and_keeps_the_gates(tmp_path: Path, digits: ImageData) -> None:
    with pytest.raises(GenotypeError, match=r"cell 0 would be empty: its largest gate is 0\.\d+, below the threshold"):
        search(tmp_path / "run", digits, method="threshold_sparse", threshold=0.999, epochs=1)
    assert len(Gates.load(tmp_path / "run").values) == 3


def test_a_folder_may_have_any_name(tmp_path: Path, digits: ImageData) -> None:
    outcome = search(tmp_path / "two\nlines", digits, epochs=1, steps_per_epoch=1)
    assert outcome.genotype.name == "two-lines-darts"


# -- which images are seen ---------------------------------------------------------------------------------------------


class _Untouchable:
    """Test images that nobody may look at."""

    def __getattribute__(self, name: str) -> Any:
        pytest.fail(f"the search looked at .{name} of the test images")

    def __len__(self) -> int:
        pytest.fail("the search counted the test images")


def test_test_images_are_never_seen(tmp_path: Path, digits: ImageData) -> None:
    """Nothing can be chosen by them either, as the published results were."""
    for name, test in (("with", cast(Images, _Untouchable())), ("without", None)):
        search(tmp_path / name, dataclasses.replace(digits, test=test), epochs=2, steps_per_epoch=2)
    assert gates_of(tmp_path / "with") == gates_of(tmp_path / "without")


Seen = dict[str, list[list[int]]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """For each kind of batches, the first pixels of each batch."""
    found: Seen = {}
    original = Batches.index

    def index(batches: Batches, epoch: int, step: int) -> Tensor:
        chosen = original(batches, epoch, step)
        found.setdefault(batches.label, []).append(batches.images.pixels[chosen][:, 0, 0, 0].tolist())
        return chosen

    monkeypatch.setattr(Batches, "index", index)
    return found


def test_weights_and_gates_learn_from_disjoint_halves_and_never_from_the_validation_part(
    tmp_path: Path, seen: Seen
) -> None:
    data = made_up(100)
    search(tmp_path / "run", data, epochs=2, ablation="off")
    on_weights, on_alphas = ({i for batch in seen[k] for i in batch} for k in ("search weights", "search alphas"))
    parts = split(data, validation=0.1, seed=0)
    assert parts.validation is not None
    validation = set(parts.validation.pixels[:][:, 0, 0, 0].tolist())
    assert len(validation) == 10
    assert not on_weights & on_alphas
    assert on_weights | on_alphas == set(range(100)) - validation
    assert len(on_weights) == len(on_alphas) == 45


def test_each_step_has_a_batch_of_its_own_and_a_pass_covers_its_half(tmp_path: Path, seen: Seen) -> None:
    """The published code makes its validation loader anew for every step, and sees first batches only."""
    search(tmp_path / "run", made_up(100), epochs=2, ablation="off")
    for batches in seen.values():
        assert len(batches) == 2 * STEPS
        first, second = batches[:STEPS], batches[STEPS:]
        for epoch in (first, second):
            assert len({i for batch in epoch for i in batch}) == 45
        assert first != second


def test_gates_go_round_their_half_even_if_an_epoch_is_cut_short(tmp_path: Path, seen: Seen) -> None:
    search(tmp_path / "run", made_up(100), epochs=5, steps_per_epoch=1, ablation="off")
    assert len({i for batch in seen["search alphas"] for i in batch}) == 45


def test_a_batch_larger_than_a_half_says_what_fits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"batch 46: more than the 45 images for 'search weights'; 45 is the largest"):
        search(tmp_path / "run", made_up(100), batch=46)
    search(tmp_path / "fits", made_up(100), batch=45, epochs=1)


def test_images_too_small_for_the_reductions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"images of 4x4 pixels are too small for 3 reductions"):
        search(tmp_path / "run", made_up(40, 3, 4, 4), cells=4, reductions=(1, 2, 3))


# -- one step ----------------------------------------------------------------------------------------------------------


def _new(data: ImageData, tmp_path: Path, **changes: Any) -> _Search:
    wanted: SearchSettings = settings(**changes)
    started = _Search(wanted, data, RunFolder.create(tmp_path / "run"), launch(wanted))
    started.module.train()
    return started


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in tensors.items()}


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_alpha_step_moves_alphas_only_and_the_weight_step_weights_only(
    tmp_path: Path, digits: ImageData, precision: str
) -> None:
    """The published alpha step leaves gradients of the validation half on the weights, and their step adds to them."""
    running = _new(digits, tmp_path, precision=precision)
    net = running.state.net
    running.weight_step()  # so that weights have gradients and momentum
    before = _copy(net.state_dict())
    gradients = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    assert len(gradients) == len(net.weight_parameters())
    running.alpha_step()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith("alphas."), name
    for name, p in net.named_parameters():
        assert (p.grad is None) == name.startswith("alphas.")
        assert p.grad is None or torch.equal(p.grad, gradients[name])
    before = _copy(net.state_dict())
    running.weight_step()
    for name, value in net.state_dict().items():
        if name.startswith("alphas."):
            assert torch.equal(value, before[name])
    moved = {n for n, v in net.state_dict().items() if not torch.equal(v, before[n])}
    assert {n for n, _ in net.named_parameters() if not n.startswith("alphas.")} <= moved
    assert all(a.grad is None for a in net.alphas)


def test_a_weight_step_is_the_same_whether_an_alpha_gradient_was_taken_before_or_not(
    tmp_path: Path, digits: ImageData
) -> None:
    found = []
    for name, first in (("a", True), ("b", False)):
        running = _new(digits, tmp_path / name)
        kept = [a.detach().clone() for a in running.state.net.alphas]
        if first:
            running.alpha_step()
            with torch.no_grad():
                for alpha, value in zip(running.state.net.alphas, kept, strict=True):
                    alpha.copy_(value)
        running.weight_step()
        found.append(_copy(running.state.net.state_dict()))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_running_statistics_move_with_the_weights_only(tmp_path: Path, digits: ImageData) -> None:
    running = _new(digits, tmp_path, ablation_kind="random")

    def statistics() -> dict[str, Tensor]:
        return _copy({n: b for n, b in running.state.net.named_buffers() if "running" in n})

    start = statistics()
    running.alpha_step()
    assert all(torch.equal(v, start[n]) for n, v in statistics().items())
    running.weight_step()
    assert all(not torch.equal(v, start[n]) for n, v in statistics().items())
