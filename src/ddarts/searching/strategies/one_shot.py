"""One-shot: a supernet learns weights for random genotypes, and ranks genotypes with them (arXiv 1904.00420)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddarts.config.strategies import OneShotOptions
from ddarts.data.transfer import send
from ddarts.genotype.choices import AnyGenotype
from ddarts.genotype.derive import derive_genotype
from ddarts.genotype.gates import AnyGates
from ddarts.searching.strategy import Differentiable


class OneShot(Differentiable[OneShotOptions]):
    """Each weight step trains one genotype, all equally likely: gates are 1 for its operations and 0 for the others.

    There are no alpha steps, and the gates stay equal: what is found is the winner of the shortlist.
    """

    trains_alphas = False

    def gates(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """Return equal gates, which prefer nothing."""
        return [torch.full_like(alpha, 0.5) for alpha in logits]

    def relax(self, logits: Sequence[Tensor], progress: float, draw: torch.Generator) -> list[Tensor]:
        """Return gates of 0 and 1: of each choice one candidate, of each node two edges with one operation each."""
        return [send(_one(alpha.shape[0], alpha.shape[1], draw), alpha.device).to(alpha.dtype) for alpha in logits]

    def derive(self, gates: AnyGates, method: str, threshold: float, name: str) -> AnyGenotype:
        """Return some genotype, whatever the threshold: equal gates say nothing."""
        return derive_genotype(gates, "darts", 0.0, name)


def _one(edges: int, operations: int, draw: torch.Generator) -> Tensor:
    """Return the gates of a random choice (one edge) or cell, (edges, operations)."""
    gates = torch.zeros(edges, operations)
    start, states = 0, min(edges, 2)  # a node reads all states before it; edges are in the order of the nodes
    while start < edges:
        for edge in torch.randperm(states, generator=draw)[:2].tolist():
            gates[start + edge, int(torch.randint(operations, (), generator=draw))] = 1.0
        start, states = start + states, states + 1
    return gates
