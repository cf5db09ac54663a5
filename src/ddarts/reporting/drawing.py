"""Cells as SVG: states from top to bottom, every edge with the name of its operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from ddarts.architecture.genotype import CellGenotype, Edge, Genotype
from ddarts.architecture.spaces import INPUT_STATES
from ddarts.errors import RunError
from ddarts.files import write_text
from ddarts.reporting.layout import Layout, Link, Point, Size, lay_out


class Kind(NamedTuple):
    """How operations of one kind look: colour and label fill on light and on dark, and the dash pattern of the line."""

    colour: str
    fill: str
    dark_colour: str
    dark_fill: str
    dash: str = ""


#: After Okabe and Ito's palette, which colour-blind readers can tell apart.
KINDS = {
    "separable": Kind("#0072b2", "#e3f0f8", "#6db8ec", "#17303f"),
    "dilated": Kind("#c44e00", "#fbeadf", "#ff9a5c", "#412413"),
    "pool": Kind("#007a59", "#e0f3ed", "#3fcfa4", "#12352b", "6 3"),
    "skip": Kind("#4d4d4d", "#efefef", "#c3c8cf", "#33373d", "2 3"),
    "plain": Kind("#9c3f77", "#f7e8f1", "#ea9cc8", "#3d2233"),
    "factorized": Kind("#8a6100", "#faf0d8", "#e3b94f", "#3a2f12"),
    "bottleneck": Kind("#5b3fb0", "#ece8f9", "#b3a3f2", "#2b2547"),
}

_PREFIXES = {
    "sep_": "separable",
    "dil_": "dilated",
    "max_": "pool",
    "avg_": "pool",
    "skip_": "skip",
    "simple_": "plain",
    "conv_": "factorized",
    "bottleneck_": "bottleneck",
}

_SANS = "system-ui, 'DejaVu Sans', 'Segoe UI', Helvetica, Arial, sans-serif"
_MONO = "'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace"
_LETTER = 6.7  # width of a letter of the labels: 11 px, monospaced, so that the box always fits
_MARGIN = 16.0
_HEADER = 30.0
_SPACE = 16.0  # between cells of a genotype
_ROW = 1500.0  # width at which a genotype's cells wrap


def operation_kind(operation: str) -> str:
    """Return the key of `KINDS` that an operation belongs to."""
    return next(kind for prefix, kind in _PREFIXES.items() if operation.startswith(prefix))


def state_name(state: int) -> str:
    """Return what a state is called in texts: c_{k-2}, c_{k-1}, or the number of a node."""
    return ("c_{k-2}", "c_{k-1}")[state] if state < INPUT_STATES else f"node {state - INPUT_STATES}"


def draw_cell(cell: CellGenotype, *, title: str = "", gates: Mapping[Edge, float] | None = None) -> str:
    """Return a cell as a self-contained SVG document.

    Args:
        cell: the cell; nodes that receive nothing are drawn dashed.
        title: heading; "cell" or "reduction cell" if empty.
        gates: gate of each edge, 0 to 1, written under its operation.
    """
    return _document(*_draw(cell, title, gates or {}))


def draw_genotype(genotype: Genotype, gates: Sequence[Mapping[Edge, float]] | None = None) -> str:
    """Return all cells of a genotype, side by side in rows, as one SVG document.

    Args:
        genotype: the architecture.
        gates: for each cell the gate of each edge, 0 to 1.
    """
    drawn = [_draw(cell, cell_title(i, cell), gates[i] if gates else {}) for i, cell in enumerate(genotype.cells)]
    name = genotype.name
    parts, x, y, row_height, width = [], _SPACE, _SPACE + (_HEADER if name else 0.0), 0.0, 0.0
    for body, size, label, description in drawn:
        if x > _SPACE and x + size.width > _ROW:
            x, y, row_height = _SPACE, y + row_height + _SPACE, 0.0
        parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{_titled(label, description)}{body}</g>')
        x += size.width + _SPACE
        row_height = max(row_height, size.height)
        width = max(width, x)
    if name:
        parts.insert(0, f'<text class="ink" x="{_SPACE}" y="30" font-size="16" font-weight="600">{escape(name)}</text>')
        width = max(width, 2 * _SPACE + 11 * len(name))
    size = Size(width, y + row_height + _SPACE)
    label = f"Genotype {name}".rstrip()
    description = f"{len(genotype)} cells; reductions at {', '.join(map(str, genotype.reductions)) or 'no position'}."
    background = f'<rect class="paper" width="{size.width:.0f}" height="{size.height:.0f}" fill="#ffffff"/>'
    return _document(background + "\n".join(parts), size, label, description)


def cell_title(position: int, cell: CellGenotype) -> str:
    """Return the heading of a cell in a network."""
    return f"cell {position} (reduction)" if cell.reduction else f"cell {position}"


def write_drawings(genotype: Genotype, folder: Path, gates: Sequence[Mapping[Edge, float]] | None = None) -> list[Path]:
    """Write ``cell_00.svg``, ``cell_01.svg`` ... and ``cells.svg`` (all in one) into a folder; return their paths.

    Drawings of cells that `genotype` does not have, left by an earlier and longer one, are removed.

    Raises:
        RunError: a file cannot be written.
    """
    folder = Path(folder)
    paths = []
    for i, cell in enumerate(genotype.cells):
        paths.append(folder / f"cell_{i:02d}.svg")
        write_text(paths[-1], draw_cell(cell, title=cell_title(i, cell), gates=gates[i] if gates else None))
    paths.append(folder / "cells.svg")
    write_text(paths[-1], draw_genotype(genotype, gates))
    for stale in set(folder.glob("cell_[0-9]*.svg")) - set(paths):
        try:
            stale.unlink()
        except OSError as error:
            raise RunError(f"{stale}: cannot be deleted: {error.strerror}") from None
    return paths


# -- one cell ----------------------------------------------------------------------------------------------------------


def _draw(cell: CellGenotype, title: str, gates: Mapping[Edge, float]) -> tuple[str, Size, str, str]:
    """Return the drawing's elements, its size, its label and its description."""
    title = title or ("reduction cell" if cell.reduction else "cell")
    output = cell.nodes + INPUT_STATES
    layout = lay_out(_sizes(cell), _layers(cell), _links(cell, gates))
    badge = "stride 2 from both inputs" if cell.reduction else ""
    width = max(layout.width + 2 * _MARGIN, 8.2 * len(title) + 6.6 * len(badge) + 3 * _MARGIN)
    left = (width - layout.width) / 2
    size = Size(round(width), round(layout.height + _HEADER + 2 * _MARGIN))
    lines = [_line(route.points, edge.operation) for route, edge in zip(layout.routes, cell.edges, strict=False)]
    lines += [_output_line(route.points) for route in layout.routes[len(cell.edges) :]]
    labels = [
        _label(route.label, edge, gates.get(edge))
        for route, edge in zip(layout.routes, cell.edges, strict=False)
        if route.label is not None
    ]
    states = [_state(cell, state, output, layout) for state in range(output + 1)]
    border = "#7a4b00" if cell.reduction else "#c9ced6"
    body = (
        f'<rect class="paper frame" x="0.5" y="0.5" width="{size.width - 1:.0f}" height="{size.height - 1:.0f}" rx="8" '
        f'fill="#ffffff" stroke="{border}"/>'
        f'<text class="ink" x="{_MARGIN}" y="23" font-size="14" font-weight="600">{escape(title)}</text>'
    )
    if badge:
        body += (
            f'<text class="soft" x="{size.width - _MARGIN:.0f}" y="23" font-size="11.5" text-anchor="end" '
            f'fill="#565d68">{badge}</text>'
        )
    body += f'<g transform="translate({left:.1f} {_HEADER + _MARGIN - 4:.1f})">' + "".join([*lines, *labels, *states])
    return body + "</g>", size, title, _description(cell, gates)


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


def _links(cell: CellGenotype, gates: Mapping[Edge, float]) -> list[Link]:
    output = cell.nodes + INPUT_STATES
    links = [
        Link(e.source, e.target, Size(_LETTER * len(e.operation) + 12, 32.0 if e in gates else 19.0))
        for e in cell.edges
    ]
    return links + [Link(state, output, None) for state in cell.concat]


def _line(points: Sequence[Point], operation: str) -> str:
    name = operation_kind(operation)
    kind = KINDS[name]
    pattern = f' stroke-dasharray="{kind.dash}"' if kind.dash else ""
    end = points[-1]
    return (
        f'<path class="line {name}" d="{_curve(points, shorten=6.0)}" fill="none" stroke="{kind.colour}" '
        f'stroke-width="1.6"{pattern}/>'
        f'<path class="arrow {name}" d="M{end.x:.1f} {end.y:.1f}l-3.6 -7.5h7.2z" fill="{kind.colour}"/>'
    )


def _output_line(points: Sequence[Point]) -> str:
    return f'<path class="faint" d="{_curve(points)}" fill="none" stroke="#b3b9c3" stroke-width="1.2"/>'


def _curve(points: Sequence[Point], shorten: float = 0.0) -> str:
    """Return a path that leaves, passes ranks and arrives straight down, with a smooth curve between ranks."""
    path = [f"M{points[0].x:.1f} {points[0].y:.1f}"]
    last = len(points) - 1
    for i, (start, end) in enumerate(pairwise(points)):
        y = end.y - (shorten if i + 1 == last else 0.0)
        if i % 2:
            path.append(f"V{y:.1f}")
        else:
            bend = (y - start.y) * 0.5
            path.append(f"C{start.x:.1f} {start.y + bend:.1f} {end.x:.1f} {y - bend:.1f} {end.x:.1f} {y:.1f}")
    return "".join(path)


def _label(at: Point, edge: Edge, gate: float | None) -> str:
    name = operation_kind(edge.operation)
    kind = KINDS[name]
    width = _LETTER * len(edge.operation) + 12
    height = 19.0 if gate is None else 32.0
    name_y = at.y + 4 if gate is None else at.y - 2.5
    text = (
        f'<g class="label {name}"><title>{escape(_edge_text(edge, gate))}</title>'
        f'<rect x="{at.x - width / 2:.1f}" y="{at.y - height / 2:.1f}" width="{width:.1f}" height="{height:.0f}" '
        f'rx="5" fill="{kind.fill}" stroke="{kind.colour}"/>'
        f'<text x="{at.x:.1f}" y="{name_y:.1f}" font-family="{_MONO}" font-size="11" text-anchor="middle" '
        f'fill="#16191d">{escape(edge.operation)}</text>'
    )
    if gate is not None:
        text += (
            f'<text x="{at.x:.1f}" y="{at.y + 10.5:.1f}" font-family="{_MONO}" font-size="10" text-anchor="middle" '
            f'fill="{kind.colour}">{gate:.3f}</text>'
        )
    return text + "</g>"


def _state(cell: CellGenotype, state: int, output: int, layout: Layout) -> str:
    at, size = layout.places[state], _sizes(cell)[state]
    if state < INPUT_STATES:
        used = any(e.source == state for e in cell.edges)
        subscript = f"k\N{MINUS SIGN}{INPUT_STATES - state}"
        text = f'c<tspan font-size="10" dy="3">{subscript}</tspan>'
        look = "input" if used else "input unused"
        fill, ink, round_ = "#dfe4ea", "#16191d", 6
    elif state < output:
        used = state in cell.fed_states
        text, look, fill, ink, round_ = str(state - INPUT_STATES), "node", "#2f3742", "#ffffff", 13
    else:
        used, text, look, fill, ink, round_ = True, "output", "output", "#dfe4ea", "#16191d", 6
    stroke = "#2f3742" if used else "#8a929e"
    dash = "" if used else ' stroke-dasharray="4 3" opacity="0.55"'
    return (
        f'<g class="{look}"{dash}><rect x="{at.x - size.width / 2:.1f}" y="{at.y - size.height / 2:.1f}" '
        f'width="{size.width:.1f}" height="{size.height:.0f}" rx="{round_}" fill="{fill}" stroke="{stroke}"/>'
        f'<text x="{at.x:.1f}" y="{at.y + 4.5:.1f}" font-size="13" text-anchor="middle" stroke="none" '
        f'fill="{ink}">{text}</text></g>'
    )


def _edge_text(edge: Edge, gate: float | None) -> str:
    text = f"{edge.operation} from {state_name(edge.source)} to {state_name(edge.target)}"
    return text if gate is None else f"{text}, gate {gate:.4f}"


def _description(cell: CellGenotype, gates: Mapping[Edge, float]) -> str:
    """Return the cell in words, for readers who do not see the drawing."""
    edges = "; ".join(_edge_text(e, gates.get(e)) for e in cell.edges)
    output = ", ".join(state_name(s) for s in cell.concat)
    return f"{edges}. The output concatenates {output}."


def _titled(label: str, description: str) -> str:
    return f"<title>{escape(label)}</title><desc>{escape(description)}</desc>"


def _document(body: str, size: Size, label: str, description: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="cell-drawing" role="img" aria-label={quoteattr(label)} '
        f'viewBox="0 0 {size.width:.0f} {size.height:.0f}" width="{size.width:.0f}" height="{size.height:.0f}" '
        f'font-family="{_SANS}" fill="#16191d">{_titled(label, description)}{body}</svg>\n'
    )
