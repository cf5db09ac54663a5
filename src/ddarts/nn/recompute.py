"""Cells that keep no intermediate results for the backward pass and compute them again: less memory, more time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ddarts.nn.batch_norm import BatchStatistics


def recomputed(module: nn.Module, *inputs: Any, **options: Any) -> Any:
    """Return ``module(*inputs, **options)``, whose intermediate results the backward pass computes again.

    The second pass leaves running statistics alone: a step moves them once, as without recomputation.
    """
    return checkpoint(
        module,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=False,  # nothing in a cell is drawn
        context_fn=lambda: (contextlib.nullcontext(), _still(module)),
        **options,
    )


@contextlib.contextmanager
def _still(module: nn.Module) -> Iterator[None]:
    """Let the running statistics of batch norms stay what they are, and their counts."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    plain = [m for m in module.modules() if isinstance(m, BatchStatistics)]
    for norm in plain:
        norm.momentum = 0.0
    for norm in norms:
        # Statistics are passed on all the same: the second pass must save the tensors that the first did.
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
        for norm in plain:
            norm.momentum = BatchStatistics.momentum
