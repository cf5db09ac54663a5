"""Numbers and genotypes as text, for terminals and pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ddarts.genotype.choices import AnyGenotype, ChoiceGenotype
from ddarts.genotype.distance import CellDifference
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.nn.pruning import live_cells
from ddarts.reporting.names import equal_cells, runs, state_name
from ddarts.runtime.progress import counted
from ddarts.space.cell_space import INPUT_STATES

#: Stands for a value that is not known.
NONE = "-"
#: Sizes of a count from which on it is written with a prefix.
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def genotype_rows(genotype: AnyGenotype, only: int | None = None) -> Iterable[tuple[str, str]]:
    """List a genotype's cells, equal ones once, or one of them: the inputs of each node, and the output.

    Of a choice space: the chosen candidate of each choice.
    """
    if isinstance(genotype, ChoiceGenotype):
        yield "space", genotype.space
        yield from ((choice.name, name) for choice, name in zip(genotype.facts.choices, genotype.choices, strict=True))
        return
    yield "cells", f"{len(genotype)}, reductions at {', '.join(map(str, genotype.reductions)) or 'none'}"
    if unread := unread_cells(genotype):
        yield "not built", unread
    for where, cell in equal_cells(genotype):
        if only not in (None, *where):
            continue
        where = where if only is None else [only]
        kind = "reduction" if cell.reduction else "normal"
        if len(where) > 1:
            yield f"cells {runs(where)}", f"{kind}, x {len(where)}"
        else:
            yield f"cell {where[0]}", kind
        for node in sorted({edge.target for edge in cell.edges}):
            inputs = [f"{e.operation}({state_name(e.source)})" for e in cell.edges if e.target == node]
            yield f"  {state_name(node)}", " + ".join(inputs)
        yield "  output", f"concat({', '.join(state_name(s) for s in cell.live_concat)})"


def unread_cells(genotype: Genotype) -> str:
    """Return which cells never reach the output, and so are not built; empty if all of them do."""
    live = live_cells(genotype)
    unread = [position for position in range(len(genotype)) if position not in live]
    if not unread:
        return ""
    return f"{len(unread)} of {counted(len(genotype), 'cell')} never reach the output: {runs(unread)}"


def difference_rows(differences: Sequence[CellDifference]) -> Iterable[tuple[str, str]]:
    """List what was added, removed and changed: the totals, then the cells, those with equal differences once."""
    if not differences:
        return
    totals = [sum(len(getattr(cell, kind)) for cell in differences) for kind in ("added", "removed", "changed")]
    cells = counted(len(differences), "cell")
    yield "operations", "{} added, {} removed, {} changed".format(*totals) + f", in {cells}"
    positions: dict[str, list[int]] = {}
    for cell in differences:
        positions.setdefault(difference_text(cell), []).append(cell.position)
    for text, where in positions.items():
        yield f"  cell{'s' * (len(where) != 1)} {runs(where)}", text


def difference_text(cell: CellDifference) -> str:
    """Return ``removed skip_connect (c_{k-1} to node 0); changed max_pool_3x3 to sep_conv_3x3 (...)``."""
    lists = {
        "added": [f"{e.operation} ({_way(e)})" for e in cell.added],
        "removed": [f"{e.operation} ({_way(e)})" for e in cell.removed],
        "changed": [f"{old.operation} to {new.operation} ({_way(old)})" for old, new in cell.changed],
    }
    return "; ".join(f"{kind} {', '.join(items)}" for kind, items in lists.items() if items)


def _way(edge: Edge) -> str:
    return f"{state_name(edge.source)} to {state_name(edge.target)}"


def percent(share: float | None) -> str:
    """Return a share of 0..1 as ``97.22 %``."""
    return NONE if share is None else f"{100 * share:.2f} %"


def count(number: int) -> str:
    """Return a large number for people: ``3,412,345 (3.41 M)``."""
    for size, letter in _PREFIXES:
        if number >= size:
            return f"{number:,} ({number / size:.2f} {letter})"
    return str(number)


def count_text(value: float) -> str:
    """Return a count with a unit that keeps it short, such as 1.68 M."""
    for size, letter in _PREFIXES:
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:g}"


def milliseconds(value: float) -> str:
    """Return milliseconds as text, such as 3.21 ms."""
    return f"{value:.3g} ms"


def cost_text(kind: str, value: float) -> str:
    """Return a cost of a network, such as 12.5 M, 98.2 kB or 4.1 ms."""
    if kind == "latency":
        return milliseconds(value)
    text = count_text(value)
    if kind not in ("activations", "size"):
        return text
    return f"{text}B" if text[-1].isalpha() else f"{text} B"


def cost_unit(kind: str, largest: float) -> tuple[float, str]:
    """Return the size and the name of the unit for an axis of costs up to `largest`, such as 1000 and kB."""
    if kind == "latency":
        return 1.0, "ms"
    size, letter = next(((s, letter) for s, letter in _PREFIXES if largest >= s), (1.0, ""))
    return size, letter + "B" * (kind in ("activations", "size"))


def distance(value: float) -> str:
    """Return a distance of architectures, 0 to 1."""
    return f"{value:.4f}"


def describe_cell(cell: CellGenotype) -> str:
    """Return the lines of one cell, indented: each node as the sum of its operations, then the output."""
    names = [state_name(state) for state in range(INPUT_STATES, cell.nodes + INPUT_STATES)] + ["output"]
    wide = max(map(len, names))
    lines = []
    for state in range(INPUT_STATES, cell.nodes + INPUT_STATES):
        terms = [f"{e.operation}({state_name(e.source)})" for e in cell.edges if e.target == state]
        if terms:
            lines.append(f"  {state_name(state):<{wide}} = {' + '.join(terms)}")
    output = ", ".join(state_name(state) for state in cell.concat)
    lines.append(
        f"  {'output':<{wide}} = concat({output})" if len(cell.concat) > 1 else f"  {'output':<{wide}} = {output}"
    )
    return "\n".join(lines)
