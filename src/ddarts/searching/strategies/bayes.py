"""Bayesian optimisation: a Gaussian process over the operations of the cells chooses what to train next.

A genotype is described by which operation each edge (or choice) of each cell has, once by its place and once without
it: what an operation does where it is, and what it does everywhere. Scores are a Gaussian process with a linear and a
squared kernel on these features (effects of operations, and of pairs of them) and noise; its three weights are those of
the largest marginal likelihood (Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, chapters 2 and 5).
Scores enter by their ranks, as quantiles of a normal distribution: accuracies have a long tail of failures, which would
else decide what the process learns.
Trials are chosen by expected improvement (Jones, Schonlau & Welch, 1998), and the winner is the trial with the best
posterior mean: of noisy scores the largest is mostly luck.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.stats import norm, rankdata

from ddarts.config.strategies import BayesOptions
from ddarts.genotype.choices import AnyGenotype, ChoiceGenotype
from ddarts.genotype.random import mutate
from ddarts.searching.strategy import BlackBox, Trial
from ddarts.space.cell_space import SearchSpace
from ddarts.space.choice_space import ChoiceSpace

#: Shares of the squared kernel, and variances of the noise in units of the kernel's: the likelihood chooses among them.
_SQUARED = (0.0, 0.25, 0.5, 0.75)
_NOISE = tuple(10.0**e for e in np.arange(-3.0, 1.01, 0.5))

#: Candidates that are chosen among after they were fitted to a budget, the best that keep it as they are; and how many
#: are fitted for that at most, since each may take an integer programme: much of one in a space of cells.
_FITTED, _MOST_FITTED = 20, 400
#: A choice space of so many genotypes is looked through whole.
_ALL = 10_000


class Bayes(BlackBox[BayesOptions]):
    """The first proposals are random, or the best by the prior; later ones have the largest expected improvement."""

    def __init__(self, options: BayesOptions, space: SearchSpace | ChoiceSpace, seed: int) -> None:
        super().__init__(options, space, seed)
        self.history: list[Trial] = []
        self._posterior: Posterior | None = None

    def propose(self, number: int, draw: random.Random) -> AnyGenotype:
        """See `BlackBox.propose`."""
        if number < self.options.first:
            return self.draw(number)
        known = {_key(trial.genotype) for trial in self.history}
        candidates = {_key(g): g for g in self._candidates(draw)}
        fresh = [g for key, g in candidates.items() if key not in known] or [self._random(number)]
        fitted: dict[AnyGenotype, AnyGenotype] = {}
        most, kept = _MOST_FITTED if isinstance(self.space, ChoiceSpace) else _FITTED, 0
        for i in np.argsort(-self._improvement(fresh), kind="stable")[:most]:
            found = self.fitted(fresh[i])
            fitted.setdefault(_key(found), found)
            kept += _key(found) == _key(fresh[i])
            if kept == _FITTED:
                break
        fresh = [g for key, g in fitted.items() if key not in known] or list(fitted.values())
        return fresh[int(np.argmax(self._improvement(fresh)))]

    def _improvement(self, genotypes: Sequence[AnyGenotype]) -> np.ndarray:
        """Return the expected improvement of each genotype over the best posterior mean of the trials."""
        mean, deviation = self.posterior.predict(genotypes)
        best = max(self.posterior.predict([trial.genotype for trial in self.history])[0])
        gain = (mean - best) / deviation
        return deviation * (gain * norm.cdf(gain) + norm.pdf(gain))

    def _candidates(self, draw: random.Random) -> list[AnyGenotype]:
        """Random genotypes, and those one to three mutations away from the trials with the best posterior means.

        All genotypes of a small choice space.
        """
        if isinstance(self.space, ChoiceSpace) and self.space.size <= _ALL:
            return _all_genotypes(self.space)
        means = self.posterior.predict([trial.genotype for trial in self.history])[0]
        parents = [self.history[i] for i in np.argsort(-means, kind="stable")[: self.options.parents]]
        found = [self._random(draw.randrange(1, 2**31)) for _ in range(self.options.candidates // 4)]
        while len(found) < self.options.candidates:
            genotype = draw.choice(parents).genotype
            for _ in range(draw.randint(1, 3)):
                genotype = mutate(self.space, genotype, draw)
            found.append(genotype)
        return found

    @property
    def posterior(self) -> Posterior:
        """The posterior of all trials so far."""
        if self._posterior is None:
            scored = [trial for trial in self.history if trial.score is not None]
            self._posterior = Posterior([t.genotype for t in scored], [t.score or 0.0 for t in scored])
        return self._posterior

    def feedback(self, trial: Trial) -> None:
        """Add a trial to the history."""
        self.history.append(trial)
        self._posterior = None

    def value(self, trial: Trial) -> float:
        """Return the posterior mean of a trial."""
        if trial.score is None or len(self.history) < 2:
            return trial.score or 0.0
        return float(self.posterior.predict([trial.genotype])[0][0])


def _key(genotype: AnyGenotype) -> AnyGenotype:
    return genotype.canonical()


@functools.cache
def _all_genotypes(space: ChoiceSpace) -> list[AnyGenotype]:
    choices = itertools.product(*(choice.candidates for choice in space.choices))
    return [ChoiceGenotype(space.name, chosen) for chosen in choices]


@functools.lru_cache(maxsize=2 * _ALL)
def features(genotype: AnyGenotype) -> Counter[tuple[str | int, ...]]:
    """Count what a genotype is made of: operations by cell and kind of edge, by kind of cell, and in all.

    An edge reads an input of its cell or a node; an operation that repeats in a cell counts as often.
    """
    found: Counter[tuple[str | int, ...]] = Counter()
    if isinstance(genotype, ChoiceGenotype):
        for index, candidate in enumerate(genotype.choices):
            found.update([(candidate,), (index, candidate)])
        return found
    for position, cell in enumerate(genotype.cells):
        for edge in cell.edges:
            source = "input" if edge.source < 2 else "node"
            kind = "reduction" if cell.reduction else "normal"
            found.update([(edge.operation,), (kind, edge.operation), (position, edge.operation)])
            found.update([(position, source, edge.operation), (position, source)])
    return found


class Posterior:
    """The Gaussian process given scores.

    Args:
        genotypes: the genotypes of the trials, two or more.
        scores: of each.
    """

    def __init__(self, genotypes: Sequence[AnyGenotype], scores: Sequence[float]) -> None:
        described = [features(genotype) for genotype in genotypes]
        self.names = sorted({name for counts in described for name in counts}, key=str)
        x = self._raw(described)
        self.centre = x.mean(0)
        self.width = float(np.sqrt(max(((x - self.centre) ** 2).sum(1).mean(), 1e-12)))
        self.x = (x - self.centre) / self.width
        y = norm.ppf((rankdata(scores) - 0.5) / len(scores))
        best = -np.inf
        for share in _SQUARED:
            values, vectors = eigh(self._kernel(self.x, self.x, share))
            rotated = vectors.T @ y
            for noise in _NOISE:
                spectrum = np.maximum(values, 0) + noise
                amplitude = float(np.mean(rotated**2 / spectrum))  # the one of the largest likelihood
                likelihood = -0.5 * (len(y) * np.log(max(amplitude, 1e-12)) + np.log(spectrum).sum())
                if likelihood > best:
                    best, self.share, self.noise, self.amplitude = likelihood, share, noise, max(amplitude, 1e-12)
        kernel = self._kernel(self.x, self.x, self.share) + self.noise * np.eye(len(y))
        self.factor = cho_factor(kernel, lower=True)
        self.weights = cho_solve(self.factor, y)

    def predict(self, genotypes: Sequence[AnyGenotype]) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of each genotype's quantile, without the noise of its training."""
        x = (self._raw([features(genotype) for genotype in genotypes]) - self.centre) / self.width
        cross = self._kernel(x, self.x, self.share)
        own = (x**2).sum(1)
        own = (1 - self.share) * own + self.share * own**2
        variance = own - np.einsum("ij,ji->i", cross, cho_solve(self.factor, cross.T))
        deviation = np.sqrt(np.maximum(variance, 1e-9) * self.amplitude)
        return cross @ self.weights, deviation

    def _raw(self, described: Sequence[Counter[tuple[str | int, ...]]]) -> np.ndarray:
        return np.array([[counts[name] for name in self.names] for counts in described], dtype=float)

    @staticmethod
    def _kernel(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
        product = a @ b.T
        return (1 - share) * product + share * product**2
