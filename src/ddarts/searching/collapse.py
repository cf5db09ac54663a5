"""The collapse watch: is a cell about to be made of pools and identities only?

Differentiable searches are known to drift there: operations without weights help a supernet early and make poor
networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from ddarts.errors import GenotypeError
from ddarts.genotype.choices import ChoiceGates
from ddarts.genotype.derive import choose_edges, derive_genotype, margins, parameter_free_share
from ddarts.genotype.gates import AnyGates


@dataclass(frozen=True)
class Health:
    """The state of the gates after an epoch.

    Attributes:
        parameter_free: for each searched cell, the share of operations without weights among those that would be chosen
            now (two edges per node, each its best operation, whatever their gates).
        margin: for each searched cell, the mean difference between a chosen gate and the next best.
        collapsed: searched cells that are decided and made of such operations only.
        complete: the rule would find something in every cell, so that a genotype can be derived.
    """

    parameter_free: tuple[float, ...]
    margin: tuple[float, ...]
    collapsed: tuple[int, ...]
    complete: bool


def check_health(gates: AnyGates, method: str, threshold: float, *, last: bool) -> Health:
    """Judge the gates.

    A cell counts as collapsed when all that the rule would pick in it is without weights and the choice is made: the
    best gates of its nodes have all reached the threshold (early in a search gates are near 1/2 and their order means
    nothing), or this is the `last` epoch, when what the rule picks is what will be built.

    A layer of a choice space may well be left out, so the shares are those of the whole network, and it counts as
    collapsed when that has no weights in any layer.
    """
    if isinstance(gates, ChoiceGates):
        genotype = derive_genotype(gates, method, threshold)
        ranked = [sorted(row, reverse=True) for (row,) in gates.values]
        lead = tuple(row[0] - row[1] if len(row) > 1 else 0.0 for row in ranked)
        free, choices = genotype.parameter_free_share, range(len(genotype))
        return Health((free,) * len(choices), lead, tuple(choices) if free == 1 and last else (), True)
    free = parameter_free_share(gates, "darts")
    built = parameter_free_share(gates, method, threshold)
    collapsed = []
    for cell, cell_gates in enumerate(gates.values):
        wanted = choose_edges(cell_gates, gates.operations, gates.nodes, "darts", 0.0)
        reached = choose_edges(cell_gates, gates.operations, gates.nodes, "threshold_sparse", threshold)
        decided = len(reached) == len(wanted)
        if built[cell] == 1 and (last or decided):
            collapsed.append(cell)
    try:
        derive_genotype(gates, method, threshold)
        complete = True
    except GenotypeError:
        complete = False
    return Health(free, tuple(m.mean for m in margins(gates, "darts")), tuple(collapsed), complete)
