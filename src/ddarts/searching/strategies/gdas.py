"""GDAS: one operation an edge and step, drawn by the Gumbel-softmax trick, with two shared cells (arXiv 1910.04465)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddarts.config.strategies import GdasOptions
from ddarts.data.transfer import send
from ddarts.searching.strategy import Differentiable


class Gdas(Differentiable[GdasOptions]):
    """gate = 1 for the operation that was drawn, 0 for the others; the gradient is that of the soft gates.

    With o drawn uniformly from (0, 1), g = -log(-log o) and temperature t, the soft gates of an edge are
    softmax((log softmax(alpha) + g) / t), and the drawn operation is the largest of them.
    """

    def gates(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """Return the probability of each operation of an edge."""
        return [alpha.softmax(1) for alpha in logits]

    def relax(self, logits: Sequence[Tensor], progress: float, draw: torch.Generator) -> list[Tensor]:
        """Draw an operation for each edge; the temperature falls linearly over the search."""
        start, end = self.options.temperature, self.options.temperature_end
        temperature = start + (end - start) * progress
        gates = []
        for alpha in logits:
            uniform = torch.rand(alpha.shape, generator=draw).clamp(1e-6, 1 - 1e-6)
            gumbel = send(-(-uniform.log()).log(), alpha.device).to(alpha.dtype)
            soft = ((alpha.log_softmax(1) + gumbel) / temperature).softmax(1)
            hard = torch.zeros_like(soft).scatter(1, soft.argmax(1, keepdim=True), 1.0)
            gates.append(hard + (soft - soft.detach()))
        return gates
