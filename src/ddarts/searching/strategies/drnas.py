"""DrNAS: weights of operations are drawn from Dirichlet distributions, with two shared cells (arXiv 2006.10355).

Its progressive phases with partial channels (section 2.3), which save memory, are not part of this strategy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ddarts.config.strategies import DrNasOptions
from ddarts.data.transfer import send
from ddarts.searching.losses import Term
from ddarts.searching.strategy import Differentiable

#: Draws below it would have an infinite gradient.
_LEAST = 1e-6


class DrNas(Differentiable[DrNasOptions]):
    """gates of an edge ~ Dirichlet(elu(alpha) + 1), drawn with pathwise gradients (equation 2)."""

    def gates(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """Return the mean of each operation's weight."""
        concentrations = [_concentration(alpha) for alpha in logits]
        return [concentration / concentration.sum(1, keepdim=True) for concentration in concentrations]

    def relax(self, logits: Sequence[Tensor], progress: float, draw: torch.Generator) -> list[Tensor]:
        """Draw the weights of each edge."""
        gates = []
        for alpha in logits:
            # random numbers are the CPU's, whatever the device
            gamma = torch.ops.aten._standard_gamma(_concentration(alpha).cpu().double(), generator=draw).clamp_min(
                _LEAST
            )
            gates.append(send((gamma / gamma.sum(1, keepdim=True)).to(alpha.dtype), alpha.device))
        return gates

    def regulariser(self, logits: Sequence[Tensor], gates: Sequence[Tensor], progress: float) -> Mapping[str, Term]:
        """Return the divergence from Dirichlet(1), which keeps concentrations near 1 (equation 3): a mean."""
        divergences = []
        for alpha in logits:
            concentration = _concentration(alpha)
            flat = torch.distributions.Dirichlet(torch.ones_like(concentration), validate_args=False)
            ours = torch.distributions.Dirichlet(concentration, validate_args=False)
            divergences.append(torch.distributions.kl_divergence(ours, flat).mean())
        return {"divergence": Term(self.options.divergence_weight, torch.stack(divergences).mean())}


def _concentration(alpha: Tensor) -> Tensor:
    return F.elu(alpha) + 1 + _LEAST
