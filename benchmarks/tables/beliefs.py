"""What a search believes of the genotypes of a table, compared with their accuracy: rank correlation over the search.

    python benchmarks/tables/beliefs.py cifar10 --images FILE --out RUN [--json FILE]

FILE is the cache that build.py writes (`--cache`). Searches in the space of the table with the settings of the preset
`small` (resumed if RUN exists) on the training images of the table, then prints Kendall's tau and Spearman's rho with
95 % bootstrap intervals over the table's random genotypes (mean accuracy over seeds), for

- the gates of every epoch: the product over the operations of a genotype;
- one-shot: the loss on the table's validation images with the weights that a genotype inherits from the supernet;
- effect: by how much the loss of the supernet rises without the operations and edges of a genotype, added up.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean

import torch
from build import CHANNELS, HERE, RESOLUTION, Images
from cells import CELLS, NODES, REDUCTIONS, decode
from scores import random_rows, report

import ddarts.data
from ddarts.config.loading import load_settings
from ddarts.config.schema import SearchSettings
from ddarts.data import ImageData
from ddarts.runs.folder import RunFolder
from ddarts.searching.loop import search_architecture
from ddarts.searching.shortlist import belief, effects, one_shot_loss, standardised
from ddarts.searching.start import build_supernet
from ddarts.searching.strategy import SearchOutcome
from ddarts.supernet.backends.selection import on_backend

#: Images of the validation split in one batch of the one-shot loss and of the effects.
BATCH = 96


def search(
    name: str, images: Images, out: Path, seed: int, epochs: int = 10
) -> tuple[SearchSettings, ImageData, SearchOutcome]:
    """Search in the space of the table with the settings of the preset `small`, or continue the run in `out`."""
    mine = {"cells": CELLS, "nodes": NODES, "reductions": REDUCTIONS, "channels": CHANNELS, "epochs": epochs}
    mine |= {"seed": seed, "threads": 1, "device": "cpu", "resolution": RESOLUTION}
    settings = load_settings("search", preset="small", overrides=mine)
    assert isinstance(settings, SearchSettings)
    pixels = images.train[0][:, :, 2:-2, 2:-2].contiguous()  # without the padding
    channels, classes = pixels.shape[1], tuple(map(str, range(images.classes)))
    scale = {"mean": (images.mean / 255).flatten().tolist(), "std": (images.std / 255).flatten().tolist()}
    data = ImageData(
        name, classes, channels, RESOLUTION, RESOLUTION, tuple(scale["mean"]), tuple(scale["std"]), images.flip,
        ddarts.data.Images(pixels, images.train[1]), None, None,
    )  # fmt: skip
    with RunFolder(out) if out.exists() else RunFolder.create(out) as run:
        return settings, data, search_architecture(settings, data, run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the table: cells-NAME.jsonl")
    parser.add_argument("--images", type=Path, required=True, help="cache of build.py")
    parser.add_argument("--table", type=Path, default=HERE, help="folder of the table")
    parser.add_argument("--out", type=Path, required=True, help="run folder of the search")
    parser.add_argument("--seed", type=int, default=0, help="of the search")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of 40 steps")
    parser.add_argument("--batches", type=int, default=4, help="batches of validation images for the one-shot loss")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    images = Images("", args.images)
    settings, data, outcome = search(args.name, images, args.out, args.seed, args.epochs)
    with RunFolder(args.out) as run:
        checkpoint = run.load_checkpoint("search")
        epochs = run.metrics("search", "epoch")
    assert checkpoint is not None
    net = build_supernet(settings, data, None)
    net = on_backend(net.to(memory_format=torch.channels_last), "auto", torch.device("cpu"), synchronised=False)
    net.load_state_dict(checkpoint["net"])
    net.train()  # batch norm normalises by the batch

    accuracies, _ = random_rows(args.table / f"cells-{args.name}.jsonl")
    genotypes = [decode(text) for text in accuracies]
    x, y = images.validation
    held_out = [
        (images.normalise(x[start : start + BATCH]), y[start : start + BATCH])
        for start in range(0, BATCH * args.batches, BATCH)
    ]
    values = {}
    for record in epochs:
        logarithms = [torch.tensor(cell).clamp(min=1e-6).log() for cell in record["gates"]]
        values[f"gates, epoch {record['epoch']}"] = [belief(net.space, logarithms, g) for g in genotypes]
    gates = [torch.tensor(cell) for cell in outcome.gates.values]
    rises = [standardised(cell) for cell in effects(net, gates, *held_out[0])]
    values["effect"] = [belief(net.space, rises, g) for g in genotypes]
    values["one-shot"] = [-one_shot_loss(net, g, held_out) for g in genotypes]
    report(values, [mean(found) for found in accuracies.values()], args.json)


if __name__ == "__main__":
    main()
