"""DARTS, first order: softmax over the operations of an edge, with two shared cells (arXiv 1806.09055, section 2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ddarts.config.strategies import DartsOptions
from ddarts.searching.strategy import Differentiable


class Darts(Differentiable[DartsOptions]):
    """gate = softmax(alpha) over the operations of an edge: they compete."""

    def gates(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """See `Differentiable.gates`."""
        return [alpha.softmax(1) for alpha in logits]
