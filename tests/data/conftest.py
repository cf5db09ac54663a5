from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Make class folders of unique PNG images: make_folder({"cat": 4, "dog": 5}, part="train", size=(12, 10))."""

    def make(counts: dict[str, int], *, part: str = "", size: tuple[int, int] = (12, 10), grey: bool = False) -> Path:
        root = tmp_path / "pets"
        for kind, (name, count) in enumerate(counts.items()):
            folder = root / part / name
            folder.mkdir(parents=True, exist_ok=True)
            for n in range(count):
                seed = [ord(c) for c in part] + [kind, n]
                shape = size if grey else (*size, 3)
                pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{n:03}.png")
        return root

    return make
