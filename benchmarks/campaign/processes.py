"""Many processes: two at one run, a thousand runs in the same second, and ranks that are lost, stopped or late."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.campaign.attempts import COMMANDS, LONGEST_S, TINY, Bench, Command, one_line, options, stopped

#: Processes at once of the thousand; each takes about 70 MB for itself, and a thousand at once have no room in 24 GB.
WAVE = 200


def two_at_one_run(bench: Bench, moments: random.Random) -> str | None:
    """Start or resume a run in two processes at once: one does it, the other says one line."""
    name = moments.choice([n for n in COMMANDS if n != "export"])
    words = [*bench.words(name), "--out", str(bench.work)]
    bench.reference(name)
    if moments.random() < 0.5:
        command = bench.command(*words)
        command.wait(moments.random() * bench.seconds[name])
        command.send(signal.SIGKILL)
        command.end()
        if (bench.work / "settings.yaml").is_file():
            words = [name, "--resume", str(bench.work), "--quiet"]
    pair = [bench.command(*words, said=bench.out / f"said{i}.txt") for i in range(2)]
    ends = [command.end() for command in pair]
    wrong = next(filter(None, (one_line(*end) for end in ends)), None)
    if wrong is None and words[1] != "--resume" and all(status for status, _ in ends):
        wrong = f"neither has done it: {ends}"
    return f"{name}: {wrong}" if wrong else bench.completed(name, bench.work)


def _make_images(folder: Path) -> None:
    """Write a data set that is large enough for the cache of decoded images."""
    import numpy as np

    folder.mkdir(parents=True)
    for prefix, count in (("train", 2000), ("t10k", 20)):
        pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 2
        for array, kind in ((pixels, "images-idx3"), (labels, "labels-idx1")):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / f"{prefix}-{kind}-ubyte").write_bytes(head + array.tobytes())


def a_thousand(bench: Bench, moments: random.Random, count: int = WAVE) -> str | None:
    """Start many runs, none with --out, in the same second with one cache; all have a folder and the same gates."""
    _make_images(bench.place / "images")
    read, write = os.pipe()

    def wait_for_all() -> None:
        """Wait until this process, the only one with the writing end then, closes it."""
        os.close(write)
        os.read(read, 1)

    words = ["search", "--data", "./images", "--device", "cpu", "--threads", "1", "--quiet"]
    words += options({"cells": 2, "nodes": 1, "channels": 2, "epochs": 1, "batch": 8, "steps-per-epoch": 1})
    how: dict[str, Any] = {"folder": bench.place, "environment": {"DDARTS_CACHE": str(bench.place / "cache")}}
    commands = [bench.command(*words, said=bench.place / f"{i}.txt", before=wait_for_all, **how) for i in range(count)]
    os.close(write)
    ends = [command.end(4 * LONGEST_S) for command in commands]
    os.close(read)
    wrong = next((f"status {status}: {said[-600:]}" for status, said in ends if status), None)
    runs = list((bench.place / "runs").iterdir())
    gates = {(run / "gates.json").read_bytes() for run in runs if (run / "gates.json").is_file()}
    if wrong or len(runs) != count or len(gates) != 1:
        return f"{len(runs)} folders and {len(gates)} different gates of {count} runs: {wrong}"
    entries = [path.name for path in (bench.place / "cache").iterdir()]
    return None if len(entries) == 1 and not entries[0].startswith(".") else f"cache: {entries}"


_RANKS = ["run", *TINY, "--sync-batch-norm", "--derive.method", "darts", "--search.no-stop-on-collapse"]
_RANKS += options({"cells": 2, "nodes": 1, "channels": 2, "epochs": 2, "batch": 12, "checkpoint-steps": 1}, "search.")
_RANKS += options({"channels": 2, "epochs": 2, "batch": 12, "checkpoint-steps": 1, "policy": "none"}, "train.")


def start_ranks(bench: Bench, size: int, *words: object, before: Callable[[int], None] | None = None) -> list[Command]:
    """Start a command as torchrun does, one process for each rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": str(port)}
    sizes = {
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    commands = []
    for rank in range(size):
        one = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        late = None if before is None else (lambda rank=rank: before(rank))
        said = bench.out / f"rank{rank}.txt"
        commands.append(bench.command(*words, said=said, environment={**common, **sizes, **one}, before=late))
    return commands


def ranks(bench: Bench, moments: random.Random) -> str | None:
    """Lose, stop, suspend or delay one of two or three processes, then resume with 1, 2 or 3."""
    size, what = moments.choice([2, 3]), moments.choice(["lost", "stopped", "suspended", "late"])
    victim, delay = moments.randrange(size), moments.uniform(0.5, 4)
    late = (lambda rank: time.sleep(delay if rank == victim else 0)) if what == "late" else None
    commands = start_ranks(bench, size, *_RANKS, "--out", bench.work, before=late)
    commands[victim].wait(moments.uniform(0.2, 1.0) * 2 * bench.seconds.get("run", 4))
    if what != "late":
        number = {"lost": signal.SIGKILL, "stopped": signal.SIGTERM, "suspended": signal.SIGSTOP}[what]
        commands[victim].send(number)
        if what == "suspended":
            time.sleep(delay)
            commands[victim].send(signal.SIGCONT)
    if what == "lost":  # one that waits for it to join is stopped, as torchrun does
        for command in commands:
            if command.wait(LONGEST_S / 10) is None:
                command.send(signal.SIGTERM)
    ends = [command.end() for command in commands]
    told = f"{size} ranks, rank {victim} {what}: {[(status, said[-300:]) for status, said in ends]}"
    for rank, end in enumerate(ends):
        if what in ("late", "suspended"):
            if end[0]:
                return told
        elif rank == victim:
            if stopped(*end, signal.SIGKILL if what == "lost" else signal.SIGTERM):
                return told
        elif end[0] not in (0, 2, 130, -signal.SIGTERM) or "Traceback" in end[1]:
            return told
    # rank 0 holds the store by which the processes agree who speaks: with it lost, all may
    if sum(said.count("ddarts: ") > 0 for _, said in ends) > 1 and what != "stopped" and (what, victim) != ("lost", 0):
        return f"more than one process speaks: {told}"
    return _resumed(bench, moments.choice([1, 2, 3]), told)


def _resumed(bench: Bench, size: int, told: str) -> str | None:
    there = (bench.work / "settings.yaml").is_file()
    words = ["run", "--resume", bench.work, "--quiet"] if there else [*_RANKS, "--out", bench.work]
    ends = [command.end() for command in start_ranks(bench, size, *words)]
    if there and any("was not made by" in said for _, said in ends):
        ends = [command.end() for command in start_ranks(bench, size, *_RANKS, "--out", bench.work, "--overwrite")]
    if any(status for status, _ in ends):
        return f"resumed by {size}: {ends} ({told})"
    return _far_from_one(bench, size)


def _far_from_one(bench: Bench, size: int) -> str | None:
    """Return whether gates or weights are far from those of one process: sums in another order differ in rounding."""
    import torch
    from safetensors.torch import load_file

    from ddarts.genotype.gates import Gates

    one = bench.whole / "ranks" / "run"
    if "ranks" not in bench.seconds:
        shutil.rmtree(one, ignore_errors=True)
        assert bench.command(*_RANKS, "--out", one).end()[0] == 0
        bench.seconds["ranks"] = 0.0
    pairs = [[torch.tensor(Gates.load(run).values) for run in (one, bench.work)]]
    weights = [load_file(run / "model" / "model.safetensors") for run in (one, bench.work)]
    if weights[0].keys() == weights[1].keys():
        pairs += [[state[name].float() for state in weights] for name in weights[0]]
    worst = max(float((a - b).abs().max()) for a, b in pairs)
    return None if worst < 0.02 else f"by {size} ranks, {worst:.3g} from the numbers of one process"
