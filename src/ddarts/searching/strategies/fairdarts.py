"""FairDARTS: sigmoid gates and the zero-one loss, with two shared cells (arXiv 1911.12126, sections 3 and 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ddarts.config.strategies import FairDartsOptions
from ddarts.searching.losses import Term, zero_one_term
from ddarts.searching.strategy import Differentiable


class FairDarts(Differentiable[FairDartsOptions]):
    """gate = sigmoid(alpha); a genotype holds the operations whose gates reach the threshold."""

    def gates(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """See `Differentiable.gates`."""
        return [torch.sigmoid(alpha) for alpha in logits]

    def regulariser(self, logits: Sequence[Tensor], gates: Sequence[Tensor], progress: float) -> Mapping[str, Term]:
        """Return w_01 and the sum of L_01 over the two cells."""
        return {"zero_one": zero_one_term(gates, self.options, progress)}
