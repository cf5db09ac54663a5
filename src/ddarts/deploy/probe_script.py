"""Measure the networks of this folder on this device, and write the table that ddarts predicts latencies from.

python measure.py --threads 1 --out phone.json

Needs Python 3.9, NumPy and onnxruntime, not ddarts. Every network is timed in many rounds, each of which runs several
networks in a new order, and its fastest pass counts: other work on the device can only add time. Rounds make laps;
networks whose fastest passes of two laps differ get further laps. After a stop the same command continues.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import time
from pathlib import Path
from typing import Any

#: Networks that are loaded at once.
CHUNK = 25
#: Timed passes of a network in a round, after one that fills its caches.
PASSES = 2
#: The two fastest laps of a network that is measured well differ by less than this.
STEADY = 0.02
CLOCKS = {"wall": time.perf_counter, "thread": time.thread_time}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Measure the networks of this folder on this device.")
    parser.add_argument("--threads", type=int, default=1, help="threads of onnxruntime (default 1)")
    parser.add_argument("--out", default="latencies.json", help="file to write (default latencies.json)")
    parser.add_argument("--name", help="name of the device (default: its processor)")
    parser.add_argument("--laps", type=int, default=4, help="how often all networks are measured (default 4)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of a lap (default 15)")
    parser.add_argument("--provider", default="CPUExecutionProvider", help="of onnxruntime (default: the CPU's)")
    parser.add_argument(
        "--clock",
        choices=sorted(CLOCKS),
        default="wall",
        help="wall: time that passes; thread: CPU time of the calling thread, on a device that others use too "
        "(default wall)",
    )
    given = parser.parse_args(argv)
    if min(given.threads, given.laps, given.rounds) < 1:
        parser.error("--threads, --laps and --rounds must be at least 1")
    folder = Path(__file__).resolve().parent
    try:
        measure(
            folder,
            Path(given.out),
            threads=given.threads,
            name=given.name or processor(),
            laps=given.laps,
            rounds=given.rounds,
            clock=given.clock,
            provider=given.provider,
        )
    except (OSError, ValueError, ImportError) as error:
        print(f"measure.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command continues", file=sys.stderr)
        return 130
    return 0


def measure(
    folder: Path,
    out: Path,
    *,
    threads: int = 1,
    name: str = "this device",
    laps: int = 4,
    rounds: int = 15,
    clock: str = "wall",
    provider: str = "CPUExecutionProvider",
) -> None:
    """Measure the networks of a probe, and write the table.

    Args:
        folder: the probe.
        out: file to write; what is done until a stop is kept beside it.
        threads: of onnxruntime.
        name: of the device.
        laps: how often all networks are measured; those whose laps differ, up to three times as often.
        rounds: of a lap.
        clock: a key of `CLOCKS`.
        provider: of onnxruntime.

    Raises:
        ValueError: `out` exists, or what is beside it was measured otherwise.
        OSError: a file is missing or cannot be written.
        ImportError: onnxruntime or NumPy is not installed.
    """
    import onnxruntime

    if out.exists():
        raise ValueError(f"{out} exists; name another file with --out")
    probe = json.loads((folder / "probe.json").read_text(encoding="utf-8"))
    networks = [network for network, _ in probe["networks"]]
    how = {
        "probe": probe["id"],
        "device": f"{name}, {threads} thread{'s' * (threads != 1)}",
        "runtime": f"onnxruntime {onnxruntime.__version__}, {provider}",
        "threads": threads,
        "clock": clock,
    }
    part = out.with_name(out.name + ".part")
    done: dict[str, list[float]] = {network: [] for network in networks}
    if part.exists():
        saved = json.loads(part.read_text(encoding="utf-8"))
        if saved["how"] != how:
            raise ValueError(f"{part} was measured otherwise; remove it, or name another file with --out")
        done.update(saved["done"])
    draw = random.Random(0)
    start = time.monotonic()
    for lap in range(3 * laps):
        waiting = [n for n in networks if len(done[n]) <= lap and (lap < laps or not steady(done[n]))]
        draw.shuffle(waiting)
        for first in range(0, len(waiting), CHUNK):
            chunk = waiting[first : first + CHUNK]
            for network, ms in timed(folder, chunk, probe["images"], threads, rounds, clock, provider).items():
                done[network].append(ms)
            write(part, json.dumps({"how": how, "done": done}))
            print(
                f"lap {lap + 1}: {first + len(chunk)} of {len(waiting)} networks, {time.monotonic() - start:.0f} s",
                flush=True,
            )
    rows = [[min(done[network]), *values] for network, values in probe["networks"]]
    table = {
        "format": "ddarts-latencies",
        "version": 2,
        **how,
        "rounds": laps * rounds,
        "operations": probe["operations"],
        "features": probe["features"],
        "networks": rows,
    }
    write(out, json.dumps(table))
    part.unlink()
    restless = sum(not steady(done[network]) for network in networks)
    print(
        f"wrote {out}: {len(rows)} networks, {restless} of which changed by more than {100 * STEADY:.0f} % to the last"
    )


def steady(laps: list[float]) -> bool:
    """Return whether the two fastest laps agree."""
    ordered = sorted(laps)
    return len(ordered) < 2 or ordered[1] <= (1 + STEADY) * ordered[0]


def timed(
    folder: Path, networks: list[str], images: list[int], threads: int, rounds: int, clock: str, provider: str
) -> dict[str, float]:
    """Return the milliseconds of the fastest pass of each network, which take turns."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    sessions: dict[str, Any] = {
        network: onnxruntime.InferenceSession(str(folder / network), options, providers=[provider])
        for network in networks
    }
    x = {"images": np.random.default_rng(0).standard_normal((1, *images), dtype=np.float32)}
    read = CLOCKS[clock]
    order, draw = list(networks), random.Random(0)
    fastest = dict.fromkeys(networks, float("inf"))
    for _ in range(rounds):
        draw.shuffle(order)
        for network in order:
            run = sessions[network].run
            run(None, x)
            for _ in range(PASSES):
                begin = read()
                run(None, x)
                fastest[network] = min(fastest[network], 1000 * (read() - begin))
    return fastest


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.lower().startswith(("model name", "hardware"))]
    return names[0] if names and names[0] else platform.processor() or platform.machine() or "CPU"


def write(path: Path, text: str) -> None:
    """Write a file so that a stop leaves the old one or the new one."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


if __name__ == "__main__":
    sys.exit(main())
