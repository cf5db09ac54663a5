"""Search among nested cells with trials, and train what was found as the table's genotypes are: does it beat chance?

    python benchmarks/tables/searches.py cifar10 --images FILE --seeds 10

FILE is the cache that build.py writes (`--cache`). For every seed a Bayesian search (strategy `bayes`) and a random
search (`random`) have 24 trials of 100 steps each, as many steps as six of the table's trainings; they share their
first draws, which are trained once. Trials are scored on the table's validation images. What each chooses is trained
with the table's recipe; that test accuracy is what counts. A third opponent trains six random genotypes with that
recipe and keeps the best by validation: every six lines of the table are one such search. With `--runs DIR` there is
instead the method of the paper, `d-darts` with the settings of the preset `small`: 400 steps of a supernet, which take
about as long; its runs are in DIR, and its lines in cells-NAME-supernets.jsonl, so that both may run at the same time.

Lines of cells-NAME-searches.jsonl: `kind` is `trial` or `found`; `strategies` are those that made the trial or found
the genotype in the search `search`. Run it again to continue. With `--judge` only the verdict is printed.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from beliefs import search as search_supernet
from build import HERE, STEPS, Images, commit, train
from cells import CELLS, NODES, REDUCTIONS, decode, encode

from ddarts.config.strategies import STRATEGIES
from ddarts.experiments.statistics import holm, interval_of_mean, mean, paired_p
from ddarts.genotype.genotype import Genotype
from ddarts.runtime.seeds import derive_seed
from ddarts.searching.strategy import Trial, implementation_of
from ddarts.space.cell_space import build_space

TRIALS, TRIAL_STEPS = 24, 100
#: The searches' settings. Random draws of a search are those of its seed, for all strategies alike.
OPTIONS: dict[str, dict[str, Any]] = {"random": {}, "bayes": {"first": 12}}


class Log:
    """The lines of the file, and trainings that are done once whoever asks for them."""

    def __init__(self, path: Path, images: Images) -> None:
        self.path, self.images, self.version = path, images, commit()
        self.rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def training(self, kind: str, search: int, strategy: str, genotype: str, steps: int) -> dict[str, Any]:
        """Return the line of a training, which is done now if there is none."""
        same = [r for r in self.rows if (r["kind"], r["search"], r["genotype"]) == (kind, search, genotype)]
        if not same:
            about = {"kind": kind, "search": search, "strategies": [strategy], "genotype": genotype}
            row = {**about, "seed": search, "steps": steps, **train(genotype, search, self.images, steps)}
            self.rows.append({**row, "commit": self.version})
            same = [self.rows[-1]]
            print(json.dumps(same[0]), flush=True)
        elif strategy not in same[0]["strategies"]:
            same[0]["strategies"].append(strategy)
        else:
            return same[0]
        new = self.path.with_suffix(".new")
        new.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        new.replace(self.path)
        return same[0]


def run(name: str, search: int, log: Log) -> float:
    """Do one search and the training of what it found; return its test accuracy."""
    space = build_space("darts", cells=CELLS, nodes=NODES, reductions=REDUCTIONS)
    options = STRATEGIES.get(name).model_validate({**OPTIONS[name], "trials": TRIALS, "trial_steps": TRIAL_STEPS})
    strategy = implementation_of(options)(options, space, derive_seed(search, "searches of the table"))
    history = []
    for number in range(TRIALS):
        genotype = strategy.propose(number, random.Random(derive_seed(search, "propose", number)))
        assert isinstance(genotype, Genotype)
        row = log.training("trial", search, name, encode(genotype), TRIAL_STEPS)
        trial = Trial(number, decode(row["genotype"]), row["val"], TRIAL_STEPS)
        strategy.feedback(trial)
        history.append(trial)
    chosen = max(history, key=strategy.value).genotype
    assert isinstance(chosen, Genotype)
    return float(log.training("found", search, name, encode(chosen), STEPS)["test"])


def run_supernet(name: str, search: int, log: Log, runs: Path) -> float:
    """Do one search of a supernet and the training of what it found; return its test accuracy."""
    outcome = search_supernet(name, log.images, runs / f"{name}-{search}", search)[-1]
    assert isinstance(outcome.genotype, Genotype)
    return float(log.training("found", search, "d-darts", encode(outcome.genotype), STEPS)["test"])


def judge(rows: list[dict[str, Any]], table: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare the strategies' found genotypes by test accuracy, pair by pair, and with the table."""
    found = {
        name: {r["search"]: r for r in rows if r["kind"] == "found" and name in r["strategies"]}
        for name in (*OPTIONS, "d-darts")
    }
    seeds = sorted(set(found["bayes"]) & set(found["random"]))
    drawn = [row for row in table if row["kind"] == "random" and row["seed"] == 0]
    sixes = [drawn[6 * s : 6 * s + 6] for s in seeds if len(drawn) >= 6 * s + 6]
    values = {name: [found[name][s]["test"] for s in seeds] for name in OPTIONS}
    values["best of six trainings"] = [max(six, key=lambda row: row["val"])["test"] for six in sixes]
    result: dict[str, Any] = {"pairs": len(seeds), "random genotypes": {"mean": mean([r["test"] for r in drawn])}}
    ours = {"best of six trainings": values["bayes"][: len(sixes)], "random": values["bayes"]}
    if both := sorted(set(found["bayes"]) & set(found["d-darts"])):
        values["d-darts"], ours["d-darts"] = ([found[n][s]["test"] for s in both] for n in ("d-darts", "bayes"))
    p_values = [paired_p(mine, values[other]) if len(mine) > 1 else 1.0 for other, mine in ours.items()]
    for name, p in zip(("bayes", *ours), (None, *holm(p_values)), strict=True):
        result[name] = {
            "searches": len(values[name]),
            "mean": mean(values[name]),
            "interval": interval_of_mean(values[name]),
            "p against bayes": p,
        }
    shares = []
    for s in seeds:
        one = found["bayes"][s]
        alike = [r["test"] for r in drawn if abs(r["parameters"] / one["parameters"] - 1) <= 0.1]
        shares.append(sum(t < one["test"] for t in alike) / len(alike) if alike else None)
    result["bayes"]["share of random ones of its size below it"] = shares
    result["bayes"]["share of all random ones below it"] = [
        sum(r["test"] < found["bayes"][s]["test"] for r in drawn) / len(drawn) for s in seeds
    ]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the table: cells-NAME.jsonl")
    parser.add_argument("--images", type=Path, help="cache of build.py")
    parser.add_argument("--seeds", type=int, default=10, help="searches of each strategy")
    parser.add_argument("--hours", type=float, default=1e6, help="begin no search after so many")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the tables")
    parser.add_argument("--runs", type=Path, help="folder for runs of d-darts; without it there are none")
    parser.add_argument("--judge", action="store_true", help="only compare what is there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    paths = [args.out / f"cells-{args.name}-{word}.jsonl" for word in ("searches", "supernets")]
    if not args.judge:
        log = Log(paths[args.runs is not None], Images("", args.images))
        until = time.time() + 3600 * args.hours
        for search in range(args.seeds):
            for name in OPTIONS if args.runs is None else ():
                if time.time() < until:
                    run(name, search, log)
            if args.runs is not None and time.time() < until:
                run_supernet(args.name, search, log, args.runs)
    searches, supernets, table = (
        [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        for path in (*paths, args.out / f"cells-{args.name}.jsonl")
    )
    print(json.dumps(judge([*searches, *supernets], table), indent=1))


if __name__ == "__main__":
    main()
