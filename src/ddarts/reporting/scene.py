"""A drawing as a list of boxes, lines, arrowheads and words, and as SVG. `picture` makes PNG and PDF of the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

SANS = "system-ui, 'DejaVu Sans', 'Segoe UI', Helvetica, Arial, sans-serif"
MONO = "'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace"
INK = "#16191d"


@dataclass(frozen=True)
class Box:
    """A rectangle with round corners; x and y are its top left corner, all lengths in pixels."""

    x: float
    y: float
    width: float
    height: float
    radius: float = 0.0
    fill: str = "none"
    stroke: str = ""
    look: str = ""


@dataclass(frozen=True)
class Curve:
    """A line; `path` holds ("M", x, y), ("V", y) and ("C", x1, y1, x2, y2, x, y)."""

    path: tuple[tuple[str, *tuple[float, ...]], ...]
    stroke: str
    width: float = 1.2
    dash: tuple[float, ...] = ()
    look: str = ""


@dataclass(frozen=True)
class Arrowhead:
    """A small triangle that points down, with its tip at (x, y)."""

    x: float
    y: float
    fill: str
    look: str = ""


@dataclass(frozen=True)
class Words:
    """A line of text; `y` is its base line, `anchor` what stands at x: start, middle or end.

    Attributes:
        low: what follows the text as an index, smaller and lower.
        mono: in a font whose letters are all equally wide.
    """

    x: float
    y: float
    text: str
    size: float
    anchor: str = "start"
    fill: str = INK
    bold: bool = False
    mono: bool = False
    low: str = ""
    look: str = ""


@dataclass(frozen=True)
class Group:
    """Parts that belong together, moved by (x, y).

    Attributes:
        title: what shows when a reader points at it.
        description: the same at length, for readers who do not see it.
        faded: drawn dashed and pale.
    """

    items: tuple[Box | Curve | Arrowhead | Words | Group, ...]
    look: str = ""
    title: str = ""
    description: str = ""
    x: float = 0.0
    y: float = 0.0
    faded: bool = False


Item = Box | Curve | Arrowhead | Words | Group


@dataclass(frozen=True)
class Scene:
    """A whole drawing: its parts, its size in pixels, and what it shows in words."""

    items: Sequence[Item]
    width: float
    height: float
    title: str
    description: str = field(default="")


def to_svg(scene: Scene) -> str:
    """Return the drawing as an SVG document that needs nothing else."""
    size = f"{scene.width:.0f}", f"{scene.height:.0f}"
    body = "".join(map(_element, scene.items))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="cell-drawing" role="img" aria-label={quoteattr(scene.title)} '
        f'viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" height="{size[1]}" font-family="{SANS}" fill="{INK}">'
        f"{_titled(scene.title, scene.description)}{body}</svg>\n"
    )


def _element(item: Item) -> str:
    match item:
        case Group():
            return _group(item)
        case Box():
            radius = f' rx="{item.radius:g}"' if item.radius else ""
            stroke = f' stroke="{item.stroke}"' if item.stroke else ""
            return (
                f'<rect{_class(item.look)} x="{item.x:.1f}" y="{item.y:.1f}" width="{item.width:.1f}" '
                f'height="{item.height:.1f}"{radius} fill="{item.fill}"{stroke}/>'
            )
        case Curve():
            path = "".join(step[0] + " ".join(f"{value:.1f}" for value in step[1:]) for step in item.path)
            dash = f' stroke-dasharray="{" ".join(map(str, item.dash))}"' if item.dash else ""
            return (
                f'<path{_class(item.look)} d="{path}" fill="none" stroke="{item.stroke}" '
                f'stroke-width="{item.width:g}"{dash}/>'
            )
        case Arrowhead():
            return f'<path{_class(item.look)} d="M{item.x:.1f} {item.y:.1f}l-3.6 -7.5h7.2z" fill="{item.fill}"/>'
        case Words():
            return _words(item)


def _words(item: Words) -> str:
    marks = f' x="{item.x:.1f}" y="{item.y:.1f}" font-size="{item.size:g}"'
    if item.mono:
        marks += f' font-family="{MONO}"'
    if item.bold:
        marks += ' font-weight="600"'
    if item.anchor != "start":
        marks += f' text-anchor="{item.anchor}"'
    low = f'<tspan font-size="{item.size - 3:g}" dy="3">{escape(item.low)}</tspan>' if item.low else ""
    return f'<text{_class(item.look)}{marks} stroke="none" fill="{item.fill}">{escape(item.text)}{low}</text>'


def _group(item: Group) -> str:
    marks = _class(item.look)
    if item.x or item.y:
        marks += f' transform="translate({item.x:.1f} {item.y:.1f})"'
    if item.faded:
        marks += ' stroke-dasharray="4 3" opacity="0.55"'
    head = _titled(item.title, item.description) if item.title else ""
    return f"<g{marks}>{head}{''.join(map(_element, item.items))}</g>"


def _class(look: str) -> str:
    return f' class="{look}"' if look else ""


def _titled(label: str, description: str) -> str:
    return f"<title>{escape(label)}</title>" + (f"<desc>{escape(description)}</desc>" if description else "")
