"""Extremes of data: every command on them ends with a result or with one line."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.campaign.attempts import Bench, one_line, options

Pixels = Callable[[int, int], Any]  # (class, number) -> uint8 [H, W] or [H, W, 3]


def _write(folder: Path, counts: list[int], pixels: Pixels) -> None:
    """Write class folders with so many images each."""
    from PIL import Image

    for label, count in enumerate(counts):
        place = folder / f"class{label:05d}"
        place.mkdir(parents=True)
        for number in range(count):
            Image.fromarray(pixels(label, number)).save(place / f"{number}.png", compress_level=1)


def _noise(side: int, moments: random.Random, *more: int) -> Pixels:
    import numpy as np

    generator = np.random.default_rng(moments.getrandbits(32))
    return lambda label, number: generator.integers(0, 256, (side, side, *more), dtype=np.uint8)


def _flat(side: int, values: Callable[[int, int], int]) -> Pixels:
    import numpy as np

    return lambda label, number: np.full((side, side), values(label, number) % 256, np.uint8)


#: Each extreme: a function that writes it into a folder.
EXTREMES: dict[str, Callable[[Path, random.Random], None]] = {
    "constant images": lambda f, m: _write(f, [20, 20], _flat(8, lambda label, number: 7)),
    "images constant in a class": lambda f, m: _write(f, [20, 20], _flat(8, lambda label, number: 200 * label)),
    "black images": lambda f, m: _write(f, [20, 20], _flat(8, lambda label, number: 0)),
    "two images": lambda f, m: _write(f, [1, 1], _noise(8, m)),
    "three images": lambda f, m: _write(f, [2, 1], _noise(8, m)),
    "one class": lambda f, m: _write(f, [20], _noise(8, m)),
    "no images": lambda f, m: _write(f, [0, 0], _noise(8, m)),
    "one class with one image": lambda f, m: _write(f, [30, 30, 1], _noise(8, m)),
    "10,000 classes": lambda f, m: _write(f, [2] * 10_000, _noise(2, m)),
    "1-pixel images": lambda f, m: _write(f, [20, 20], _noise(1, m)),
    "2-pixel images": lambda f, m: _write(f, [20, 20], _noise(2, m)),
    "8,000-pixel images": lambda f, m: _write(f, [3, 3], _flat(8000, lambda label, number: 90 * label + number)),
    "100:1 imbalance": lambda f, m: _write(f, [400, 4], _noise(8, m)),
    "labels at random": lambda f, m: _write(f, [m.randint(5, 40) for _ in range(3)], _noise(8, m, 3)),
}
_SEARCH = {"cells": 2, "nodes": 1, "channels": 2, "epochs": 1, "steps-per-epoch": 2}
_TRAIN = {"channels": 2, "epochs": 1, "steps-per-epoch": 2}


def extreme(bench: Bench, moments: random.Random, name: str) -> str | None:
    """Run a whole search and training on an extreme, or a part of it."""
    EXTREMES[name](bench.place / "images", moments)
    words = [
        "--data",
        bench.place / "images",
        "--device",
        "cpu",
        "--threads",
        "1",
        "--quiet",
        "--out",
        bench.place / "run",
    ]
    words += ["--resolution", "8"] if name.startswith("8,000") and moments.random() < 0.7 else []
    words += ["--validation", str(moments.choice([0.1, 0.5]))] if moments.random() < 0.4 else []
    words += ["--stream", moments.choice(["yes", "no"])] if moments.random() < 0.3 else []
    group = ("search.", "train.")
    if moments.random() < 0.4:  # else what fits such images by itself
        words += options({"batch": moments.choice([1, 2, 8])}, "search.") + options({"batch": 2}, "train.")
    words += [*options(_SEARCH, group[0]), *options(_TRAIN, group[1])]
    wrong = one_line(*bench.command("run", *words, environment={"DDARTS_CACHE": "off"}).end())
    return wrong and f"{name}: {' '.join(map(str, words[8:]))}: {wrong}"
