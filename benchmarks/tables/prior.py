"""Do training-free scores pick better networks than chance? Train the best of many draws as the table's are trained.

    python benchmarks/tables/prior.py cifar10 --images FILE

FILE is the cache that build.py writes (`--cache`). Draws `--draws` genotypes that are not in the table, ranks them by
the sum of their ranks in the scores, and trains the best `--keep` of them with the recipe of the table, one line of
cells-NAME-prior.jsonl each; continues where the file ends. Then compares them with the table's random genotypes:
difference of the means with a 95 % bootstrap interval, Welch's test, and the best of k by validation accuracy.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from random import Random
from statistics import mean, stdev
from typing import Any

import torch
from build import CHANNELS, HERE, Images, commit, train
from cells import CELLS, NODES, REDUCTIONS, decode, encode
from scipy.stats import bootstrap, ttest_ind

from ddarts.genotype.random import random_genotype
from ddarts.nn.network import Network
from ddarts.searching.scores import rank_by_scores
from ddarts.space.cell_space import build_space

#: Seed of the first draw; the table's random genotypes have the seeds below.
FIRST = 100_000
#: Resamples of the comparison at equal numbers of trainings.
RESAMPLES = 2000


def ranked_draws(draws: int, scores: list[str], images: Images, batch: int) -> tuple[list[str], float]:
    """Return random genotypes, best first by the scores, and the seconds that the scores took."""
    space = build_space("darts", cells=CELLS, nodes=NODES, reductions=REDUCTIONS)
    drawn = [encode(random_genotype(space, seed=FIRST + index)) for index in range(draws)]
    x = images.normalise(images.validation[0][:batch])

    def network(genotype: str) -> Network:
        torch.manual_seed(0)
        return Network(decode(genotype), channels=CHANNELS, in_channels=x.shape[1], classes=images.classes)

    begun = time.process_time()
    order = rank_by_scores(scores, (network(genotype) for genotype in drawn), x)
    return [drawn[index] for index in order], time.process_time() - begun


def best_of(rows: list[dict[str, Any]], k: int, draw: Random) -> float:
    """Return the mean test accuracy of the best of k networks by validation, over draws without replacement."""
    return mean(max(draw.sample(rows, k), key=lambda row: row["val"])["test"] for _ in range(RESAMPLES))


def compare(chosen: list[dict[str, Any]], table: list[dict[str, Any]]) -> None:
    """Print the comparison of the prior's networks with random ones."""
    found, chance = [row["test"] for row in chosen], [row["test"] for row in table]
    difference = bootstrap((found, chance), lambda a, b, axis: a.mean(axis) - b.mean(axis), rng=0)
    low, high = difference.confidence_interval
    print(f"prior  {len(found):3} networks: test {mean(found):.4f}, standard deviation {stdev(found):.4f}")
    print(f"random {len(chance):3} networks: test {mean(chance):.4f}, standard deviation {stdev(chance):.4f}")
    p = float(ttest_ind(found, chance, equal_var=False)[1])
    print(f"difference {mean(found) - mean(chance):+.4f}, 95 % interval {low:+.4f} to {high:+.4f}, Welch's p = {p:.3f}")
    for k in (1, 2, 4, 6):
        if k <= min(len(found), len(chance)):
            ours = max(chosen[:k], key=lambda row: row["val"])["test"]
            drawn = best_of(chosen, k, Random(0))
            print(
                f"best of {k} by validation: prior {drawn:.4f} (first {k} by the prior {ours:.4f}), "
                f"random {best_of(table, k, Random(0)):.4f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the table: cells-NAME.jsonl")
    parser.add_argument("--images", type=Path, required=True, help="cache of build.py")
    parser.add_argument("--table", type=Path, default=HERE, help="folder of the table")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of cells-NAME-prior.jsonl")
    parser.add_argument("--scores", default="naswot+swap", help="training-free scores, joined by +")
    parser.add_argument("--draws", type=int, default=200, help="genotypes to rank")
    parser.add_argument("--keep", type=int, default=12, help="genotypes to train, the best first")
    parser.add_argument("--batch", type=int, default=48, help="images of which scores are taken")
    args = parser.parse_args()
    torch.set_num_threads(1)
    out = args.out / f"cells-{args.name}-prior.jsonl"
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    rows = [row for row in rows if row["kind"] == f"prior {args.scores}"]
    if len(rows) < args.keep:
        images = Images("", args.images)
        order, seconds = ranked_draws(args.draws, args.scores.split("+"), images, args.batch)
        print(f"{args.draws} draws ranked by {args.scores} in {seconds:.0f} s of processor time", flush=True)
        done = {row["genotype"] for row in rows}
        for genotype in [genotype for genotype in order[: args.keep] if genotype not in done]:
            about = {"kind": f"prior {args.scores}", "genotype": genotype, "seed": 0}
            rows.append({**about, **train(genotype, 0, images), "commit": commit()})
            with out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(json.dumps(rows[-1]), flush=True)
    table = [json.loads(line) for line in (args.table / f"cells-{args.name}.jsonl").read_text().splitlines()]
    compare(rows, [row for row in table if row["kind"] == "random" and row["seed"] == 0])


if __name__ == "__main__":
    main()
