"""D-DARTS: sigmoid gates for every cell, the zero-one loss and the ablation loss (arXiv 2108.09306, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ddarts.config.strategies import DDartsOptions
from ddarts.searching.alpha_step import AblationPlan
from ddarts.searching.contributions import Contributions
from ddarts.searching.losses import Term, zero_one_term
from ddarts.searching.strategy import Differentiable
from ddarts.supernet.interface import Searchable


class DDarts(Differentiable[DDartsOptions]):
    """gate = sigmoid(alpha): the operations of an edge do not compete."""

    def __init__(self, options: DDartsOptions) -> None:
        super().__init__(options)
        self.ablation_floor = options.ablation_floor

    def gates(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """See `Differentiable.gates`."""
        return [torch.sigmoid(alpha) for alpha in logits]

    def regulariser(self, logits: Sequence[Tensor], gates: Sequence[Tensor], progress: float) -> Mapping[str, Term]:
        """Return w_01 and the sum of L_01 over the cells."""
        return {"zero_one": zero_one_term(gates, self.options, progress)}

    def plan(self, contributions: Contributions, net: Searchable, seed: int, step: int) -> AblationPlan:
        """See `Contributions.plan`."""
        return contributions.plan(self.options, net, seed, step)
