"""From gates to a genotype: the four rules (paper, section 3.4; specification, section 5).

Per node, in ascending order of states:

- `darts`: the two edges with the largest best gate, the larger first, each with its best operation.
- `threshold_sparse`: the same two edges, each with its best operation if that gate is at least the threshold.
- `threshold_edge`: every edge in order of its source with its two best operations that reach the threshold, the better
  last.
- `threshold_complete`: every edge in order of its source with every operation that reaches the threshold.

Ties: between edges the lower source wins; between operations of an edge the first in the space wins, save that
`threshold_edge` prefers the last. This is what the published genotypes were made with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from ddarts.errors import GenotypeError, SettingsError, nearest
from ddarts.genotype.choices import ChoiceGates, ChoiceGenotype, best_choices
from ddarts.genotype.gates import AnyGates, Gates
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.space.cell_space import cell_edges
from ddarts.space.operations import is_parameter_free

RULES = ("darts", "threshold_sparse", "threshold_edge", "threshold_complete")
EDGES_PER_NODE = 2  # of `darts` and `threshold_sparse`
OPERATIONS_PER_EDGE = 2  # of `threshold_edge`

Rows = Sequence[Sequence[float]]


@overload
def derive_genotype(gates: Gates, method: str = ..., threshold: float = ..., name: str = ...) -> Genotype: ...
@overload
def derive_genotype(
    gates: ChoiceGates, method: str = ..., threshold: float = ..., name: str = ...
) -> ChoiceGenotype: ...
@overload
def derive_genotype(
    gates: AnyGates, method: str = ..., threshold: float = ..., name: str = ...
) -> Genotype | ChoiceGenotype: ...
def derive_genotype(
    gates: AnyGates, method: str = "threshold_sparse", threshold: float = 0.85, name: str = ""
) -> Genotype | ChoiceGenotype:
    """Apply a rule to every cell, leave out nodes without an input, and lay the cells out in network order.

    In a choice space exactly one candidate must stand at every position, so every rule takes the one with the largest
    gate.

    Args:
        gates: what a search has found; cells that share gates (`gates.sequence`) come out equal but for their stride.
        method: one of `RULES`.
        threshold: smallest gate that the `threshold_*` rules accept, 0 to 1.
        name: name of the genotype.

    Raises:
        GenotypeError: a cell is left with nothing; the message names the cell and its largest gate.
        SettingsError: `method` is unknown or `threshold` is out of range.
    """
    _check_rule(method, threshold)
    if isinstance(gates, ChoiceGates):
        return best_choices(gates.space, [row for (row,) in gates.values], name)
    return Genotype(
        tuple(_cell_at(gates, position, method, threshold) for position in range(len(gates.sequence))), name
    )


def choose_edges(
    cell_gates: Rows,
    operations: Sequence[str],
    nodes: int,
    method: str = "threshold_sparse",
    threshold: float = 0.85,
) -> tuple[Edge, ...]:
    """Return what a rule chooses in one cell, before nodes without an input are left out.

    Args:
        cell_gates: [edge][operation], edges in the order of `spaces.cell_edges`.
        operations: names of the columns.
        nodes: intermediate nodes of the cell.
        method: one of `RULES`.
        threshold: smallest gate that the `threshold_*` rules accept.

    Raises:
        SettingsError: `method` is unknown or `threshold` is out of range.
    """
    return tuple(choice.edge for choice in _choices(cell_gates, operations, nodes, method, threshold))


def parameter_free_share(gates: Gates, method: str = "threshold_sparse", threshold: float = 0.85) -> tuple[float, ...]:
    """Return, for each searched cell, the share of weightless operations in the cell that would be derived now.

    Pools and identities hold no weights. The share runs from 0 to 1 and counts the cell after nodes without an input
    are left out; a cell in which no gate reaches the threshold yet has a share of 0. A share of 1 is a collapsed cell.
    With method `darts` the same two edges per node are judged whether their gates are high or low, which shows a
    collapse before gates have parted.
    """
    shares = []
    space = gates.space
    for searched, cell_gates in enumerate(gates.values):
        edges = choose_edges(cell_gates, gates.operations, gates.nodes, method, threshold)
        try:
            edges = CellGenotype(edges, space.concat_of(searched)).pruned().edges
        except GenotypeError:
            edges = ()
        free = sum(is_parameter_free(edge.operation) for edge in edges)
        shares.append(free / len(edges) if edges else 0.0)
    return tuple(shares)


@dataclass(frozen=True)
class Margin:
    """How clearly the gates of a cell speak.

    Attributes:
        smallest: smallest difference between a chosen gate and its runner-up.
        mean: mean of these differences.
    """

    smallest: float
    mean: float


def edge_margins(
    cell_gates: Rows,
    operations: Sequence[str],
    nodes: int,
    method: str = "threshold_sparse",
    threshold: float = 0.85,
) -> dict[Edge, float]:
    """Return, for each chosen operation, its gate minus the gate of the runner-up that would stand in its place.

    The runner-up is the largest gate that was not chosen and that would drive this choice out by rising above it:

    - `darts`, `threshold_sparse`: the second-best operation of the same edge, or the best operation of an edge to the
      same node that is not one of the two with the largest best gate, whichever is larger.
    - `threshold_edge`, `threshold_complete`: the best operation of the same edge that was not chosen.

    The threshold takes part in choosing, not in the difference. A choice that nothing competes with (a space of one
    operation, an edge whose operations are all chosen) is left out. Differences run from 0 (a tie) to 1.
    """
    return {
        choice.edge: choice.gate - choice.runner_up
        for choice in _choices(cell_gates, operations, nodes, method, threshold)
        if choice.runner_up is not None
    }


def margins(gates: Gates, method: str = "threshold_sparse", threshold: float = 0.85) -> tuple[Margin, ...]:
    """Return, for each searched cell, the smallest and mean of `edge_margins`.

    Both are 0 for a cell in which nothing is chosen (yet) or nothing competes: nothing has been decided there.
    """
    result = []
    for cell_gates in gates.values:
        found = edge_margins(cell_gates, gates.operations, gates.nodes, method, threshold).values()
        result.append(Margin(min(found), sum(found) / len(found)) if found else Margin(0.0, 0.0))
    return tuple(result)


@dataclass(frozen=True)
class _Choice:
    edge: Edge
    gate: float
    runner_up: float | None


def _choices(cell_gates: Rows, operations: Sequence[str], nodes: int, method: str, threshold: float) -> list[_Choice]:
    _check_rule(method, threshold)
    rows = list(zip(cell_edges(nodes), cell_gates, strict=True))
    choices: list[_Choice] = []
    for target in range(2, nodes + 2):
        incoming = [(source, row) for (source, to), row in rows if to == target]
        if method in ("darts", "threshold_sparse"):
            choices += _two_edges(incoming, target, operations, threshold if method == "threshold_sparse" else 0.0)
        else:
            most = OPERATIONS_PER_EDGE if method == "threshold_edge" else None
            for source, row in incoming:
                choices += _one_edge(row, source, target, operations, threshold, most)
    return choices


def _two_edges(
    incoming: list[tuple[int, Sequence[float]]], target: int, operations: Sequence[str], threshold: float
) -> list[_Choice]:
    ranked = sorted(incoming, key=lambda item: -max(item[1]))  # stable: the lower source first
    left_out = [max(row) for _, row in ranked[EDGES_PER_NODE:]]
    choices = []
    for source, row in ranked[:EDGES_PER_NODE]:
        best = max(range(len(row)), key=lambda i: row[i])  # the first of equals
        if row[best] >= threshold:
            rivals = [gate for i, gate in enumerate(row) if i != best] + left_out
            choices.append(_Choice(Edge(operations[best], source, target), row[best], max(rivals, default=None)))
    return choices


def _one_edge(
    row: Sequence[float], source: int, target: int, operations: Sequence[str], threshold: float, most: int | None
) -> list[_Choice]:
    chosen = list(range(len(row)))
    if most is not None:
        chosen = sorted(chosen, key=lambda i: row[i])[-most:]  # stable and ascending: the better, or the later, last
    chosen = [i for i in chosen if row[i] >= threshold]
    runner_up = max((gate for i, gate in enumerate(row) if i not in chosen), default=None)
    return [_Choice(Edge(operations[i], source, target), row[i], runner_up) for i in chosen]


def _cell_at(gates: Gates, position: int, method: str, threshold: float) -> CellGenotype:
    searched = gates.sequence[position]
    cell_gates = gates.values[searched]
    edges = choose_edges(cell_gates, gates.operations, gates.nodes, method, threshold)
    try:
        return CellGenotype(edges, gates.space.concat_of(searched), position in gates.reductions).pruned()
    except GenotypeError:
        largest = max(max(row) for row in cell_gates)
        reason = (
            f"its largest gate is {largest:.4f}, below the threshold {threshold:g}"
            if not edges
            else f"no output node has an input at threshold {threshold:g} (its largest gate is {largest:.4f})"
        )
        raise GenotypeError(
            f"cell {position} would be empty: {reason}; lower the threshold, search longer, or use method darts"
        ) from None


def _check_rule(method: str, threshold: float) -> None:
    if method not in RULES:
        raise SettingsError(f"unknown method {method!r}{nearest(method, RULES)}")
    if not 0 <= threshold <= 1:  # also catches nan
        raise SettingsError(f"threshold = {threshold} is out of range; choose a number from 0 to 1")
