"""Black-box strategies with a table in place of trainings: what so many queries find, against random search.

    python -m benchmarks.tables.queries --tables DIR

Every strategy proposes genotypes of NAS-Bench-201 and NAS-Bench-Macro, and the table answers each with its accuracy, as
if it had been trained: 50 queries cost as much as 50 trainings, for every strategy alike. In NAS-Bench-Macro there is
also one search for each of 20 budgets of multiply-adds from 20 to 90 M: a proposal above the budget is replaced by the
architecture that keeps it and shares most choices with it. `best of random` is the mean best of as many uniform draws
among the architectures that keep the budget.
Seeds are pairs; p-values are those of exact sign-flip tests against random search, corrected by Holm over a space's
strategies. Options of a strategy were chosen on NAS-Bench-201; NAS-Bench-Macro was used for the report alone.

About ten minutes on one core; results/queries.json is written at the end.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables.spaces import BENCH201, MACRO, Table
from ddarts.config.strategies import STRATEGIES
from ddarts.experiments.statistics import holm, interval_of_mean, mean, paired_p
from ddarts.genotype.choices import AnyGenotype, ChoiceGenotype
from ddarts.runtime.seeds import derive_seed
from ddarts.searching.strategy import Trial, implementation_of

BUDGETS = [20e6 + 70e6 * i / 19 for i in range(20)]
#: Settings of each strategy for searches of 50 queries.
OPTIONS: dict[str, dict[str, Any]] = {"random": {}, "evolution": {"population": 10, "tournament": 3}, "bayes": {}}


def fitted(table: Table, budget: float) -> Callable[[AnyGenotype], AnyGenotype]:
    """Return what turns an architecture into the one that keeps the budget and shares most choices with it."""
    possible = sorted(digits for digits, row in table.rows.items() if row.macs <= budget)
    choices = np.array([[int(digit) for digit in digits] for digits in possible])

    @functools.cache
    def nearest(genotype: AnyGenotype) -> AnyGenotype:
        assert isinstance(genotype, ChoiceGenotype)
        if table.lookup(genotype).macs <= budget:
            return genotype
        return table.genotype(possible[int((choices == genotype.indices).sum(1).argmax())])

    return nearest


def search(
    name: str,
    table: Table,
    seed: int,
    queries: int,
    budget: float | None = None,
    ranked: Sequence[AnyGenotype] | None = None,
) -> ChoiceGenotype:
    """Return what a strategy chooses after so many queries; `ranked` is what the first half of them are, if given."""
    first = {} if ranked is None else {"first": max(-(-queries // 2), 2)}
    options = STRATEGIES.get(name).model_validate(OPTIONS[name] | first)
    strategy = implementation_of(options)(options, table.space, seed)
    if ranked is not None:
        strategy.draw = lambda number: ranked[number % len(ranked)]
    if budget is not None:
        strategy.fitted = fitted(table, budget)
    history = []
    for number in range(queries):
        genotype = strategy.propose(number, random.Random(derive_seed(seed, "propose", number)))
        trial = Trial(number, genotype, table.lookup(genotype).accuracy / 100, 1)
        strategy.feedback(trial)
        history.append(trial)
    return max(history, key=strategy.value).genotype


def compare(found: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Return mean, interval, worst and the corrected p-value against random search of each strategy's accuracies."""
    others = [name for name in found if name != "random"]
    p_values = dict(zip(others, holm([paired_p(found[name], found["random"]) for name in others]), strict=True))
    return {
        name: {
            "mean": mean(values),
            "interval": interval_of_mean(values),
            "worst": min(values),
            "p": p_values.get(name),
        }
        for name, values in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, required=True, help="folder of the CSV files (see spaces.py)")
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "queries.json")
    args = parser.parse_args()
    result: dict[str, Any] = {"queries": args.queries, "seeds": args.seeds}
    for space in (BENCH201, MACRO):
        table = Table.load(space, args.tables)
        chosen = {name: [search(name, table, seed, args.queries) for seed in range(args.seeds)] for name in OPTIONS}
        result[space.name] = compare({n: [table.lookup(g).accuracy for g in gs] for n, gs in chosen.items()})
        for name, genotypes in chosen.items():
            result[space.name][name]["ranks"] = [table.rank(genotype) for genotype in genotypes]
        print(space.name, json.dumps(result[space.name]), flush=True)
    table = Table.load(MACRO, args.tables)
    rows = []
    for budget in BUDGETS:
        best = table.lookup(table.best(budget)).accuracy
        possible = [row.accuracy for row in table.rows.values() if row.macs <= budget]
        draw = random.Random(derive_seed(0, "opponents"))
        chance = mean([max(draw.choices(possible, k=args.queries)) for _ in range(1000)])
        found = {
            name: [table.lookup(search(name, table, seed, args.queries, budget)).accuracy for seed in range(args.seeds)]
            for name in OPTIONS
        }
        rows.append({"budget": budget, "best": best, "best of random": chance, **found})
        print(f"{budget / 1e6:.1f} M: best {best:.2f}", {n: round(mean(v), 2) for n, v in found.items()}, flush=True)
    regrets = {n: [mean([r["best"] - r[n][s] for r in rows]) for s in range(args.seeds)] for n in OPTIONS}
    result["budgets"] = {
        "rows": rows,
        "mean_regret": {name: mean(values) for name, values in regrets.items()},
        "compared": compare({name: [-value for value in values] for name, values in regrets.items()}),
        "above_best_of_random": {
            n: [sum(r[n][s] > r["best of random"] for r in rows) for s in range(args.seeds)] for n in OPTIONS
        },
    }
    print(json.dumps({name: value for name, value in result["budgets"].items() if name != "rows"}), flush=True)
    args.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
