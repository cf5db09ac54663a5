"""Heat maps: square tables of numbers from 0 to 1 as a figure in a file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddarts.errors import SettingsError, nearest
from ddarts.runtime.atomic_files import write_bytes

#: Formats, by the ending of the file's name.
PICTURES = ("svg", "png", "pdf")

_CELL_INCHES = 0.62
_MOST_WITH_NUMBERS = 60  # a side; beyond it the numbers would be too small to read
_LABEL_CHARACTERS = 36


def picture_kind(path: Path) -> str:
    """Return the format that the ending of a file's name stands for: svg, png or pdf.

    Raises:
        SettingsError: another ending, or none.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in PICTURES:
        hint = nearest(kind, PICTURES) if kind else ""
        raise SettingsError(f"out = {str(path)!r}: a heat map ends in .svg, .png or .pdf{hint}")
    return kind


def write_heat_maps(path: Path, names: Sequence[str], matrices: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Draw matrices beside each other, with a name for each row and column, and their numbers in the fields.

    Args:
        path: file to write, in one step; its ending gives the format.
        names: labels; long ones are cut in the middle.
        matrices: heading -> [row][column], 0 to 1; `colour_range` gives the range of the colours. One hue from pale to
            dark keeps its order in grey and for people who see fewer colours.

    Raises:
        SettingsError: the file's ending is none of `PICTURES`.
        RunError: the file cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    kind = picture_kind(path)
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "heat-map",
        "font.family": "sans-serif",
        "font.size": 9,
        "text.parse_math": False,  # names are untrusted, and a dollar sign is no formula
    }
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*[Gg]lyph .*")  # a name in a script that the font lacks
        side = len(names) * _CELL_INCHES
        figure = Figure(figsize=((side + 3.2) * len(matrices), side + 2.4))
        every = figure.subplots(1, len(matrices), sharey=True, squeeze=False)[0]
        for axes, (title, matrix) in zip(every, matrices.items(), strict=True):
            _draw(axes, [_short(name) for name in names], matrix, title)
            bar = figure.colorbar(axes.images[0], ax=axes, shrink=min(1.0, 3.2 / side), aspect=16, pad=0.03)
            bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        stream = io.BytesIO()
        none: Any = {
            "svg": {"Date": None, "Creator": None},
            "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
            "png": {"Software": None},
        }
        figure.savefig(stream, format=kind, dpi=150, bbox_inches="tight", facecolor="white", metadata=none[kind])
    write_bytes(path, stream.getvalue())


def _draw(axes: Any, labels: Sequence[str], matrix: Sequence[Sequence[float]], title: str) -> None:
    """Draw one matrix."""
    import numpy

    low, high = colour_range(matrix)
    image = axes.imshow(matrix, cmap="Blues", vmin=low, vmax=high)
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_title(title, fontsize=11, loc="left")
    axes.tick_params(length=0)
    axes.spines[:].set(color="#c8ccd4", linewidth=0.6)
    axes.set_xticks([i + 0.5 for i in range(len(labels) - 1)], minor=True)
    axes.set_yticks([i + 0.5 for i in range(len(labels) - 1)], minor=True)
    axes.grid(which="minor", color="#c8ccd4", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    if len(labels) <= _MOST_WITH_NUMBERS:
        shades = image.to_rgba(numpy.asarray(matrix))
        for i, row in enumerate(matrix):
            for j, value in enumerate(row):
                colour = "white" if _luminance(*shades[i, j, :3]) < 0.18 else "black"  # the better contrast
                axes.text(j, i, f"{value:.3f}", ha="center", va="center", color=colour, fontsize=8)


def colour_range(matrix: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return the values of the palest and of the darkest colour.

    The range follows the values off the diagonal, which may lie close together far from 0; a tenth of it is left below
    the smallest, so that 0 on the diagonal stays paler than all others.
    """
    values = [v for i, row in enumerate(matrix) for j, v in enumerate(row) if i != j] or [0.0]
    low, high = min(values), max(values)
    return (max(0.0, low - 0.1 * (high - low)) if high > low else 0.0), high or 1.0


def _short(name: str) -> str:
    if len(name) <= _LABEL_CHARACTERS:
        return name
    half = (_LABEL_CHARACTERS - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _luminance(*colour: float) -> float:
    """Return the relative luminance (WCAG 2) of red, green and blue from 0 to 1: 0 is black, 1 white."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
