"""Try to break ddarts: kills at random instants, damaged files in every reader, full disks.

    python benchmarks/campaign.py --out DIR [--kills N] [--files N] [--disks N] [--seed S]

Every attempt is seeded and writes a line into DIR/results.jsonl, so that the campaign continues where it was stopped.
What is expected: a run that is killed and resumed ends with the very bytes of one that was not; a damaged file gives a
result or one line with exit status 2, within limits of time and memory; a full disk is one line, and the run resumes.
Prints a table in Markdown (docs/reliability.md) and ends with status 1 if an attempt failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_LONGEST_S = 600.0
_MOST_BYTES = 8 * 2**30  # of address space, of which PyTorch takes some gigabytes without using them
_TINY = ("--data", "digits", "--limit", "60", "--device", "cpu", "--threads", "1", "--quiet")
_SEARCH = {"cells": 2, "nodes": 1, "channels": 2, "epochs": 2, "batch": 8, "checkpoint-steps": 1}
_TRAIN = {"channels": 2, "epochs": 2, "batch": 8, "checkpoint-steps": 1, "policy": "none", "cutout": 2}


def _options(values: dict[str, object], group: str = "") -> list[str]:
    return [word for name, value in values.items() for word in (f"--{group}{name}", str(value))]


#: For each command: how it starts, and the files whose bytes are compared.
_COMMANDS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "search": (["search", *_TINY, *_options(_SEARCH), "--method", "darts"], ("gates.json", "genotype.json")),
    "train": (["train", "--genotype", "GENOTYPE", *_TINY, *_options(_TRAIN)], ("model/model.safetensors",)),
    "run": (
        ["run", *_TINY, "--derive.method", "darts", *_options(_SEARCH, "search."), *_options(_TRAIN, "train.")],
        ("gates.json", "model/model.safetensors", "test.json"),
    ),
    "compare": (
        ["compare", "GENOTYPE", "--seeds", "2", *_TINY, *_options(_TRAIN)],
        ("trainings/1-seed1/model/model.safetensors",),
    ),
}


def ddarts(
    *words: object, kill_after: float | None = None, file_bytes: int | None = None, number: int = signal.SIGKILL
) -> tuple[int, str]:
    """Run a command in a limited process; return its status (124 after the limit of time) and what it said."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    process = subprocess.Popen(
        [sys.executable, "-m", "ddarts", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        _, said = process.communicate(timeout=_LONGEST_S if kill_after is None else kill_after)
    except subprocess.TimeoutExpired:
        process.send_signal(number if kill_after is not None else signal.SIGKILL)
        _, said = process.communicate()
        return (process.returncode if kill_after is not None else 124), said
    return process.returncode, said


def one_line(status: int, said: str) -> str | None:
    """Return what is wrong with how a command ended: a result, or one line and status 2, is right."""
    lines = [line for line in said.splitlines() if line.startswith("ddarts: ") and "warning" not in line]
    if status == 0 or (status == 2 and len(lines) == 1 and "Traceback" not in said):
        return None
    return f"status {status}: {said[-300:]}"


class Campaign:
    """What all attempts share: whole runs to compare with, made once."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.whole = out / "whole"
        self.seconds: dict[str, float] = {}
        self.whole.mkdir(parents=True, exist_ok=True)

    def reference(self, name: str) -> Path:
        """Return an uninterrupted run of a command."""
        path = self.whole / name
        words, products = _COMMANDS[name]
        if name not in self.seconds:
            shutil.rmtree(path, ignore_errors=True)
            start = time.monotonic()
            status, said = ddarts(*self.words(words), "--out", path)
            assert status == 0, said
            assert all((path / product).is_file() for product in products)
            self.seconds[name] = time.monotonic() - start
        return path

    def words(self, words: list[str]) -> list[str]:
        """Put the genotype of the whole search into a command."""
        return [str(self.reference("search") / "genotype.json") if w == "GENOTYPE" else w for w in words]

    def differs(self, name: str, run: Path) -> str | None:
        """Return which product of a run differs from the uninterrupted one's."""
        for product in _COMMANDS[name][1]:
            if not (run / product).is_file():
                return f"{product} is missing"
            if (run / product).read_bytes() != (self.reference(name) / product).read_bytes():
                return f"{product} differs"
        left = [str(p) for p in run.rglob(".*.tmp")]
        return f"left over: {left}" if left else None

    def killed(self, moments: random.Random) -> str | None:
        """Kill a command again and again, also in its resumes and while it overwrites; compare the bytes at the end."""
        name = moments.choice(list(_COMMANDS))
        self.reference(name)
        run = self.out / "work"
        number = moments.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
        words = [*self.words(_COMMANDS[name][0]), "--out", str(run)]
        if moments.random() < 0.3:
            shutil.copytree(self.reference(name), run)
            words.append("--overwrite")
        for life in range(moments.randint(1, 3)):
            resumes = life > 0 and (run / "settings.yaml").is_file() and "--overwrite" not in words
            moment = moments.uniform(0.3, 1.0) * self.seconds[name]
            status, said = ddarts(
                *((name, "--resume", run, "--quiet") if resumes else words), kill_after=moment, number=number
            )
            # Python ends by SIGINT itself if the interrupt met an import that builds a class from text
            if status not in (0, 2, 130, -number, -signal.SIGINT) or "Traceback" in said:
                return f"{name}: status {status}: {said[-300:]}"
        status, said = ddarts(name, "--resume", run, "--quiet")
        if status == 2 and "was not made by" in said + "was not made by" * (not run.exists()):
            status, said = ddarts(*words[: len(words) - ("--overwrite" in words)], "--overwrite")
        elif status == 2 and ("there is no such run" in said or "holds no run" in said):
            status, said = ddarts(*words)
        return f"{name}: status {status}: {said[-300:]}" if status else self.differs(name, run)

    def full_disk(self, moments: random.Random) -> str | None:
        """Let a run meet a full disk (no file above so many bytes), then resume it with room."""
        name = moments.choice(["search", "train", "run"])
        run = self.out / "work"
        words = [*self.words(_COMMANDS[name][0]), "--out", str(run)]
        status, said = ddarts(*words, file_bytes=moments.choice([0, 500, 3000, 20_000, 60_000]))
        if status and (wrong := one_line(status, said)):
            return f"{name}: {wrong}"
        if status and (run / "settings.yaml").is_file():
            status, said = ddarts(name, "--resume", run, "--quiet")
            if status == 2 and "was not made by" in said:
                status, said = ddarts(*words, "--overwrite")
        elif status:
            shutil.rmtree(run, ignore_errors=True)
            status, said = ddarts(*words)
        return f"{name}: status {status}: {said[-300:]}" if status else self.differs(name, run)

    def damaged(self, moments: random.Random) -> str | None:
        """Damage one file of a whole run (flipped bits, a cut, swapped blocks), then read it by a command."""
        source = self.reference("run")
        run = self.out / "work"
        shutil.copytree(source, run)
        readers: dict[str, Callable[[], tuple[object, ...]]] = {
            "genotype.json": lambda: ("show", run),
            "gates.json": lambda: ("derive", run, "--overwrite"),
            "settings.yaml": lambda: ("run", "--resume", run, "--quiet"),
            "summary.json": lambda: ("run", "--resume", run, "--quiet"),
            "metrics.jsonl": lambda: ("report", run),
            "test.json": lambda: ("report", run),
            "model/config.json": lambda: ("test", run / "model", *_TINY[:2]),
            "model/model.safetensors": lambda: ("test", run / "model", *_TINY[:2]),
            "checkpoints/train.pt": lambda: ("run", "--resume", run, "--quiet"),
        }
        name = moments.choice(list(readers))
        if name.startswith("checkpoints"):  # the training is not over
            shutil.rmtree(run / "model")
        path = run / name
        path.write_bytes(damage(path.read_bytes(), moments))
        status, said = ddarts(*readers[name]())
        wrong = one_line(status, said)
        if wrong is None and status == 0 and name in ("checkpoints/train.pt", "model/model.safetensors"):
            wrong = self.differs("run", run) if name.startswith("checkpoints") else "damaged weights were used"
        return wrong and f"{name}: {wrong}"


def damage(data: bytes, moments: random.Random) -> bytes:
    """Return the bytes with bits flipped, cut off, or with two blocks swapped; never as they were."""
    if not data:
        return b"\0"
    kind, changed = moments.randrange(3), bytearray(data)
    if kind == 0:
        for _ in range(moments.choice([1, 1, 2, 8])):
            changed[moments.randrange(len(data))] ^= 1 << moments.randrange(8)
    elif kind == 1:
        del changed[moments.randrange(len(data)) :]
    else:
        size = moments.randint(1, max(len(data) // 4, 1))
        a, b = (moments.randrange(max(len(data) - size, 1)) for _ in range(2))
        changed[a : a + size], changed[b : b + size] = data[b : b + size], data[a : a + size]
    return bytes(changed) if bytes(changed) != data else damage(data, moments)


def attempts(arguments: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """Yield every attempt as (kind, number), the kinds in turns."""
    counts = {"kill": arguments.kills, "file": arguments.files, "disk": arguments.disks}
    for number in range(max(counts.values())):
        yield from ((kind, number) for kind, count in counts.items() if number < count)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    for name, default in (("kills", 500), ("files", 10_000), ("disks", 50), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default: {default})")
    arguments = parser.parse_args()
    campaign, results = Campaign(arguments.out), arguments.out / "results.jsonl"
    done = [json.loads(line) for line in results.read_text("utf-8").splitlines()] if results.is_file() else []
    over = {(d["kind"], d["number"]) for d in done if d["seed"] == arguments.seed}
    actions = {"kill": campaign.killed, "file": campaign.damaged, "disk": campaign.full_disk}
    for kind, number in attempts(arguments):
        if (kind, number) in over:
            continue
        shutil.rmtree(arguments.out / "work", ignore_errors=True)
        wrong = actions[kind](random.Random(f"{arguments.seed} {kind} {number}"))
        done.append({"kind": kind, "number": number, "seed": arguments.seed, "wrong": wrong})
        with results.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(done[-1]) + "\n")
    names = {"kill": "kills during a run", "file": "damaged files", "disk": "full disks"}
    print("| what | attempts | failures |\n|---|---|---|")
    for kind, name in names.items():
        mine = [d for d in done if d["kind"] == kind and d["seed"] == arguments.seed]
        print(f"| {name} | {len(mine)} | {sum(d['wrong'] is not None for d in mine)} |")
    failures = [d for d in done if d["wrong"] is not None]
    for failure in failures:
        print(failure["kind"], failure["number"], failure["wrong"], file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
