"""The embedded data set: 1,797 grey 8x8 handwritten digits (embedded/digits.txt tells their source and licence)."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import torch

from ddarts.data.images import Images
from ddarts.data.loaded import Loaded, Request
from ddarts.data.splits import stratified
from ddarts.errors import DataError

TEST_SHARE = 0.2


def load_digits(directory: str | None, request: Request) -> Loaded:
    """Return the digits; a fixed fifth of each class is the test part, whatever the seed of the run."""
    if directory is not None:
        raise DataError(f"digits:{directory}: the digits come with ddarts and take no folder; say digits")
    with files("ddarts.data.sources").joinpath("embedded/digits.npz").open("rb") as stream:
        stored = np.load(stream, allow_pickle=False)
        grey, labels = stored["images"], stored["labels"]
    pixels = torch.from_numpy((grey.astype(np.uint16) * 255 + 8) // 16).to(torch.uint8)[:, None]
    numbers = torch.from_numpy(labels.astype(np.int64))
    kept, taken = stratified(numbers, TEST_SHARE, 0, "digits test part")
    return Loaded(
        name="digits",
        place="digits",
        classes=tuple("0123456789"),
        flip=False,
        train=Images(pixels[kept], numbers[kept]),
        test=Images(pixels[taken], numbers[taken]),
    )
