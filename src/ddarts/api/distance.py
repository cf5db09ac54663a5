"""`ddarts distance`: distances between architectures."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddarts.errors import SettingsError, nearest
from ddarts.genotype.distance import (
    UNEQUAL,
    CellDifference,
    OperationWeights,
    Unequal,
    cell_differences,
    cell_distances,
    edit_distance,
    mean_distance,
)
from ddarts.genotype.genotype import Genotype, printable_name
from ddarts.genotype.zoo.lookup import find_genotype
from ddarts.reporting.formatting import difference_rows
from ddarts.results import Outcome, simple_table

if TYPE_CHECKING:
    from rich.table import Table

PathLike = str | os.PathLike[str]
Named = Genotype | PathLike

_MOST_WITH_CELLS = 8  # architectures whose distances are listed cell by cell
_COLUMNS = 11  # of distances that fit beside each other into 120 characters


@dataclass(frozen=True)
class DistanceResult(Outcome):
    """Distances between architectures.

    Attributes:
        names: of the architectures.
        lengths: cells of each.
        matrix: [i][j], the Hausdorff distance of architectures i and j, 0 to 1.
        per_cell: [i][j], the Hausdorff distances of their cells in order.
        edits: [i][j], the edit distance of architectures i and j, 0 to 1.
        differences: operations added, removed and changed per cell, from the first to the second of two architectures.
        unequal: treatment of architectures of unequal length in the Hausdorff distance.
        weights: of the operations.
        path: file of the heat maps, if they were asked for.
    """

    names: tuple[str, ...]
    lengths: tuple[int, ...]
    matrix: tuple[tuple[float, ...], ...]
    per_cell: tuple[tuple[tuple[float, ...], ...], ...]
    edits: tuple[tuple[float, ...], ...]
    differences: tuple[CellDifference, ...]
    unequal: str
    weights: OperationWeights
    path: Path | None = None

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return the distances cell by cell, and how they were computed."""
        if len(self.names) == 2:
            for position, value in enumerate(self.per_cell[0][1]):
                yield f"cell {position}", f"{value:.4f}"
            yield "mean (Hausdorff distance)", f"{self.matrix[0][1]:.4f}"
            yield "edit distance", f"{self.edits[0][1]:.4f}"
            yield from difference_rows(self.differences)
        elif len(self.names) <= _MOST_WITH_CELLS:
            for i, j in itertools.combinations(range(len(self.names)), 2):
                yield f"cells of {i + 1} and {j + 1}", " ".join(f"{v:.3f}" for v in self.per_cell[i][j])
        else:
            yield "cell by cell", "printed with --json"
        if len(set(self.lengths)) > 1:
            lengths = ", ".join(map(str, self.lengths[:20])) + (", ..." if len(self.lengths) > 20 else "")
            how = "cells of the shorter one" if self.unequal == "shorter" else "1 for each extra cell"
            yield "unequal lengths", f"{lengths} cells; {how}"
        yield "weights", self.weights.source or "source unknown"
        if self.path is not None:
            yield "figure", str(self.path)

    def table(self) -> Table:
        """Return a row per cell for two architectures; for more the matrices, then the cells of each pair."""
        from rich.table import Table
        from rich.text import Text

        parts = Table.grid()
        if len(self.names) == 2:
            parts.add_row(Text(f"distance between {self.names[0]} and {self.names[1]}"))
        else:
            for title, matrix in (("Hausdorff distance", self.matrix), ("edit distance", self.edits)):
                parts.add_row(Text(title))
                for start in range(0, len(self.names), _COLUMNS):
                    parts.add_row(self._columns(matrix, range(start, min(start + _COLUMNS, len(self.names)))))
        parts.add_row(super().table())
        return parts

    def _columns(self, matrix: tuple[tuple[float, ...], ...], shown: range) -> Table:
        from rich.text import Text

        table = simple_table()
        table.add_column("")
        table.add_column("architecture", overflow="ellipsis", no_wrap=True, max_width=30)
        for j in shown:
            table.add_column(str(j + 1), justify="right", no_wrap=True)
        for i, name in enumerate(self.names):
            table.add_row(str(i + 1), Text(name), *(f"{matrix[i][j]:.3f}" for j in shown))
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {
            "names": list(self.names),
            "cells": list(self.lengths),
            "matrix": [list(row) for row in self.matrix],
            "per_cell": [[list(cells) for cells in row] for row in self.per_cell],
            "edit_matrix": [list(row) for row in self.edits],
            "differences": [asdict(cell) for cell in self.differences],
            "unequal": self.unequal,
            "weights": self.weights.to_dict(),
            "figure": None if self.path is None else str(self.path),
        }


def distance(
    *architectures: Named | Sequence[Named],
    weights: OperationWeights | PathLike | None = None,
    unequal: Unequal = "shorter",
    out: PathLike | None = None,
) -> DistanceResult:
    """Compute the Hausdorff distance (paper, section 5) and the edit distance between architectures.

    `ddarts.genotype.distance` defines both and states in which sense they are metrics.

    Args:
        *architectures: two or more, or one list of them. Each is a `Genotype`, a genotype file, a run with one, or the
            name of a published architecture.
        weights: of the operations: an `OperationWeights`, its file, or the folder of `measure_operations`; the
            published ones if not given.
        unequal: treatment of unequal lengths in the Hausdorff distance: "shorter" ignores extra cells, "penalty" counts
            each as 1.
        out: file for heat maps of both, ending in .svg, .png or .pdf.

    Raises:
        SettingsError: fewer than two architectures, or an unknown value of `unequal` or ending of `out`.
        GenotypeError: an architecture or the weights cannot be found or are damaged.
        RunError: the figure cannot be written.
    """
    from ddarts.reporting.heatmap import picture_kind, write_heat_maps

    given = _flat(architectures)
    if len(given) < 2:
        raise SettingsError(
            f"{len(given)} architecture{'s' * (len(given) != 1)} given; a distance needs at least two, such as: "
            "ddarts distance resnet18 resnet50"
        )
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
    edits = tuple(tuple(edit_distance(a, b) for b in genotypes) for a in genotypes)
    if path is not None:
        write_heat_maps(path, names, {"Hausdorff distance": matrix, "Edit distance": edits})
    return DistanceResult(
        names=names,
        lengths=tuple(map(len, genotypes)),
        matrix=matrix,
        per_cell=tuple(tuple(found[i, j] for j in places) for i in places),
        edits=edits,
        differences=cell_differences(*genotypes) if len(genotypes) == 2 else (),
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
    """Return the given text or the names of genotypes; equal names are numbered."""
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
