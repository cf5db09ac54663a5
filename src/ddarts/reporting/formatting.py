"""Numbers and genotypes as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from ddarts.genotype.genotype import Genotype
from ddarts.reporting.names import state_name


def genotype_rows(genotype: Genotype, only: int | None = None) -> Iterable[tuple[str, str]]:
    """List a genotype's cells, or one of them: for each node what flows into it, and what the cell puts out."""
    yield "cells", f"{len(genotype)}, reductions at {', '.join(map(str, genotype.reductions)) or 'none'}"
    for i, cell in enumerate(genotype.cells):
        if only not in (None, i):
            continue
        yield f"cell {i}", "reduction" if cell.reduction else "normal"
        for node in sorted({edge.target for edge in cell.edges}):
            inputs = [f"{e.operation}({state_name(e.source)})" for e in cell.edges if e.target == node]
            yield f"  {state_name(node)}", " + ".join(inputs)
        yield "  output", f"concat({', '.join(state_name(s) for s in cell.live_concat)})"


def percent(share: float | None) -> str:
    """Return a share of 0..1 as ``97.22 %``."""
    return "-" if share is None else f"{100 * share:.2f} %"


def count(number: int) -> str:
    """Return a large number for people: ``3,412,345 (3.41 M)``."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number:,} ({number / size:.2f} {letter})"
    return str(number)
