"""Choice spaces: a fixed skeleton with numbered choices, each with candidates of its own.

A chain space is the plain case: a sequence of layers and one choice for each of them, which is the nesting of the
paper (section 3.1: every cell has architecture weights of its own) on the networks that phones use. A choice may
also stand at several positions of the skeleton: the six edges of NAS-Bench-201 are six choices, each used in 15 cells.

This module holds the facts without PyTorch; the modules are built by the skeleton (`ddarts.nn.choice_network`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ddarts.errors import GenotypeError, SettingsError
from ddarts.runtime.json_input import shown
from ddarts.space.spaces import SPACES

_MAX_CHOICES = 1000
_MAX_CANDIDATES = 1000


class Choice(NamedTuple):
    """One decision of the search."""

    name: str
    """What is chosen, such as ``layer 3``."""
    candidates: tuple[str, ...]
    """Names of the candidates, in the order of the columns of alpha."""


@dataclass(frozen=True)
class ChoiceSpace:
    """What a search may choose from, and where the modules come from.

    Attributes:
        name: name of the space, as genotypes and ``--space`` give it.
        choices: the choices, in the order of the network.
        skeleton: ``module:attribute`` of a `ddarts.nn.choice_network.Skeleton`, which builds the supernet and the
            discrete network.
        reductions: positions of the blocks after the stem that halve the resolution; in a chain, of layers.
        parameter_free: candidates without weights where the shape is kept.
        smallest: pixels a side of the smallest images, besides what the reductions need.
        known: the candidates of a hand-made network, one for each choice, which a search by trials tries first.

    Raises:
        SettingsError: no choices, too many, a choice without candidates or with one candidate twice, a skeleton that
            is not ``module:attribute``, or a hand-made network of other candidates.
    """

    name: str
    choices: tuple[Choice, ...]
    skeleton: str
    reductions: tuple[int, ...] = ()
    parameter_free: frozenset[str] = frozenset()
    smallest: int = 1
    known: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.choices) <= _MAX_CHOICES:
            raise SettingsError(f"space {self.name}: {len(self.choices)} choices, expected 1 to {_MAX_CHOICES}")
        for choice in self.choices:
            candidates = choice.candidates
            if not 1 <= len(candidates) <= _MAX_CANDIDATES or len(set(candidates)) != len(candidates):
                raise SettingsError(
                    f"space {self.name}: the candidates of {choice.name}, {shown(list(candidates))}, must be distinct, "
                    f"1 to {_MAX_CANDIDATES}"
                )
        if not all(self.skeleton.partition(":")[::2]):
            raise SettingsError(f"space {self.name}: skeleton {self.skeleton!r} must be written module:attribute")
        pairs = list(zip(self.known, self.choices, strict=False))
        if len(self.known) not in (0, len(self)) or any(name not in choice.candidates for name, choice in pairs):
            raise SettingsError(
                f"space {self.name}: known = {shown(list(self.known))} must name a candidate of every choice"
            )

    def __len__(self) -> int:
        return len(self.choices)

    @property
    def searched_cells(self) -> int:
        """Number of alphas: one for each choice."""
        return len(self.choices)

    @property
    def size(self) -> int:
        """Number of architectures in the space."""
        return math.prod(len(choice.candidates) for choice in self.choices)


def chain(layers: int, candidates: tuple[str, ...]) -> tuple[Choice, ...]:
    """Return the choices of a chain space of `layers` layers that all have the same candidates."""
    return tuple(Choice(f"layer {i}", candidates) for i in range(layers))


def find_choice_space(name: str, where: str = "") -> ChoiceSpace:
    """Return a registered choice space; `where` begins an error message.

    Raises:
        GenotypeError: the name is unknown, or is that of a space of cells.
    """
    try:
        space = SPACES.get(name, where)
    except SettingsError as error:
        raise GenotypeError(str(error)) from None
    if not isinstance(space, ChoiceSpace):
        raise GenotypeError(f"{f'{where}: ' if where else ''}search space {name!r} consists of cells, not of choices")
    return space
