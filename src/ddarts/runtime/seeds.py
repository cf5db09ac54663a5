"""Randomness by name: every random number comes from the run's seed and a label, never from a stream with a past.

A step's numbers depend on (seed, what they are for, epoch, step) alone. So a resumed run needs no saved random state,
and work may be done in any order, or left out, without disturbing the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *labels: str | int) -> int:
    """Return a seed in 0 .. 2**63 - 1 for the purpose that `labels` name; the same on every machine and version.

    Different labels give unrelated seeds: ``derive_seed(0, "search", "batch", 3)`` and ``derive_seed(0, "batch", 3)``
    have nothing in common, nor have the label ``3`` and the label ``"3"``.
    """
    digest = hashlib.sha256(repr(int(seed)).encode())
    for label in labels:
        # bool is an int to Python and numpy integers print differently by version: settle on one spelling
        text = f"s{len(label)}:{label}" if isinstance(label, str) else f"i{int(label)};"
        digest.update(text.encode())
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def generator(seed: int, *labels: str | int) -> torch.Generator:
    """Return a fresh CPU generator, seeded by `derive_seed`."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *labels))


def seed_everything(seed: int, *labels: str | int) -> None:
    """Seed the global generators of torch (all devices), numpy and `random`, for code that offers no other way."""
    import random

    import numpy
    import torch

    value = derive_seed(seed, *labels)
    random.seed(value)
    numpy.random.seed(value % 2**32)
    torch.manual_seed(value)


@contextlib.contextmanager
def streams_restored() -> Iterator[None]:
    """Leave the global generators of `random`, numpy and torch (all devices) at the end as they were; a decorator, too.

    For what calls `seed_everything`: the caller's random numbers are none of its business.
    """
    import random

    import numpy
    import torch

    before, numpys = random.getstate(), numpy.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(before)
        numpy.random.set_state(numpys)
