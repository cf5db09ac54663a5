"""Values of metrics.jsonl, which may be damaged: numbers or None, or a `RunError` that says what stands there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddarts.errors import RunError


def checked(value: Any, key: str) -> float | None:
    """Return a value as a float, None if it is null (a loss that was not finite)."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RunError(f"metrics.jsonl: {key!r} holds {str(value)[:40]!r}, expected a number; the file is damaged")
    try:
        return float(value)
    except OverflowError:  # JSON allows whole numbers of any length
        raise RunError(
            f"metrics.jsonl: {key!r} holds a number of {len(str(value))} digits; the file is damaged"
        ) from None


def number(record: Mapping[str, Any], key: str) -> Any:
    """Return the number under `key`, or None; an epoch there must be."""
    if key == "epoch" and record.get(key) is None:
        raise RunError("metrics.jsonl: a record has no epoch; the file is damaged")
    return checked(record[key], key)


def listing(record: Mapping[str, Any], key: str) -> list[Any]:
    """Return the list, one entry a cell, under `key`."""
    if not isinstance(record[key], list) or not record[key]:
        raise RunError(f"metrics.jsonl: {key!r} holds {str(record[key])[:40]!r}, expected a list of cells")
    return record[key]


def cell_gates(record: Mapping[str, Any], cell: int, edges: int, operations: int) -> list[list[float | None]]:
    """Return the gates of one cell as [edge][operation]."""
    cells = listing(record, "gates")
    rows = cells[cell] if cell < len(cells) else None
    if (
        not isinstance(rows, list)
        or len(rows) != edges
        or any(not isinstance(row, list) or len(row) != operations for row in rows)
    ):
        raise RunError(
            f"metrics.jsonl: the gates of cell {cell} at epoch {record.get('epoch')} are not {edges} edges of "
            f"{operations} operations; the file does not belong to gates.json"
        )
    return [[checked(gate, "gates") for gate in row] for row in rows]
