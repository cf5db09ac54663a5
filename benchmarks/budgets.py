"""How much of the tightest budget networks use, over random gates.

python benchmarks/budgets.py --seeds 8
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

from ddarts.cost.budget import Budget
from ddarts.genotype.gates import AnyGates, gates_of
from ddarts.space.cell_space import build_space
from ddarts.space.choice_space import ChoiceSpace
from ddarts.space.mobile import MOBILE

CASES = (
    ("darts, 5 cells", build_space("darts", cells=5, nodes=3), "darts"),
    ("darts, 8 cells, threshold", build_space("darts", cells=8), "threshold_sparse"),
    ("mobile", MOBILE, "darts"),
)
BUDGETS = (
    {"parameters": 20e3},
    {"parameters": 80e3},
    {"parameters": 1e6},
    {"macs": 12.5e6},
    {"parameters": 80e3, "macs": 12.5e6},
    {"size": 100e3},
    {"activations": 256e3},
    {"parameters": 80e3, "macs": 12.5e6, "activations": 1e6, "size": 400e3},
)


def gates_at_random(space: object, seed: int) -> AnyGates:
    """Return gates that are drawn uniformly from 0 to 1."""
    draw = random.Random(seed)
    if isinstance(space, ChoiceSpace):
        return gates_of(space, [[[draw.random() for _ in choice.candidates]] for choice in space.choices])
    shape = range(space.searched_cells)  # type: ignore[attr-defined]
    return gates_of(space, [[[draw.random() for _ in space.operations] for _ in space.edges] for _ in shape])  # type: ignore[attr-defined, arg-type]


def main() -> None:
    """Print a row of a table for every space and budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8, help="random gates for each row")
    seeds = range(parser.parse_args().seeds)
    print("| space | budgets | use, median | least | sum of gates, median | channels | seconds |")
    print("|---|---|---|---|---|---|---|")
    every: list[float] = []
    for name, space, method in CASES:
        for limits in BUDGETS:
            start = time.process_time()
            found = [Budget(limits, (3, 32, 32), 10).fit(gates_at_random(space, seed), method, 0.7) for seed in seeds]
            seconds = (time.process_time() - start) / len(found)
            assert all(f.costs[kind] <= limit for f in found for kind, limit in limits.items())
            uses = [f.use for f in found]
            every += uses
            widths = sorted({f.genotype.size.channels for f in found if f.genotype.size is not None})
            shown = ", ".join(f"{limit:g} {kind}" for kind, limit in limits.items())
            worth = statistics.median(f.worth for f in found)
            width = f"{widths[0]}" if len(widths) == 1 else f"{widths[0]} to {widths[-1]}"
            print(
                f"| {name} | {shown} | {statistics.median(uses):.1%} | {min(uses):.1%} | {worth:.2%} | {width} | "
                f"{seconds:.1f} |",
                flush=True,
            )
    print(f"\nall: median {statistics.median(every):.1%}, least {min(every):.1%}, {len(every)} networks")


if __name__ == "__main__":
    main()
