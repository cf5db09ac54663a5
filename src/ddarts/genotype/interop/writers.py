"""Genotypes as others write them: the records behind the published text formats, and their text.

- The reference code of D-DARTS writes ``Genotype_nested(genes=..., concat=..., reductions=...)``, one list of edges
  (operation, to, from) for each cell, and keeps its hand-made networks as ``Genotype_opt(genes=..., seq=..., ...)``,
  where `seq` gives the list that each cell of the network uses.
- DARTS and its successors write ``Genotype(normal=..., normal_concat=..., reduce=..., reduce_concat=...)``: one normal
  and one reduction cell. Edges are (operation, from) with two edges to each node in turn, or (operation, to, from) as
  FairDARTS has them.

`formats` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ddarts.errors import GenotypeError
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype, printable_name
from ddarts.space.cell_space import INPUT_STATES, default_reductions
from ddarts.space.operations import BUILT_IN_OPERATIONS

#: Cells of a two-cell genotype's network unless told otherwise, as published for CIFAR.
TWO_CELL_LAYERS = 20

#: Most cells of a network.
MOST_CELLS = 1000


@dataclass(frozen=True)
class ReferenceGenotype:
    """A ``Genotype_nested``, or with `sequence` a ``Genotype_opt``, as it is written; not every one can be built.

    Attributes:
        genes: the edges of each listed cell.
        concat: states that every cell concatenates.
        reductions: positions of reduction cells. Those beyond the last cell mean nothing, as in the reference: it
            writes baselines with fewer cells than their network has.
        sequence: for each cell of the network, the index of its entry in `genes`; None if the cells follow `genes`.
        name: the name that it was assigned to; takes no part in comparisons.
    """

    genes: tuple[tuple[Edge, ...], ...]
    concat: tuple[int, ...]
    reductions: tuple[int, ...] = ()
    sequence: tuple[int, ...] | None = None
    name: str = field(default="", compare=False)

    @classmethod
    def from_genotype(cls, genotype: Genotype) -> ReferenceGenotype:
        """Write a genotype's cells with one concatenation for all.

        Where cells concatenate different states (a derived cell leaves out nodes without an input), the union is
        written, provided that every cell keeps its output: a state added to a cell must be one that has no input there.

        Raises:
            GenotypeError: no single concatenation fits all cells.
        """
        concats = {cell.concat for cell in genotype.cells}
        concat = concats.pop() if len(concats) == 1 else tuple(sorted({s for c in genotype.cells for s in c.concat}))
        for i, cell in enumerate(genotype.cells):
            if tuple(s for s in concat if s in cell.fed_states) != cell.live_concat:
                raise GenotypeError(
                    f"cell {i} concatenates {list(cell.concat)}, another cell does not, and Genotype_nested has one "
                    "concat for all; keep this genotype as JSON"
                )
        return cls(tuple(cell.edges for cell in genotype.cells), concat, genotype.reductions, None, genotype.name)

    def expand(self) -> Genotype:
        """Return the whole network's genotype: one cell for each entry of the sequence.

        It follows the text. The reference's own network concatenates every node that has an edge, whatever `concat`
        says (`reference_layout.reference_concat`).

        Raises:
            GenotypeError: a cell cannot be built; the message names it.
        """
        order = range(len(self.genes)) if self.sequence is None else self.sequence
        built: dict[tuple[int, bool], CellGenotype] = {}
        cells = []
        for position, index in enumerate(order):
            key = index, position in self.reductions
            try:
                built[key] = built.get(key) or CellGenotype(self.genes[index], self.concat, key[1])
            except GenotypeError as error:
                raise GenotypeError(f"cell {position}{str(error).removeprefix('cell')}") from None
            cells.append(built[key])
        return Genotype(tuple(cells), printable_name(self.name))

    def to_text(self) -> str:
        """Return the text that the reference prints: fields in order, ``range`` for states or positions in a row."""
        genes = ", ".join(_edges_text(edges) for edges in self.genes)
        tail = f"concat={_run_text(self.concat)}, reductions={_run_text(self.reductions)})"
        if self.sequence is None:
            return f"Genotype_nested(genes=[{genes}], {tail}"
        return f"Genotype_opt(genes=[{genes}], seq={list(self.sequence)}, {tail}"


@dataclass(frozen=True)
class TwoCellGenotype:
    """A DARTS-style genotype: a normal and a reduction cell that a network of any depth repeats.

    Attributes:
        normal: edges of the normal cell.
        normal_concat: states that it concatenates.
        reduce: edges of the reduction cell.
        reduce_concat: states that it concatenates.
        name: the name that it was assigned to; takes no part in comparisons.
    """

    normal: tuple[Edge, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Edge, ...]
    reduce_concat: tuple[int, ...]
    name: str = field(default="", compare=False)

    def expand(self, layers: int = TWO_CELL_LAYERS, reductions: Iterable[int] | None = None) -> Genotype:
        """Return a network of `layers` cells: the reduction cell at `reductions`, the normal cell elsewhere.

        Args:
            layers: number of cells, 1 to 1000.
            reductions: positions of the reduction cell; layers // 3 and 2 * layers // 3 if None (DARTS, section 3.1).

        Raises:
            GenotypeError: a cell cannot be built, or a number is out of range.
        """
        if not 1 <= layers <= MOST_CELLS:
            raise GenotypeError(f"layers = {layers} is out of range; choose 1 to {MOST_CELLS} cells")
        positions = set(default_reductions(layers) if reductions is None else reductions)
        for position in sorted(positions):
            if not 0 <= position < layers:
                raise GenotypeError(f"reductions: {position} is not a cell of a network with cells 0 to {layers - 1}")
        normal, reduction = self._cell("normal"), self._cell("reduce")
        return Genotype(
            tuple(reduction if i in positions else normal for i in range(layers)), printable_name(self.name)
        )

    def _cell(self, which: str) -> CellGenotype:
        try:
            return CellGenotype(getattr(self, which), getattr(self, f"{which}_concat"), which == "reduce")
        except GenotypeError as error:
            raise GenotypeError(which + str(error).removeprefix("cell")) from None

    def to_text(self, *, triples: bool | None = None) -> str:
        """Return DARTS-style text, concatenations as lists.

        Args:
            triples: write edges as (operation, to, from); if None, only where pairs (operation, from) cannot tell them.

        Raises:
            GenotypeError: pairs are asked for, and a cell has not two edges to each node in turn.
        """
        regular = all(_is_regular(edges) for edges in (self.normal, self.reduce))
        if triples is False and not regular:
            raise GenotypeError("pairs (operation, from) need two edges to each node in turn; write triples instead")
        pairs = regular and not triples
        return (
            f"Genotype(normal={_edges_text(self.normal, pairs)}, normal_concat={list(self.normal_concat)}, "
            f"reduce={_edges_text(self.reduce, pairs)}, reduce_concat={list(self.reduce_concat)})"
        )


def to_reference_text(genotype: Genotype) -> str:
    """Return a genotype as ``Genotype_nested(...)``, which the reference code and `read_genotype` read.

    Raises:
        GenotypeError: no single `concat` fits all cells (`ReferenceGenotype.from_genotype`), or an operation is not one
            of ddarts'.
    """
    return ReferenceGenotype.from_genotype(genotype).to_text()


def _is_regular(edges: tuple[Edge, ...]) -> bool:
    return all(edge.target == INPUT_STATES + i // 2 for i, edge in enumerate(edges))


def _edges_text(edges: tuple[Edge, ...], pairs: bool = False) -> str:
    for edge in edges:
        if edge.operation not in BUILT_IN_OPERATIONS:
            raise GenotypeError(
                f"operation {edge.operation} is not known to other programs; keep this genotype as JSON"
            )
    if pairs:
        return str([(edge.operation, edge.source) for edge in edges])
    return str([(edge.operation, edge.target, edge.source) for edge in edges])


def _run_text(numbers: tuple[int, ...]) -> str:
    """Return ``range(a, b)`` for two or more numbers in a row, else a list."""
    if len(numbers) > 1 and numbers == tuple(range(numbers[0], numbers[0] + len(numbers))):
        return f"range({numbers[0]}, {numbers[-1] + 1})"
    return str(list(numbers))
