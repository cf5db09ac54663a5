"""Measure what each part of a training recipe gives, all parts in one set of trainings (a factorial design).

    python benchmarks/recipe.py --data cifar10:DIR --out DIR

Every training switches about half of the parts on, by the rows of a Hadamard matrix and their negatives, so that each
effect is the difference of two means over all trainings, and no effect is mixed up with another one's or with what two
parts do together (a fold-over design, resolution IV; Box, Hunter and Hunter, *Statistics for Experimenters*, 2nd ed.,
chapter 6). Columns without a part show how large chance is. The judge is the accuracy on validation images at the end.

With `--pairs N` the parts of `CHOSEN`, which the effects have suggested, are then confirmed: N trainings with all of
them and N with none, of other seeds.

Run it again to continue after a stop: one line of a file in DIR is one training. Prints effects and differences, in
points.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from scipy.linalg import hadamard

import ddarts
from ddarts.genotype.random import random_genotype
from ddarts.space.cell_space import build_space

#: What each part sets: (off, on). The genotype is one of two, so that no effect is that of one network.
PARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "learning rate 0.1, not 0.05": ({"lr": 0.05}, {"lr": 0.1}),
    "Nesterov momentum": ({}, {"nesterov": True}),
    "one-cycle (warm-up, linear), not cosine": ({}, {"warmup": 0.2, "schedule": "linear"}),
    "no weight decay for norms and biases": ({}, {"decay_norms": False}),
    "weight decay 1e-3, not 3e-4": ({"weight_decay": 3e-4}, {"weight_decay": 1e-3}),
    "label smoothing 0.1": ({}, {"label_smoothing": 0.1}),
    "cutout": ({}, {"cutout": 4}),
    "mixup, alpha 0.2": ({}, {"mixup": 0.2}),
    "cutmix, alpha 0.5": ({}, {"cutmix": 0.5}),
    "EMA, decay 0.99": ({}, {"ema": 0.99}),
    "drop-path 0.1": ({}, {"drop_path": 0.1}),
    "half resolution in the first half": ({}, {"half_resolution": 0.5}),
    "the second genotype": ({}, {}),
}
#: What became the recipe of the preset `small`; it had cutout before, and has it still.
CHOSEN = ("learning rate 0.1, not 0.05", "Nesterov momentum", "one-cycle (warm-up, linear), not cosine")
DUMMIES = 3
EPOCHS = 4


def design() -> np.ndarray:
    """Return the trainings as rows of 0 and 1, a column for each part, and then for each dummy."""
    half = hadamard(16)
    return np.concatenate([half, -half])[:, : len(PARTS) + DUMMIES] > 0


def train(on: np.ndarray, seed: int, data: str, steps: int) -> dict[str, Any]:
    """Train one network of the own tables' size; return its accuracy on validation images and seconds."""
    chosen: dict[str, Any] = {"cutout": 0}
    for (off_values, on_values), is_on in zip(PARTS.values(), on, strict=False):
        chosen |= on_values if is_on else off_values
    space = build_space("darts", cells=5, nodes=3, reductions=(1, 3))
    genotype = random_genotype(space, seed=int(on[list(PARTS).index("the second genotype")]))
    with tempfile.TemporaryDirectory() as place:
        found = ddarts.train(
            data=data, genotype=genotype, preset="small", out=Path(place) / "run", seed=seed, quiet=True, threads=1,
            resolution=16, limit=40000, validation=0.25, channels=8, batch=96, evaluations=1, epochs=EPOCHS,
            steps_per_epoch=steps // EPOCHS, **chosen,
        )  # fmt: skip
    return {"accuracy": found.val_top1, "train_s": round(found.train_s, 1)}


def effects(rows: list[dict[str, Any]]) -> list[tuple[str, float, float, float]]:
    """Return (part, effect in points, half the width of its 95 % interval, p) by least squares on all parts."""
    signs = np.array([[1 if value else -1 for value in row["on"]] for row in rows])
    x = np.column_stack([np.ones(len(rows)), signs[:, : len(PARTS)]])
    y = np.array([100 * row["accuracy"] for row in rows])
    solution = np.linalg.lstsq(x, y, rcond=None)[0]
    freedom = len(rows) - x.shape[1]
    variance = float(((y - x @ solution) ** 2).sum()) / freedom
    error = np.sqrt(variance * np.diag(np.linalg.inv(x.T @ x)))[1:]
    effect = 2 * solution[1:]
    p = 2 * stats.t.sf(np.abs(solution[1:] / error), freedom)
    return list(
        zip(PARTS, effect.tolist(), (2 * error * stats.t.ppf(0.975, freedom)).tolist(), p.tolist(), strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1248)
    parser.add_argument("--pairs", type=int, default=0, help="of trainings that confirm what was chosen")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    def trained(name: str, wanted: list[tuple[np.ndarray, int]]) -> list[dict[str, Any]]:
        """Return a row for each (parts, seed), of which those that the file holds are not trained again."""
        file: Path = args.out / name
        rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        for on, seed in wanted[len(rows) :]:
            rows.append({"on": on.astype(int).tolist(), "seed": seed, **train(on, seed, args.data, args.steps)})
            with file.open("a") as lines:
                lines.write(json.dumps(rows[-1]) + "\n")
            print(f"{len(rows)}/{len(wanted)}: {100 * rows[-1]['accuracy']:.2f} %, {rows[-1]['train_s']} s", flush=True)
        return rows

    table = design()
    for part, effect, within, p in effects(trained("recipe.jsonl", list(zip(table, range(len(table)), strict=True)))):
        print(f"{part:45} {effect:+.2f} +- {within:.2f} points, p = {p:.3f}")
    if args.pairs:
        before, chosen = (np.array([part == "cutout" or (yes and part in CHOSEN) for part in PARTS]) for yes in (0, 1))
        wanted = [(on, 1000 + pair) for pair in range(args.pairs) for on in (before, chosen)]
        found = np.array([100 * row["accuracy"] for row in trained("confirmed.jsonl", wanted)]).reshape(-1, 2)
        test = stats.ttest_rel(found[:, 1], found[:, 0])
        low, high = test.confidence_interval()
        print(f"before and with the parts chosen, mean validation accuracy: {found.mean(0).round(2)}")
        print(f"difference {low:+.2f} to {high:+.2f} points (95 %), p = {test.pvalue:.4f}, {args.pairs} pairs")


if __name__ == "__main__":
    main()
