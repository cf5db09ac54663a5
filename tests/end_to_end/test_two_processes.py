"""Two processes: the gates and weights of one, checkpoints for any number, one end for all.

They are started once, for all tests of this file, by tests/together.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ddarts.cli.main import main
from ddarts.genotype.gates import Gates
from ddarts.runs.folder import RunFolder
from ddarts.runtime.distributed import Ranks
from tests.together import (
    codes,
    float64_alphas,
    norm_and_gradients,
    numbers_of,
    rated,
    worked_alone,
    worked_together,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one() -> Path:
    """The run of one process, uninterrupted."""
    return worked_alone()


def test_two_processes_normalise_and_differentiate_as_one_with_the_whole_batch() -> None:
    parts = [torch.load(worked_together() / f"numbers{rank}.pt", weights_only=True)["norm"] for rank in range(2)]
    whole = norm_and_gradients(Ranks())
    assert parts[0].keys() == whole.keys()
    for name, expected in whole.items():
        both = [part[name] for part in parts]
        if name in ("y", "x"):
            found = torch.cat(both)
        elif name in ("0.weight", "0.bias"):  # each process has the sum over its own part
            found = both[0] + both[1]
        else:
            assert torch.equal(both[0], both[1])
            found = both[0]
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("use", ["gradient", "monitor"])
@pytest.mark.parametrize("kind", ["zero", "random"])
def test_the_alpha_step_of_two_processes_is_that_of_one_with_the_whole_batch(use: str, kind: str) -> None:
    parts = [torch.load(worked_together() / f"numbers{rank}.pt", weights_only=True)["alphas"] for rank in range(2)]
    expected = float64_alphas(use, kind, Ranks())
    for first, second, whole in zip(parts[0][f"{use} {kind}"], parts[1][f"{use} {kind}"], expected, strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, whole, rtol=1e-8, atol=1e-10)


def test_processes_notice_that_they_hold_different_numbers() -> None:
    told = torch.load(worked_together() / "numbers1.pt", weights_only=True)["told"]
    assert told == {"same": True, "other": False}


def test_two_processes_rate_several_labels_and_numbers_as_one_does() -> None:
    whole = rated(Ranks())
    for rank in range(2):
        found = torch.load(worked_together() / f"numbers{rank}.pt", weights_only=True)["rated"]
        assert found.keys() == whole.keys()
        for kind, values in whole.items():
            assert found[kind] == pytest.approx(values, rel=1e-12), kind


@pytest.mark.parametrize("name", ["two", "one-two"])
def test_two_processes_end_with_the_gates_of_one(one: Path, name: str) -> None:
    run = worked_together() / name
    expected, found = Gates.load(one), Gates.load(run)
    moved = [abs(g - 0.5) for cell in expected.values for row in cell for g in row]
    apart = [
        abs(a - b)
        for cells in zip(expected.values, found.values, strict=True)
        for rows in zip(*cells, strict=True)
        for a, b in zip(*rows, strict=True)
    ]
    assert max(moved) > 0.02
    assert max(apart) < 0.01 * max(moved)
    records = [r for r in numbers_of(run) if r["stage"] == "search" and r["kind"] == "epoch"]
    for record, like in zip(records, RunFolder.open(one).metrics("search", "epoch"), strict=True):
        assert record["search_accuracy"] == like["search_accuracy"]
        for key in ("search_loss", "train_loss", "marginal"):
            assert record[key] == pytest.approx(like[key], abs=1e-3), key


def test_ctrl_c_in_a_search_stops_both_after_a_checkpoint_and_one_goes_on(one: Path) -> None:
    folder = worked_together()
    assert [c["two-one"] for c in codes(folder)] == [130, 0]  # rank 0 says it for both
    run = folder / "two-one"
    checkpoint = RunFolder.open(run).load_checkpoint("search")
    assert checkpoint is not None
    assert (checkpoint["epoch"], checkpoint["step"]) == (2, 1)
    assert (
        f"ddarts: stopped at epoch 2, step 3; resume with: ddarts run --resume {run}"
        in (folder / "stderr.txt").read_text()
    )
    assert main(["run", "--resume", str(run), "--quiet"]) == 0
    apart = torch.tensor(Gates.load(run).values) - torch.tensor(Gates.load(one).values)
    assert apart.abs().max() < 1e-3


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


def test_ctrl_c_in_a_training_stops_both_after_a_checkpoint_and_one_goes_on(one: Path) -> None:
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
