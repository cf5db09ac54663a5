"""A moving average of a network's weights and buffers, which often classifies better than the last weights."""

from __future__ import annotations

import copy
from typing import cast

import torch

from ddarts.nn.choice_network import AnyNetwork


class WeightAverage:
    """Exponential moving average of weights and batch-norm statistics.

    average <- d average + (1 - d) current, with d = min(decay, (1 + step) / (10 + step)): the decay rises from 0.1, so
    that the average soon forgets the random weights of the start. Whole numbers (batches seen) are copied.

    Args:
        network: what to average; the average starts as a copy of it, on the same device.
        decay: 0 to 1, as far as it rises.

    Attributes:
        network: a network that holds the average, in evaluation mode.
    """

    def __init__(self, network: AnyNetwork, decay: float) -> None:
        self.decay = decay
        self.network = cast(AnyNetwork, copy.deepcopy(network).eval())
        self.network.requires_grad_(False)

    @torch.no_grad()
    def update(self, network: AnyNetwork, step: int) -> None:
        """Take in the weights after `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        moving = [(a, b) for a, b in pairs if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in moving], [b for _, b in moving], 1 - decay)  # type: ignore[attr-defined]
        for average, current in pairs:
            if not average.is_floating_point():
                average.copy_(current)
