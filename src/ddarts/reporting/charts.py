"""Which charts a run gets, each with the numbers that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddarts.errors import RunError
from ddarts.genotype.genotype import Edge
from ddarts.reporting.curves import LEGEND_ENTRIES, WIDE, Line, line_chart
from ddarts.reporting.names import StateText, operation_kind, state_name
from ddarts.reporting.values import cell_gates, checked, listing, number

_MOST_CELLS = 40  # with a gate chart each
_MOST_GATE_LINES = 1200  # in all charts of a page together, so that it stays small
_TABLE_ROWS = 12
#: Index into `curves.SERIES` of each kind of operation, near the colour that the drawings give it.
_KIND_SERIES = {
    "separable": 0,
    "dilated": 1,
    "pool": 2,
    "plain": 3,
    "factorized": 4,
    "other": 5,
    "bottleneck": 6,
    "skip": 7,
}

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Chart:
    """A chart with its equivalents in text.

    Attributes:
        title: heading.
        note: what it shows and how to read it, in a sentence or two.
        svg: the drawing, for a page; empty if there is a single epoch.
        header: names of the table's columns.
        rows: the same numbers as text, thinned out.
    """

    title: str
    note: str
    svg: str
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def search_charts(records: Records) -> list[Chart]:
    """Return the charts of a search: losses, accuracies, and per cell contribution, weightless share and margin.

    Args:
        records: metrics of stage "search" and kind "epoch". What they do not hold gives no chart.

    Raises:
        RunError: a value is not a number, or a list of cells has another length than before.
    """
    charts = [
        _curves(
            records,
            "search-loss",
            "Search: loss",
            "Cross-entropy on the half that moves the gates (search) and on the half that trains the weights (train).",
            {"search_loss": "search half", "train_loss": "training half"},
            y_label="cross-entropy",
        ),
        _curves(
            records,
            "search-accuracy",
            "Search: accuracy",
            "Share of images that the supernet classifies correctly on either half.",
            {"search_accuracy": "search half", "train_accuracy": "training half"},
            y_label="accuracy, %",
            scale=100,
        ),
        _per_cell(
            records,
            "marginal",
            "Marginal contribution of each cell",
            "Cross-entropy of the supernet minus that without the cell: below zero, the cell helps.",
            y_label="cross-entropy",
            zero_line=True,
        ),
        _per_cell(
            records,
            "parameter_free",
            "Share of operations without weights",
            "Pools and identities among the operations that would be chosen; a cell at 100% has collapsed.",
            y_label="share, %",
            scale=100,
            y_range=(-3, 103),
        ),
        _per_cell(
            records,
            "margin",
            "Lead of the gates",
            "Mean difference between a chosen gate and its runner-up; near zero, the choice is close to chance.",
            y_label="difference of gates",
        ),
        _curves(
            records,
            "search-distance",
            "Distance to the baseline",
            "Hausdorff distance between the baseline and the operations whose gates are above the threshold, 0 to 1.",
            {"distance": "distance"},
            y_label="distance",
        ),
    ]
    return [chart for chart in charts if chart]


def pretraining_charts(records: Records) -> list[Chart]:
    """Return the charts of the epochs before a search in which only weights are trained.

    Args:
        records: metrics of stage "pretrain" and kind "epoch".

    Raises:
        RunError: a value is not a number.
    """
    note = "of the supernet while its weights are trained alone, before the search begins."
    charts = [
        _curves(records, "pretrain-loss", "Weights alone: loss", f"Cross-entropy {note}",
                {"train_loss": "training half"}, y_label="cross-entropy"),
        _curves(records, "pretrain-accuracy", "Weights alone: accuracy", f"Accuracy {note}",
                {"train_accuracy": "training half"}, y_label="accuracy, %", scale=100),
    ]  # fmt: skip
    return [chart for chart in charts if chart]


def training_charts(records: Records) -> list[Chart]:
    """Return the charts of the final training: loss, accuracy, learning rate.

    Args:
        records: metrics of stage "train" and kind "epoch".

    Raises:
        RunError: a value is not a number.
    """
    charts = [
        _curves(
            records,
            "train-loss",
            "Training: loss",
            "Loss on training images (augmented, with drop-path) and on validation images.",
            {"train_loss": "training", "val_loss": "validation"},
            y_label="loss",
        ),
        _curves(
            records,
            "train-accuracy",
            "Training: accuracy",
            "Share of images classified correctly; training images are augmented, which makes them harder.",
            {"train_accuracy": "training", "val_accuracy": "validation"},
            y_label="accuracy, %",
            scale=100,
        ),
        _curves(records, "train-lr", "Training: learning rate", "At the end of each epoch.", {"lr": "learning rate"},
                y_label="learning rate"),
    ]  # fmt: skip
    return [chart for chart in charts if chart]


def gate_charts(
    records: Records,
    operations: Sequence[str],
    edges: Sequence[tuple[int, int]],
    chosen: Sequence[frozenset[Edge]],
) -> list[Chart]:
    """Return one chart for each searched cell: how its gates moved over the epochs.

    Args:
        records: metrics of stage "search" and kind "epoch" with "gates" [cell][edge][operation].
        operations: names of the operations.
        edges: (from, to) of each edge.
        chosen: for each searched cell the edges that the genotype took; drawn strong, the others faint.

    Raises:
        RunError: the gates have another shape than operations and edges say.
    """
    records = [record for record in records if record.get("gates")]
    if not records:
        return []
    cells = len(listing(records[-1], "gates"))
    most = max(24, _MOST_GATE_LINES // cells)
    charts = []
    for cell in range(min(cells, _MOST_CELLS)):
        charts.append(_gate_chart(records, cell, operations, edges, chosen[cell] if cell < len(chosen) else None, most))
    return charts


def _gate_chart(
    records: Records,
    cell: int,
    operations: Sequence[str],
    edges: Sequence[tuple[int, int]],
    chosen: frozenset[Edge] | None,
    most: int,
) -> Chart:
    epochs = [number(record, "epoch") for record in records]
    lines = []
    history = [cell_gates(record, cell, len(edges), len(operations)) for record in records]
    for e, (source, target) in enumerate(edges):
        for o, operation in enumerate(operations):
            edge = Edge(operation, source, target)
            label = f"{operation}, {state_name(source)} to {state_name(target)}"
            values = [gates[e][o] for gates in history]
            lines.append(
                Line(label, epochs, values, _KIND_SERIES[operation_kind(operation)], edge not in (chosen or ()))
            )
    lines.sort(key=lambda line: (line.faint, -(line.y[-1] or 0.0)))
    drawn = lines[:most]
    note = f"Gates of cell {cell} over the epochs"
    note += "; the chosen operations are drawn strong." if chosen else "."
    if len(drawn) < len(lines):
        note += f" The {len(drawn)} largest of {len(lines)} are drawn."
    rows = [(StateText(line.label), "" if line.faint else "yes", _text(line.y[0]), _text(line.y[-1])) for line in drawn]
    svg = line_chart(
        f"gates-{cell}", drawn, y_label="gate", y_range=(-0.02, 1.02), legend=False, size=WIDE, description=f"{note} "
        f"Largest at the end: {'; '.join(f'{row[0]} {row[3]}' for row in rows[:3])}.",
    )  # fmt: skip
    header = ("operation and edge", "chosen", "first epoch", "last epoch")
    return Chart(f"Cell {cell}", note, svg, header, tuple(rows[:_TABLE_ROWS]))


def _curves(
    records: Records,
    name: str,
    title: str,
    note: str,
    keys: Mapping[str, str],
    *,
    y_label: str,
    scale: float = 1.0,
) -> Chart | None:
    """One chart with a line for each key that the records hold."""
    labels, lines = [], []
    for i, (key, label) in enumerate(keys.items()):
        there = [record for record in records if key in record]
        if any(record[key] is not None for record in there):
            labels.append(label)
            values = [None if (v := number(record, key)) is None else scale * v for record in there]
            lines.append(Line(label, [number(record, "epoch") for record in there], values, i))
    return build_chart(name, title, note, lines, y_label=y_label)


def _per_cell(
    records: Records,
    key: str,
    title: str,
    note: str,
    *,
    y_label: str,
    scale: float = 1.0,
    y_range: tuple[float, float] | None = None,
    zero_line: bool = False,
) -> Chart | None:
    """One chart with a line for each cell."""
    there = [record for record in records if record.get(key) is not None]
    if not there:
        return None
    count = len(listing(there[-1], key))
    epochs = [number(record, "epoch") for record in there]
    lines = []
    for cell in range(count):
        values = []
        for record in there:
            row = listing(record, key)
            if len(row) != count:
                raise RunError(f"metrics.jsonl: {key!r} has {len(row)} cells at epoch {record['epoch']}, later {count}")
            value = checked(row[cell], key)
            values.append(None if value is None else scale * value)
        lines.append(Line(f"cell {cell}", epochs, values))
    if count > LEGEND_ENTRIES:
        note += " Point at a line to read which cell it is."
    name = key.replace("_", "-")
    return build_chart(name, title, note, lines, y_label=y_label, y_range=y_range, zero_line=zero_line)


def build_chart(name: str, title: str, note: str, lines: Sequence[Line], **options: Any) -> Chart | None:
    """Return lines over epochs as a chart with its table (a table alone for one epoch), None if there are no lines.

    Args:
        name: prefix of ids, unique in its page.
        title, note: as in `Chart`.
        lines: what to draw.
        **options: of `line_chart`.
    """
    if not lines:
        return None
    last = "; ".join(f"{line.label} {_text(line.y[-1])}" for line in lines[:12])
    svg = ""
    if max(len(line.x) for line in lines) > 1:
        svg = line_chart(name, lines, description=f"{title}. {note} At the end: {last}.", **options)
    table = {x: {} for line in lines for x in line.x}
    for line in lines:
        for x, y in zip(line.x, line.y, strict=True):
            table[x][line.label] = y
    epochs = sorted(table)
    step = -(-len(epochs) // _TABLE_ROWS) or 1
    kept = sorted({*epochs[::step], epochs[-1]})
    rows = [(f"{x:g}", *(_text(table[x].get(line.label)) for line in lines)) for x in kept]
    return Chart(title, note, svg, ("epoch", *(line.label for line in lines)), tuple(rows))


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"  # noqa: RUF001
