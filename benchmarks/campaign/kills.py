"""Kills, every signal, suspended processes and clocks that are set back, at random instants of every long command."""

from __future__ import annotations

import random
import shutil
import signal
import time
from functools import partial
from pathlib import Path

from benchmarks.campaign.attempts import COMMANDS, Bench, one_line, stopped

#: What a user, a terminal, a batch system or the kernel sends.
SIGNALS = tuple(
    getattr(signal, f"SIG{name}")
    for name in ["INT", "TERM", "HUP", "QUIT", "XCPU", "USR1", "USR2", "ALRM", "ABRT", "SEGV", "BUS", "VTALRM"]
)


def _started(bench: Bench, name: str, moments: random.Random) -> tuple[list[str], bool]:
    """Return the words of a command, and whether it begins by deleting a whole run."""
    words = [*bench.words(name), "--out", str(bench.work)]
    overwrites = moments.random() < 0.3
    if overwrites:
        shutil.copytree(bench.reference(name), bench.work)
        words.append("--overwrite")
    bench.reference(name)
    return words, overwrites


def _resumes(name: str, run: Path, life: int, overwrites: bool) -> bool:
    return life > 0 and not overwrites and name != "export" and (run / "settings.yaml").is_file()


def lives(bench: Bench, moments: random.Random, numbers: tuple[int, ...], name: str | None = None) -> str | None:
    """Send a signal to a command at a random instant, then to its resumes; compare the bytes at the end."""
    name = name or moments.choice(list(COMMANDS))
    words, overwrites = _started(bench, name, moments)
    for life in range(moments.randint(3, 9)):
        number, fresh = moments.choice(numbers), moments.random() < 0.1
        again = (name, "--resume", bench.work, "--quiet") if _resumes(name, bench.work, life, overwrites) else words
        if name == "export" and life > 0:  # what a kill has left is replaced
            again = [*bench.words(name), "--out", bench.work, "--overwrite"]
        command = bench.command(*again, fresh=fresh)
        # while it deletes and makes a new run, which is soon over, or at any time; a new interpreter imports first
        latest = 0.2 if overwrites and moments.random() < 0.5 else min(bench.seconds[name], 2.0)  # lives add up
        command.wait(moments.random() * (latest + 5.0 * fresh))
        command.send(number)
        wrong = stopped(*command.end(), number)
        if wrong:
            return f"{name}, life {life}: {wrong}"
    return bench.completed(name, bench.work)


def kill(bench: Bench, moments: random.Random) -> str | None:
    """Kill with -9."""
    return lives(bench, moments, (signal.SIGKILL,))


def other_signal(bench: Bench, moments: random.Random) -> str | None:
    """Send another signal that ends a process."""
    return lives(bench, moments, SIGNALS)


def suspended(bench: Bench, moments: random.Random) -> str | None:
    """Suspend a command, let a second process resume its run meanwhile, and let the first continue."""
    name = moments.choice([n for n in COMMANDS if n != "export"])
    words, _ = _started(bench, name, moments)
    first = bench.command(*words)
    first.wait(moments.random() * bench.seconds[name])
    first.send(signal.SIGSTOP)
    second = bench.command(name, "--resume", bench.work, "--quiet", said=bench.out / "second.txt")
    wrong = one_line(*second.end())
    first.send(signal.SIGCONT)
    wrong = wrong or one_line(*first.end())
    return f"{name}: {wrong}" if wrong else bench.completed(name, bench.work)


def set_back(moment: float, seconds: float) -> None:
    """Let the clock of this process be set back after a moment. Times of files are the kernel's and stay true."""
    real, start = time.time, time.monotonic()

    def earlier() -> float:
        return real() - seconds * (time.monotonic() - start > moment)

    time.time, time.time_ns = earlier, lambda: int(earlier() * 1e9)


def clock(bench: Bench, moments: random.Random) -> str | None:
    """Set the clock back while a command runs, kill it, and set it back further while it resumes."""
    name = moments.choice(list(COMMANDS))
    words, _ = _started(bench, name, moments)
    moment, seconds = moments.random() * bench.seconds[name], moments.choice([1, 3600, 86_400 * 400, 1.7e9])
    command = bench.command(*words, before=partial(set_back, moment, seconds))
    if moments.random() < 0.5:
        command.wait((1 + moments.random()) / 2 * bench.seconds[name])
        command.send(signal.SIGKILL)
    wrong = stopped(*command.end(), signal.SIGKILL)
    return f"{name}: {wrong}" if wrong else bench.completed(name, bench.work, before=partial(set_back, 0, 2 * seconds))
