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

    def rungs(self) -> list[tuple[int, int]]:
        """Return one rung, or with halving those down to one trial: 1/N of the trials, N times the steps each."""
        rungs = super().rungs()
        while self.options.halving is not None and rungs[-1][0] > 1:
            trials, steps = rungs[-1]
            rungs.append((max(trials // self.options.halving, 1), steps * self.options.halving))
        return rungs
