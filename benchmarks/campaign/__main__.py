"""Try to break ddarts: kills, signals, full disks, damaged files, many processes, extremes of data.

    python -m benchmarks.campaign --out DIR [--share 0.1] [--only KIND ...] [--minutes M] [--seed S]

Every attempt is seeded and writes a line into DIR/results.jsonl, so the campaign continues where it was stopped. A run
that is disturbed and resumed must end with the very bytes of one that was not; anything else must end with a result or
with one line and status 2, within limits of time and memory. Inputs that fail are kept in DIR/failures. Prints
progress, then a table in Markdown; ends with status 1 if an attempt failed. Figures: docs/reliability.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.campaign import data, disks, guided, kills, processes, readers
from benchmarks.campaign.attempts import Bench, Command
from benchmarks.campaign.samples import READERS

#: Damaged files in a result, and inputs that the fuzzer makes in one.
_BATCH, _BATCHES, _GUIDED = 500, 20, 100_000


class Kind(NamedTuple):
    """A kind of attempt: how many, what one does (bench, number, seed) -> what is wrong, and how many tries it is."""

    count: int
    attempt: Callable[[Bench, int, int], str | list[str] | None]
    tries: int = 1


def _simple(count: int, name: str, function: Callable[..., Any], tries: int = 1, *more: Any) -> Kind:
    return Kind(count, lambda bench, n, seed: function(bench, random.Random(f"{seed} {name} {n}"), *more), tries)


def kinds() -> dict[str, Kind]:
    """Return all kinds of attempts by name."""
    found = {
        "kill -9": _simple(120, "kill -9", kills.kill),  # of three to nine lives of a run
        "other signals": _simple(40, "other signals", kills.other_signal),
        "suspended, with a second process": _simple(30, "suspended", kills.suspended),
        "clock set back": _simple(20, "clock", kills.clock),
        "full disks and inode tables": _simple(50, "full", disks.full),
        "read-only folders": _simple(25, "read-only", disks.read_only),
        "two processes at one run": _simple(30, "two", processes.two_at_one_run),
        "runs started in the same second": _simple(5, "thousand", processes.a_thousand, processes.WAVE),
        "ranks lost, stopped, suspended or late": _simple(30, "ranks", processes.ranks),
    }
    for name in data.EXTREMES:
        found[f"extreme: {name}"] = _simple(3, f"extreme {name}", data.extreme, 1, name)
    for name, reader in READERS.items():
        found[f"damaged: {name}"] = Kind(_BATCHES // reader.slow, partial(_damaged, name), _BATCH)
        if reader.text:
            found[f"guided: {name}"] = Kind(6, partial(guided.inputs, name=name, count=_GUIDED), _GUIDED)
    return found


def _damaged(name: str, bench: Bench, number: int, seed: int) -> list[str]:
    return readers.damaged(bench, name, number, seed, _BATCH)


def main() -> int:
    """Run what is not over, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--share", type=float, default=1.0, help="of the attempts of each kind (default: 1)")
    parser.add_argument("--only", nargs="+", default=[""], help="kinds whose names begin so (default: all)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long (default: never)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    arguments = parser.parse_args()
    os.environ["DDARTS_CACHE"] = "off"
    bench, results = Bench(arguments.out.resolve()), arguments.out / "results.jsonl"
    chosen = {name: kind for name, kind in kinds().items() if name.startswith(tuple(arguments.only))}
    counts = {name: max(round(kind.count * arguments.share), 1) for name, kind in chosen.items()}
    done = [json.loads(line) for line in results.read_text("utf-8").splitlines()] if results.is_file() else []
    over = {(d["kind"], d["number"]) for d in done if d["seed"] == arguments.seed}
    # in turns: whenever the campaign is stopped, every kind has had the same share of its attempts
    turns = sorted((n / counts[name], name, n) for name in counts for n in range(counts[name]))
    todo = [(name, number) for _, name, number in turns if (name, number) not in over]
    bench.prepare()
    start = time.monotonic()
    for position, (name, number) in enumerate(todo):
        passed = time.monotonic() - start
        if passed > 60 * arguments.minutes:
            break
        left = passed / position * (len(todo) - position) / 60 if position else float("nan")
        print(f"{position + 1} of {len(todo)}, {left:.0f} min left: {name} {number}", file=sys.stderr, flush=True)
        shutil.rmtree(bench.place, ignore_errors=True)
        bench.place.mkdir()
        begun, before = time.monotonic(), Command.sent[signal.SIGKILL]
        try:
            wrong = chosen[name].attempt(bench, number, arguments.seed)
        except (AssertionError, OSError) as error:  # of the campaign itself
            wrong = f"{type(error).__name__}: {error}"
        wrong = [wrong] if isinstance(wrong, str) else wrong or []
        record = {"kind": name, "number": number, "seed": arguments.seed, "wrong": wrong}
        record |= {"tries": chosen[name].tries, "kills": Command.sent[signal.SIGKILL] - before}
        done.append(record | {"seconds": round(time.monotonic() - begun, 2)})
        with results.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(done[-1]) + "\n")
        for text in dict.fromkeys(wrong):
            print(f"FAILED {name} {number}: {text}", file=sys.stderr, flush=True)
    return _table([d for d in done if d["seed"] == arguments.seed])


def _table(done: list[dict[str, Any]]) -> int:
    print("| what | tries | failures |\n|---|---|---|")
    for name in dict.fromkeys(d["kind"] for d in done):
        mine = [d for d in done if d["kind"] == name]
        print(f"| {name} | {sum(d['tries'] for d in mine):,} | {sum(len(d['wrong']) for d in mine)} |")
    print(f"\nProcesses that a kill -9 met: {sum(d['kills'] for d in done):,}")
    return 1 if any(d["wrong"] for d in done) else 0


if __name__ == "__main__":
    sys.exit(main())
