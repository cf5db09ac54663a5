"""Damaged files of every kind through their readers, each input with limits of time and of memory.

Thousands of inputs share a process that is forked. The number of the input at work lies in memory that the parent
shares, so that one that ends the process is known, counted as a failure, and skipped.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import resource
import shutil
import signal
import traceback
from pathlib import Path

from benchmarks.campaign.attempts import Bench, damage, fork
from benchmarks.campaign.samples import READERS, Reader

CPU_S, WALL_S = 5.0, 30.0  # of an input; the machine may do other work
MORE_BYTES = 2**30


def judge(reader: Reader, folder: Path) -> str | None:
    """Read a folder with a damaged file; return what is wrong: only a result, or one line of ddarts' own, is right."""
    from ddarts.errors import DDartsError

    try:
        reader.read(folder)
    except DDartsError as error:
        text = str(error)
        return None if text and text.isprintable() else f"not one line: {text[:200]!r}"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        inner = [f for f in traceback.extract_tb(error.__traceback__) if "/ddarts/" in f.filename][-1:]
        at = " < ".join(f"{os.path.basename(f.filename)}:{f.lineno}" for f in [place, *inner])
        return f"{type(error).__name__} at {at}: {' '.join(str(error).split())[:200]}"
    return "the damage was not noticed" if reader.must_notice else None


def make(name: str, bench: Bench) -> Path:
    """Return a folder of whole files of a kind, made once."""
    folder = bench.out / "samples" / name
    if not folder.exists():
        beside = folder.with_name(f".{name}")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        reader = READERS[name]
        for other in ("run", "train", "study", "compare", "export"):
            bench.reference(other)

        def work() -> int:
            reader.make(beside, bench)
            reader.read(beside)
            return 0

        status = os.waitpid(fork(work, bench.said), 0)[1]
        assert status == 0, f"{name}: {bench.said.read_text()}"
        beside.rename(folder)
    return folder


def damaged(bench: Bench, name: str, number: int, seed: int, count: int) -> list[str]:
    """Damage files of a kind `count` times, each in the same way for the same seed; return what was wrong."""
    work = Path("/dev/shm" if os.path.isdir("/dev/shm") else bench.out) / f"ddarts-campaign-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(make(name, bench), work)
    shared, failures, first = mmap.mmap(-1, 8), bench.out / "failures.jsonl", 0
    reader = READERS[name]

    def child() -> int:
        paths = [path for pattern in reader.files for path in sorted(work.glob(pattern))]
        contents = [path.read_bytes() for path in paths]
        for i in range(first, count):
            shared[:8] = i.to_bytes(8, "little")
            signal.setitimer(signal.ITIMER_PROF, CPU_S)
            signal.setitimer(signal.ITIMER_REAL, WALL_S)
            path, content = paths[i % len(paths)], contents[i % len(paths)]
            path.write_bytes(damage(content, random.Random(f"{seed} {name} {number} {i}")))
            wrong = judge(reader, work)
            if wrong:
                keep(bench.out, name, path, wrong, (number, i))
            path.write_bytes(content)
        return 0

    before = failures.stat().st_size if failures.exists() else 0
    while first < count:
        pid = fork(child, bench.said, memory=virtual_bytes() + MORE_BYTES)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status == 0:
            break
        at = int.from_bytes(shared[:8], "little")
        hint = " (too long)" if -status in (signal.SIGPROF, signal.SIGALRM) else ""
        keep(bench.out, name, work, f"ended the process: status {status}{hint}: {_tail(bench.said)}", (number, at))
        shutil.rmtree(work)
        shutil.copytree(make(name, bench), work)
        first = at + 1
    shutil.rmtree(work, ignore_errors=True)
    if not failures.exists():
        return []
    return [json.loads(line)["wrong"] for line in failures.read_bytes()[before:].decode().splitlines()]


def keep(out: Path, name: str, path: Path, wrong: str, which: tuple[int, int]) -> None:
    """Write a failure down, with the input."""
    record = {"reader": name, "wrong": wrong, "file": path.name, "which": which}
    if path.is_file():
        stored = out / "failures" / f"{name}-{which[0]}-{which[1]}{path.suffix}".replace(" ", "-")
        stored.parent.mkdir(exist_ok=True)
        if len(list(stored.parent.iterdir())) < 1000:
            shutil.copy(path, stored)
            record["input"] = stored.name
    with (out / "failures.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record) + "\n")


def virtual_bytes() -> int:
    """Return the address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _tail(path: Path) -> str:
    return path.read_text("utf-8", "replace")[-300:] if path.exists() else ""
