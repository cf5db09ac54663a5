"""What things are called in texts and drawings, and how each kind of operation looks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.space.cell_space import INPUT_STATES
from ddarts.space.operations import OPERATIONS


class Kind(NamedTuple):
    """How operations of one kind look: colour and label fill on light and on dark, and the dash pattern of the line."""

    colour: str
    fill: str
    dark_colour: str
    dark_fill: str
    dash: tuple[float, ...] = ()


#: After Okabe and Ito's palette, which colour-blind readers can tell apart.
KINDS = {
    "separable": Kind("#0072b2", "#e3f0f8", "#6db8ec", "#17303f"),
    "dilated": Kind("#c44e00", "#fbeadf", "#ff9a5c", "#412413"),
    "pool": Kind("#007a59", "#e0f3ed", "#3fcfa4", "#12352b", (6, 3)),
    "skip": Kind("#4d4d4d", "#efefef", "#c3c8cf", "#33373d", (2, 3)),
    "plain": Kind("#9c3f77", "#f7e8f1", "#ea9cc8", "#3d2233"),
    "factorized": Kind("#8a6100", "#faf0d8", "#e3b94f", "#3a2f12"),
    "bottleneck": Kind("#5b3fb0", "#ece8f9", "#b3a3f2", "#2b2547"),
    "other": Kind("#8f2d2d", "#f9e6e4", "#f09a94", "#421c1c", (8, 2, 2, 2)),
}


def operation_kind(operation: str) -> str:
    """Return the key of `KINDS` that an operation belongs to."""
    return OPERATIONS.get(operation).kind


def operation_label(operation: str) -> str:
    """Return the text of an operation in drawings."""
    return OPERATIONS.get(operation).label


_INPUT = re.compile(r"c_\{k-(\d)\}")


class StateText(str):
    """Text of our own that names states of a cell: plain as it is, on a page with real subscripts.

    Pages escape every text. They ask a value for ``__html__`` first, so what is typed here, and nothing that a file of
    a run may hold, turns into a tag.
    """

    __slots__ = ()

    def __html__(self) -> str:
        """Return it for a page, escaped but for the subscripts."""
        return _INPUT.sub("c<sub>k\N{MINUS SIGN}\\1</sub>", escape(str(self)))


def state_name(state: int) -> str:
    """Return what a state is called in texts: c_{k-2}, c_{k-1}, or the number of a node."""
    return ("c_{k-2}", "c_{k-1}")[state] if state < INPUT_STATES else f"node {state - INPUT_STATES}"


def cell_title(position: int | Sequence[int], cell: CellGenotype) -> str:
    """Return the heading of a cell in a network, or of equal cells at several positions."""
    kind = " (reduction)" if cell.reduction else ""
    if isinstance(position, int) or len(position) == 1:
        return f"cell {position if isinstance(position, int) else position[0]}{kind}"
    return f"cells {runs(position)}{kind}, x {len(position)}"


def equal_cells(genotype: Genotype) -> list[tuple[list[int], CellGenotype]]:
    """Return the distinct cells of a genotype, each with its positions, by their first position."""
    positions: dict[CellGenotype, list[int]] = {}
    for i, cell in enumerate(genotype.cells):
        positions.setdefault(cell, []).append(i)
    return [(where, cell) for cell, where in positions.items()]


def runs(numbers: Sequence[int]) -> str:
    """Return ``0-5, 7`` for ascending numbers."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in found)


def edge_name(edge: Edge) -> str:
    """Return an operation and the states that it joins, such as ``sep_conv_3x3 from node 0 to node 1``."""
    return f"{edge.operation} from {state_name(edge.source)} to {state_name(edge.target)}"
