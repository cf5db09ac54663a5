"""Shortlist and verify: after a search in a supernet, rank genotypes near its gates and train the best shortly.

The margins between gates are small, so the derived genotype is one of many that the gates allow. Half of the candidates
are drawn with probabilities proportional to the gates, half are neighbours of the derived genotype. They are ranked by
what the trained supernet believes of them; the derived genotype and the best ones are trained with successive halving
(`ddarts.searching.trials`), and the most accurate one on the alpha half is kept. Test images are not used.

After a one-shot search there are no gates to go by: half of the candidates are random genotypes, the others neighbours
of the best so far, and the derived genotype is none of them. Half of the trainings go to the best of them; the others
are chosen by what these have shown (`ddarts.searching.strategies.bayes`), since inherited weights order all genotypes
well and the best ones badly (docs/results.md).

Everything follows from the supernet's last checkpoint and the seed: a search that was killed continues with the same
numbers.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

import torch
from torch import Tensor

from ddarts.config.schema import SearchSettings
from ddarts.config.strategies import OneShotOptions, ShortlistOptions, TrialOptions
from ddarts.cost.budget import Budget
from ddarts.data import Batches, ImageData
from ddarts.errors import GenotypeError
from ddarts.genotype.choices import AnyGenotype
from ddarts.genotype.derive import derive_genotype
from ddarts.genotype.gates import AnyGates, discrete_gates, gates_of
from ddarts.genotype.random import mutate, random_genotype
from ddarts.nn.tasks import CROSS_ENTROPY, Objective
from ddarts.runs.folder import RunFolder
from ddarts.runtime.progress import Progress
from ddarts.runtime.seeds import derive_seed, generator
from ddarts.searching.strategies.bayes import Bayes
from ddarts.searching.strategies.random import RandomSearch
from ddarts.searching.strategy import BlackBox
from ddarts.searching.trials import Trials
from ddarts.supernet.interface import Searchable

#: Batches of the alpha half on which a candidate is scored with inherited weights.
_BATCHES = 4
#: Smallest gate that a candidate may be drawn by; of 0 there is no logarithm.
_SMALLEST = 1e-6
#: After a one-shot search: the best genotypes so far that have neighbours, and those that are fitted to a budget.
_PARENTS, _FITTED = 10, 40


def verified(
    settings: SearchSettings,
    images: ImageData,
    run: RunFolder,
    net: Searchable[Any],
    gates: AnyGates,
    derived: AnyGenotype,
    batches: Batches,
    objective: Objective,
    budget: Budget | None = None,
    *,
    quiet: bool = False,
) -> tuple[AnyGenotype, float]:
    """Return the winner of the shortlist and the seconds that it took; the derived genotype if there is no shortlist.

    Writes a record of every training into the run's metrics (stage ``shortlist``).

    Args:
        settings: of the search.
        images: its training images.
        run: where the search is recorded.
        net: the trained supernet, in training mode.
        gates: what the search has found.
        derived: what its rule derives from them.
        batches: of the alpha half.
        objective: of the search.
        budget: that every candidate has to keep.
        quiet: show no progress.

    Raises:
        DivergedError, Stopped, RunError: see `ddarts.searching.trials.search_by_trials`.
    """
    options = settings.search.strategy
    if not isinstance(options, ShortlistOptions) or not options.shortlist:
        return derived, 0.0
    effort = options.effort()
    kind = _OneShot if isinstance(options, OneShotOptions) else _Shortlist
    proposals = kind(effort, options, net, gates, replace(derived, name=""), batches, objective, settings.seed, quiet)
    trials = Trials(settings, proposals, images, run, "shortlist", budget, settings.derive.method)
    if len(run.metrics("shortlist", "trial")) < effort.trials:
        proposals.in_order()  # before the trials begin to show their progress
    best = trials.run_to_the_end(quiet)
    return replace(best.genotype, name=derived.name), trials.cost()[1]


class _Ranked(BlackBox[Any]):
    """Draws the derived genotype, then the candidates in the order of the supernet's beliefs."""

    def __init__(
        self,
        budget: TrialOptions,
        options: ShortlistOptions,
        net: Searchable[Any],
        gates: AnyGates,
        derived: AnyGenotype,
        batches: Batches,
        objective: Objective,
        seed: int,
        quiet: bool,
    ) -> None:
        super().__init__(budget, net.space, seed)
        self.quiet = quiet
        self.settings, self.net, self.gates, self.derived, self.batches = options, net, gates, derived, batches
        self.objective = objective
        self.ranked: list[AnyGenotype] = []

    def draw(self, number: int) -> AnyGenotype:
        """See `BlackBox.draw`. A space with too few genotypes has its candidates trained more than once."""
        ranked = self.in_order()
        return ranked[number % len(ranked)]

    def in_order(self) -> list[AnyGenotype]:
        """Return the derived genotype and the candidates, the best first; they are ranked once."""
        if not self.ranked:
            self.ranked = self.evolved() if isinstance(self.settings, OneShotOptions) else self.near_the_gates()
        return self.ranked

    def near_the_gates(self) -> list[AnyGenotype]:
        """The derived genotype, then candidates near the gates in the order of the supernet's beliefs."""
        like = self.net.alphas[0]
        values = [torch.tensor(cell, dtype=like.dtype, device=like.device) for cell in self.gates.values]
        held_out = self.held_out()
        if self.settings.shortlist_by == "effect":
            beliefs = [standardised(cell) for cell in effects(self.net, values, *held_out[0], self.objective)]
        else:
            beliefs = [cell.clamp(min=_SMALLEST).log() for cell in values]
        found = candidates(self.net.space, beliefs, self.derived, self.settings.shortlist, self.seed)
        if self.settings.shortlist_by == "one-shot":
            scores = [-one_shot_loss(self.net, genotype, held_out, self.objective) for genotype in found]
        else:
            scores = [belief(self.net.space, beliefs, genotype) for genotype in found]
        return [self.derived, *(found[i] for i in sorted(range(len(found)), key=lambda i: -scores[i]))]

    def held_out(self) -> list[tuple[Tensor, Tensor]]:
        """Batches of the alpha half, which the weights were not trained on."""
        return [self.batches.batch(0, step) for step in range(min(_BATCHES, self.batches.per_epoch))]

    def evolved(self) -> list[AnyGenotype]:
        """Random genotypes and then neighbours of the best so far, by their one-shot loss, the best first."""
        space, count, held_out = self.net.space, self.settings.shortlist, self.held_out()
        known: set[AnyGenotype] = set()
        found: list[tuple[float, int, AnyGenotype]] = []  # loss, number of the genotype: the best, and first, first

        def take_in(genotype: AnyGenotype) -> None:
            if genotype.canonical() not in known:
                known.add(genotype.canonical())
                insort(found, (one_shot_loss(self.net, genotype, held_out, self.objective), len(known), genotype))

        with Progress("ranking", count, "genotype", quiet=self.quiet) as progress:
            for index in range(20 * count):  # a small space may not hold so many
                draw = Random(derive_seed(self.seed, "search", "one-shot", index))
                if len(found) < max(count // 2, 2):
                    take_in(random_genotype(space, seed=draw.randrange(2**31)))
                else:
                    with suppress(GenotypeError):
                        take_in(mutate(space, draw.choice(found[:_PARENTS])[2], draw))
                progress.update(len(found), loss=found[0][0])
                if len(found) >= count:
                    break
        if self.fitted is not BlackBox.fitted:
            kept = [genotype for *_, genotype in found[:_FITTED]]
            found.clear()
            known.clear()
            for genotype in kept:
                take_in(self.fitted(genotype))
        return [genotype for *_, genotype in found]


class _Shortlist(_Ranked, RandomSearch):
    """The derived genotype and the best candidates."""


class _OneShot(_Ranked, Bayes):
    """The best candidates, and then what they make promising."""


def candidates(space: Any, beliefs: Sequence[Tensor], derived: AnyGenotype, count: int, seed: int) -> list[AnyGenotype]:
    r"""Return different genotypes near a derived one, fewer than `count` if the space does not hold as many.

    The first is the one with the largest beliefs. Further ones are drawn: per node two edges, and per edge one
    operation, without replacement and with probabilities proportional to :math:`e^{b}`, by adding Gumbel noise to the
    beliefs (arXiv 1903.06059, section 2.3). In turn with them come neighbours of the derived genotype, with one to
    three changes.

    Args:
        space: of the search.
        beliefs: b of each searched cell, (edges, operations): logarithms of gates, or effects.
        derived: is left out.
        count: of genotypes.
        seed: of the search.
    """
    found = {derived.canonical(): derived}
    for index, genotype in enumerate(_proposals(space, beliefs, derived, seed)):
        if len(found) > count or index > 20 * count:
            break
        found.setdefault(genotype.canonical(), genotype)
    return list(found.values())[1:]


def _proposals(space: Any, beliefs: Sequence[Tensor], derived: AnyGenotype, seed: int) -> Iterator[AnyGenotype]:
    yield _largest(space, beliefs)
    index = 0
    while True:
        draw = generator(seed, "search", "shortlist", index)
        noise = [-torch.empty(cell.shape, dtype=torch.float64).exponential_(generator=draw).log() for cell in beliefs]
        yield _largest(space, [cell.double().cpu() + gumbel for cell, gumbel in zip(beliefs, noise, strict=True)])
        neighbour, changes = derived, Random(derive_seed(seed, "search", "neighbour", index))
        with suppress(GenotypeError):  # the only edge of a cell may come to read a node without an input
            for _ in range(1 + index % 3):
                neighbour = mutate(space, neighbour, changes)
        yield neighbour
        index += 1


def _largest(space: Any, beliefs: Sequence[Tensor]) -> AnyGenotype:
    """Return what the rule `darts` derives from beliefs, brought to the range of gates."""
    scaled = [(cell - cell.min()) / (cell.max() - cell.min()).clamp(min=1e-12) for cell in beliefs]
    return derive_genotype(gates_of(space, [cell.double().tolist() for cell in scaled]), "darts")


def belief(space: Any, beliefs: Sequence[Tensor], genotype: AnyGenotype) -> float:
    """Return the sum of beliefs over the operations of a genotype."""
    chosen = discrete_gates(space, genotype).values
    return math.fsum(float((torch.tensor(c).to(b) * b).sum()) for c, b in zip(chosen, beliefs, strict=True))


@torch.no_grad()
def one_shot_loss(
    net: Searchable[Any],
    genotype: AnyGenotype,
    held_out: Sequence[tuple[Tensor, Tensor]],
    objective: Objective = CROSS_ENTROPY,
) -> float:
    """Return the mean loss of a genotype with the weights that it inherits from the supernet.

    The gates of its operations are 1, all others 0; batch norm normalises by the batch.

    Args:
        net: the supernet, in training mode; its running statistics stay as they are.
        genotype: of its space.
        held_out: batches that its weights were not trained on.
        objective: the loss.
    """
    like = net.alphas[0]
    gates = [torch.tensor(c, dtype=like.dtype, device=like.device) for c in discrete_gates(net.space, genotype).values]
    losses = [objective.loss(net.trunk(x, gates, track=False).logits, y) for x, y in held_out]
    return float(torch.stack(losses).mean())


@torch.no_grad()
def effects(
    net: Searchable[Any], gates: Sequence[Tensor], x: Tensor, y: Tensor, objective: Objective = CROSS_ENTROPY
) -> list[Tensor]:
    """Return by how much the loss rises when an operation is removed, plus the same for its whole edge.

    Removed means that the gate is 0. The branches share everything before the cell with the whole supernet.

    Args:
        net: the supernet, in training mode; its running statistics stay as they are.
        gates: of each searched cell (edges, operations).
        x: images (N, C, H, W).
        y: labels (N).
        objective: the loss.

    Returns:
        for each searched cell (edges, operations).
    """
    trunk = net.trunk(x, gates, track=False, keep=True)
    whole = objective.loss(trunk.logits, y)
    found = []
    for cell, of_cell in enumerate(gates):
        starts = [trunk.states[index] for index in net.branch_starts(cell)]

        def without(*place: int, cell: int = cell, starts: list[Tensor] = starts) -> Tensor:
            left = gates[cell].clone()
            left[place] = 0
            logits = net.branch(cell, starts, gates, left, precomputed=trunk.precomputed)
            return objective.loss(logits, y) - whole

        edges, operations = of_cell.shape
        rises = [torch.stack([without(e, o) for o in range(operations)]) + without(e) for e in range(edges)]
        found.append(torch.stack(rises))
    return found


def standardised(effect: Tensor) -> Tensor:
    """Return the effects in a cell in units of their standard deviation."""
    return effect / effect.std(correction=0).clamp(min=1e-12)
