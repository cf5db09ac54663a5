"""Train the genotype of a search and random genotypes of the same size the same way, and test each once.

    python benchmarks/versus_random.py RUN --out DIR --seeds 0 1 2 --steps 400

For every seed, the random genotype is the one of 200 draws whose parameter count is nearest to the searched one's. The
settings of training are the run's preset with the options given here. Prints a table and writes DIR/versus_random.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import ddarts
from ddarts.cost.counting import count_parameters
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.random import random_genotype
from ddarts.nn.network import Network
from ddarts.runs.folder import RunFolder
from ddarts.space.cell_space import build_space


def nearest_random(genotype: Genotype, nodes: int, channels: int, seed: int) -> Genotype:
    """The random genotype of 200 draws that is nearest in parameters to `genotype`."""
    space = build_space(cells=len(genotype), nodes=nodes, reductions=genotype.reductions)
    size = count_parameters(Network(genotype, channels=channels))
    draws = [random_genotype(space, seed=1000 * seed + i) for i in range(200)]
    return min(draws, key=lambda g: abs(count_parameters(Network(g, channels=channels)) - size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, help="steps an epoch")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--kinds", nargs="+", choices=["searched", "random"], default=["searched", "random"])
    args = parser.parse_args()
    searched = Genotype.load(args.run)
    settings = RunFolder.open(args.run).read_settings("search")
    channels = 16
    rows = []
    for seed in args.seeds:
        drawn = nearest_random(searched, settings["search"]["nodes"], channels, seed)
        genotypes = {"searched": searched, "random": drawn}
        for kind in args.kinds:
            genotype = genotypes[kind]
            folder = args.out / f"{kind}-{seed}"
            common = {"data": settings["data"], "threads": args.threads, "quiet": True}
            trained = ddarts.train(
                genotype=genotype, preset=args.preset, out=folder, overwrite=True, seed=seed, channels=channels,
                epochs=args.epochs, steps_per_epoch=args.steps, **common,
            )  # fmt: skip
            tested = ddarts.test(folder, data=settings["data"], quiet=True)
            row = {"kind": kind, "seed": seed, "top1": tested.top1, "parameters": trained.parameters}
            row |= {"macs": trained.macs, "train_s": trained.train_s}
            rows.append(row)
            print(json.dumps(row), flush=True)
            (args.out / "versus_random.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
