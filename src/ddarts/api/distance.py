"""`ddarts distance`: how far architectures are from each other."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddarts.errors import SettingsError, nearest
from ddarts.genotype.distance import UNEQUAL, OperationWeights, Unequal, cell_distances, mean_distance
from ddarts.genotype.genotype import Genotype, printable_name
from ddarts.genotype.zoo.lookup import find_genotype
from ddarts.results import Outcome

if TYPE_CHECKING:
    from rich.table import Table

PathLike = str | os.PathLike[str]
Named = Genotype | PathLike

_MOST_WITH_CELLS = 8  # architectures whose distances are listed cell by cell
_COLUMNS = 11  # of distances that fit beside each other into 120 characters


@dataclass(frozen=True)
class DistanceResult(Outcome):
    """Distances of architectures from each other.

    Attributes:
        names: what the architectures were called.
        lengths: cells of each.
        matrix: [i][j], the distance of architectures i and j, 0 to 1.
        per_cell: [i][j], the distances of their cells in order.
        unequal: how architectures of unequal length were compared.
        weights: of the operations.
        path: file of the heat map, if one was asked for.
    """

    names: tuple[str, ...]
    lengths: tuple[int, ...]
    matrix: tuple[tuple[float, ...], ...]
    per_cell: tuple[tuple[tuple[float, ...], ...], ...]
    unequal: str
    weights: OperationWeights
    path: Path | None = None

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return the distances cell by cell, and how they were taken."""
        if len(self.names) == 2:
            for position, value in enumerate(self.per_cell[0][1]):
                yield f"cell {position}", f"{value:.4f}"
            yield "mean", f"{self.matrix[0][1]:.4f}"
        elif len(self.names) <= _MOST_WITH_CELLS:
            for i, j in itertools.combinations(range(len(self.names)), 2):
                yield f"cells of {i + 1} and {j + 1}", " ".join(f"{v:.3f}" for v in self.per_cell[i][j])
        else:
            yield "cell by cell", "--json has them"
        if len(set(self.lengths)) > 1:
            lengths = ", ".join(map(str, self.lengths[:20])) + (", ..." if len(self.lengths) > 20 else "")
            how = "over the shorter of two" if self.unequal == "shorter" else "1 for each cell without a partner"
            yield "unequal lengths", f"{lengths} cells; {how}"
        yield "weights", self.weights.source or "of no named source"
        if self.path is not None:
            yield "picture", str(self.path)

    def table(self) -> Table:
        """Return a row a cell for two architectures; for more the matrix, then the cells of each pair."""
        from rich.table import Table
        from rich.text import Text

        parts = Table.grid()
        if len(self.names) == 2:
            parts.add_row(Text(f"distance of {self.names[0]} and {self.names[1]}"))
        else:
            parts.add_row(Text("distance"))
            for start in range(0, len(self.names), _COLUMNS):
                parts.add_row(self._columns(range(start, min(start + _COLUMNS, len(self.names)))))
        parts.add_row(super().table())
        return parts

    def _columns(self, shown: range) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE, pad_edge=False)
        table.add_column("")
        table.add_column("architecture", overflow="ellipsis", no_wrap=True, max_width=30)
        for j in shown:
            table.add_column(str(j + 1), justify="right", no_wrap=True)
        for i, name in enumerate(self.names):
            table.add_row(str(i + 1), Text(name), *(f"{self.matrix[i][j]:.3f}" for j in shown))
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {
            "names": list(self.names),
            "cells": list(self.lengths),
            "matrix": [list(row) for row in self.matrix],
            "per_cell": [[list(cells) for cells in row] for row in self.per_cell],
            "unequal": self.unequal,
            "weights": self.weights.to_dict(),
            "picture": None if self.path is None else str(self.path),
        }


def distance(
    *architectures: Named | Sequence[Named],
    weights: OperationWeights | PathLike | None = None,
    unequal: Unequal = "shorter",
    out: PathLike | None = None,
) -> DistanceResult:
    """Return how far architectures are from each other (paper, section 5).

    What is compared, and in which sense it is a metric, is told in `ddarts.genotype.distance`.

    Args:
        *architectures: two or more, or one list of them. Each is a `Genotype`, a genotype file, a run that has one, or
            the name of a published architecture.
        weights: of the operations: an `OperationWeights`, its file, or the folder that `measure_operations` made; the
            published ones if not given.
        unequal: architectures of unequal length are compared over the "shorter", or with a "penalty": each extra cell
            counts as 1.
        out: file for a heat map, ending in .svg, .png or .pdf.

    Raises:
        SettingsError: fewer than two architectures, or an unknown value of `unequal` or ending of `out`.
        GenotypeError: an architecture is not there or broken, or so are the weights.
        RunError: the picture cannot be written.
    """
    from ddarts.reporting.heatmap import picture_kind, write_heat_map

    given = _flat(architectures)
    if len(given) < 2:
        count = "one architecture is" if given else "no architecture is"
        raise SettingsError(f"{count} named; a distance needs two or more, such as: ddarts distance resnet18 resnet50")
    if unequal not in UNEQUAL:
        raise SettingsError(f"unknown value of unequal: {str(unequal)[:60]!r}{nearest(str(unequal)[:60], UNEQUAL)}")
    path = None if out is None else Path(out)
    if path is not None:
        picture_kind(path)
    chosen = OperationWeights.of(weights)
    genotypes = [find_genotype(one) for one in given]
    names = _names(given, genotypes)
    found: dict[tuple[int, int], tuple[float, ...]] = {}
    for i, a in enumerate(genotypes):
        for j, b in enumerate(genotypes[: i + 1]):
            found[i, j] = found[j, i] = cell_distances(a, b, chosen, unequal)
    places = range(len(genotypes))
    matrix = tuple(tuple(mean_distance(found[i, j]) for j in places) for i in places)
    if path is not None:
        write_heat_map(path, names, matrix, title="Distance between architectures")
    return DistanceResult(
        names=names,
        lengths=tuple(map(len, genotypes)),
        matrix=matrix,
        per_cell=tuple(tuple(found[i, j] for j in places) for i in places),
        unequal=unequal,
        weights=chosen,
        path=path,
    )


def _flat(architectures: Sequence[Named | Sequence[Named]]) -> list[Named]:
    flat: list[Named] = []
    for one in architectures:
        if isinstance(one, str | os.PathLike | Genotype):
            flat.append(one)
        else:
            flat += one
    return flat


def _names(given: Sequence[Named], genotypes: Sequence[Genotype]) -> tuple[str, ...]:
    """Return what was given as text, and the names of genotypes; a number tells equal ones apart."""
    names = [
        (genotype.name or "genotype") if isinstance(one, Genotype) else printable_name(os.fspath(one))
        for one, genotype in zip(given, genotypes, strict=True)
    ]
    counts, seen = Counter(names), Counter[str]()
    for i, name in enumerate(names):
        if counts[name] > 1:
            seen[name] += 1
            names[i] = f"{name} ({seen[name]})"
    return tuple(names)
