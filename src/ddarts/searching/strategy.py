"""What a search strategy is: a way to turn alphas into gates, or a way to propose genotypes.

The search itself (``ddarts.searching.loop``, ``ddarts.searching.trials``) is the same for all strategies. A strategy
keeps no random state: it is given generators that follow from the seed and the step, so that a search that was
interrupted continues with the same numbers.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from ddarts.config.strategies import StrategyOptions, TrialOptions
from ddarts.errors import SettingsError
from ddarts.genotype.choices import AnyGenotype
from ddarts.genotype.derive import derive_genotype
from ddarts.genotype.gates import AnyGates
from ddarts.genotype.random import first_genotype, random_genotype
from ddarts.runtime.registry import load_reference
from ddarts.runtime.seeds import derive_seed
from ddarts.searching.alpha_step import AblationPlan
from ddarts.searching.contributions import Contributions
from ddarts.searching.losses import Term
from ddarts.space.cell_space import SearchSpace
from ddarts.space.choice_space import ChoiceSpace
from ddarts.supernet.interface import Searchable

S = TypeVar("S", bound=StrategyOptions)
T = TypeVar("T", bound=TrialOptions)


@dataclass(frozen=True, eq=False)
class SearchOutcome:
    """What a search found.

    Attributes:
        gates: of the last epoch, or of the best one if the search was stopped by the collapse watch; of a black-box
            search, 1 for every operation of the best genotype and 0 for all others.
        genotype: what the settings' rule derives from them, or the best genotype.
        best_epoch: the epoch that the gates are of, or the number of the best trial.
        search_s: seconds of searching, those before a stop included.
        stopped: why it ended before the last epoch, or None.
        costs: of the network, of each kind that has a budget.
    """

    gates: AnyGates
    genotype: AnyGenotype
    best_epoch: int
    search_s: float
    stopped: str | None
    costs: Mapping[str, float] = field(default_factory=dict)


class Differentiable(ABC, Generic[S]):
    """A strategy that trains alphas and weights of a supernet together.

    Attributes:
        options: its settings.
        extra_logits: columns of an alpha besides those of the operations.
        ablation_floor: floor of nu in the ablation losses of the log (`ddarts.searching.losses`).
        trains_alphas: whether there are alpha steps.
        price: what gates cost above a budget, with its weight in the loss; None without a budget.
    """

    extra_logits: ClassVar[int] = 0
    trains_alphas: ClassVar[bool] = True
    ablation_floor = 0.1
    price: Callable[[Sequence[Tensor]], Term] | None = None

    def __init__(self, options: S) -> None:
        self.options = options

    @abstractmethod
    def gates(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """Return the gates that the alphas stand for, 0 to 1, without chance: what is recorded and derived from.

        Args:
            logits: the alpha of each searched cell, (edges, operations + `extra_logits`).

        Returns:
            for each searched cell (edges, operations), differentiable.
        """

    def relax(self, logits: Sequence[Tensor], progress: float, draw: torch.Generator) -> list[Tensor]:
        """Return the gates of one step, as `gates` does; by default the same.

        Args:
            logits: the alphas; of a weight step without a graph.
            progress: position in the search, from 0 to 1.
            draw: the step's random numbers, on the CPU.
        """
        return self.gates(logits)

    def regulariser(self, logits: Sequence[Tensor], gates: Sequence[Tensor], progress: float) -> Mapping[str, Term]:
        """Return the terms that the alpha loss has besides cross-entropy and price, by the names in the log."""
        return {}

    def terms(self, logits: Sequence[Tensor], gates: Sequence[Tensor], progress: float) -> Mapping[str, Term]:
        """Return all terms that the alpha loss has besides the cross-entropy: `regulariser`, and the price."""
        priced = {} if self.price is None else {"price": self.price(gates)}
        return {**self.regulariser(logits, gates, progress), **priced}

    def plan(self, contributions: Contributions, net: Searchable, seed: int, step: int) -> AblationPlan:
        """Return which cells the alpha step ablates; by default none."""
        return AblationPlan()

    def derive(self, gates: AnyGates, method: str, threshold: float, name: str) -> AnyGenotype:
        """Return the genotype of gates; see `derive_genotype`."""
        return derive_genotype(gates, method, threshold, name)


@dataclass(frozen=True)
class Trial:
    """A genotype that was trained and scored.

    Attributes:
        number: of the proposal, from 0.
        genotype: what was proposed.
        score: accuracy on the alpha half, 0 to 1; None if it was taken without a training.
        steps: training steps in all that the score was reached with.
    """

    number: int
    genotype: AnyGenotype
    score: float | None
    steps: int


class BlackBox(ABC, Generic[T]):
    """A strategy that proposes genotypes and receives their scores.

    Its state follows from the history of trials alone (`recover`), which the run records.

    Attributes:
        options: its settings.
        space: what genotypes are drawn from.
        seed: of the search.
        rank: orders genotypes, the best first, before any training; None without a prior.
        fitted: turns a genotype into one that keeps the budget; the same one without a budget.
    """

    rank: Callable[[list[AnyGenotype]], list[AnyGenotype]] | None = None
    fitted: Callable[[AnyGenotype], AnyGenotype] = staticmethod(lambda genotype: genotype)

    def __init__(self, options: T, space: SearchSpace | ChoiceSpace, seed: int) -> None:
        self.options, self.space, self.seed = options, space, seed
        self._ranked: list[AnyGenotype] = []

    def draw(self, number: int) -> AnyGenotype:
        """Return a random genotype, the same one for the same number; with a prior the next best of its draws.

        Number 0 without a prior is the hand-made network of the space, or what `random_genotype` draws from the seed of
        the search.
        """
        if self.rank is None:
            return self._random(number)
        if not self._ranked:
            self._ranked = self.rank(
                [self._random(i) for i in range(max(self.options.prior_draws, self.options.trials))]
            )
        return self._ranked[number]

    def _random(self, number: int) -> AnyGenotype:
        if number == 0:
            return self.fitted(first_genotype(self.space, seed=self.seed))
        return self.fitted(random_genotype(self.space, seed=derive_seed(self.seed, "search", "random", number)))

    @abstractmethod
    def propose(self, number: int, draw: random.Random) -> AnyGenotype:
        """Return the genotype of a trial.

        Args:
            number: of the trial, from 0; all trials before it have been fed back.
            draw: the trial's random numbers.
        """

    def feedback(self, trial: Trial) -> None:
        """Take in the result of a trial; by default it is ignored."""

    def value(self, trial: Trial) -> float:
        """Return by how much a trial is preferred to others; by default its score.

        It is asked for when all trials of a rung have been fed back.
        """
        return trial.score or 0.0

    def recover(self, history: Sequence[Trial]) -> None:
        """Rebuild the state of a new object from all trials so far, in their order."""
        for trial in history:
            self.feedback(trial)

    def rungs(self) -> list[tuple[int, int]]:
        """Return the trials and steps of each rung; by default those of `TrialOptions.rungs`."""
        return self.options.rungs()


def implementation_of(options: StrategyOptions) -> Any:
    """Return the class that implements a strategy.

    Raises:
        SettingsError: it cannot be imported.
    """
    reference = options.implementation
    try:
        return load_reference(reference) if isinstance(reference, str) else reference
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"strategy {options.name!r}: {reference} cannot be imported ({error}); fix its package, or choose another"
        ) from None
