"""Deeper networks from few searched cells (specification, section 6)."""

from __future__ import annotations

from dataclasses import replace

from ddarts.errors import GenotypeError
from ddarts.genotype.choices import AnyGenotype
from ddarts.genotype.gates import Gates
from ddarts.genotype.genotype import Genotype


def deepen(genotype: Genotype, layers: int) -> Genotype:
    """Return the genotype laid out over `layers` cells.

    With r reductions, the k-th of them moves to position layers * k // (r + 1) and stays the k-th searched reduction
    cell. The normal cells of each stage between them repeat, in turn, those that were searched for that stage: 8 cells
    ``0 1 | 2 | 3 4 | 5 | 6 7`` become 14 as ``0 1 0 1 | 2 | 3 4 3 4 | 5 | 6 7 6 7``. A stage for which no normal cell
    was searched borrows those of the nearest earlier stage that has some, else of the nearest later one, else it uses
    its reduction cell at stride 1 (the one that opens the stage; the first stage, the one that ends it).

    Args:
        genotype: n cells, any number of reductions anywhere.
        layers: L >= n; with L == n the genotype is returned as it is.

    Raises:
        GenotypeError: `layers` is smaller than the number of cells.
    """
    if layers < len(genotype):
        raise GenotypeError(
            f"layers = {layers} is fewer than the {len(genotype)} searched cells; choose {len(genotype)} or more, "
            "or search with fewer cells"
        )
    if layers == len(genotype):
        return genotype
    order = _order([cell.reduction for cell in genotype.cells], layers)
    return replace(genotype, cells=tuple(replace(genotype.cells[i], reduction=halves) for i, halves in order))


def laid_out(genotype: AnyGenotype, layers: int | None) -> AnyGenotype:
    """Return a genotype of cells with so many of them; any other one, and for None, as it is."""
    return deepen(genotype, layers) if layers is not None and isinstance(genotype, Genotype) else genotype


def deepen_gates(gates: Gates, layers: int) -> tuple[Gates, list[int]]:
    """Return gates from which a rule derives what `deepen` makes of the genotype that it derives from `gates`.

    Cells that come from one searched cell share its gates. Returned, too, is which searched cells are used, in order.

    Raises:
        GenotypeError: see `deepen`.
    """
    cells = len(gates.sequence)
    if layers < cells:
        raise GenotypeError(
            f"layers = {layers} is fewer than the {cells} searched cells; choose {cells} or more, "
            "or search with fewer cells"
        )
    order = _order([position in gates.reductions for position in range(cells)], layers)
    searched = [gates.sequence[i] for i, _ in order]
    used = sorted(set(searched))
    deeper = Gates(
        gates.operations,
        gates.nodes,
        tuple(gates.space.concat_of(q) for q in used),
        tuple(used.index(q) for q in searched),
        tuple(position for position, (_, halves) in enumerate(order) if halves),
        tuple(gates.values[q] for q in used),
    )
    return deeper, used


def _order(reductions: list[bool], layers: int) -> list[tuple[int, bool]]:
    """Return for every cell of the deeper network the searched cell that it comes from, and whether it is a reduction.

    Args:
        reductions: for each searched cell, whether it is one.
        layers: cells of the deeper network.
    """
    if layers == len(reductions):  # reductions may stand anywhere
        return list(enumerate(reductions))
    searched = [i for i, halves in enumerate(reductions) if halves]
    positions = [layers * k // (len(searched) + 1) for k in range(1, len(searched) + 1)]
    cells: list[tuple[int, bool]] = []
    for stage in range(len(searched) + 1):
        if stage > 0:
            cells.append((searched[stage - 1], True))
        end = positions[stage] if stage < len(positions) else layers
        source = _normal_cells(reductions, stage)
        cells += [(source[i % len(source)], False) for i in range(end - len(cells))]
    return cells


def _normal_cells(reductions: list[bool], stage: int) -> list[int]:
    """Return the cells that a stage repeats as normal ones, its own or borrowed; never empty."""
    stages: list[list[int]] = [[]]
    for i, halves in enumerate(reductions):
        if halves:
            stages.append([])
        else:
            stages[-1].append(i)
    for own in [*reversed(stages[: stage + 1]), *stages[stage + 1 :]]:
        if own:
            return own
    halving = [i for i, halves in enumerate(reductions) if halves]
    return [halving[max(stage - 1, 0)]]
