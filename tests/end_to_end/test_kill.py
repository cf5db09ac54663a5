"""Real processes, really killed: the resumed search ends with the very gates of an uninterrupted one."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ddarts.cli.main import main
from ddarts.runs.folder import RunFolder

pytestmark = pytest.mark.slow

OPTIONS = [
    *("search", "--data", "digits", "--limit", "400", "--seed", "5", "--device", "cpu", "--threads", "1"),
    *("--cells", "2", "--nodes", "1", "--channels", "2", "--batch", "32", "--method", "darts", "--no-stop-on-collapse"),
    *("--epochs", "14", "--steps-per-epoch", "20", "--checkpoint-steps", "3", "--quiet"),
]

#: Lets the disk be full for a file of a given kind after the second checkpoint: for a checkpoint at once, or for the
#: metrics when they grow.
ON_A_FULL_DISK = """
import resource, sys
from ddarts.cli.main import main
from ddarts.runs.folder import RunFolder
original, saved = RunFolder.save_checkpoint, 0
def save(run, stage, state):
    global saved
    original(run, stage, state)
    saved += 1
    if saved == 2:
        room = 10_000 if sys.argv[1] == "checkpoint" else (run.path / "metrics.jsonl").stat().st_size + 50
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
RunFolder.save_checkpoint = save
sys.exit(main(sys.argv[2:]))
"""


def start(*arguments: object, python: tuple[str, ...] = ("-m", "ddarts")) -> subprocess.Popen[str]:
    command = [sys.executable, *python, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def products(run: Path) -> tuple[bytes, list[dict[str, Any]]]:
    """The gates, and the metrics without the seconds that they tell."""
    records = RunFolder.open(run).metrics()
    return (run / "gates.json").read_bytes(), [{k: v for k, v in r.items() if k != "elapsed_s"} for r in records]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[dict[str, Any]]]:
    """What an uninterrupted search makes."""
    path = tmp_path_factory.mktemp("whole") / "run"
    assert main([*OPTIONS, "--out", str(path)]) == 0
    return products(path)


def wait_for_a_new_checkpoint(process: subprocess.Popen[str], run: Path, than: float) -> None:
    """Wait until the process itself has written a checkpoint, so that every life of the run gets somewhere."""
    path = run / "checkpoints" / "search.pt"
    for _ in range(2400):
        if process.poll() is not None or (path.exists() and path.stat().st_mtime > than):
            return
        time.sleep(0.02)
    process.kill()
    raise AssertionError("no checkpoint within a minute")


def test_a_search_killed_at_random_moments_ends_with_the_gates_of_an_uninterrupted_one(
    tmp_path: Path, whole: tuple[bytes, list[dict[str, Any]]]
) -> None:
    run, moments = tmp_path / "killed", random.Random(1)
    for life in range(3):
        before = time.time()
        process = start(*OPTIONS, "--out", run) if life == 0 else start("search", "--resume", run, "--quiet")
        wait_for_a_new_checkpoint(process, run, before)
        time.sleep(moments.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, said
        assert not (run / "gates.json").exists()
    assert main(["search", "--resume", str(run), "--quiet"]) == 0
    assert products(run) == whole


def test_an_interrupted_search_says_how_to_go_on(tmp_path: Path, whole: tuple[bytes, list[dict[str, Any]]]) -> None:
    run = tmp_path / "run"
    process = start(*OPTIONS, "--out", run)
    wait_for_a_new_checkpoint(process, run, 0)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert len(said.splitlines()) == 1
    assert said.startswith("ddarts: stopped at epoch ")
    assert said.endswith(f"resume with: ddarts search --resume {run}\n")
    assert main(["search", "--resume", str(run), "--quiet"]) == 0
    assert products(run) == whole


@pytest.mark.parametrize(("what", "name"), [("checkpoint", "checkpoints/search.pt"), ("metrics", "metrics.jsonl")])
def test_a_full_disk_names_the_file_and_the_run_goes_on_when_there_is_room_again(
    tmp_path: Path, whole: tuple[bytes, list[dict[str, Any]]], what: str, name: str
) -> None:
    run = tmp_path / "run"
    # metrics grow first if checkpoints are written once an epoch
    every = ("--checkpoint-steps", "1000") if what == "metrics" else ()
    process = start(what, *OPTIONS, *every, "--out", run, python=("-c", ON_A_FULL_DISK))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert len(said.splitlines()) == 1
    assert said.startswith(f"ddarts: error: {run / name}: cannot be written: File too large; free some space")
    assert f"--resume {run}" in said
    checkpoint = RunFolder.open(run).load_checkpoint("search")
    assert checkpoint is not None
    assert (checkpoint["epoch"], checkpoint["step"]) == ((3, 0) if what == "metrics" else (2, 0))
    assert main(["search", "--resume", str(run), "--quiet"]) == 0
    assert products(run) == whole
