"""Real processes, really killed: the resumed search ends with the very gates of an uninterrupted one."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

OPTIONS = [
    *("--data", "digits", "--cells", "2", "--nodes", "1", "--channels", "2", "--epochs", "6", "--batch", "32"),
    *("--steps-per-epoch", "20", "--method", "darts", "--checkpoint-steps", "3", "--threads", "1", "--seed", "5"),
    *("--device", "cpu", "--no-stop-on-collapse"),
]


def ddarts(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ddarts", "search", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for_a_new_checkpoint(process: subprocess.Popen[str], run: Path, than: float) -> None:
    """Wait until the process itself has written a checkpoint, so that every life of the run gets somewhere."""
    path = run / "checkpoints" / "search.pt"
    for _ in range(1200):
        if process.poll() is not None or (path.exists() and path.stat().st_mtime > than):
            return
        time.sleep(0.05)
    raise AssertionError("no checkpoint within a minute")


def test_a_search_killed_at_random_moments_ends_with_the_gates_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = ddarts(*OPTIONS, "--out", str(tmp_path / "whole"))
    _, said = whole.communicate(timeout=120)
    assert whole.returncode == 0, said
    run, moments, kills = tmp_path / "killed", random.Random(1), 0
    process = ddarts(*OPTIONS, "--out", str(run))
    for _ in range(3):
        wait_for_a_new_checkpoint(process, run, time.time())
        time.sleep(moments.uniform(0, 0.3))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        process = ddarts("--resume", str(run))
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert kills > 0
    assert (run / "gates.json").read_bytes() == (tmp_path / "whole" / "gates.json").read_bytes()
    steps = [line for line in (run / "metrics.jsonl").read_text().splitlines() if '"epoch"' in line]
    assert len(steps) == len((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines())


@pytest.mark.parametrize("number", [signal.SIGINT])
def test_an_interrupted_search_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    process = ddarts(*OPTIONS, "--epochs", "500", "--out", str(run))
    wait_for_a_new_checkpoint(process, run, 0)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert f"ddarts search --resume {run}" in said
    assert "Traceback" not in said
