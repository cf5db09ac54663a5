"""The genotype: an architecture as plain, validated, versioned data.

A genotype is the one currency between the stages (search, derive, train, report). It is a tuple of cells; each cell is
a set of edges (operation, from, to) over numbered states. States 0 and 1 are the outputs of the two cells before; states
2 and up are the cell's own nodes. The cell's output concatenates the states in `concat`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ddarts.architecture.spaces import INPUT_STATES, PARAMETER_FREE, check_operation
from ddarts.errors import GenotypeError, nearest
from ddarts.files import write_text

FORMAT = "ddarts-genotype"
VERSION = 1
_MAX_NODES = 32
_MAX_CELLS = 1000
_MAX_FILE_BYTES = 16 * 1024 * 1024


class Edge(NamedTuple):
    """One operation on its way from an earlier state to a node."""

    operation: str
    source: int
    target: int


@dataclass(frozen=True)
class CellGenotype:
    """One cell.

    Attributes:
        edges: operations in the order in which they were chosen; one pair of states may hold several operations.
        concat: states whose outputs are concatenated, in order.
        reduction: True if the cell halves the resolution (edges from states 0 and 1 have stride 2).

    Raises:
        GenotypeError: an operation is unknown, a state is out of range, an edge does not lead forward or stands twice,
            or no concatenated node has an input.
    """

    edges: tuple[Edge, ...]
    concat: tuple[int, ...]
    reduction: bool = False

    def __post_init__(self) -> None:
        _check_cell(self, "cell")

    @property
    def nodes(self) -> int:
        """Number of intermediate nodes, counted up to the highest state that the cell names."""
        return max([*self.concat, *(e.target for e in self.edges)]) - INPUT_STATES + 1

    @property
    def live_concat(self) -> tuple[int, ...]:
        """Concatenated states that receive anything: nodes without an input take no part in the output."""
        return tuple(s for s in self.concat if s in self.fed_states)

    @property
    def fed_states(self) -> frozenset[int]:
        """States that a value reaches: the two inputs and every node with an edge from a fed state."""
        return _fed_states(self.edges)

    def pruned(self) -> CellGenotype:
        """Return the cell without nodes that have no input and without what only they fed (paper, section 3.4)."""
        fed = self.fed_states
        return CellGenotype(
            tuple(e for e in self.edges if e.source in fed),
            tuple(s for s in self.concat if s in fed),
            self.reduction,
        )

    @property
    def parameter_free_share(self) -> float:
        """Share of edges without weights (pools and identities), 0 to 1."""
        return sum(e.operation in PARAMETER_FREE for e in self.edges) / len(self.edges)


@dataclass(frozen=True)
class Genotype:
    """A whole architecture: its cells, first to last.

    Attributes:
        cells: the cells in network order; reductions may stand anywhere and in any number.
        name: where it comes from, for people.
    """

    cells: tuple[CellGenotype, ...]
    name: str = ""

    def __post_init__(self) -> None:
        if not self.cells:
            raise GenotypeError("a genotype needs at least one cell; this one has none")
        if len(self.cells) > _MAX_CELLS:
            raise GenotypeError(f"{len(self.cells)} cells are more than the {_MAX_CELLS} that a genotype may hold")

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def reductions(self) -> tuple[int, ...]:
        """Positions of the reduction cells."""
        return tuple(i for i, cell in enumerate(self.cells) if cell.reduction)

    @property
    def operations(self) -> tuple[str, ...]:
        """The distinct operations in use, sorted by name."""
        return tuple(sorted({e.operation for cell in self.cells for e in cell.edges}))

    # -- JSON ------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the genotype as JSON-ready data (`from_dict` reads it back)."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "cells": [
                {
                    "reduction": cell.reduction,
                    "concat": list(cell.concat),
                    "edges": [{"op": e.operation, "from": e.source, "to": e.target} for e in cell.edges],
                }
                for cell in self.cells
            ],
        }

    @classmethod
    def from_dict(cls, data: Any, where: str = "genotype") -> Genotype:
        """Build a genotype from JSON data, checking every field.

        Args:
            data: what `to_dict` returns, or anything at all.
            where: prefix of error messages, such as a file name.

        Raises:
            GenotypeError: with the path into the data (``cells[2].edges[0].op``) and the reason.
        """
        data = _mapping(data, where, required=("format", "version", "cells"), optional=("name",))
        if data["format"] != FORMAT:
            raise GenotypeError(f"{where}: format is {data['format']!r}, expected {FORMAT!r}; is this a genotype file?")
        if type(data["version"]) is not int or data["version"] != VERSION:
            raise GenotypeError(
                f"{where}: version {data['version']!r} cannot be read, this ddarts reads version {VERSION}; "
                "derive the genotype again or use the ddarts that wrote it"
            )
        name = data.get("name", "")
        if not isinstance(name, str):
            raise GenotypeError(f"{where}: name must be text, not {type(name).__name__}")
        cells = _list(data["cells"], f"{where}: cells")
        return cls(tuple(_cell_from(cell, f"{where}: cells[{i}]") for i, cell in enumerate(cells)), name)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the genotype as JSON, one edge a line; the file appears whole or not at all."""
        write_text(Path(path), self.to_json())

    def to_json(self) -> str:
        """Return the genotype as JSON text that a person can read: one edge a line."""
        cells = []
        for cell in self.to_dict()["cells"]:
            edges = ",\n      ".join(json.dumps(edge) for edge in cell["edges"])
            cells.append(
                f'    {{"reduction": {json.dumps(cell["reduction"])}, "concat": {json.dumps(cell["concat"])}, '
                f'"edges": [\n      {edges}]}}'
            )
        body = ",\n".join(cells)
        return (
            f'{{\n  "format": {json.dumps(FORMAT)},\n  "version": {VERSION},\n  "name": {json.dumps(self.name)},\n'
            f'  "cells": [\n{body}\n  ]\n}}\n'
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Genotype:
        """Read a genotype file, or the `genotype.json` of a run folder.

        Raises:
            GenotypeError: the file is missing, is not JSON (with line and column), or is not a valid genotype.
        """
        path = Path(path)
        if path.is_dir():
            path = path / "genotype.json"
        try:
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise GenotypeError(f"{path}: {path.stat().st_size} bytes are too many for a genotype file")
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise GenotypeError(f"{path}: no such genotype file; check the path or run `ddarts derive`") from None
        except UnicodeDecodeError as error:
            raise GenotypeError(f"{path}: not UTF-8 text at byte {error.start}; is this a genotype file?") from None
        except OSError as error:
            raise GenotypeError(f"{path}: cannot be read: {error.strerror}") from None
        return cls.from_json(text, str(path))

    @classmethod
    def from_json(cls, text: str, where: str = "genotype") -> Genotype:
        """Parse JSON text; see `from_dict` for what is checked.

        Raises:
            GenotypeError: with line and column where the text is not JSON.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise GenotypeError(f"{where}: line {error.lineno}, column {error.colno}: {error.msg}") from None
        except (RecursionError, ValueError) as error:
            raise GenotypeError(f"{where}: not a genotype: {error}") from None
        return cls.from_dict(data, where)


def _fed_states(edges: tuple[Edge, ...]) -> frozenset[int]:
    fed = set(range(INPUT_STATES))
    for edge in sorted(edges, key=lambda e: e.target):  # edges lead forward, so one pass in target order is enough
        if edge.source in fed:
            fed.add(edge.target)
    return frozenset(fed)


def _check_cell(cell: CellGenotype, where: str) -> None:
    """Raise `GenotypeError` unless `cell` keeps every rule in the docstring of `CellGenotype`."""
    states = range(INPUT_STATES, _MAX_NODES + INPUT_STATES)
    if not cell.concat:
        raise GenotypeError(f"{where}: concat is empty; name at least one node")
    if len(set(cell.concat)) != len(cell.concat):
        raise GenotypeError(f"{where}: concat {list(cell.concat)} names a state twice")
    for state in cell.concat:
        if state not in states:
            raise GenotypeError(f"{where}: concat names state {state}, expected {states.start} to {states.stop - 1}")
    seen: set[Edge] = set()
    for i, edge in enumerate(cell.edges):
        place = f"{where}.edges[{i}]"
        check_operation(edge.operation, f"{place}.op")
        if edge.target not in states:
            raise GenotypeError(f"{place}.to: state {edge.target}, expected {states.start} to {states.stop - 1}")
        if not 0 <= edge.source < edge.target:
            raise GenotypeError(
                f"{place}.from: state {edge.source} does not come before state {edge.target}; edges lead forward"
            )
        if edge in seen:
            raise GenotypeError(f"{place}: {edge.operation} from {edge.source} to {edge.target} stands twice")
        seen.add(edge)
    if not any(s in _fed_states(cell.edges) for s in cell.concat):
        raise GenotypeError(f"{where}: no node in concat {list(cell.concat)} has an input; the cell is empty")


def _cell_from(data: Any, where: str) -> CellGenotype:
    data = _mapping(data, where, required=("edges", "concat"), optional=("reduction",))
    reduction = data.get("reduction", False)
    if not isinstance(reduction, bool):
        raise GenotypeError(f"{where}.reduction: {reduction!r} must be true or false")
    concat = tuple(_integer(s, f"{where}.concat[{i}]") for i, s in enumerate(_list(data["concat"], f"{where}.concat")))
    edges = []
    for i, item in enumerate(_list(data["edges"], f"{where}.edges")):
        place = f"{where}.edges[{i}]"
        item = _mapping(item, place, required=("op", "from", "to"))
        if not isinstance(item["op"], str):
            raise GenotypeError(f"{place}.op: {item['op']!r} must be the name of an operation")
        edges.append(
            Edge(item["op"], _integer(item["from"], f"{place}.from"), _integer(item["to"], f"{place}.to"))
        )
    try:
        return CellGenotype(tuple(edges), concat, reduction)
    except GenotypeError as error:
        raise GenotypeError(str(error).replace("cell", where, 1)) from None


def _mapping(data: Any, where: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise GenotypeError(f"{where}: expected an object with {', '.join(required)}, found {type(data).__name__}")
    for key in required:
        if key not in data:
            raise GenotypeError(f"{where}: {key!r} is missing")
    for key in data:
        if key not in required + optional:
            raise GenotypeError(f"{where}: unknown key {key!r}{nearest(key, required + optional)}")
    return data


def _list(data: Any, where: str) -> list[Any]:
    if not isinstance(data, list):
        raise GenotypeError(f"{where}: expected a list, found {type(data).__name__}")
    return data


def _integer(value: Any, where: str) -> int:
    if type(value) is not int:
        raise GenotypeError(f"{where}: {value!r} must be a whole number")
    return value
