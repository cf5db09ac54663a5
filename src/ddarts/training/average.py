"""A moving average of a network's weights and buffers, which often classifies better than the last weights."""

from __future__ import annotations

import copy
from typing import cast

import torch

from ddarts.models.network import Network


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

    def __init__(self, network: Network, decay: float) -> None:
        self.decay = decay
        self.network = cast(Network, copy.deepcopy(network).eval())
        self.network.requires_grad_(False)

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """Take in the weights after `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, current in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(current, 1 - decay)
            else:
                average.copy_(current)
