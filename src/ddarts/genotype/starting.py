"""Where a search starts: from nothing, or from a hand-made network (DARTOpti; paper, section 5; specification, 7)."""

from __future__ import annotations

from dataclasses import replace

from ddarts.errors import SettingsError
from ddarts.genotype.choices import AnyGenotype, ChoiceGenotype
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.zoo.baselines import shared_sequence
from ddarts.space.cell_space import SearchSpace, build_space
from ddarts.space.choice_space import ChoiceSpace, find_choice_space

#: Initial alphas, [searched cell][edge][operation].
Alphas = tuple[tuple[tuple[float, ...], ...], ...]


def search_space(
    name: str,
    *,
    cells: int = 8,
    nodes: int = 4,
    reductions: tuple[int, ...] | None = None,
    baseline: Genotype | None = None,
    share_gates: bool = True,
    shared_cells: bool = False,
) -> SearchSpace:
    """Return the space of a search.

    Args:
        name: "darts", "dartopti", or "auto": dartopti with a baseline, else darts.
        cells, nodes, reductions: size of the space without a baseline, see `build_space`.
        baseline: the network to start from. Its cells, reductions and concatenated states are the space's, and every
            cell gets as many nodes as the largest cell has.
        shared_cells: let all normal cells share one alpha and all reduction cells another, as in DARTS.
        share_gates: let cells that are equal in the baseline share gates (not weights), as published.

    Raises:
        SettingsError: a size is out of range, or the baseline has an operation that the space has not.
    """
    if name == "auto":
        name = "darts" if baseline is None else "dartopti"
    if baseline is None:
        space = build_space(name, cells=cells, nodes=nodes, reductions=reductions)
        if not shared_cells:
            return space
        kinds = [position in space.reductions for position in range(cells)]
        return replace(space, sequence=tuple(sorted(set(kinds)).index(kind) for kind in kinds))
    most = max(cell.nodes for cell in baseline.cells)
    operations = build_space(name, cells=len(baseline), nodes=min(most, 8)).operations
    for i, cell in enumerate(baseline.cells):
        for edge in cell.edges:
            if edge.operation not in operations:  # dartopti has them all
                raise SettingsError(
                    f"baseline {baseline.name!r}, cell {i}: {edge.operation} is not an operation of the space {name}; "
                    "choose space dartopti"
                )
    sequence = shared_sequence(baseline) if share_gates else tuple(range(len(baseline)))
    concats = tuple(baseline.cells[sequence.index(i)].concat for i in range(max(sequence) + 1))
    return SearchSpace(
        operations=operations,
        nodes=most,
        concat=concats[0] if len(set(concats)) == 1 else concats,
        sequence=sequence,
        reductions=baseline.reductions,
    )


def original_genotype(name: str) -> ChoiceGenotype:
    """Return the genotype of a network ``torchvision:NAME``, ``timm:NAME`` or ``standard:NAME``: all of its own blocks.

    Raises:
        GenotypeError: the network is not supported; the message lists those that are.
    """
    space = find_choice_space(name)
    return ChoiceGenotype.from_indices(space, [0] * len(space), name)


def starting_alphas(
    space: SearchSpace | ChoiceSpace, baseline: AnyGenotype, *, used: float | None = None, unused: float | None = None
) -> Alphas:
    """Return alphas at which the gates say the baseline: `used` where it has an operation, `unused` elsewhere.

    With `used` above and `unused` below the threshold, the rule `threshold_edge` gives the baseline back (at most two
    operations an edge, which is all that the published baselines have).

    Args:
        space: what `search_space` returned for this baseline.
        baseline: the network to start from.
        used: alpha of an operation that the baseline has; if not given 10 as in the paper, a gate of 0.99995, or 2 in
            a choice space, a gate of 0.88.
        unused: alpha of any other; if not given 0 as in the paper, a gate of 1/2, or -2 in a choice space, where gates
            of 1/2 would drown the block of the original in the others.
    """
    defaults = (2.0, -2.0) if isinstance(space, ChoiceSpace) else (10.0, 0.0)
    used, unused = (d if value is None else value for value, d in zip((used, unused), defaults, strict=True))
    if isinstance(space, ChoiceSpace):
        assert isinstance(baseline, ChoiceGenotype)
        return tuple(
            (tuple(used if name == chosen else unused for name in choice.candidates),)
            for choice, chosen in zip(space.choices, baseline.choices, strict=True)
        )
    assert isinstance(baseline, Genotype)
    rows = []
    for searched in range(space.searched_cells):
        cell = baseline.cells[space.sequence.index(searched)]
        present = set(cell.edges)
        rows.append(
            tuple(
                tuple(used if (operation, *edge) in present else unused for operation in space.operations)
                for edge in space.edges
            )
        )
    return tuple(rows)
