"""How well predictors that need no training order the networks of a table: rank correlation with test accuracy.

    python benchmarks/tables/scores.py cifar10 --images FILE [--json FILE]

FILE is the cache that build.py writes (`--cache`). Prints Kendall's tau and Spearman's rho with 95 % bootstrap
intervals over the table's random genotypes (mean accuracy over seeds), for

- the training-free scores of the package and the rank sums of two and of all;
- the size: parameters, multiply-adds;
- the structure: convolutions that reach the output, the longest and the shortest path from image to output in
  convolutions, identities, pools;
- a ridge regression of the accuracy on how often each operation occurs in each cell, and in the whole network; every
  genotype is predicted from the others (leave-one-out), which is biased towards negative correlations where there is
  nothing to predict.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from build import CHANNELS, HERE, Images
from cells import CELLS, OPERATIONS, decode
from scipy.stats import rankdata

from ddarts.experiments.statistics import Interval, rank_agreement
from ddarts.genotype.genotype import Genotype
from ddarts.nn.network import Network
from ddarts.searching.scores import SCORES

#: Convolutions with a kernel that an operation applies one after the other.
CONVOLUTIONS = {"sep_conv_3x3": 2, "sep_conv_5x5": 2, "dil_conv_3x3": 1, "dil_conv_5x5": 1}
#: Strength of the ridge regressions, for standardised counts.
RIDGE = 10.0


def structure(genotype: Genotype) -> dict[str, float]:
    """Return the properties of a genotype's graph; cells that nothing reads do not count.

    All nodes of the table's cells are concatenated, so every edge of a cell reaches its output.
    """
    needed = {CELLS - 1}
    for position in range(CELLS - 1, -1, -1):
        if position in needed:
            needed |= {position - 2 + edge.source for edge in genotype.cells[position].edges if edge.source < 2}
    longest, shortest = [0, 0], [0, 0]
    for cell in genotype.cells:
        far, near = longest[-2:], shortest[-2:]
        for target in sorted({edge.target for edge in cell.edges}):
            arriving = [(e.source, CONVOLUTIONS.get(e.operation, 0)) for e in cell.edges if e.target == target]
            far.append(max(far[source] + length for source, length in arriving))
            near.append(min(near[source] + length for source, length in arriving))
        longest.append(max(far[2:]))
        shortest.append(min(near[2:]))
    names = [e.operation for k, cell in enumerate(genotype.cells) if k in needed for e in cell.edges]
    return {
        "convolutions": sum(name in CONVOLUTIONS for name in names),
        "longest path": longest[-1],
        "shortest path": shortest[-1],
        "identities": names.count("skip_connect"),
        "pools": sum(name.endswith("pool_3x3") for name in names),
    }


def counts(genotype: Genotype) -> np.ndarray:
    """Return how often each operation occurs in each cell, (cells, operations)."""
    return np.array([[sum(e.operation == name for e in c.edges) for name in OPERATIONS] for c in genotype.cells], float)


def left_out(features: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return for every row the ridge regression's prediction from all other rows.

    With H the hat matrix of all rows, the prediction is (H y - diag(H) y) / (1 - diag(H)).
    """
    spread = features.std(0)
    x = (features[:, spread > 0] - features[:, spread > 0].mean(0)) / spread[spread > 0]
    hat = x @ np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T) + 1 / len(x)
    own = np.diag(hat)
    return (hat @ truth - own * truth) / (1 - own)


def correlation(value: float | None, interval: Interval | None) -> str:
    """Return a rank correlation with its interval as text."""
    if value is None:
        return "constant"
    return f"{value:+.2f}" + (f" ({interval[0]:+.2f} to {interval[1]:+.2f})" if interval else "")


def report(values: dict[str, list[float]], truth: list[float], target: Path | None) -> None:
    """Print the rank correlations of predictors with the truth, and write them as JSON."""
    about = {"genotypes": len(truth), "mean": mean(truth), "standard_deviation": stdev(truth)}
    print("{genotypes} genotypes, mean {mean:.4f}, standard deviation {standard_deviation:.4f}".format(**about))
    found = {name: rank_agreement(values[name], truth)[None] for name in values}
    for name, a in found.items():
        tau, rho = correlation(a.kendall, a.kendall_interval), correlation(a.spearman, a.spearman_interval)
        print(f"{name:22} tau {tau:24} rho {rho}")
    if target:
        results = {name: asdict(agreement) for name, agreement in found.items()}
        target.write_text(json.dumps({**about, "correlations": results}, indent=1) + "\n")


def random_rows(table: Path) -> tuple[dict[str, list[float]], dict[str, dict[str, float]]]:
    """Return the test accuracies of a table's random genotypes, one for each seed, and their sizes."""
    accuracies: dict[str, list[float]] = defaultdict(list)
    sizes = {}
    for row in map(json.loads, table.read_text().splitlines()):
        if row["kind"] == "random":
            accuracies[row["genotype"]].append(row["test"])
            sizes[row["genotype"]] = {name: row[name] for name in ("parameters", "macs")}
    return accuracies, sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the table: cells-NAME.jsonl")
    parser.add_argument("--images", type=Path, required=True, help="cache of build.py")
    parser.add_argument("--table", type=Path, default=HERE, help="folder of the table")
    parser.add_argument("--batch", type=int, default=48, help="images of which scores are taken")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    accuracies, sizes = random_rows(args.table / f"cells-{args.name}.jsonl")
    images = Images("", args.images)
    x = images.normalise(images.validation[0][: args.batch])
    values: dict[str, list[float]] = defaultdict(list)
    for text in accuracies:
        genotype = decode(text)
        for name, score in SCORES.items():
            torch.manual_seed(0)
            net = Network(genotype, channels=CHANNELS, in_channels=x.shape[1], classes=images.classes)
            values[name].append(score(net, x))
        for name, value in {**sizes[text], **structure(genotype)}.items():
            values[name].append(value)
    for names in [*combinations(SCORES, 2), tuple(SCORES)]:
        values["+".join(names)] = list(map(float, sum(rankdata(values[name]) for name in names)))
    truth = [mean(found) for found in accuracies.values()]
    of_cells = np.stack([counts(decode(text)) for text in accuracies])
    values["ridge, cells"] = left_out(of_cells.reshape(len(truth), -1), np.array(truth)).tolist()
    values["ridge, network"] = left_out(of_cells.sum(1), np.array(truth)).tolist()
    report(values, truth, args.json)


if __name__ == "__main__":
    main()
