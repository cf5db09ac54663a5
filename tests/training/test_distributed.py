"""A training by two processes: the weights of one, checkpoints for any number."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ddarts.cli.main import main
from ddarts.runs.folder import RunFolder
from tests.together import codes, numbers_of, worked_alone, worked_together

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one() -> Path:
    """The run of one process, uninterrupted."""
    return worked_alone()


def check_alike(run: Path, one: Path) -> None:
    found, expected = (load_file(path / "model" / "model.safetensors") for path in (run, one))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value.is_floating_point():
            torch.testing.assert_close(
                found[name], value, rtol=1e-2, atol=2e-3, msg=lambda m, name=name: f"{name}: {m}"
            )
        else:
            assert torch.equal(found[name], value), name
    records = [r for r in numbers_of(run) if r["stage"] == "train" and r["kind"] == "epoch"]
    for record, like in zip(records, RunFolder.open(one).metrics("train", "epoch"), strict=True):
        assert record["lr"] == like["lr"]
        assert record["train_accuracy"] == like["train_accuracy"]
        assert record["val_accuracy"] == pytest.approx(like["val_accuracy"], abs=0.05)
        assert record["train_loss"] == pytest.approx(like["train_loss"], abs=1e-3)


@pytest.mark.parametrize("name", ["two", "one-two", "one-two-train"])
def test_two_processes_end_with_the_weights_and_metrics_of_one(one: Path, name: str) -> None:
    folder = worked_together()
    assert [c[name] for c in codes(folder)] == [0, 0]
    check_alike(folder / name, one)


def test_ctrl_c_at_one_process_stops_both_after_a_checkpoint_and_one_goes_on(one: Path) -> None:
    folder = worked_together()
    assert [c["two-one-train"] for c in codes(folder)] == [130, 0]
    run = folder / "two-one-train"
    checkpoint = RunFolder.open(run).load_checkpoint("train")
    assert checkpoint is not None
    assert (checkpoint["epoch"], checkpoint["step"]) == (2, 1)
    assert main(["run", "--resume", str(run), "--quiet"]) == 0
    check_alike(run, one)


def test_one_process_has_written_and_tested(one: Path) -> None:
    run = RunFolder.open(worked_together() / "two")
    alone = RunFolder.open(one)
    assert sorted(p.name for p in run.path.iterdir()) == sorted(p.name for p in alone.path.iterdir())
    assert run.summary["test_top1"] == pytest.approx(alone.summary["test_top1"], abs=0.05)
    assert len(run.metrics()) == len(alone.metrics())
