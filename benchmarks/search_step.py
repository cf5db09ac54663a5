"""Time and memory of one search step: the package against a supernet built in the plainest way, in one run.

    python benchmarks/search_step.py                 8 cells, 4 nodes, C = 16, batch 32, 32x32, float32
    python benchmarks/search_step.py --cells 4 --rounds 1 --no-plain

Each variant runs in a process of its own, so that its peak memory is its own, and the variants take turns, round by
round. After two steps without a clock, one of the plain twin is timed, and the mean of three of the package; printed
are medians.
`ablations` is the alpha step less that of the variant `off`. The last columns tell how near a step comes to what the
machine can do: its floating-point operations, counted, as a share of the rate of a large matrix product, and its bytes,
counted as if no cache held anything between two operations, as a share of the rate at which memory is copied (above
100 % where caches help). The file in benchmarks/results holds every round, the machine, the versions and the command;
it is written after every measurement.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measuring import RESULTS, header, in_own_process, load, medians, save, say
from steps import VARIANTS, Sizes, measure_step

PLAIN = ("plain", "plain-kept")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    Sizes.add_options(parser)
    parser.add_argument("--rounds", type=int, default=3, help="rounds, the variants in turn (plain ones: at most 2)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32", help="of the package's variants")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS[:-1])
    parser.add_argument("--no-plain", action="store_true", help="leave out the plain supernet, which is slow")
    parser.add_argument("--out", type=Path, default=RESULTS / "search_step.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(task: dict[str, Any]) -> dict[str, float]:
    """What the process of one measurement does."""
    what, sizes, precision = task["what"], Sizes(**task["sizes"]), task["precision"]
    if what == "machine":
        return machine_rates(task["threads"], precision)
    if what == "count":
        from counting import count_step

        counted = count_step(task["variant"], sizes, precision).values()
        return {"gflop": sum(c.flop for c in counted) / 1e9, "gbytes": sum(c.bytes for c in counted) / 1e9}
    steps = 1 if task["variant"] in PLAIN else 3
    return measure_step(task["variant"], sizes, threads=task["threads"], precision=precision, steps=steps)


def machine_rates(threads: int, precision: str, side: int = 2048) -> dict[str, float]:
    """The best of ten: GFLOP/s of a product of square matrices in this precision, GB/s read and written by a copy."""
    import torch

    torch.set_num_threads(threads)
    a = torch.randn(side, side, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    source, target = torch.ones(16 * side**2), torch.empty(16 * side**2)

    def best(work: Any) -> float:
        times = []
        for _ in range(10):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        return min(times)

    product, copy = best(lambda: a @ a), best(lambda: target.copy_(source))
    return {"gflops": 2 * side**3 / product / 1e9, "gb_per_s": 2 * source.nbytes / copy / 1e9}


def main() -> None:
    args = parse()
    if args.one:
        print(json.dumps(measure(json.loads(args.one))))
        return
    sizes = asdict(Sizes.of(args))
    variants = [v for v in args.variants if not (args.no_plain and v in PLAIN)]
    shared = {"sizes": sizes, "threads": args.threads, "precision": args.precision}
    content = header() | {"sizes": sizes | {"threads": args.threads, "precision": args.precision}}
    say("the machine's own rates")
    content["rates"] = rates = in_own_process({"what": "machine", **shared})
    content["counted"] = counted = {}
    for variant in variants:
        if variant not in PLAIN:
            say(f"count {variant}")
            counted[variant] = in_own_process({"what": "count", "variant": variant, **shared})
    rounds: dict[str, list[dict[str, float]]] = {v: [] for v in variants}
    content |= {"median": {}, "rounds": rounds}
    for number in range(args.rounds):
        for variant in variants:
            if variant in PLAIN and number >= 2:
                continue
            say(f"round {number + 1}/{args.rounds}: {variant}")
            precision = "float32" if variant in PLAIN else args.precision
            found = in_own_process({"what": "step", "variant": variant, **shared, "precision": precision})
            rounds[variant].append(found | load())
            content["median"] = {v: medians(rows) for v, rows in rounds.items() if rows}
            save(args.out, content)
    table(content["median"], counted, rates)
    print(f"written to {args.out}")


def table(middle: dict[str, dict[str, float]], counted: dict[str, dict[str, float]], rates: dict[str, float]) -> None:
    plain, off = middle.get("plain"), middle.get("off")
    names = ("alpha s", "ablations", "weight s", "step s", "peak GB", "faster", "memory", "GFLOP", "of rate", "of copy")
    print(f"machine: {rates['gflops']:.0f} GFLOP/s matrix product, {rates['gb_per_s']:.1f} GB/s copy")
    print(f"{'variant':18}" + "".join(f"{name:>10}" for name in names))
    for variant, row in middle.items():
        count = counted.get(variant)
        cells = [
            f"{row['alpha_s']:.2f}",
            f"{row['alpha_s'] - off['alpha_s']:.2f}" if off and variant not in ("off", *PLAIN) else "",
            f"{row['weight_s']:.2f}",
            f"{row['step_s']:.2f}",
            f"{row['peak_gb']:.2f}",
            f"{plain['step_s'] / row['step_s']:.1f}" if plain else "",
            f"1/{plain['peak_gb'] / row['peak_gb']:.1f}" if plain else "",
            f"{count['gflop']:.0f}" if count else "",
            f"{100 * count['gflop'] / row['step_s'] / rates['gflops']:.0f} %" if count else "",
            f"{100 * count['gbytes'] / row['step_s'] / rates['gb_per_s']:.0f} %" if count else "",
        ]
        print(f"{variant:18}" + "".join(f"{cell:>10}" for cell in cells))


if __name__ == "__main__":
    main()
