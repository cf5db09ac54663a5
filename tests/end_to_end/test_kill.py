"""Real processes, really killed: the resumed search ends with the very gates of an uninterrupted one."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest

from ddarts.cli.main import main
from ddarts.runs.folder import RunFolder
from tests.processes import Started

pytestmark = pytest.mark.slow

OPTIONS = [
    *("search", "--data", "digits", "--limit", "400", "--seed", "5", "--device", "cpu", "--threads", "1"),
    *("--cells", "2", "--nodes", "1", "--channels", "2", "--batch", "32", "--method", "darts", "--no-stop-on-collapse"),
    *("--epochs", "3", "--steps-per-epoch", "16", "--checkpoint-steps", "3", "--quiet"),
]

#: Sends itself a signal, some seconds after it has written its first checkpoint: every life of the run gets somewhere.
#: A timer in the process itself strikes in the middle of the search, however busy the machine is.
SIGNALLED = """
import os, sys, threading
from ddarts.cli.main import main
from ddarts.runs.folder import RunFolder
number, seconds = int(sys.argv[1]), float(sys.argv[2])
original = RunFolder.save_checkpoint
def save(run, stage, state):
    original(run, stage, state)
    RunFolder.save_checkpoint = original
    threading.Timer(seconds, os.kill, (os.getpid(), number)).start()
RunFolder.save_checkpoint = save
sys.argv = ["ddarts", *sys.argv[3:]]
sys.exit(main())
"""

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


def test_a_search_killed_at_random_moments_ends_with_the_gates_of_an_uninterrupted_one(
    tmp_path: Path, whole: tuple[bytes, list[dict[str, Any]]]
) -> None:
    run, moments = tmp_path / "killed", random.Random(1)
    for life in range(3):
        words = [*OPTIONS, "--out", run] if life == 0 else ["search", "--resume", run, "--quiet"]
        process = Started(SIGNALLED, int(signal.SIGKILL), moments.uniform(0, 0.03), *words)
        assert process.wait() == -signal.SIGKILL, process.err
        assert not (run / "gates.json").exists()
    assert main(["search", "--resume", str(run), "--quiet"]) == 0
    assert products(run) == whole


def test_an_interrupted_search_says_how_to_go_on(tmp_path: Path, whole: tuple[bytes, list[dict[str, Any]]]) -> None:
    run = tmp_path / "run"
    process = Started(SIGNALLED, int(signal.SIGINT), 0.01, *OPTIONS, "--out", run)
    assert process.wait() == 130, process.err
    said = process.err
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
    process = Started(ON_A_FULL_DISK, what, *OPTIONS, *every, "--out", run)
    assert process.wait() == 2, process.err
    said = process.err
    assert len(said.splitlines()) == 1
    assert said.startswith(f"ddarts: error: {run / name}: cannot be written: File too large; free some space")
    assert f"--resume {run}" in said
    checkpoint = RunFolder.open(run).load_checkpoint("search")
    assert checkpoint is not None
    assert (checkpoint["epoch"], checkpoint["step"]) == ((3, 0) if what == "metrics" else (2, 0))
    assert main(["search", "--resume", str(run), "--quiet"]) == 0
    assert products(run) == whole
