"""How the time of a search step and its peak memory grow: with cells, nodes, channels, batch and resolution.

    python benchmarks/growth.py                                  every axis, about ten minutes
    python benchmarks/growth.py --axes cells batch --rounds 3
    python benchmarks/growth.py --axes cells --cells 4 8 16 32 --variants off gradient-zero-2

One size changes at a time, the others stay at those of the yardstick (8 cells, 4 nodes, C = 16, batch 32, 32x32). Each
measurement runs in a process of its own, so that its peak memory is its own; variants and sizes take turns, round by
round, and medians are printed. Results are written after every measurement.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from measuring import RESULTS, MeasurementError, header, in_own_process, load, medians, save, say
from steps import VARIANTS, Sizes, measure_step

#: The values of each axis; the yardstick's is among them.
AXES = {
    "cells": (4, 8, 16),
    "nodes": (2, 3, 4),
    "channels": (8, 16, 32),
    "batch": (16, 32, 64),
    "resolution": (16, 32, 48),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=tuple(AXES), default=tuple(AXES))
    for axis, values in AXES.items():
        parser.add_argument(f"--{axis}", type=int, nargs="+", default=values, help=f"values of {axis}")
        parser.add_argument(f"--base-{axis}", type=int, help=f"{axis} while another size changes")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=("off", "gradient-zero-2", "monitor-zero"),
        help="uses of the ablations: off, the gradient with two cells drawn a step, all cells watched",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1, help="timed steps a measurement, after two unmeasured")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--out", type=Path, default=RESULTS / "growth.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(task: dict[str, Any]) -> dict[str, float]:
    """What the process of one measurement does."""
    sizes = Sizes(**task["sizes"])
    options = {name: task[name] for name in ("threads", "precision", "steps")}
    return measure_step(task["variant"], sizes, **options)


def main() -> None:
    args = parse()
    if args.one:
        print(json.dumps(measure(json.loads(args.one))))
        return
    base = Sizes(**{axis: getattr(args, f"base_{axis}") or value for axis, value in asdict(Sizes()).items()})
    points = [
        (variant, replace(base, **{axis: value}))
        for axis in args.axes
        for value in getattr(args, axis)
        for variant in args.variants
    ]
    points = list(dict.fromkeys(points))  # the base belongs to every axis and is measured once
    options = {name: getattr(args, name) for name in ("threads", "precision", "steps")}
    rows = [{"variant": variant, "sizes": asdict(sizes), "median": None, "rounds": []} for variant, sizes in points]
    content = header() | {"base": asdict(base), **options, "measurements": rows}
    for number in range(args.rounds):
        for place, row in enumerate(rows):
            say(f"round {number + 1}/{args.rounds}, {place + 1}/{len(rows)}: {row['variant']} {row['sizes']}")
            try:
                found = in_own_process({"variant": row["variant"], "sizes": row["sizes"], **options})
            except MeasurementError as error:  # too large for the memory, most likely: the others are still of use
                row["failed"] = str(error)
                say(f"  {error}")
                save(args.out, content)
                continue
            row["rounds"].append(found | load())
            row["median"] = medians(row["rounds"])
            save(args.out, content)
            say(f"  step {found['step_s']:.2f} s, {found['peak_gb']:.2f} GB")
    for axis in args.axes:
        table(axis, base, rows)
    print(f"written to {args.out}")


def table(axis: str, base: Sizes, rows: list[dict[str, Any]]) -> None:
    fixed = {name: value for name, value in asdict(base).items() if name != axis}
    print(f"\n{axis} ({', '.join(f'{name} {value}' for name, value in fixed.items())})")
    print(f"{axis:>10}  {'variant':18}{'alpha s':>9}{'weight s':>9}{'step s':>9}{'s a cell':>9}{'peak GB':>9}")
    shown = [r for r in rows if all(r["sizes"][name] == value for name, value in fixed.items())]
    for row in sorted(shown, key=lambda r: (r["variant"], r["sizes"][axis])):
        start = f"{row['sizes'][axis]:>10}  {row['variant']:18}"
        if row["median"] is None:
            print(start + f"  not measured: {row.get('failed', 'stopped before')}")
            continue
        figures = row["median"]
        cell_s = figures["step_s"] / row["sizes"]["cells"]
        values = (figures["alpha_s"], figures["weight_s"], figures["step_s"], cell_s, figures["peak_gb"])
        print(start + "".join(f"{value:9.3f}" for value in values))


if __name__ == "__main__":
    main()
