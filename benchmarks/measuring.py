"""What the benchmarks share: a process for each measurement, the machine, and results written as they come."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from ddarts.kernels.library import describe
from ddarts.runtime.atomic_files import write_text

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


class MeasurementError(Exception):
    """A measurement's process ended without figures."""


def machine() -> dict[str, Any]:
    """Processor, cores that may be used, versions, and how busy the machine is."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    found = {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "ddarts": metadata.version("ddarts"),
        "kernels": describe(),
    }
    return found | load()


def load() -> dict[str, Any]:
    """Processes that wanted a core in the last minute: timings are worth something only if that is about 0."""
    return {"load": round(os.getloadavg()[0], 2)} if hasattr(os, "getloadavg") else {}


def header() -> dict[str, Any]:
    """Where a results file comes from. Of absolute paths in the command only the last part is kept."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    git = ["git", "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # a copy without its history
        commit = "unknown"
    return {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words]),
        "commit": commit,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
    }


def peak_gb(process: int | str = "self") -> float:
    """The largest memory that this process (or another) has held so far, in 10^9 bytes."""
    status = Path(f"/proc/{process}/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith("VmHWM:"):  # of this program alone; ru_maxrss may be that of the one that started it
            return int(line.split()[1]) * 1024 / 1e9
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def stolen_s() -> float:
    """Seconds of processor time that the host of a virtual machine has given to others since it started; else 0."""
    stat = Path("/proc/stat")
    words = stat.read_text().split(maxsplit=9) if stat.exists() else []
    return int(words[8]) / os.sysconf("SC_CLK_TCK") if len(words) > 8 else 0.0


def in_own_process(task: dict[str, Any]) -> dict[str, float]:
    """Start the running script once more with ``--one TASK`` (JSON) and return the figures that it prints (JSON).

    Raises:
        MeasurementError: it failed; the last line that it said is in the message.
    """
    command = [sys.executable, sys.argv[0], "--one", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        why = "out of memory?" if done.returncode == -9 else said[-1][:300]
        raise MeasurementError(f"exit status {done.returncode}: {why}")
    return json.loads(done.stdout.splitlines()[-1])


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    """Median of every figure over the rounds."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a results file in one step, so that a stop leaves the last whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1) + "\n")


def say(text: str) -> None:
    """Tell on stderr what is going on."""
    print(text, file=sys.stderr, flush=True)


def emit(**figures: Any) -> None:
    """Hand figures from the process of a phase to gpu.py."""
    print(json.dumps(figures), flush=True)
