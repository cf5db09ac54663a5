"""Drawings as PNG and PDF, by matplotlib, which brings its own fonts: nothing of the system is needed."""

from __future__ import annotations

import io
from typing import Any

from ddarts.reporting.scene import Arrowhead, Box, Curve, Group, Item, Scene, Words

#: Largest side of a PNG in pixels; a drawing that would be larger is scaled down.
LARGEST_SIDE = 16_000
_POINTS = 0.75  # points a CSS pixel


def to_png(scene: Scene, *, scale: float = 2.0) -> bytes:
    """Return the drawing as PNG with `scale` pixels for each pixel of the scene."""
    scale = min(scale, LARGEST_SIDE / max(scene.width, scene.height))
    return _saved(scene, "png", dpi=96 * scale, metadata={"Software": None})


def to_pdf(scene: Scene) -> bytes:
    """Return the drawing as a PDF of one page, its text as text."""
    metadata = {"Title": scene.title, "CreationDate": None, "Creator": None, "Producer": None}
    return _saved(scene, "pdf", dpi=96, metadata=metadata)


def _saved(scene: Scene, form: str, **options: Any) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {"font.family": "DejaVu Sans", "text.parse_math": False, "pdf.fonttype": 42, "path.simplify": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(scene.width / 96, scene.height / 96))
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, scene.width), ylim=(scene.height, 0))
        axes.axis("off")
        painter = _Painter(axes)
        for item in scene.items:
            painter.paint(item, 0.0, 0.0, faded=False)
        stream = io.BytesIO()
        figure.savefig(stream, format=form, facecolor="white", **options)
    return stream.getvalue()


class _Painter:
    """Puts the parts of a scene into axes, each above the one before."""

    def __init__(self, axes: Any) -> None:
        self.axes = axes
        self.order = 0

    def paint(self, item: Item, x: float, y: float, *, faded: bool) -> None:
        """Paint a part at the offset (x, y)."""
        self.order += 1
        look: dict[str, Any] = {"zorder": self.order, "alpha": 0.55 if faded else None, "clip_on": False}
        match item:
            case Group():
                for part in item.items:
                    self.paint(part, x + item.x, y + item.y, faded=faded or item.faded)
            case Box():
                self.box(item, x, y, look | ({"linestyle": (0, (4, 3))} if faded else {}))
            case Curve():
                self.curve(item, x, y, look)
            case Arrowhead():
                from matplotlib.patches import Polygon

                corners = [(0.0, 0.0), (-3.6, -7.5), (3.6, -7.5)]
                tip = [(x + item.x + dx, y + item.y + dy) for dx, dy in corners]
                self.axes.add_patch(Polygon(tip, facecolor=item.fill, edgecolor="none", **look))
            case Words():
                self.words(item, x, y, look)

    def box(self, item: Box, x: float, y: float, look: dict[str, Any]) -> None:
        from matplotlib.patches import FancyBboxPatch

        radius = min(item.radius, item.width / 2, item.height / 2)
        style = f"round,pad=0,rounding_size={radius}" if radius else "square,pad=0"
        self.axes.add_patch(
            FancyBboxPatch(
                (x + item.x, y + item.y),
                item.width,
                item.height,
                boxstyle=style,
                facecolor=item.fill,
                edgecolor=item.stroke or "none",
                linewidth=_POINTS,
                **look,
            )
        )

    def curve(self, item: Curve, x: float, y: float, look: dict[str, Any]) -> None:
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path

        points: list[tuple[float, float]] = []
        codes: list[int] = []
        for command, *values in item.path:
            if command == "V":
                points.append((points[-1][0], y + values[0]))
                codes.append(int(Path.LINETO))
                continue
            pairs = [(x + values[i], y + values[i + 1]) for i in range(0, len(values), 2)]
            points += pairs
            codes += [int(Path.MOVETO if command == "M" else Path.CURVE4)] * len(pairs)
        dash = (0, tuple(length / item.width for length in item.dash)) if item.dash else "-"
        self.axes.add_patch(
            PathPatch(
                Path(points, codes),
                facecolor="none",
                edgecolor=item.stroke,
                linewidth=item.width * _POINTS,
                linestyle=dash,
                capstyle="butt",
                **look,
            )
        )

    def words(self, item: Words, x: float, y: float, look: dict[str, Any]) -> None:
        place = {"start": "left", "middle": "center", "end": "right"}[item.anchor]
        x, y = x + item.x, y + item.y
        shown: dict[str, Any] = {"color": item.fill, "va": "baseline", **look}
        shown["family"] = "DejaVu Sans Mono" if item.mono else "DejaVu Sans"
        shown["weight"] = "bold" if item.bold else "normal"
        if not item.low:
            self.axes.text(x, y, item.text, size=item.size * _POINTS, ha=place, **shown)
            return
        # text and index meet where the whole, letters about 0.6 of the size wide, would be centred
        wide = 0.6 * item.size * len(item.text) + 0.6 * (item.size - 3) * len(item.low)
        meet = {"left": x, "center": x - wide / 2, "right": x - wide}[place] + 0.6 * item.size * len(item.text)
        self.axes.text(meet, y, item.text, size=item.size * _POINTS, ha="right", **shown)
        self.axes.text(meet, y + 3, item.low, size=(item.size - 3) * _POINTS, ha="left", **shown)
