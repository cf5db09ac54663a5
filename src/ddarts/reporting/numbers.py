"""Numbers as a reader of a page wants them."""

from __future__ import annotations

NONE = "\N{EN DASH}"


def percent(share: float | None) -> str:
    """Return a share 0 to 1 as text, such as 97.33%."""
    return NONE if share is None else f"{100 * share:.2f}%"


def count_text(value: float) -> str:
    """Return a count with a unit that keeps it short, such as 1.68 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"


def duration(seconds: float) -> str:
    """Return seconds as text, such as 1 h 04 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def milliseconds(value: float) -> str:
    """Return milliseconds as text, such as 3.21 ms."""
    return f"{value:.3g} ms"


def distance(value: float) -> str:
    """Return a distance of architectures, 0 to 1."""
    return f"{value:.4f}"
