"""SDARTS with random smoothing: weights are trained under perturbed gates, two shared cells (arXiv 2002.05283)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddarts.config.strategies import SDartsOptions
from ddarts.data.transfer import send
from ddarts.searching.strategies.darts import Darts


class SDarts(Darts):
    """softmax(alpha) in the alpha step; plus noise from U(-r, r) in the weight step, where r grows (equation 3)."""

    options: SDartsOptions

    def relax(self, logits: Sequence[Tensor], progress: float, draw: torch.Generator) -> list[Tensor]:
        """Return the gates, with noise where they are not trained."""
        gates = self.gates(logits)
        if any(alpha.requires_grad for alpha in logits):
            return gates
        radius = self.options.radius + (self.options.radius_end - self.options.radius) * progress
        noise = (torch.rand(gate.shape, generator=draw) * 2 - 1 for gate in gates)
        return [gate + radius * send(one, gate.device).to(gate.dtype) for gate, one in zip(gates, noise, strict=True)]
