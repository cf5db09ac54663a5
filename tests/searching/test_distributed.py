"""A search by two processes, one of which is killed; tests/end_to_end/test_two_processes.py has the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddarts.runs.folder import RunFolder
from tests.processes import COMMAND, Started
from tests.together import RUN

pytestmark = pytest.mark.slow


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
    before = checkpoint.stat().st_mtime_ns
    alone = Started(COMMAND, "search", "--resume", run, "--devices", "1", "--quiet")
    while alone.status is None and checkpoint.stat().st_mtime_ns == before:
        time.sleep(0.05)
    assert alone.status in (None, 0), alone.err  # it may have come to its end
    alone.send(signal.SIGKILL)
    alone.wait()
    reached = RunFolder.open(run).load_checkpoint("search")
    assert reached is not None
    assert reached["step"] > started["step"]
