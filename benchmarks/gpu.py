"""Everything to be known about the package on one GPU, by one command, in ten minutes.

    python benchmarks/gpu.py --data DIR                     all phases, on a machine with a GPU
    python benchmarks/gpu.py --phases search derive train --set ablation_sample=2 --minutes 20
    python benchmarks/gpu.py --small                        tiny sizes on the CPU, to see that the script works

Phases, in this order:

device      the GPU, its drivers, and its own rates: matrix product and memory copy
check       the fast supernet against the plain twin: outputs and all gradients, in float64 and float32
time        steps of both, the twin's in float32, the package's in float32 and bf16; memory
waits       lines that make the host wait for the GPU in a step (PyTorch's sync debug mode)
search      the whole search of the preset paper in bf16: 50 epochs of CIFAR-10, through ddarts.search
derive      a genotype of its gates; of those of the last epoch, if the search was stopped
train       the final training of the preset paper in bf16, until its time is over

Only if --phases names them:

compiled    steps with --backend inductor, the first of which takes minutes
graphs      gradients of a step captured as CUDA graphs and replayed

Each phase runs in a process of its own, has a time of its own and is stopped when it is over; a search or training that
is stopped goes on in the next call with the same --work. Figures are written into the results file as they come. One
that fails is noted there, and the next one begins. Every call adds a run to the file; none is ever removed.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from measuring import RESULTS, ROOT, header, save, say

#: Seconds each phase may take; those of the search are what the others leave.
BUDGETS = {"device": 40, "check": 60, "time": 90, "waits": 30, "search": 0, "derive": 20, "train": 60}

#: Phases that do not run unless they are named: whether they pay is not known yet, and they would cost the search time.
TRIALS = {"compiled": 400, "graphs": 120}
_GRACE_S = 30.0  # for a checkpoint, after a phase was told to stop


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("DDARTS_SHARED", ROOT.parent / "shared")) / "data" / "cifar10"
    parser.add_argument("--data", help=f"what --data of ddarts search takes ({shared.parent.parent.name}/data/cifar10)")
    parser.add_argument("--phases", nargs="+", choices=(*BUDGETS, *TRIALS), default=tuple(BUDGETS))
    parser.add_argument("--minutes", type=float, default=10.0, help="for everything")
    parser.add_argument("--budget", nargs="*", default=[], metavar="PHASE=SECONDS", help="for a phase")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the search")
    parser.add_argument("--precision", choices=("bf16", "float32", "fp16"), default="bf16", help="search and training")
    parser.add_argument("--work", type=Path, help="folder of the runs; a new temporary one if not given")
    parser.add_argument("--out", type=Path, help="results file; benchmarks/results/gpu.json, or in --work with --small")
    parser.add_argument("--small", action="store_true", help="tiny sizes and digits, on the CPU")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.data = args.data or ("digits" if args.small else str(shared))
    args.budget = dict(_pair(parser, text) for text in args.budget)
    args.set = dict(_pair(parser, text) for text in args.set)
    try:
        args.budget = BUDGETS | TRIALS | {name: float(seconds) for name, seconds in args.budget.items()}
    except ValueError as error:
        parser.error(f"--budget: {error}")
    if unknown := set(args.budget) - set(BUDGETS) - set(TRIALS):
        parser.error(f"--budget: {', '.join(unknown)} is no phase")
    return args


def _pair(parser: argparse.ArgumentParser, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        parser.error(f"{text!r} is not NAME=VALUE")
    return name.replace("-", "_"), value


class Record:
    """The results file: the runs that it had, and this one, written after every change."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path = path
        try:
            self.runs: list[Any] = json.loads(path.read_text())["runs"] if path.exists() else []
        except (ValueError, LookupError, TypeError):
            sys.exit(f"gpu.py: {path} is no results file of this script; move it away, or name another with --out")
        self.phases: dict[str, dict[str, Any]] = {}
        self.runs.append(about | {"phases": self.phases})
        self.write()

    def write(self) -> None:
        save(self.path, {"runs": self.runs})

    def add(self, phase: str, figures: dict[str, Any]) -> None:
        """Take in figures: lists grow, everything else is replaced."""
        entry = self.phases.setdefault(phase, {})
        for name, value in figures.items():
            entry[name] = [*entry.get(name, []), *value] if isinstance(value, list) else value
        self.write()


def run_phase(phase: str, task: dict[str, Any], budget_s: float, record: Record) -> None:
    """Run one phase in a process of its own until it ends or its time is over."""
    say(f"-- {phase}: at most {budget_s:.0f} s")
    record.add(phase, {"status": "running", "budget_s": round(budget_s, 1)})
    started = time.monotonic()
    command = [sys.executable, __file__, "--one", json.dumps(task | {"phase": phase})]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    stopping: float | None = None
    try:
        while True:
            now = time.monotonic() - started
            if stopping is None and now > budget_s:
                stopping = now
                process.send_signal(signal.SIGTERM)  # a search or training writes a checkpoint first
            elif stopping is not None and now > stopping + _GRACE_S:
                process.kill()
            try:
                line = lines.get(timeout=0.5)
            except queue.Empty:
                continue
            if line is None:
                break
            if line.startswith("{"):
                record.add(phase, json.loads(line))
                say(f"   {line.strip()[:300]}")
    except KeyboardInterrupt:
        process.terminate()
        process.wait(_GRACE_S)
        record.add(phase, {"status": "interrupted", "wall_s": round(time.monotonic() - started, 1)})
        raise
    code = process.wait()
    status = "done" if code == 0 else "failed"
    if stopping is not None or record.phases[phase].get("stopped"):
        status = "out of time"
    record.add(phase, {"status": status, "wall_s": round(time.monotonic() - started, 1)})
    if status == "failed" and "error" not in record.phases[phase]:
        record.add(phase, {"error": f"the process ended with status {code}"})
    say(f"   {status} after {record.phases[phase]['wall_s']} s")


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout as said:
        for line in said:
            lines.put(line)
    lines.put(None)


def main() -> None:
    args = parse()
    if args.one:
        from gpu_phases import run_one

        sys.exit(run_one(json.loads(args.one)))
    started = time.monotonic()
    if not args.small:
        import torch

        if not torch.cuda.is_available():
            sys.exit("gpu.py: torch sees no CUDA GPU on this machine; --small tries the script out on the CPU")
    work = args.work or Path(tempfile.mkdtemp(prefix="ddarts-gpu-"))
    out = args.out or (work / "gpu.json" if args.small else RESULTS / "gpu.json")
    task = {
        "device": "cpu" if args.small else "cuda",
        "small": args.small,
        "data": args.data,
        "work": str(work),
        "precision": "float32" if args.small else args.precision,
        "settings": args.set,
    }
    about = {"precision": task["precision"], "settings": args.set, "minutes": args.minutes, "small": args.small}
    record = Record(out, header() | about)
    for place, phase in enumerate(args.phases):
        left = 60 * args.minutes - (time.monotonic() - started)
        budget = args.budget[phase]
        if budget <= 0:
            budget = left - sum(args.budget[later] for later in args.phases[place + 1 :])
        budget = min(budget, left)
        if budget < 1:
            record.add(phase, {"status": "not measured", "why": "no time was left"})
            continue
        run_phase(phase, task, budget, record)
    say(f"runs are in {work}")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
