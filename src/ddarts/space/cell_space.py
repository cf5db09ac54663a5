"""Search spaces: which operations may stand on an edge, and how a cell's edges are numbered.

Sources: D-DARTS (arXiv 2108.09306), sections 3 and 5; DARTS (arXiv 1806.09055), section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from ddarts.errors import SettingsError
from ddarts.runtime.json_input import shown
from ddarts.space.operations import BUILT_IN_OPERATIONS, check_operation
from ddarts.space.spaces import SPACES

#: A cell reads two input states: the outputs of the two cells before it.
INPUT_STATES = 2


def cell_edges(nodes: int) -> tuple[tuple[int, int], ...]:
    """Return the edges of a full cell as (from, to), node by node: (0,2) (1,2) (0,3) (1,3) (2,3) ...

    `nodes` is the number of intermediate nodes N; node i is state i + 2 and has an edge from every earlier state.
    """
    return tuple((source, target) for target in range(INPUT_STATES, nodes + INPUT_STATES) for source in range(target))


def default_reductions(cells: int) -> tuple[int, ...]:
    """Return the positions of the reduction cells in a network of `cells` cells: n//3 and 2n//3."""
    return tuple(sorted({cells // 3, 2 * cells // 3}))


@dataclass(frozen=True)
class SearchSpace:
    """What a search may choose from.

    Attributes:
        operations: candidate operations of every edge, in the order of the columns of alpha.
        nodes: intermediate nodes of a cell, 1 to 8.
        concat: states that a cell's output concatenates, each in 2 .. nodes + 1; one tuple for all cells, or one for
            each searched cell.
        sequence: for each cell of the network, the index of the alpha that it uses. (0, 1, 2, ...) gives every
            cell its own; equal entries share gates, not weights (DARTOpti).
        reductions: positions of the cells that halve the resolution and double the channels.
    """

    operations: tuple[str, ...]
    nodes: int
    concat: tuple[int, ...] | tuple[tuple[int, ...], ...]
    sequence: tuple[int, ...]
    reductions: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.operations or len(set(self.operations)) != len(self.operations):
            raise SettingsError(f"operations {shown(list(self.operations))} must be distinct and at least one")
        for name in self.operations:
            check_operation(name, "operations")
        if not 1 <= self.nodes <= 8:
            raise SettingsError(f"nodes = {self.nodes} is out of range; choose 1 to 8 nodes per cell")
        if not self.sequence:
            raise SettingsError("a network needs at least one cell; set cells to 1 or more")
        if min(self.sequence) < 0 or len(set(self.sequence)) != max(self.sequence) + 1:
            raise SettingsError(f"sequence {shown(list(self.sequence))} must use every index from 0 to its largest")
        if len(self._concats) not in (1, self.searched_cells):
            raise SettingsError(f"concat has {len(self._concats)} lists for {self.searched_cells} searched cells")
        states = range(INPUT_STATES, self.nodes + INPUT_STATES)
        for concat in self._concats:
            if not concat or any(s not in states for s in concat) or len(set(concat)) != len(concat):
                raise SettingsError(
                    f"concat {shown(list(concat))} must name distinct states from {states.start} to {states.stop - 1}"
                )
        if any(not 0 <= r < len(self.sequence) for r in self.reductions):
            raise SettingsError(
                f"reductions {shown(list(self.reductions))} must lie between 0 and {len(self.sequence) - 1}, "
                "the last cell"
            )
        if list(self.reductions) != sorted(set(self.reductions)):
            raise SettingsError(f"reductions {shown(list(self.reductions))} must be distinct and in ascending order")

    @property
    def cells(self) -> int:
        """Number of cells in the network."""
        return len(self.sequence)

    @property
    def searched_cells(self) -> int:
        """Number of distinct alphas (equal to `cells` unless cells share gates)."""
        return max(self.sequence) + 1

    @property
    def _concats(self) -> tuple[tuple[int, ...], ...]:
        each = [c for c in self.concat if isinstance(c, tuple)]
        return tuple(each) if each and len(each) == len(self.concat) else (self.concat,)  # type: ignore[return-value]

    def concat_of(self, searched: int) -> tuple[int, ...]:
        """Return the states that the output of a searched cell concatenates."""
        return self._concats[searched if len(self._concats) > 1 else 0]

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Edges of a full cell as (from, to); see `cell_edges`."""
        return cell_edges(self.nodes)


#: The seven operations of the DARTS space without `none`, in the published order.
DARTS_OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)

#: The twelve operations of the DARTOpti space, in the published order.
DARTOPTI_OPERATIONS = BUILT_IN_OPERATIONS


def cell_space(operations: tuple[str, ...]) -> Callable[..., SearchSpace]:
    """Return what builds a space of these operations, with one alpha for each cell, to be registered."""

    def build(*, cells: int = 8, nodes: int = 4, reductions: tuple[int, ...] | None = None) -> SearchSpace:
        if cells < 1:
            raise SettingsError(f"cells = {cells} is out of range; a network needs at least one cell")
        return SearchSpace(
            operations=operations,
            nodes=nodes,
            concat=tuple(range(INPUT_STATES, nodes + INPUT_STATES)),
            sequence=tuple(range(cells)),
            reductions=default_reductions(cells) if reductions is None else tuple(reductions),
        )

    return build


DARTS = cell_space(DARTS_OPERATIONS)
DARTOPTI = cell_space(DARTOPTI_OPERATIONS)


def build_space(
    name: str = "darts", *, cells: int = 8, nodes: int = 4, reductions: tuple[int, ...] | None = None
) -> SearchSpace:
    """Build a registered search space, such as "darts" or "dartopti", with one alpha for each cell.

    Args:
        name: the name in `ddarts.space.spaces.SPACES`.
        cells: cells of the network.
        nodes: intermediate nodes of a cell, 1 to 8.
        reductions: positions of the reduction cells; n//3 and 2n//3 if not given.

    Raises:
        SettingsError: unknown name, a space that does not consist of cells, or sizes out of range.
    """
    build: Any = SPACES.get(name)
    if not callable(build):
        raise SettingsError(f"search space {name!r} does not consist of cells, which this search needs; choose darts")
    return cast(SearchSpace, build(cells=cells, nodes=nodes, reductions=reductions))
