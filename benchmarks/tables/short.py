"""Do short trainings order genotypes as the table's trainings do? Rank correlation by the number of steps.

    python benchmarks/tables/short.py cifar10 --images FILE --steps 100 200 --limit 32

FILE is the cache that build.py writes (`--cache`). Trains the first genotypes of the table for fewer steps, with the
same recipe and another seed, appends a line of cells-NAME-short.jsonl for each, and prints Kendall's tau and Spearman's
rho of the validation accuracy with the table's test accuracy. Run it again to continue.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from build import HERE, Images, commit, train
from scores import report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the table: cells-NAME.jsonl")
    parser.add_argument("--images", type=Path, required=True, help="cache of build.py")
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 200], help="lengths of the trainings")
    parser.add_argument("--limit", type=int, default=32, help="genotypes of the table")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the tables")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    table, out = args.out / f"cells-{args.name}.jsonl", args.out / f"cells-{args.name}-short.jsonl"
    lines = [json.loads(line) for line in table.read_text().splitlines()]
    drawn = [row for row in lines if row["kind"] == "random" and row["seed"] == 0][: args.limit]
    known = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {(row["genotype"], row["steps"]): row for row in known}
    images = Images("", args.images)
    for steps in args.steps:
        for genotype in [row["genotype"] for row in drawn if (row["genotype"], steps) not in done]:
            about = {"kind": "trial", "genotype": genotype, "seed": 1, "steps": steps}
            row = {**about, **train(genotype, 1, images, steps), "commit": commit()}
            done[genotype, steps] = row
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
        values = {f"{steps} steps": [done[row["genotype"], steps]["val"] for row in drawn]}
        report(values, [row["test"] for row in drawn], args.json)


if __name__ == "__main__":
    main()
