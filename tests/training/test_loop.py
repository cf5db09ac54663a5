from __future__ import annotations

import dataclasses
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ddarts.config.loading import load_settings
from ddarts.config.schema import TrainOptions, TrainSettings
from ddarts.data import Batches, ImageData, Images, load_data
from ddarts.errors import DataError, DivergedError, RunError, SettingsError, Stopped
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.random import random_genotype
from ddarts.hub.saved import load_model
from ddarts.runs.folder import RunFolder
from ddarts.space.cell_space import build_space
from ddarts.training import loop
from ddarts.training.evaluate import evaluate, test_model
from ddarts.training.loop import TrainOutcome, train_network

_GENOTYPE = random_genotype(build_space(cells=2, nodes=2), seed=1)


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits", limit=100)


def _settings(**changes: Any) -> TrainSettings:
    base: dict[str, Any] = {
        "channels": 4,
        "epochs": 2,
        "batch": 16,
        "lr": 0.05,
        "drop_path": 0.3,
        "auxiliary_weight": 0.4,
        "cutout": 2,
        "crop": 1,
        "policy": "none",
        "threads": 1,
        "device": "cpu",
        "checkpoint_steps": 4,
    }
    return load_settings("train", base={**base, **changes})


def _train(path: Path, data: ImageData, genotype: Genotype = _GENOTYPE, **changes: Any) -> TrainOutcome:
    with RunFolder(path) if path.exists() else RunFolder.create(path) as run:
        return train_network(genotype, _settings(**changes), data, run, quiet=True)


def _weights(path: Path) -> dict[str, Tensor]:
    return load_file(path / "model" / "model.safetensors")


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_training_leaves_a_model_metrics_and_a_checkpoint(tmp_path: Path, digits: ImageData) -> None:
    outcome = _train(tmp_path / "run", digits)
    run = RunFolder.open(tmp_path / "run") if (tmp_path / "run" / "settings.yaml").exists() else None
    assert run is not None
    records = run.metrics("train", "epoch")
    assert [(r["epoch"], r["step"]) for r in records] == [(1, 5), (2, 10)]
    for record in records:
        assert {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "elapsed_s"} <= record.keys()
        assert 0 <= record["train_accuracy"] <= 1
    assert records[-1]["val_accuracy"] == outcome.val_top1
    saved = load_model(tmp_path / "run")
    assert saved.config.classes == digits.classes
    assert saved.config.resolution == (8, 8)
    assert saved.network.auxiliary is None
    assert outcome.parameters == sum(p.numel() for p in saved.network.parameters())
    assert outcome.macs > 0
    assert outcome.train_s > 0
    checkpoint = run.load_checkpoint("train")
    assert checkpoint is not None
    assert (checkpoint["epoch"], checkpoint["step"]) == (3, 0)


def test_training_learns(tmp_path: Path) -> None:
    data = load_data("digits", limit=400)
    outcome = _train(tmp_path / "run", data, epochs=5, drop_path=0.0, auxiliary_weight=0.0, cutout=0, lr=0.1)
    assert outcome.val_top1 is not None
    assert outcome.val_top1 > 0.6
    assert test_model(tmp_path / "run", data).top1 > 0.6


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path: Path, digits: ImageData) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        _train(tmp_path / name, digits, seed=seed)
    assert _same(_weights(tmp_path / "a"), _weights(tmp_path / "b"))
    assert not _same(_weights(tmp_path / "a"), _weights(tmp_path / "c"))


class _SignalAt:
    """Raises SIGINT in the middle of the given steps, counted over the whole process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
        self.steps, self.count = steps, 0
        original = Batches.batch

        def batch(batches: Batches, epoch: int, step: int) -> tuple[Tensor, Tensor]:
            self.count += 1
            if self.count in self.steps:
                signal.raise_signal(signal.SIGINT)
            return original(batches, epoch, step)

        monkeypatch.setattr(Batches, "batch", batch)


_MODERN: dict[str, Any] = {
    **{"optimizer": "adamw", "lr": 0.01, "warmup": 0.3, "schedule": "linear", "decay_norms": False},
    **{"mixup": 0.2, "cutmix": 1.0, "half_resolution": 0.5, "ema": 0.9},
}


@pytest.mark.parametrize("recipe", [{}, _MODERN, {"balance": "sampling"}], ids=["published", "modern", "balanced"])
def test_a_stopped_training_ends_with_the_bits_of_an_uninterrupted_one(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch, recipe: dict[str, Any]
) -> None:
    _train(tmp_path / "whole", digits, **recipe)
    with monkeypatch.context() as patch:
        _SignalAt(patch, 2, 5, 9)  # inside an epoch, at the last step of one, and early in another
        stops = []
        for _ in range(3):
            with pytest.raises(Stopped) as caught:
                _train(tmp_path / "parts", digits, **recipe)
            stops.append(str(caught.value))
    assert stops == [
        f"stopped at epoch {epoch}, step {step}; resume with: ddarts train --resume {tmp_path / 'parts'}"
        for epoch, step in ((1, 2), (1, 5), (2, 9))
    ]
    outcome = _train(tmp_path / "parts", digits, **recipe)
    assert _same(_weights(tmp_path / "parts"), _weights(tmp_path / "whole"))
    whole, parts = (RunFolder.open(tmp_path / name).metrics("train") for name in ("whole", "parts"))
    for record in (*whole, *parts):
        del record["elapsed_s"]
    assert parts == whole
    assert outcome.val_top1 == whole[-1]["val_accuracy"]


def test_a_killed_training_goes_on_from_the_last_checkpoint_without_double_metrics(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    _train(tmp_path / "whole", digits)
    original = Batches.batch
    count = 0

    def batch(batches: Batches, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        nonlocal count
        count += 1
        if count in (8, 12):  # after steps 7 and 5 + 3: checkpoints are at 4, 5, 8, 10
            raise KeyboardInterrupt
        return original(batches, epoch, step)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "batch", batch)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                _train(tmp_path / "killed", digits)
    _train(tmp_path / "killed", digits)
    assert _same(_weights(tmp_path / "killed"), _weights(tmp_path / "whole"))
    records = RunFolder.open(tmp_path / "killed").metrics("train", "epoch")
    assert [r["epoch"] for r in records] == [1, 2]


def test_a_finished_training_is_not_repeated(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _train(tmp_path / "run", digits)
    weights = _weights(tmp_path / "run")
    (tmp_path / "run" / "model" / "model.safetensors").unlink()
    monkeypatch.setattr(Batches, "batch", lambda *_: pytest.fail("trained again"))
    second = _train(tmp_path / "run", digits)
    assert _same(_weights(tmp_path / "run"), weights)
    assert (second.val_top1, second.train_s) == (first.val_top1, first.train_s)


def test_test_images_are_never_seen(tmp_path: Path, digits: ImageData) -> None:
    assert digits.test is not None
    _train(tmp_path / "with", digits)
    _train(tmp_path / "without", dataclasses.replace(digits, test=None))
    assert _same(_weights(tmp_path / "with"), _weights(tmp_path / "without"))


def test_a_loss_that_is_not_finite_stops_with_place_and_causes(tmp_path: Path, digits: ImageData) -> None:
    with pytest.raises(DivergedError) as caught:
        _train(tmp_path / "run", digits, lr=1e30, clip=1e30, drop_path=0.0)
    text = str(caught.value)
    assert "at epoch 1, step " in text
    assert "a learning rate that is too high (lr = 1e+30, try 0.025)" in text
    assert "no checkpoint was written before" in text
    assert "train again in a new run" in text


def test_divergence_keeps_the_last_good_checkpoint(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Batches.batch
    count = 0

    def batch(batches: Batches, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        nonlocal count
        count += 1
        x, labels = original(batches, epoch, step)
        return (x * math.nan if count == 7 else x), labels

    monkeypatch.setattr(Batches, "batch", batch)
    with pytest.raises(
        DivergedError, match=r"the loss is nan at epoch 2, step 7; .* the checkpoint after step 5 \(epoch 1\)"
    ):
        _train(tmp_path / "run", digits)
    checkpoint = RunFolder.open(tmp_path / "run").load_checkpoint("train")
    assert checkpoint is not None
    assert (checkpoint["epoch"], checkpoint["step"]) == (2, 0)
    assert all(t.isfinite().all() for t in checkpoint["network"].values())


def test_weights_that_broke_in_the_last_step_never_reach_a_checkpoint(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learning_rate(options: TrainOptions, step: int, steps: int) -> float:
        return math.inf if step == 3 else options.lr  # the loss of step 4 is fine, its update is not

    monkeypatch.setattr(loop, "learning_rate", learning_rate)
    with pytest.raises(DivergedError, match=r"is not finite at epoch 1, step 4"):
        _train(tmp_path / "run", digits)
    assert RunFolder.open(tmp_path / "run").load_checkpoint("train") is None


def test_losses_read_late_still_tell_the_step(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Batches.batch

    def batch(batches: Batches, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        x, labels = original(batches, epoch, step)
        return (x * math.nan if step == 2 else x), labels

    monkeypatch.setattr(Batches, "batch", batch)
    monkeypatch.setattr(loop, "reads_every", lambda device: 20)
    with pytest.raises(DivergedError, match=r"the loss is nan at epoch 1, step 3;"):
        _train(tmp_path / "run", digits, checkpoint_steps=500)


def test_no_validation_part_is_fine(tmp_path: Path, digits: ImageData) -> None:
    outcome = _train(tmp_path / "run", digits, validation=0, epochs=1)
    assert outcome.val_top1 is None
    (record,) = RunFolder.open(tmp_path / "run").metrics("train", "epoch")
    assert "val_accuracy" not in record


def test_steps_per_epoch_ends_an_epoch_early(tmp_path: Path, digits: ImageData) -> None:
    _train(tmp_path / "run", digits, steps_per_epoch=2)
    assert [r["step"] for r in RunFolder.open(tmp_path / "run").metrics("train", "epoch")] == [2, 4]


def test_no_auxiliary_weight_builds_no_head(tmp_path: Path, digits: ImageData) -> None:
    for name, weight in (("with", 0.4), ("without", 0.0)):
        _train(tmp_path / name, digits, epochs=1, auxiliary_weight=weight)
        checkpoint = RunFolder.open(tmp_path / name).load_checkpoint("train")
        assert checkpoint is not None
        assert any(k.startswith("auxiliary.") for k in checkpoint["network"]) == (weight > 0)


def test_the_average_is_what_is_evaluated_and_saved(tmp_path: Path, digits: ImageData) -> None:
    outcome = _train(tmp_path / "run", digits, ema=0.99)
    checkpoint = RunFolder.open(tmp_path / "run").load_checkpoint("train")
    assert checkpoint is not None
    weights = _weights(tmp_path / "run")
    assert torch.equal(weights["classifier.weight"], checkpoint["average"]["classifier.weight"])
    assert not torch.equal(weights["classifier.weight"], checkpoint["network"]["classifier.weight"])
    assert torch.equal(outcome.network.classifier.weight, weights["classifier.weight"])


def test_each_part_of_the_recipe_changes_the_result(tmp_path: Path, digits: ImageData) -> None:
    short: dict[str, Any] = {"epochs": 2, "steps_per_epoch": 2, "validation": 0, "checkpoint_steps": 100}
    _train(tmp_path / "base", digits, **short)
    base = _weights(tmp_path / "base")
    changes: list[dict[str, Any]] = [
        {"drop_path": 0.0},
        {"auxiliary_weight": 0.1},
        {"label_smoothing": 0.1},
        {"cutout": 0},
        {"crop": 0},
        {"clip": 0.01},
        {"momentum": 0.5},
        {"weight_decay": 0.1},
        {"lr": 0.01},
        {"lr_min": 0.01},
        {"policy": "randaugment"},
        {"precision": "bf16"},
        {"optimizer": "adamw"},
        {"nesterov": True},
        {"warmup": 0.5},
        {"schedule": "linear"},
        {"decay_norms": False, "weight_decay": 0.1},
        {"mixup": 0.2},
        {"cutmix": 1.0},
        {"half_resolution": 0.5},
    ]
    for i, change in enumerate(changes):
        _train(tmp_path / str(i), digits, **short, **change)
        other = _weights(tmp_path / str(i))
        assert not torch.equal(other["classifier.weight"], base["classifier.weight"]), change
        assert all(t.isfinite().all() for t in other.values())


def test_a_checkpoint_of_another_genotype_is_refused(tmp_path: Path, digits: ImageData) -> None:
    _train(tmp_path / "run", digits, epochs=1)
    other = Genotype((CellGenotype((Edge("skip_connect", 1, 2),), (2,)),))
    with pytest.raises(RunError, match=r"the checkpoint is of a training with other genotype"):
        _train(tmp_path / "run", digits, other, epochs=1)


def test_a_checkpoint_beyond_the_end_is_refused(tmp_path: Path, digits: ImageData) -> None:
    _train(tmp_path / "run", digits, epochs=3)
    with pytest.raises(RunError, match=r"the checkpoint is at epoch 4, step 0, past the end of 1 epoch of 5 steps"):
        _train(tmp_path / "run", digits, epochs=1)


def test_settings_that_do_not_fit_the_images_are_refused(tmp_path: Path, digits: ImageData) -> None:
    with pytest.raises(DataError, match=r"batch 500: more than the 90 images"):
        _train(tmp_path / "a", digits, batch=500)
    deep = random_genotype(build_space(cells=8, nodes=1, reductions=(1, 3, 5, 7)), seed=0)
    with pytest.raises(SettingsError, match=r"images of 8x8 pixels are too small for 4 reductions"):
        _train(tmp_path / "b", digits, deep)


def test_at_half_resolution_validation_images_have_it_too(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = []

    def noted(network: Any, batches: Any, **options: Any) -> Any:
        held = list(batches)
        sides.append({x.shape[-1] for x, _ in held})
        return evaluate(network, held, **options)

    monkeypatch.setattr("ddarts.training.loop.evaluate", noted)
    _train(tmp_path / "run", digits, epochs=4, half_resolution=0.5)
    assert sides == [{4}, {4}, {8}, {8}]


def test_half_the_resolution_must_be_enough_for_the_reductions(tmp_path: Path) -> None:
    data = load_data("digits", limit=40)
    reduced = random_genotype(build_space(cells=4, nodes=2, reductions=(1, 2, 3)), seed=0)
    _train(tmp_path / "whole", data, reduced, epochs=1)
    with pytest.raises(
        SettingsError, match=r"^half_resolution = 0.5: images of 4x4 pixels are too small.* or set it to 0"
    ):
        _train(tmp_path / "half", data, reduced, epochs=1, half_resolution=0.5)


def test_many_channels_and_odd_sizes_train(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (24, 5, 7, 9), generator=random, dtype=torch.uint8)
    images = Images(pixels, torch.arange(24) % 2)
    data = ImageData("cubes", ("a", "b"), 5, 7, 9, (0.5,) * 5, (0.3,) * 5, True, images, None, None)
    _train(tmp_path / "run", data, channels=3, epochs=1, batch=8)
    assert load_model(tmp_path / "run").config.resolution == (7, 9)


def test_class_weights_and_balanced_sampling_learn_from_a_class_with_one_image_in_twenty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 80 + [1] * 4)
    pixels = torch.randint(0, 200, (84, 1, 8, 8), generator=random).to(torch.uint8)
    pixels[80:] += 20  # so little that always naming the large class is the best at first
    data = ImageData("uneven", ("a", "b"), 1, 8, 8, (0.4,), (0.25,), False, Images(pixels, labels), None, None)
    seen: list[Tensor] = []
    original = Batches.batch

    def batch(batches: Batches, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        found = original(batches, epoch, step)
        seen.append(found[1])
        return found

    monkeypatch.setattr(Batches, "batch", batch)
    losses = {}
    for balance in ("none", "weights", "sampling"):
        seen.clear()
        _train(tmp_path / balance, data, balance=balance, epochs=2, batch=12, validation=0)
        shares = torch.bincount(torch.cat(seen), minlength=2).tolist()
        assert shares == ([84, 84] if balance == "sampling" else [160, 8])
        losses[balance] = RunFolder.open(tmp_path / balance).metrics("train", "epoch")[0]["train_loss"]
    assert len(set(losses.values())) == 3
