"""Budgets of a run as bars, and the front of gates and cost as a chart."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddarts.errors import RunError
from ddarts.reporting.charts import Chart
from ddarts.reporting.curves import Line, line_chart
from ddarts.reporting.formatting import cost_text, cost_unit, percent
from ddarts.reporting.values import checked

_LABELS = {
    "parameters": "Parameters",
    "macs": "MACs per image",
    "activations": "Activations per image",
    "size": "File of weights",
    "latency": "Latency per image",
}
#: Networks of a front that a page shows.
_MOST = 1000


@dataclass(frozen=True)
class Bar:
    """A cost of the network against its upper bound; `share` is their ratio."""

    label: str
    cost: str
    limit: str
    share: float


def budget_bars(summary: dict[str, Any]) -> list[Bar]:
    """Return a bar for each budget in the summary of a run.

    Raises:
        RunError: the summary is damaged.
    """
    budget = summary.get("budget")
    limits, costs = (budget.get(key) if isinstance(budget, dict) else None for key in ("limits", "costs"))
    if not isinstance(limits, dict) or not isinstance(costs, dict):
        return []
    bars = []
    for kind, label in _LABELS.items():
        limit, cost = checked(limits.get(kind), kind), checked(costs.get(kind), kind)
        if limit and cost is not None:
            bars.append(Bar(label, cost_text(kind, cost), cost_text(kind, limit), cost / limit))
    return bars


def front_chart(folder: Path) -> Chart | None:
    """Return the chart of the front in a run's folder; None if there is none.

    Raises:
        RunError: its file is damaged.
    """
    path = folder / "front" / "front.json"
    if not path.is_file():
        return None
    try:
        networks = json.loads(path.read_text(encoding="utf-8"))["networks"][:_MOST]
        kinds = [kind for kind in _LABELS if all(kind in network["costs"] for network in networks)]
        kind = max(kinds, key=lambda k: _spread([float(network["costs"][k]) for network in networks]))
        points = [(float(network["costs"][kind]), 100 * float(network["gates"])) for network in networks]
        rows = [
            (f"front/{i}.json", percent(network["gates"]), *(cost_text(k, network["costs"][k]) for k in kinds))
            for i, network in enumerate(networks, 1)
        ]
    except (OSError, ValueError, LookupError, TypeError, RecursionError, OverflowError) as error:
        raise RunError(f"{path}: {error}; derive again with --front, or delete the folder front") from None
    note = (
        "Networks of one width from the gates of this search: the sum of the gates of their operations, over that of "
        f"the best ones, against {_LABELS[kind].lower()}. No network is beaten in both by another."
    )
    svg = ""
    if len(points) > 1:
        size, unit = cost_unit(kind, max(x for x, _ in points))
        line = Line("front", [x / size for x, _ in points], [y for _, y in points])
        x_label = f"{_LABELS[kind]}, {unit}".rstrip(", ")
        svg = line_chart("front", [line], y_label="sum of gates, %", x_label=x_label, legend=False, description=note)
    return Chart("Front of gates and cost", note, svg, ("file", "gates", *(_LABELS[k] for k in kinds)), tuple(rows))


def _spread(values: list[float]) -> float:
    return (max(values) - min(values)) / (max(values) or 1.0)
