"""Random search with optional successive halving (arXiv 1902.07638; arXiv 1502.07943, algorithm 1)."""

from __future__ import annotations

import random

from ddarts.config.strategies import RandomOptions
from ddarts.genotype.choices import AnyGenotype
from ddarts.genotype.random import random_genotype
from ddarts.runtime.seeds import derive_seed
from ddarts.searching.strategy import BlackBox


class RandomSearch(BlackBox[RandomOptions]):
    """Every proposal is drawn independently; the first is the one that `random_genotype` draws from the seed."""

    def propose(self, number: int, draw: random.Random) -> AnyGenotype:
        """See `BlackBox.propose`."""
        seed = derive_seed(self.seed, "search", "random", number) if number else self.seed
        return random_genotype(self.space, seed=seed)

    def rungs(self) -> list[tuple[int, int]]:
        """Return one rung, or with halving those down to one trial: 1/N of the trials, N times the steps each."""
        rungs = super().rungs()
        while self.options.halving is not None and rungs[-1][0] > 1:
            trials, steps = rungs[-1]
            rungs.append((max(trials // self.options.halving, 1), steps * self.options.halving))
        return rungs
