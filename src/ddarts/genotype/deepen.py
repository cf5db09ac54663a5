"""Deeper networks from few searched cells (specification, section 6)."""

from __future__ import annotations

from dataclasses import replace

from ddarts.errors import GenotypeError
from ddarts.genotype.genotype import CellGenotype, Genotype


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
    searched = [cell for cell in genotype.cells if cell.reduction]
    positions = [layers * k // (len(searched) + 1) for k in range(1, len(searched) + 1)]
    sources = [_normal_cells(genotype, stage) for stage in range(len(searched) + 1)]
    cells: list[CellGenotype] = []
    for stage, source in enumerate(sources):
        if stage > 0:
            cells.append(searched[stage - 1])
        end = positions[stage] if stage < len(positions) else layers
        cells += [source[i % len(source)] for i in range(end - len(cells))]
    return replace(genotype, cells=tuple(cells))


def _normal_cells(genotype: Genotype, stage: int) -> list[CellGenotype]:
    """Return the normal cells that a stage repeats, its own or borrowed; never empty."""
    stages: list[list[CellGenotype]] = [[]]
    for cell in genotype.cells:
        if cell.reduction:
            stages.append([])
        else:
            stages[-1].append(cell)
    for own in [*reversed(stages[: stage + 1]), *stages[stage + 1 :]]:
        if own:
            return own
    reductions = [cell for cell in genotype.cells if cell.reduction]
    return [replace(reductions[max(stage - 1, 0)], reduction=False)]
