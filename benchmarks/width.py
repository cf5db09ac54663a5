"""How wide a network should be that is trained for a short time: one genotype at two widths and two batch sizes.

    python benchmarks/width.py --data cifar10 --seconds 200 --out width.jsonl

Each is trained by the preset `small` for as many steps as take the given processor time on one core (measured first),
on 5,000 images, and judged by its accuracy on 5,000 validation images. Every line of the file is one training; those
that it holds are not trained again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import ddarts
from ddarts.genotype.random import random_genotype
from ddarts.space.cell_space import build_space

#: Channels, batch and rate.
CHOICES = ((16, 96, 0.1), (16, 32, 0.05), (8, 96, 0.1), (8, 32, 0.05))
IMAGES = 5000


def train(data: str, channels: int, batch: int, lr: float, steps: int) -> tuple[Any, float]:
    """Return the result of a training, and its seconds of processor time."""
    genotype = random_genotype(build_space("darts", cells=5, nodes=3, reductions=(1, 3)), seed=0)
    with tempfile.TemporaryDirectory() as place:
        start = time.process_time()
        found = ddarts.train(
            data=data, genotype=genotype, preset="small", out=Path(place) / "run", quiet=True, threads=1,
            reference="none", limit=2 * IMAGES, validation=0.5, channels=channels, batch=batch, lr=lr, evaluations=1,
            epochs=max(steps * batch // IMAGES, 1), steps_per_epoch=min(steps, IMAGES // batch),
        )  # fmt: skip
        return found, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="with at least 10,000 training images")
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    done = args.out.read_text().splitlines() if args.out.exists() else []
    for channels, batch, lr in CHOICES[len(done) :]:
        few = max(20, 1500 // batch)
        (_, short), (_, long) = (train(args.data, channels, batch, lr, steps) for steps in (few, 3 * few))
        step_s = (long - short) / (2 * few)
        found, spent = train(args.data, channels, batch, lr, max(int((args.seconds - short) / step_s), 0) + few)
        row = {"C": channels, "batch": batch, "lr": lr, "step_s": round(step_s, 4), "steps": int(args.seconds / step_s)}
        row |= {"val": found.val_top1, "s": round(spent, 1), "params": found.parameters, "macs": found.macs}
        with args.out.open("a") as lines:
            lines.write(json.dumps(row) + "\n")
        print(row, flush=True)


if __name__ == "__main__":
    main()
