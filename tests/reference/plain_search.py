"""A search step in the plainest form: a full ablated pass with a graph and a backward pass for every cell."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ddarts.space.cell_space import SearchSpace
from tests.reference.plain_supernet import PlainSupernet


class PlainSearch:
    """What the published code does in a step: its cost, not its defects' results.

    Each cell's loss is built from full passes (the supernet, and the supernet with that cell's gates drawn at random)
    and differentiated on its own; weights get gradients on the way, as they do there, and are cleared before they move.
    """

    def __init__(self, space: SearchSpace, channels: int, zero_one_weight: float = 9.0) -> None:
        self.net = PlainSupernet(space, channels)
        self.space, self.zero_one_weight = space, zero_one_weight
        shape = (len(space.edges), len(space.operations))
        self.alphas = [(1e-3 * torch.randn(shape)).requires_grad_() for _ in range(space.searched_cells)]
        self.alpha_optimizer = torch.optim.Adam(self.alphas, lr=3e-3, weight_decay=1e-3)
        self.weight_optimizer = torch.optim.SGD(self.net.parameters(), lr=0.005, momentum=0.9, weight_decay=3e-4)

    def alpha_step(self, x: Tensor, y: Tensor) -> list[float]:
        """Move every alpha; return the marginal contribution of each cell."""
        gates = [torch.sigmoid(a) for a in self.alphas]
        whole = F.cross_entropy(self.net(x, gates), y)
        ablated = []
        for i, gate in enumerate(gates):
            drawn = [torch.rand_like(gate) if j == i else g for j, g in enumerate(gates)]
            ablated.append(F.cross_entropy(self.net(x, drawn), y).detach())  # its graph was built for nothing
        self.alpha_optimizer.zero_grad()
        for i, alpha in enumerate(self.alphas):
            gate = torch.sigmoid(alpha)
            loss = whole - self.zero_one_weight * (gate - 0.5).square().mean()
            loss.backward(retain_graph=i < len(self.alphas) - 1)
        self.alpha_optimizer.step()
        return [float(whole.detach() - a) for a in ablated]

    def weight_step(self, x: Tensor, y: Tensor) -> None:
        """Move the weights."""
        gates = [torch.sigmoid(a).detach() for a in self.alphas]
        self.weight_optimizer.zero_grad()
        F.cross_entropy(self.net(x, gates), y).backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.weight_optimizer.step()
