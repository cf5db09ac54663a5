"""Cells that keep no intermediate results for the backward pass and compute them again: less memory, more time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from ddarts.nn.batch_norm import running_statistics


def recomputed(module: nn.Module, *inputs: Any, **options: Any) -> Any:
    """Return ``module(*inputs, **options)``, whose intermediate results the backward pass computes again.

    The second pass leaves running statistics alone: a step moves them once, as without recomputation. It runs in the
    mode of the first, whatever ``train()`` or ``eval()`` was called in between.
    """
    modes = [(m, m.training) for m in module.modules()]
    return checkpoint(
        module,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=False,  # nothing in a cell is drawn
        context_fn=lambda: (contextlib.nullcontext(), _again(module, modes)),
        **options,
    )


@contextlib.contextmanager
def _again(module: nn.Module, modes: list[tuple[nn.Module, bool]]) -> Iterator[None]:
    """Set the modes of the first pass, and freeze running statistics."""
    now = [m.training for m, _ in modes]
    for m, training in modes:
        m.training = training
    try:
        with running_statistics(module, track=False):
            yield
    finally:
        for (m, _), training in zip(modes, now, strict=True):
            m.training = training
