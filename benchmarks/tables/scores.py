"""How well training-free scores order the networks of a table: rank correlation with test accuracy.

    python benchmarks/tables/scores.py cifar10 --images FILE

FILE is the cache that build.py writes (`--cache`). Prints, for every score, parameters and multiply-adds, Kendall's
tau and Spearman's rho over the table's random genotypes (mean accuracy over seeds).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean

import torch
from build import CHANNELS, HERE, Images
from cells import decode
from scipy.stats import kendalltau, spearmanr

from ddarts.nn.network import Network
from ddarts.searching.scores import SCORES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the table: cells-NAME.jsonl")
    parser.add_argument("--images", type=Path, required=True, help="cache of build.py")
    parser.add_argument("--table", type=Path, default=HERE, help="folder of the table")
    parser.add_argument("--batch", type=int, default=48, help="images of which scores are taken")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in (args.table / f"cells-{args.name}.jsonl").read_text().splitlines()]
    accuracies: dict[str, list[float]] = defaultdict(list)
    costs = {row["genotype"]: row for row in rows}
    for row in rows:
        if row["kind"] == "random":
            accuracies[row["genotype"]].append(row["test"])
    images = Images("", args.images)
    x = images.normalise(images.validation[0][: args.batch])
    values: dict[str, list[float]] = defaultdict(list)
    for genotype in accuracies:
        for name, score in SCORES.items():
            torch.manual_seed(0)
            net = Network(decode(genotype), channels=CHANNELS, in_channels=x.shape[1], classes=images.classes)
            values[name].append(score(net, x))
        for name in ("parameters", "macs"):
            values[name].append(costs[genotype][name])
    truth = [mean(found) for found in accuracies.values()]
    print(f"{len(truth)} genotypes, test accuracy {mean(truth):.4f}, from {min(truth):.4f} to {max(truth):.4f}")
    for name, found in values.items():
        print(f"{name:12} tau {kendalltau(found, truth).statistic:6.3f}  rho {spearmanr(found, truth).statistic:6.3f}")


if __name__ == "__main__":
    main()
