"""The honest opponents of a search: random networks of the same size, and random search at the same cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ddarts.errors import SettingsError
from ddarts.genotype.choices import AnyGenotype
from ddarts.genotype.deepen import deepen
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.random import random_genotype
from ddarts.runtime.seeds import derive_seed
from ddarts.space.cell_space import SearchSpace
from ddarts.space.choice_space import ChoiceSpace

#: Random networks count as of the same size within this share of the parameters.
TOLERANCE = 0.1
_MOST_DRAWS = 3000


def random_genotypes(
    space: SearchSpace | ChoiceSpace, *, seed: int, label: str, layers: int | None = None
) -> Iterator[AnyGenotype]:
    """Yield random genotypes of a space without end, the same ones for the same seed and label.

    Args:
        space: from which a search chose.
        seed: of the trial.
        label: what they are for.
        layers: cells of the networks, if more than searched.
    """
    index = 0
    while True:
        drawn = random_genotype(space, seed=derive_seed(seed, label, index))
        yield deepen(drawn, layers) if layers is not None and isinstance(drawn, Genotype) else drawn
        index += 1


def same_size(
    draws: Iterator[AnyGenotype], parameters: int, count: Callable[[AnyGenotype], int], tolerance: float = TOLERANCE
) -> AnyGenotype:
    """Return the first drawn genotype whose network has as many parameters, within `tolerance`.

    Args:
        draws: random genotypes.
        parameters: of the network that a search found.
        count: returns the parameters of a genotype's network.
        tolerance: largest relative difference.

    Raises:
        SettingsError: 3,000 draws give none.
    """
    for _, genotype in zip(range(_MOST_DRAWS), draws, strict=False):
        if abs(count(genotype) - parameters) <= tolerance * parameters:
            return genotype
    raise SettingsError(
        f"none of {_MOST_DRAWS:,} random networks has {parameters:,} parameters within {100 * tolerance:.0f} %: "
        "the search found one of unusual size; compare without opponents (--no-opponents)"
    )


@dataclass(frozen=True)
class Draw:
    """A short training of a drawn network: which one, for how many epochs, validation accuracy, seconds."""

    index: int
    epochs: int
    score: float
    seconds: float


def search_at_cost(
    evaluate: Callable[[int, int], Draw], *, budget_s: float, epochs: int, most: int = 100, rungs: int = 3
) -> tuple[int, list[Draw]]:
    """Search at random with successive halving until a budget of seconds is spent; return the winner and all draws.

    The first rung trains drawn networks for an eighth of the final epochs, each later one the better half of the
    previous rung for twice as long (Jamieson and Talwalkar 2016; Li and Talwalkar 2019 for architectures). Every rung
    gets an equal share of what is left. A training starts only if, at the pace so far, its rung can afford it; the
    first one always starts.

    Args:
        evaluate: trains network number `index` for `epochs` and returns the draw.
        budget_s: seconds that the search took which this opposes.
        epochs: of the final training; short trainings take half of it at most.
        most: networks drawn, however cheap they are.
        rungs: levels of halving, fewer if the final training is short.
    """
    short = max(1, epochs // 8)
    lengths = [n for n in (short * 2**r for r in range(rungs)) if n == short or n <= epochs // 2]
    draws: list[Draw] = []
    candidates: Iterator[int] = iter(range(most))
    spent, winner = 0.0, 0
    for rung, length in enumerate(lengths):
        limit = spent + (budget_s - spent) / (len(lengths) - rung)
        level: list[Draw] = []
        for index in candidates:
            pace = sum(d.seconds for d in draws) / sum(d.epochs for d in draws) if draws else 0.0
            if draws and spent + pace * length > limit:
                break
            level.append(evaluate(index, length))
            draws.append(level[-1])
            spent += level[-1].seconds
        if not level:
            break
        level.sort(key=lambda draw: -draw.score)  # stable: of equals, the one drawn first
        winner = level[0].index
        if len(level) == 1:
            break
        candidates = iter([draw.index for draw in level[: -(-len(level) // 2)]])
    return winner, draws
