"""A search by two processes: the gates of one, checkpoints for any number, one end for all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ddarts.cli.main import main
from ddarts.genotype.gates import Gates
from ddarts.runs.folder import RunFolder
from ddarts.runtime.distributed import Ranks
from tests.together import RUN, codes, float64_alphas, numbers_of, worked_alone, worked_together

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one() -> Path:
    """The run of one process, uninterrupted."""
    return worked_alone()


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


def test_ctrl_c_at_one_process_stops_both_after_a_checkpoint_and_one_goes_on(one: Path) -> None:
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


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return [int(c) for t in tasks.iterdir() for c in (t / "children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds child processes in /proc")
def test_killing_one_process_ends_all_with_one_line_and_the_run_goes_on_alone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    longer = ["search", *RUN[1:11], "--sync-batch-norm", "--quiet", "--cells", "2", "--nodes", "1", "--channels", "2"]
    longer += ["--batch", "16", "--epochs", "2", "--steps-per-epoch", "1000", "--checkpoint-steps", "2"]
    longer += ["--method", "darts", "--no-stop-on-collapse", "--limit", "200"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ddarts", *longer, "--devices", "2", "--out", str(run)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        checkpoint = run / "checkpoints" / "search.pt"
        while process.poll() is None and not checkpoint.exists():
            time.sleep(0.05)
        assert process.poll() is None, process.communicate()[1]
        (child,) = _children(process.pid)
        os.kill(child, signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 2, said
    lines = said.splitlines()
    assert len(lines) == 1, said
    assert lines[0].startswith(
        "ddarts: error: another of the 2 processes has ended or cannot be reached, rank 0 stops too"
    )
    assert lines[0].endswith(f"ddarts search --resume {run}")
    started = RunFolder.open(run).load_checkpoint("search")
    assert started is not None
    alone = subprocess.Popen(
        [sys.executable, "-m", "ddarts", "search", "--resume", str(run), "--devices", "1", "--quiet"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        before = checkpoint.stat().st_mtime_ns
        while alone.poll() is None and checkpoint.stat().st_mtime_ns == before:
            time.sleep(0.05)
        assert alone.poll() in (None, 0), alone.communicate()[1]  # it may have come to its end
    finally:
        alone.kill()
        alone.communicate()
    reached = RunFolder.open(run).load_checkpoint("search")
    assert reached is not None
    assert reached["step"] > started["step"]
