"""A search of 2 epochs of 5 steps on 8x8 digits that takes about a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ddarts.config.loading import load_settings
from ddarts.config.schema import SearchSettings
from ddarts.data import ImageData, Images
from ddarts.genotype.gates import Gates
from ddarts.runs.folder import RunFolder
from ddarts.searching.loop import search_architecture
from ddarts.searching.start import StartingPoint
from ddarts.searching.strategy import SearchOutcome

EPOCHS, STEPS = 2, 5


def settings(**changes: Any) -> SearchSettings:
    base: dict[str, Any] = {
        "cells": 3,
        "nodes": 1,
        "channels": 2,
        "epochs": EPOCHS,
        "batch": 9,
        "lr": 0.05,
        "alpha_lr": 0.05,
        "method": "darts",
        "threads": 1,
        "device": "cpu",
        "checkpoint_steps": 4,
        "stop_on_collapse": False,
    }
    return load_settings("search", base={**base, **changes})


def search(path: Path, data: ImageData, **changes: Any) -> SearchOutcome:
    """Search in a new run, or go on in the one that is there."""
    wanted = settings(**changes)
    with RunFolder(path) if path.exists() else RunFolder.create(path) as run:
        return search_architecture(wanted, data, run, start=StartingPoint.of(wanted.search), quiet=True)


def gates_of(path: Path) -> bytes:
    return (path / "gates.json").read_bytes()


def metrics_of(path: Path) -> list[dict[str, Any]]:
    """All records, without their seconds."""
    return [{k: v for k, v in r.items() if k not in ("elapsed_s", "seconds")} for r in RunFolder.open(path).metrics()]


def gates_in(record: dict[str, Any], like: Gates) -> Gates:
    """The gates in an epoch's record."""
    return Gates.from_space(like.space, record["gates"])


def made_up(count: int = 60, channels: int = 3, height: int = 8, width: int = 8) -> ImageData:
    """Images by hand, each told apart by the value of its first pixel (its place in the data)."""
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, channels, height, width), generator=random, dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(count)
    images = Images(pixels, torch.arange(count) % 2)
    return ImageData(
        "made-up", ("a", "b"), channels, height, width, (0.5,) * channels, (0.3,) * channels, False, images, None, None
    )
