"""Train genotypes of nested cells alike, one line of a table each: a benchmark of the space in which D-DARTS searches.

    python benchmarks/tables/build.py cifar10 --data cifar10:DIR --hours 3
    python benchmarks/tables/build.py fashion-mnist --data fashion-mnist:DIR --hours 3

Appends to benchmarks/tables/cells-NAME.jsonl and continues where the file ends, so that it may be killed at any time
and run again, on other machines too. What a line holds, and how the networks are trained, is in README.md beside it.

The recipe is written out here, apart from the package's training, so that lines of different commits stay comparable;
of the package it uses the network and the random draw.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from cells import CELLS, NODES, REDUCTIONS, decode, encode, neighbour
from torch import Tensor

from ddarts.cost.counting import count_macs, count_parameters
from ddarts.data import load_data
from ddarts.genotype.random import random_genotype
from ddarts.nn.network import Network
from ddarts.space.cell_space import build_space

HERE = Path(__file__).resolve().parent

#: Side of the images in pixels, channels of the first cell, and images kept for validation.
RESOLUTION, CHANNELS, VALIDATION = 16, 8, 5000
#: Steps, images a step, peak learning rate, weight decay: see README.md.
STEPS, BATCH, RATE, DECAY, SMOOTHING = 400, 96, 0.2, 5e-4, 0.1

#: The first genotypes of a table are random draws; REPEATED of them are trained with seeds 0 to 2.
RANDOM, REPEATED = 600, 100


class Images:
    """A data set in memory: pixels uint8 [n, C, H, W] and labels [n] of the three splits."""

    def __init__(self, data: str, cache: Path | None) -> None:
        if cache is not None and cache.is_file():
            stored = torch.load(cache, weights_only=True)
        else:
            found = load_data(data, resolution=RESOLUTION, quiet=True)
            assert found.test is not None
            stored = {
                "flip": torch.tensor(found.flip),
                "classes": torch.tensor(len(found.classes)),
                "x": torch.as_tensor(found.train.pixels[:]),
                "y": torch.as_tensor(found.train.labels).long(),
                "test_x": torch.as_tensor(found.test.pixels[:]),
                "test_y": torch.as_tensor(found.test.labels).long(),
            }
            if cache is not None:
                torch.save(stored, cache)
        self.flip, self.classes = bool(stored["flip"]), int(stored["classes"])
        x, y = stored["x"], stored["y"]
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        validation, train = order[:VALIDATION], order[VALIDATION:]
        self.mean = x[train].float().mean((0, 2, 3), keepdim=True)
        self.std = x[train].float().std((0, 2, 3), keepdim=True)
        self.train = F.pad(x[train], (2, 2, 2, 2)), y[train]
        self.validation = x[validation], y[validation]
        self.test = stored["test_x"], stored["test_y"]

    def normalise(self, x: Tensor) -> Tensor:
        """uint8 [B, C, H, W] to float32, channels-last."""
        return ((x.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def batches(self, generator: torch.Generator, steps: int = STEPS) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield so many batches of training images, cropped by up to two pixels and mirrored where that is sensible."""
        x, y = self.train
        order = torch.cat([torch.randperm(len(x), generator=generator) for _ in range(steps * BATCH // len(x) + 1)])
        columns = torch.arange(RESOLUTION)
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            shift = torch.randint(0, 5, (2, BATCH), generator=generator)
            rows = shift[0][:, None] + columns
            across = shift[1][:, None] + columns
            if self.flip:
                mirrored = torch.rand(BATCH, generator=generator) < 0.5
                across = torch.where(mirrored[:, None], across.flip(1), across)
            pixels = x[chosen[:, None, None], :, rows[:, :, None], across[:, None, :]].permute(0, 3, 1, 2)
            yield self.normalise(pixels), y[chosen]


def train(genotype: str, seed: int, images: Images, steps: int = STEPS) -> dict[str, Any]:
    """Train one network; return its accuracies (0 to 1) and what it costs.

    A training of other than STEPS steps is the trial of a search: it has no test accuracy.
    """
    torch.manual_seed(seed)
    channels = images.train[0].shape[1]
    net = Network(decode(genotype), channels=CHANNELS, in_channels=channels, classes=images.classes)
    net.to(memory_format=torch.channels_last).train()
    decayed = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=RATE, momentum=0.9, nesterov=True, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, cycle_momentum=False)
    started = time.perf_counter()
    for x, y in images.batches(torch.Generator().manual_seed(seed), steps):
        loss = F.cross_entropy(net(x), y, label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    seconds = time.perf_counter() - started
    return {
        "val": accuracy(net, *images.validation, images),
        **({"test": accuracy(net, *images.test, images)} if steps == STEPS else {}),
        "parameters": count_parameters(net),
        "macs": count_macs(net, (channels, RESOLUTION, RESOLUTION)),
        "train_s": round(seconds, 1),
    }


@torch.no_grad()
def accuracy(net: Network, x: Tensor, y: Tensor, images: Images) -> float:
    """Share of images whose class is found."""
    net.eval()
    hits = sum(
        int((net(images.normalise(a)).argmax(1) == b).sum()) for a, b in zip(x.split(500), y.split(500), strict=True)
    )
    return hits / len(y)


def plan(found: list[str]) -> Iterator[tuple[str, str, int]]:
    """Yield (kind, genotype, seed) of the whole table, what matters first.

    Random draws with seed 0; then further seeds of the first hundred, so that noise is known; then the genotypes that
    searches found and ten neighbours of each, which differ in one edge or more.
    """
    space = build_space("darts", cells=CELLS, nodes=NODES, reductions=REDUCTIONS)
    drawn = [encode(random_genotype(space, seed=index)) for index in range(RANDOM)]
    for start in range(0, RANDOM, REPEATED):
        yield from (("random", g, 0) for g in drawn[start : start + REPEATED])
        if start == REPEATED:
            yield from (("random", g, seed) for g in drawn[:REPEATED] for seed in (1, 2))
    for genotype in found:
        yield from (("found", genotype, seed) for seed in range(3))
        for index in range(10):
            yield "neighbour", neighbour(genotype, random.Random(f"{genotype} {index}"), changes=1 + index // 2), 0


def commit() -> str:
    """The commit that trains, as given by the environment or by git."""
    import subprocess

    named = os.environ.get("DDARTS_COMMIT")
    git = ["git", "rev-parse", "--short", "HEAD"]
    return named or subprocess.run(git, capture_output=True, text=True, cwd=HERE, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the table: cells-NAME.jsonl")
    parser.add_argument("--data", required=True, help="as ddarts takes it")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the table")
    parser.add_argument("--found", type=Path, help="text file: a genotype that a search found on each line")
    parser.add_argument("--cache", type=Path, help="file that keeps the decoded images")
    parser.add_argument("--hours", type=float, default=1e6, help="stop after so many")
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = args.out / f"cells-{args.name}.jsonl"
    lines = table.read_text().splitlines() if table.exists() else []
    done = {(r["genotype"], r["seed"]) for r in map(json.loads, lines)}
    found = args.found.read_text().split("\n") if args.found else []
    images, until, version = Images(args.data, args.cache), time.time() + 3600 * args.hours, commit()
    for kind, genotype, seed in plan([line.strip() for line in found if line.strip()]):
        if (genotype, seed) in done:
            continue
        if time.time() > until:
            break
        row = {"kind": kind, "genotype": genotype, "seed": seed, **train(genotype, seed, images), "commit": version}
        with table.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
