"""The worst mistakes on a set of images: those about which the network was most certain."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Mistake(NamedTuple):
    """An image whose class was not found.

    Attributes:
        image: its position among the images.
        truth: index of its class.
        taken: index of the class that the network saw.
        confidence: probability that the network gave to `taken`, 0 to 1.
        chance: probability that it gave to the truth, 0 to 1.
    """

    image: int
    truth: int
    taken: int
    confidence: float
    chance: float


class WorstMistakes:
    """Keeps the worst mistakes while batches pass by.

    Args:
        most: how many to keep.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._seen = 0
        self._kept: Tensor | None = None  # float64 [n, 5]: confidence (-1: no mistake), index, truth, taken, chance

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Look at one batch: logits [B, classes], labels int64 [B]. Nothing is read back from a GPU."""
        if self.most < 1:
            return
        probabilities = logits.float().softmax(1)
        confidence, taken = probabilities.max(1)
        index = torch.arange(self._seen, self._seen + len(labels), device=labels.device)
        self._seen += len(labels)
        score = torch.where(taken == labels, -1.0, confidence)
        chance = probabilities.gather(1, labels[:, None])[:, 0]
        rows = torch.stack([column.double() for column in (score, index, labels, taken, chance)], dim=1)
        pool = rows if self._kept is None else torch.cat([self._kept, rows])
        self._kept = pool[pool[:, 0].sort(descending=True, stable=True).indices[: self.most]]

    def listing(self) -> tuple[Mistake, ...]:
        """Return the mistakes, the most confident first."""
        rows = [] if self._kept is None else self._kept.tolist()
        return tuple(
            Mistake(int(index), int(truth), int(taken), confidence, chance)
            for confidence, index, truth, taken, chance in rows
            if confidence >= 0
        )
