"""Cells as drawings: states from top to bottom, every edge with the name of its operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from ddarts.errors import RunError
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.reporting.chosen import CellEvidence
from ddarts.reporting.layout import Layout, Link, Point, Size, lay_out
from ddarts.reporting.names import (
    KINDS,
    cell_title,
    edge_name,
    equal_cells,
    operation_kind,
    operation_label,
    state_name,
)
from ddarts.reporting.scene import Arrowhead, Box, Curve, Group, Item, Scene, Words, to_svg
from ddarts.runtime.atomic_files import write_text
from ddarts.runtime.progress import counted
from ddarts.space.cell_space import INPUT_STATES

_LETTER = 6.7  # width of a letter of the labels: 11 px, monospaced, so that the box always fits
_MARGIN = 16.0
_HEADER = 30.0
_SPACE = 16.0  # between cells of a genotype
_ROW = 1500.0  # width at which a genotype's cells wrap

Gates = Mapping[Edge, float]


def draw_cell(cell: CellGenotype, *, title: str = "", gates: Gates | None = None, margins: Gates | None = None) -> str:
    """Return a cell as a self-contained SVG document; see `cell_scene`."""
    return to_svg(cell_scene(cell, title=title, gates=gates, margins=margins))


def draw_genotype(genotype: Genotype, proofs: Sequence[CellEvidence] | None = None) -> str:
    """Return all cells of a genotype as one SVG document; see `genotype_scene`."""
    return to_svg(genotype_scene(genotype, proofs))


def genotype_scene(genotype: Genotype, proofs: Sequence[CellEvidence] | None = None) -> Scene:
    """Draw all cells of a genotype in rows; without gates, equal cells are drawn once.

    Args:
        genotype: the architecture.
        proofs: for each cell its gates and margins, where a search is known.
    """
    name = genotype.name
    items: list[Item] = []
    x, y, row_height, width = _SPACE, _SPACE + (_HEADER if name else 0.0), 0.0, 0.0
    distinct = [([i], cell) for i, cell in enumerate(genotype.cells)] if proofs else equal_cells(genotype)
    for where, cell in distinct:
        proof = proofs[where[0]] if proofs else CellEvidence(None, {}, {})
        scene = cell_scene(cell, title=cell_title(where, cell), gates=proof.gates, margins=proof.margins)
        if x > _SPACE and x + scene.width > _ROW:
            x, y, row_height = _SPACE, y + row_height + _SPACE, 0.0
        items.append(Group(tuple(scene.items), title=scene.title, description=scene.description, x=x, y=y))
        x += scene.width + _SPACE
        row_height = max(row_height, scene.height)
        width = max(width, x)
    if name:
        items.insert(0, Words(_SPACE, 30, name, 16, bold=True, look="ink"))
        width = max(width, 2 * _SPACE + 11 * len(name))
    height = round(y + row_height + _SPACE)
    paper = Box(0, 0, round(width), height, fill="#ffffff", look="paper")
    description = (
        f"{counted(len(genotype), 'cell')}; reductions at {', '.join(map(str, genotype.reductions)) or 'no position'}."
    )
    return Scene([paper, *items], round(width), height, f"Genotype {name}".rstrip(), description)


def write_drawings(genotype: Genotype, folder: Path, proofs: Sequence[CellEvidence] | None = None) -> list[Path]:
    """Write ``cell_00.svg``, ``cell_01.svg`` ... and ``cells.svg`` (all in one) into a folder; return their paths.

    Drawings of cells that `genotype` does not have, left by an earlier and longer one, are removed.

    Raises:
        RunError: a file cannot be written.
    """
    folder = Path(folder)
    paths = []
    for i, cell in enumerate(genotype.cells):
        proof = proofs[i] if proofs else CellEvidence(None, {}, {})
        paths.append(folder / f"cell_{i:02d}.svg")
        write_text(paths[-1], draw_cell(cell, title=cell_title(i, cell), gates=proof.gates, margins=proof.margins))
    paths.append(folder / "cells.svg")
    write_text(paths[-1], draw_genotype(genotype, proofs))
    for stale in set(folder.glob("cell_[0-9]*.svg")) - set(paths):
        try:
            stale.unlink()
        except OSError as error:
            raise RunError(f"{stale}: cannot be deleted: {error.strerror}") from None
    return paths


# -- one cell ----------------------------------------------------------------------------------------------------------


def cell_scene(
    cell: CellGenotype, *, title: str = "", gates: Gates | None = None, margins: Gates | None = None
) -> Scene:
    """Draw a cell.

    Args:
        cell: the cell; nodes that receive nothing are drawn dashed.
        title: heading; "cell" or "reduction cell" if empty.
        gates: gate of each edge, 0 to 1, written under its operation.
        margins: gate minus the runner-up's, written beside the gate.
    """
    gates, margins = gates or {}, margins or {}
    title = title or ("reduction cell" if cell.reduction else "cell")
    output = cell.nodes + INPUT_STATES
    layout = lay_out(_sizes(cell), _layers(cell), _links(cell, gates))
    badge = "stride 2 from both inputs" if cell.reduction else ""
    width = round(max(layout.width + 2 * _MARGIN, 8.2 * len(title) + 6.6 * len(badge) + 3 * _MARGIN))
    height = round(layout.height + _HEADER + 2 * _MARGIN)
    parts: list[Item] = []
    for route, edge in zip(layout.routes, cell.edges, strict=False):
        parts += _line(route.points, edge.operation)
    parts += [Curve(_curve(route.points), "#b3b9c3", look="faint") for route in layout.routes[len(cell.edges) :]]
    parts += [
        _label(route.label, edge, gates.get(edge), margins.get(edge))
        for route, edge in zip(layout.routes, cell.edges, strict=False)
        if route.label is not None
    ]
    parts += [_state(cell, state, output, layout) for state in range(output + 1)]
    border = "#7a4b00" if cell.reduction else "#c9ced6"
    items: list[Item] = [
        Box(0.5, 0.5, width - 1, height - 1, 8, "#ffffff", border, "paper frame"),
        Words(_MARGIN, 23, title, 14, bold=True, look="ink"),
    ]
    if badge:
        items.append(Words(width - _MARGIN, 23, badge, 11.5, "end", "#565d68", look="soft"))
    items.append(Group(tuple(parts), x=(width - layout.width) / 2, y=_HEADER + _MARGIN - 4))
    return Scene(items, width, height, title, _description(cell, gates, margins))


def _sizes(cell: CellGenotype) -> list[Size]:
    """Widths grow with the number of lines that meet a state."""
    output = cell.nodes + INPUT_STATES
    sizes = []
    for state in range(output):
        leaving = sum(e.source == state for e in cell.edges) + (state in cell.concat)
        entering = sum(e.target == state for e in cell.edges)
        least = 56.0 if state < INPUT_STATES else 34.0
        sizes.append(Size(max(least, 12.0 * max(leaving, entering)), 26.0))
    return [*sizes, Size(max(76.0, 12.0 * len(cell.concat)), 26.0)]


def _layers(cell: CellGenotype) -> list[int]:
    """Longest way from an input, in edges; nodes without a way stand below the inputs, the output below everything."""
    output = cell.nodes + INPUT_STATES
    layers = [0] * INPUT_STATES + [1] * (output - INPUT_STATES)
    for edge in sorted(cell.edges, key=lambda e: e.target):
        layers[edge.target] = max(layers[edge.target], layers[edge.source] + 1)
    return [*layers, max(layers) + 1]


def _links(cell: CellGenotype, gates: Gates) -> list[Link]:
    output = cell.nodes + INPUT_STATES
    links = [
        Link(e.source, e.target, Size(_LETTER * len(operation_label(e.operation)) + 12, 32.0 if e in gates else 19.0))
        for e in cell.edges
    ]
    return links + [Link(state, output, None) for state in cell.concat]


def _line(points: Sequence[Point], operation: str) -> list[Item]:
    name = operation_kind(operation)
    kind, end = KINDS[name], points[-1]
    return [
        Curve(_curve(points, shorten=6.0), kind.colour, 1.6, kind.dash, f"line {name}"),
        Arrowhead(end.x, end.y, kind.colour, f"arrow {name}"),
    ]


def _curve(points: Sequence[Point], shorten: float = 0.0) -> tuple[tuple[str, *tuple[float, ...]], ...]:
    """Return a path that leaves, passes ranks and arrives straight down, with a smooth curve between ranks."""
    path: list[tuple[str, *tuple[float, ...]]] = [("M", points[0].x, points[0].y)]
    last = len(points) - 1
    for i, (start, end) in enumerate(pairwise(points)):
        y = end.y - (shorten if i + 1 == last else 0.0)
        if i % 2 or start.x == end.x:
            path.append(("V", y))
        else:
            bend = (y - start.y) * 0.5
            path.append(("C", start.x, start.y + bend, end.x, y - bend, end.x, y))
    return tuple(path)


def _label(at: Point, edge: Edge, gate: float | None, margin: float | None) -> Item:
    name = operation_kind(edge.operation)
    kind = KINDS[name]
    label = operation_label(edge.operation)
    width = _LETTER * len(label) + 12
    height = 19.0 if gate is None else 32.0
    name_y = at.y + 4 if gate is None else at.y - 2.5
    parts: list[Item] = [
        Box(at.x - width / 2, at.y - height / 2, width, height, 5, kind.fill, kind.colour),
        Words(at.x, name_y, label, 11, "middle", mono=True),
    ]
    if gate is not None:
        above = "" if margin is None else f" {margin:+.3f}".replace("-", "\N{MINUS SIGN}")
        parts.append(Words(at.x, at.y + 10.5, f"{gate:.3f}{above}", 10, "middle", kind.colour, mono=True, look="gate"))
    return Group(tuple(parts), f"label {name}", _edge_text(edge, gate, margin))


def _state(cell: CellGenotype, state: int, output: int, layout: Layout) -> Item:
    at, size = layout.places[state], _sizes(cell)[state]
    low, fill, ink, radius = "", "#dfe4ea", "#16191d", 6
    if state < INPUT_STATES:
        used = any(e.source == state for e in cell.edges)
        text, low = "c", f"k\N{MINUS SIGN}{INPUT_STATES - state}"
        look = "input" if used else "input unused"
    elif state < output:
        used = state in cell.fed_states
        text, look, fill, ink, radius = str(state - INPUT_STATES), "node", "#2f3742", "#ffffff", 13
    else:
        used, text, look = True, "output", "output"
    stroke = "#2f3742" if used else "#8a929e"
    box = Box(at.x - size.width / 2, at.y - size.height / 2, size.width, size.height, radius, fill, stroke)
    return Group((box, Words(at.x, at.y + 4.5, text, 13, "middle", ink, low=low)), look, faded=not used)


def _edge_text(edge: Edge, gate: float | None, margin: float | None) -> str:
    text = edge_name(edge)
    if gate is not None:
        text += f", gate {gate:.4f}"
    return text if margin is None else f"{text}, {margin:+.4f} to its runner-up"


def _description(cell: CellGenotype, gates: Gates, margins: Gates) -> str:
    """Return the cell in words, for readers who do not see the drawing."""
    edges = "; ".join(_edge_text(e, gates.get(e), margins.get(e)) for e in cell.edges)
    output = ", ".join(state_name(s) for s in cell.concat)
    return f"{edges}. The output concatenates {output}."
