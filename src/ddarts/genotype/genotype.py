"""The genotype: an architecture as plain, validated, versioned data.

A genotype is the one currency between the stages (search, derive, train, report). It is a tuple of cells; each cell is
a set of edges (operation, from, to) over numbered states. States 0 and 1 are the outputs of the two cells before;
states 2 and up are the cell's own nodes. The cell's output concatenates the states in `concat`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ddarts.errors import GenotypeError
from ddarts.runtime import json_input as checks
from ddarts.runtime.atomic_files import write_text
from ddarts.runtime.registry import load_reference
from ddarts.space.cell_space import INPUT_STATES
from ddarts.space.operations import check_operation, is_parameter_free

FORMAT = "ddarts-genotype"
VERSION = 1
_MAX_NODES = 32
_MAX_CELLS = 1000
_MAX_NAME = 200
_MAX_CHANNELS = 2**16
_STEMS = ("cifar", "imagenet")


class Edge(NamedTuple):
    """One operation on its way from an earlier state to a node."""

    operation: str
    """Its name, such as ``sep_conv_3x3``."""
    source: int
    """The state that it reads."""
    target: int
    """The node that it adds to."""


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
        return sum(is_parameter_free(e.operation) for e in self.edges) / len(self.edges)


class Size(NamedTuple):
    """How wide a network is to be built: what a budget has chosen besides the architecture."""

    channels: int
    """Width of the first cell, or the width setting of a choice space."""
    stem: str
    """``cifar`` or ``imagenet``."""


@dataclass(frozen=True)
class Genotype:
    """A whole architecture: its cells, first to last.

    Attributes:
        cells: the cells in network order; reductions may stand anywhere and in any number.
        name: where it comes from, for people; one line of at most 200 printable characters.
        size: the size that it was chosen for, with which it is trained unless another is asked for.

    Raises:
        GenotypeError: no cell, too many cells, or a name that cannot be printed.
    """

    cells: tuple[CellGenotype, ...]
    name: str = ""
    size: Size | None = None

    def __post_init__(self) -> None:
        if not self.cells:
            raise GenotypeError("a genotype needs at least one cell; this one has none")
        if len(self.cells) > _MAX_CELLS:
            raise GenotypeError(f"{len(self.cells)} cells are more than the {_MAX_CELLS} that a genotype may hold")
        check_name(self.name)

    def __len__(self) -> int:
        return len(self.cells)

    def __repr__(self) -> str:
        return f"Genotype(name={self.name!r}, cells={len(self)}, reductions={self.reductions})"

    def _repr_html_(self) -> str:
        """Return a drawing for a notebook."""
        return load_reference("ddarts.reporting.network_drawing:genotype_html")(self)

    @property
    def reductions(self) -> tuple[int, ...]:
        """Positions of the reduction cells."""
        return tuple(i for i, cell in enumerate(self.cells) if cell.reduction)

    @property
    def operations(self) -> tuple[str, ...]:
        """The distinct operations in use, sorted by name."""
        return tuple(sorted({e.operation for cell in self.cells for e in cell.edges}))

    def canonical(self) -> Genotype:
        """Return the same architecture in the one form that can be compared: pruned, edges in order, without a name.

        Edges are sorted by target, source and operation. Equal canonical forms mean the same network.
        """
        cells = []
        for cell in (c.pruned() for c in self.cells):
            edges = sorted(cell.edges, key=lambda e: (e.target, e.source, e.operation))
            cells.append(CellGenotype(tuple(edges), cell.concat, cell.reduction))
        return Genotype(tuple(cells))

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
            **size_to_dict(self.size),
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
        checks.header(data, where, what="genotype", form=FORMAT, version=VERSION)
        data = checks.mapping(data, where, required=("format", "version", "cells"), optional=("name", "size"))
        name = checks.text(data.get("name", ""), f"{where}: name")
        cells = checks.listing(data["cells"], f"{where}: cells")
        size = size_from(data, where)
        try:
            return cls(tuple(_cell_from(cell, f"cells[{i}]") for i, cell in enumerate(cells)), name, size)
        except GenotypeError as error:
            raise GenotypeError(f"{where}: {error}") from None

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
        size = "".join(f'  "{key}": {json.dumps(value)},\n' for key, value in size_to_dict(self.size).items())
        return (
            f'{{\n  "format": {json.dumps(FORMAT)},\n  "version": {VERSION},\n  "name": {json.dumps(self.name)},\n'
            f'{size}  "cells": [\n{body}\n  ]\n}}\n'
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Genotype:
        """Read a genotype file, or the `genotype.json` of a run folder.

        Raises:
            GenotypeError: the file is missing, is not JSON (with line and column), or is not a valid genotype.
        """
        text, where = checks.read_text(path, what="genotype", inside="genotype.json", way_out="ddarts derive")
        return cls.from_json(text, where)

    @classmethod
    def from_json(cls, text: str, where: str = "genotype") -> Genotype:
        """Parse JSON text; see `from_dict` for what is checked.

        Raises:
            GenotypeError: with line and column where the text is not JSON.
        """
        return cls.from_dict(checks.parse(text, where, "genotype"), where)


def size_to_dict(size: Size | None) -> dict[str, Any]:
    """Return the entry of a genotype's JSON data for its size; none without one."""
    return {} if size is None else {"size": size._asdict()}


def size_from(data: Any, where: str) -> Size | None:
    """Return the size in the JSON data of a genotype; raise `GenotypeError` if it is none."""
    if "size" not in data:
        return None
    item = checks.mapping(data["size"], f"{where}: size", required=("channels", "stem"))
    channels = checks.integer(item["channels"], f"{where}: size.channels")
    stem = checks.text(item["stem"], f"{where}: size.stem")
    if not 1 <= channels <= _MAX_CHANNELS:
        raise GenotypeError(f"{where}: size.channels = {channels} is out of range, expected 1 to {_MAX_CHANNELS}")
    if stem not in _STEMS:
        raise GenotypeError(f"{where}: size.stem: {checks.shown(stem)} is neither of {', '.join(_STEMS)}")
    return Size(channels, stem)


def check_name(name: str) -> None:
    """Raise `GenotypeError` unless `name` can be printed in terminals, pages and drawings."""
    if not name.isprintable() or len(name) > _MAX_NAME:
        raise GenotypeError(f"name {checks.shown(name)} must be one line of at most {_MAX_NAME} printable characters")


def printable_name(text: str) -> str:
    """Return the name of a genotype for `text` (such as a folder's name, which may hold anything)."""
    return "".join(c if c.isprintable() else "-" for c in text)[:_MAX_NAME]


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
        raise GenotypeError(f"{where}: concat {checks.shown(list(cell.concat))} names a state twice")
    for state in cell.concat:
        if state not in states:
            raise GenotypeError(
                f"{where}: concat names state {checks.shown(state)}, expected {states.start} to {states.stop - 1}"
            )
    seen: set[Edge] = set()
    for i, edge in enumerate(cell.edges):
        place = f"{where}.edges[{i}]"
        check_operation(edge.operation, f"{place}.op")
        if edge.target not in states:
            raise GenotypeError(
                f"{place}.to: state {checks.shown(edge.target)}, expected {states.start} to {states.stop - 1}"
            )
        if not 0 <= edge.source < edge.target:
            raise GenotypeError(
                f"{place}.from: state {checks.shown(edge.source)} does not come before state {edge.target}; "
                "edges lead forward"
            )
        if edge in seen:
            raise GenotypeError(f"{place}: {edge.operation} from {edge.source} to {edge.target} stands twice")
        seen.add(edge)
    if not any(s in _fed_states(cell.edges) for s in cell.concat):
        raise GenotypeError(
            f"{where}: no node in concat {checks.shown(list(cell.concat))} has an input; the cell is empty"
        )


def _cell_from(data: Any, where: str) -> CellGenotype:
    data = checks.mapping(data, where, required=("edges", "concat"), optional=("reduction",))
    reduction = data.get("reduction", False)
    if not isinstance(reduction, bool):
        raise GenotypeError(f"{where}.reduction: {checks.shown(reduction)} must be true or false")
    concat = checks.integers(data["concat"], f"{where}.concat")
    edges = []
    for i, item in enumerate(checks.listing(data["edges"], f"{where}.edges")):
        place = f"{where}.edges[{i}]"
        item = checks.mapping(item, place, required=("op", "from", "to"))
        edges.append(
            Edge(
                checks.text(item["op"], f"{place}.op"),
                checks.integer(item["from"], f"{place}.from"),
                checks.integer(item["to"], f"{place}.to"),
            )
        )
    try:
        return CellGenotype(tuple(edges), concat, reduction)
    except GenotypeError as error:
        raise GenotypeError(where + str(error).removeprefix("cell")) from None
