"""Line charts as SVG that stands inside a page: matplotlib draws, the page's style sheet gives the colours."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

#: Colours of series on a light page and on a dark one. The SVG names them as CSS variables, so both work.
SERIES = (
    ("#0072b2", "#6db8ec"),
    ("#d05500", "#ff9a5c"),
    ("#008f68", "#3fcfa4"),
    ("#b8528f", "#ea9cc8"),
    ("#8a6a00", "#e3b94f"),
    ("#3f93c9", "#a8d8f8"),
    ("#5b3fb0", "#b3a3f2"),
    ("#555b63", "#c3c8cf"),
)
_INK = "#1b2027"  # becomes currentColor
_GRID = "#d9dde3"  # becomes var(--grid)
_DASHES = ("-", "--", ":", "-.")
_MOST_POINTS = 100
_LEGEND_COLUMNS = 4
_CONSTANT = 0.005  # a range of values below this share of the largest counts as a constant
_LONG_LABEL = 14  # with longer ones in it a legend has fewer columns
#: Inches, at 72 units of the drawing each.
SIZE = (4.3, 2.6)
WIDE = (5.3, 3.1)
#: With more lines there is no legend, which would leave no room for the chart: hovering names each line.
LEGEND_ENTRIES = 12


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        label: text of the legend and of the hint that shows on hovering.
        x: horizontal values.
        y: vertical values, None where there is none.
        colour: index into `SERIES`; its own place in the chart if None.
        faint: draw it thin, pale and without an entry in the legend.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: int | None = None
    faint: bool = False


def line_chart(
    name: str,
    lines: Sequence[Line],
    *,
    y_label: str,
    x_label: str = "epoch",
    y_range: tuple[float, float] | None = None,
    zero_line: bool = False,
    legend: bool = True,
    size: tuple[float, float] = SIZE,
    description: str = "",
) -> str:
    """Return an SVG element.

    Each line is a group of the class ``series`` with its label as title and its numbers in ``data-x`` and ``data-y``
    (a hyphen where there is none); ``data-x`` stands once at the element if all lines share it. The page's script reads
    them.

    Args:
        name: prefix of the ids inside, unique in its page; letters, digits and hyphens.
        lines: what to draw; faint ones lie below.
        y_label: what the vertical axis shows, with its unit.
        x_label: what the horizontal axis shows.
        y_range: limits of the vertical axis; from the data if None.
        zero_line: draw a line at 0.
        legend: show a legend of the lines that are not faint, if they are not too many.
        size: width and height in inches.
        description: text for readers who do not see the chart.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.family": "sans-serif",
        "font.size": 8,
        "axes.edgecolor": _INK,
        "axes.labelcolor": _INK,
        "text.color": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "axes.linewidth": 0.6,
        "grid.color": _GRID,
        "grid.linewidth": 0.5,
        "path.simplify": False,
        "text.parse_math": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size)
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.grid(True)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        whole = all(float(x).is_integer() for line in lines for x in line.x)  # epochs, not milliseconds
        axes.xaxis.set_major_locator(MaxNLocator(integer=whole, min_n_ticks=1))
        if zero_line:
            axes.axhline(0, color=_INK, linewidth=0.8)
        bold = [line for line in lines if not line.faint]
        ordered = [line for line in lines if line.faint] + bold
        for i, line in enumerate(ordered):
            _plot(axes, line, max(0, i - (len(ordered) - len(bold))), f"{name}-series-{i}")
        if y_range:
            axes.set_ylim(*y_range)
        elif values := [v for line in lines for v in line.y if v is not None and v == v]:
            low, high = min(values), max(values)
            if high - low < _CONSTANT * max(abs(low), abs(high), 1e-12):  # do not magnify noise of a constant
                room = 0.1 * max(abs(low), abs(high)) or 1.0
                axes.set_ylim(low - room if low else -0.05, high + room)
        shown = bold if legend and len(bold) <= LEGEND_ENTRIES else []
        columns = min(len(shown) or 1, 2 if any(len(line.label) > _LONG_LABEL for line in shown) else _LEGEND_COLUMNS)
        rows = -(-len(shown) // columns)
        # fixed margins in inches: matplotlib's own layouts take as long as all the rest
        wide, high = size
        figure.subplots_adjust(
            left=0.62 / wide, right=1 - 0.065 / wide, bottom=0.43 / high, top=1 - (0.104 + 0.177 * rows) / high
        )
        if shown:
            figure.legend(
                loc="upper center",
                ncols=columns,
                frameon=False,
                handlelength=1.8,
                columnspacing=1.2,
                borderaxespad=0.1,
                borderpad=0.2,
            )
        stream = io.StringIO()
        figure.savefig(
            stream,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    return _for_page(stream.getvalue(), name, ordered, _Axes(x_label, y_label, description))


@dataclass(frozen=True)
class _Axes:
    x_label: str
    y_label: str
    description: str


def _plot(axes: Any, line: Line, place: int, gid: str) -> None:
    x, y = thinned(line.x), [float("nan") if v is None else v for v in thinned(line.y)]
    colour = place if line.colour is None else line.colour
    few = sum(v == v for v in y) <= 12
    axes.plot(
        x,
        y,
        color=SERIES[colour % len(SERIES)][0],
        linestyle=_DASHES[(place // len(SERIES)) % len(_DASHES)] if not line.faint else "-",
        linewidth=0.5 if line.faint else 1.5,
        alpha=0.35 if line.faint else 1.0,
        marker="o" if few and not line.faint else None,
        markersize=2.5,
        label=f"_{line.label}" if line.faint else line.label,
        gid=gid,
    )


def thinned(values: Sequence[Any]) -> list[Any]:
    """Return at most about a hundred of the values, evenly spaced, with the last one kept."""
    step = -(-len(values) // _MOST_POINTS) or 1
    kept = list(values[::step])
    return kept if not values or (len(values) - 1) % step == 0 else [*kept, values[-1]]


def _for_page(svg: str, name: str, lines: Sequence[Line], axes: _Axes) -> str:
    """Cut matplotlib's SVG down to an element that can stand beside others in one page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", svg, flags=re.S)  # the style would be global
    svg = re.sub(r" font-family: [^;]*;", "", svg)  # text in the font of the page
    svg = re.sub(r'(\bid="|href="#|url\(#)(?!' + re.escape(name) + "-)", rf"\g<1>{name}-", svg)
    svg = re.sub(r'\bd="[^"]*"', lambda m: re.sub(r"-?\d+\.\d+", _shorter, m[0]), svg)
    shared = _numbers(lines[0].x) if lines and all(line.x == lines[0].x for line in lines) else ""
    for i, line in enumerate(lines):
        look = "series faint" if line.faint else "series"
        own = "" if shared else f' data-x="{_numbers(line.x)}"'
        svg = svg.replace(
            f'<g id="{name}-series-{i}">',
            f'<g id="{name}-series-{i}" class="{look}"{own} data-y="{_numbers(line.y)}">'
            f"<title>{escape(line.label)}</title>",
            1,
        )
    svg = svg.replace(_INK, "currentColor").replace(_GRID, f"var(--grid, {_GRID})")
    for i, (light, _) in enumerate(SERIES):
        svg = svg.replace(light, f"var(--series-{i}, {light})")
    head = f'<svg class="chart" role="img" aria-label="{escape(axes.description)}"'
    head += f' data-x-label="{escape(axes.x_label)}" data-y-label="{escape(axes.y_label)}"'
    if shared:
        head += f' data-x="{shared}"'
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", head, 1)


def _numbers(values: Sequence[float | None]) -> str:
    return " ".join("-" if v is None or v != v else f"{v:.4g}" for v in thinned(values))


def _shorter(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}"
