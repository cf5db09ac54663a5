"""The best gates within bounds on linear costs: an integer programme over the operations of all cells.

For every operation o on edge e of searched cell q, x_qeo is 1 if the genotype holds it. Maximised is the sum of the
gates of what is chosen, which is what every rule of ``ddarts.genotype.derive`` maximises when nothing bounds it. The
constraints are those of the rule:

- `darts`: two edges to every node (one where there is but one), one operation on each.
- `threshold_sparse`: at most two edges to a node, one operation on each; gates from the threshold on.
- `threshold_edge`: at most two operations on an edge; gates from the threshold on.
- `threshold_complete`: gates from the threshold on.
- the threshold rules besides: an edge starts at a node that has an input, and a node of the output has one.
- a choice space: one candidate for each choice.

Every cost is a sum over what is chosen, with a lower and an upper bound. HiGHS solves the programme exactly (SciPy).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ddarts.genotype.choices import ChoiceGates
from ddarts.genotype.derive import EDGES_PER_NODE, OPERATIONS_PER_EDGE
from ddarts.genotype.gates import AnyGates, gates_of

#: Smallest gate of what is chosen: rules tell it from what is not.
_CHOSEN = 1e-6
#: Nodes of the search tree, so that a hard programme ends; with the best solution so far.
_MOST_NODES = 20_000

#: A number for every operation, in the shape of the gates: [searched cell][edge][operation].
Numbers = Sequence[Sequence[Sequence[float]]]


@dataclass(frozen=True)
class Bound:
    """Bounds on a linear cost: `lower` <= sum of `costs` over what is chosen <= `upper`."""

    costs: Numbers
    upper: float
    lower: float = -math.inf


def choose_gates(
    gates: AnyGates, method: str, threshold: float, bounds: Sequence[Bound], *, worth: Numbers | None = None
) -> AnyGates | None:
    """Return gates from which the rule derives the best genotype within bounds; None if there is none.

    Gates of what is not chosen are 0 in it; derive with a threshold of at least 1e-6.

    Args:
        gates: what a search has found.
        method: one of `ddarts.genotype.derive.RULES`; without effect in a choice space.
        threshold: smallest gate that the `threshold_*` rules accept.
        bounds: on linear costs.
        worth: what is maximised instead of the gates.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_matrix

    least = threshold if method != "darts" and not isinstance(gates, ChoiceGates) else 0.0
    index: dict[tuple[int, int, int], int] = {}
    for q, cell in enumerate(gates.values):
        for e, row in enumerate(cell):
            for o, gate in enumerate(row):
                if gate >= least:
                    index[q, e, o] = len(index)
    rows: list[tuple[list[int], list[float], float, float]] = []  # columns, coefficients, lower and upper bound

    def add(columns: Sequence[int], lower: float, upper: float, also: Sequence[tuple[int, float]] = ()) -> None:
        extra, factors = zip(*also, strict=True) if also else ((), ())
        rows.append(([*columns, *extra], [1.0] * len(columns) + list(factors), lower, upper))

    if isinstance(gates, ChoiceGates):
        for q, cell in enumerate(gates.values):
            add([index[q, 0, o] for o in range(len(cell[0]))], 1, 1)
    else:
        _cell_rules(gates, method, index, add)
    for bound in bounds:
        scale = max(abs(bound.upper), 1.0) if math.isfinite(bound.upper) else 1.0
        costs = [bound.costs[q][e][o] / scale for q, e, o in index]
        rows.append((list(range(len(index))), costs, bound.lower / scale, bound.upper / scale))
    if not index or any(lower > 0 and not columns for columns, _, lower, _ in rows):
        return None
    matrix = csr_matrix(
        (
            [value for _, values, _, _ in rows for value in values],
            (
                [number for number, (columns, *_) in enumerate(rows) for _ in columns],
                [column for columns, *_ in rows for column in columns],
            ),
        ),
        shape=(len(rows), len(index)),
    )
    source = gates.values if worth is None else worth
    value = np.array([source[q][e][o] for q, e, o in index])
    lower, upper = (np.array([row[side] for row in rows]) for side in (2, 3))
    limits = LinearConstraint(matrix, lower, upper)  # type: ignore[arg-type]
    found = milp(
        -value,
        constraints=limits,
        integrality=np.ones(len(index)),
        bounds=Bounds(0, 1),
        options={"node_limit": _MOST_NODES, "mip_rel_gap": 1e-9},
    )
    if found.x is None:
        return None
    chosen = {key for key, number in index.items() if found.x[number] > 0.5}
    return gates_of(
        gates.space,
        [
            [
                [max(gate, _CHOSEN) if (q, e, o) in chosen else 0.0 for o, gate in enumerate(row)]
                for e, row in enumerate(cell)
            ]
            for q, cell in enumerate(gates.values)
        ],
    )


def _cell_rules(gates: Any, method: str, index: dict[tuple[int, int, int], int], add: Callable[..., None]) -> None:
    """Add the constraints of a rule for cells."""
    space = gates.space
    for q in range(space.searched_cells):
        on = [
            [index[q, e, o] for o in range(len(gates.operations)) if (q, e, o) in index]
            for e in range(len(space.edges))
        ]
        into: dict[int, list[int]] = {}  # node -> operations on the edges to it
        for (_, target), columns in zip(space.edges, on, strict=True):
            into.setdefault(target, []).extend(columns)
        if method != "threshold_complete":
            for columns in on:
                add(columns, 0, OPERATIONS_PER_EDGE if method == "threshold_edge" else 1)
        if method in ("darts", "threshold_sparse"):
            for target, columns in into.items():
                most = min(EDGES_PER_NODE, target)
                add(columns, most if method == "darts" else 0, most)
        if method != "darts":
            for (source, _), columns in zip(space.edges, on, strict=True):
                for column in columns if source in into else ():
                    add(into[source], 0, math.inf, [(column, -1.0)])
            add([column for state in space.concat_of(q) for column in into[state]], 1, math.inf)


def total(gates: AnyGates, chosen: AnyGates) -> float:
    """Return the sum of the gates over what another object's gates above 0 choose."""
    return sum(
        gate
        for cell, picks in zip(gates.values, chosen.values, strict=True)
        for row, picked in zip(cell, picks, strict=True)
        for gate, pick in zip(row, picked, strict=True)
        if pick > 0
    )
