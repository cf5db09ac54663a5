"""Gates: what a search has found, before a rule turns it into a genotype."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddarts.errors import GenotypeError, SettingsError
from ddarts.genotype.choices import GATES_FORMAT, AnyGenotype, ChoiceGates, ChoiceGenotype
from ddarts.genotype.genotype import Genotype
from ddarts.runtime import json_input as checks
from ddarts.runtime.atomic_files import write_text
from ddarts.space.cell_space import SearchSpace
from ddarts.space.choice_space import ChoiceSpace

FORMAT = "ddarts-gates"
VERSION = 1

#: Gates of one cell: [edge][operation], edges in the order of `spaces.cell_edges`.
CellGates = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Gates:
    """The gates sigmoid(alpha) of every searched cell (paper, section 3.2), with the space that they belong to.

    Attributes:
        operations: the operations that the columns stand for.
        nodes: intermediate nodes of a cell.
        concat: states that a cell's output concatenates, one tuple for all searched cells or one for each.
        sequence: for each cell of the network, the index of the searched cell whose gates it uses.
        reductions: positions of the reduction cells in the network.
        values: [searched cell][edge][operation], each 0 to 1, edges in the order of `spaces.cell_edges`.

    Raises:
        GenotypeError: the space is not valid, the shape does not fit it, or a gate is not a number from 0 to 1.
    """

    operations: tuple[str, ...]
    nodes: int
    concat: tuple[int, ...] | tuple[tuple[int, ...], ...]
    sequence: tuple[int, ...]
    reductions: tuple[int, ...]
    values: tuple[CellGates, ...]

    def __repr__(self) -> str:
        return f"Gates(cells={len(self.values)}, nodes={self.nodes}, operations={len(self.operations)})"

    def __post_init__(self) -> None:
        space = self.space
        _check_length(self.values, space.searched_cells, "gates", "searched cells")
        for c, cell in enumerate(self.values):
            _check_length(cell, len(space.edges), f"gates[{c}]", f"edges of a cell with {self.nodes} nodes")
            for e, row in enumerate(cell):
                _check_length(row, len(self.operations), f"gates[{c}][{e}]", "operations")
                for o, gate in enumerate(row):
                    if isinstance(gate, bool) or not isinstance(gate, int | float) or not 0 <= gate <= 1:
                        raise GenotypeError(f"gates[{c}][{e}][{o}]: {checks.shown(gate)} is not a number from 0 to 1")

    @classmethod
    def from_space(cls, space: SearchSpace, values: Iterable[Iterable[Iterable[float]]]) -> Gates:
        """Join a search space and gates in nested lists (such as ``tensor.tolist()``)."""
        frozen = tuple(tuple(tuple(row) for row in cell) for cell in values)
        return cls(space.operations, space.nodes, space.concat, space.sequence, space.reductions, frozen)

    @classmethod
    def of_genotype(cls, space: SearchSpace, genotype: Genotype) -> Gates:
        """Return discrete gates: 1 for every operation of a genotype, 0 for all others.

        Cells that share gates get those of the first of them.
        """
        values = []
        for searched in range(space.searched_cells):
            present = set(genotype.cells[space.sequence.index(searched)].edges)
            values.append([[float((name, *edge) in present) for name in space.operations] for edge in space.edges])
        return cls.from_space(space, values)

    @property
    def space(self) -> SearchSpace:
        """The search space that the gates belong to."""
        try:
            return SearchSpace(self.operations, self.nodes, self.concat, self.sequence, self.reductions)
        except SettingsError as error:
            raise GenotypeError(str(error)) from None

    # -- JSON ------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the gates as JSON-ready data (`from_dict` reads it back, bit for bit)."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "operations": list(self.operations),
            "nodes": self.nodes,
            "concat": [list(c) if isinstance(c, tuple) else c for c in self.concat],
            "sequence": list(self.sequence),
            "reductions": list(self.reductions),
            "gates": [[list(row) for row in cell] for cell in self.values],
        }

    @classmethod
    def from_dict(cls, data: Any, where: str = "gates") -> Gates:
        """Build gates from JSON data, checking every field.

        Raises:
            GenotypeError: with the path into the data (``gates[2][0][5]``) and the reason.
        """
        checks.header(data, where, what="gates", form=FORMAT, version=VERSION)
        keys = ("format", "version", "operations", "nodes", "concat", "sequence", "reductions", "gates")
        data = checks.mapping(data, where, required=keys)
        operations = checks.listing(data["operations"], f"{where}: operations")
        cells = checks.listing(data["gates"], f"{where}: gates")
        try:
            return cls(
                operations=tuple(checks.text(name, f"operations[{i}]") for i, name in enumerate(operations)),
                nodes=checks.integer(data["nodes"], "nodes"),
                concat=_concat_from(data["concat"]),
                sequence=checks.integers(data["sequence"], "sequence"),
                reductions=checks.integers(data["reductions"], "reductions"),
                values=tuple(_cell_from(cell, f"gates[{c}]") for c, cell in enumerate(cells)),
            )
        except GenotypeError as error:
            raise GenotypeError(f"{where}: {error}") from None

    def to_json(self) -> str:
        """Return the gates as JSON text, one edge a line."""
        head = {key: value for key, value in self.to_dict().items() if key != "gates"}
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items())
        cells = ",\n".join("    [" + ",\n     ".join(json.dumps(row) for row in cell) + "]" for cell in self.values)
        return f'{{\n{lines},\n  "gates": [\n{cells}\n  ]\n}}\n'

    @classmethod
    def from_json(cls, text: str, where: str = "gates") -> Gates:
        """Parse JSON text; see `from_dict` for what is checked.

        Raises:
            GenotypeError: with line and column where the text is not JSON.
        """
        return cls.from_dict(checks.parse(text, where, "gates file"), where)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the gates as JSON; the file appears whole or not at all."""
        write_text(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Gates:
        """Read a gates file, or the `gates.json` of a run folder.

        Raises:
            GenotypeError: the file is missing, is not JSON (with line and column), or does not hold valid gates.
        """
        return cls.from_json(*_read(path))


#: The gates of a cell space or of a choice space.
AnyGates = Gates | ChoiceGates


def gates_of(space: SearchSpace | ChoiceSpace, values: Iterable[Iterable[Iterable[float]]]) -> AnyGates:
    """Join a space of either kind and gates in nested lists."""
    return (Gates.from_space if isinstance(space, SearchSpace) else ChoiceGates.from_space)(space, values)  # type: ignore[arg-type]


def discrete_gates(space: SearchSpace | ChoiceSpace, genotype: AnyGenotype) -> AnyGates:
    """Return 1 for every operation or candidate of a genotype, 0 for all others; see `Gates.of_genotype`."""
    if isinstance(space, SearchSpace) and isinstance(genotype, Genotype):
        return Gates.of_genotype(space, genotype)
    assert isinstance(space, ChoiceSpace)
    assert isinstance(genotype, ChoiceGenotype)
    chosen = zip(space.choices, genotype.choices, strict=True)
    return ChoiceGates.from_space(space, [[[float(c == name) for c in choice.candidates]] for choice, name in chosen])


def gates_from_dict(data: Any, where: str = "gates") -> AnyGates:
    """Build the gates of a cell space or of a choice space from JSON data; its format decides.

    Raises:
        GenotypeError: with the path into the data and the reason.
    """
    of_choices = isinstance(data, dict) and data.get("format") == GATES_FORMAT
    return (ChoiceGates if of_choices else Gates).from_dict(data, where)


def load_gates(path: str | os.PathLike[str]) -> AnyGates:
    """Read a gates file of either kind, or the `gates.json` of a run folder; see `Gates.load`."""
    text, where = _read(path)
    return gates_from_dict(checks.parse(text, where, "gates file"), where)


def _read(path: str | os.PathLike[str]) -> tuple[str, str]:
    return checks.read_text(path, what="gates", inside="gates.json", way_out="ddarts search")


def _check_length(found: tuple[Any, ...], expected: int, where: str, of_what: str) -> None:
    if len(found) != expected:
        raise GenotypeError(f"{where}: {len(found)} entries, expected {expected}, the number of {of_what}")


def _cell_from(data: Any, where: str) -> CellGates:
    rows = checks.listing(data, where)
    return tuple(
        tuple(_gate(gate, f"{where}[{e}][{o}]") for o, gate in enumerate(checks.listing(row, f"{where}[{e}]")))
        for e, row in enumerate(rows)
    )


def _concat_from(data: Any) -> tuple[int, ...] | tuple[tuple[int, ...], ...]:
    items = checks.listing(data, "concat")
    if items and all(isinstance(item, list) for item in items):
        return tuple(checks.integers(item, f"concat[{i}]") for i, item in enumerate(items))
    return checks.integers(items, "concat")


def _gate(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise GenotypeError(f"{where}: {checks.shown(value)} is not a number from 0 to 1")
    return value
