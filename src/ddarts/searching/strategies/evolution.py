"""Regularised evolution: mutate the best of a sample of the youngest trials (arXiv 1802.01548, algorithm 1)."""

from __future__ import annotations

import random
from collections import deque

from ddarts.config.strategies import EvolutionOptions
from ddarts.genotype.choices import AnyGenotype
from ddarts.genotype.random import mutate
from ddarts.searching.strategy import BlackBox, Trial
from ddarts.space.cell_space import SearchSpace
from ddarts.space.choice_space import ChoiceSpace


class Evolution(BlackBox[EvolutionOptions]):
    """The first proposals are random, or the best by the prior; each later one is a mutation of a good young one."""

    def __init__(self, options: EvolutionOptions, space: SearchSpace | ChoiceSpace, seed: int) -> None:
        super().__init__(options, space, seed)
        self.population: deque[Trial] = deque(maxlen=options.population)

    def propose(self, number: int, draw: random.Random) -> AnyGenotype:
        """See `BlackBox.propose`."""
        if number < self.options.population:
            return self.draw(number)
        sample = draw.sample(list(self.population), min(self.options.tournament, len(self.population)))
        return self.fitted(mutate(self.space, max(sample, key=lambda trial: trial.score or 0.0).genotype, draw))

    def feedback(self, trial: Trial) -> None:
        """Add a trial to the population."""
        self.population.append(trial)
