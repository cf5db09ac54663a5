"""Random search with optional successive halving (arXiv 1902.07638; arXiv 1502.07943, algorithm 1)."""

from __future__ import annotations

import random

from ddarts.config.strategies import RandomOptions
from ddarts.genotype.choices import AnyGenotype
from ddarts.searching.strategy import BlackBox


class RandomSearch(BlackBox[RandomOptions]):
    """Every proposal is drawn independently, or with a prior they are the best of many draws."""

    def propose(self, number: int, draw: random.Random) -> AnyGenotype:
        """See `BlackBox.propose`."""
        return self.draw(number)
