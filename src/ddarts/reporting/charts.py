"""Which charts a run gets, each with the numbers that it shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ddarts.errors import RunError
from ddarts.genotype.genotype import Edge
from ddarts.nn.tasks import CLASSIFICATION, Kind, Task
from ddarts.reporting.curves import LEGEND_ENTRIES, WIDE, Line, line_chart
from ddarts.reporting.formatting import NONE
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
        unit: what the vertical axis shows, with its unit.
    """

    title: str
    note: str
    svg: str
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    unit: str = ""


@dataclass(frozen=True)
class _Plot:
    """A chart of epoch records.

    Attributes:
        name: prefix of ids; the key of a list with a value for each cell if there are no `lines`.
        title, note: as in `Chart`.
        y_label: of the vertical axis.
        lines: label of each key that gives a line; none for a line for each cell.
        scale: factor of the values.
        options: of `line_chart`.
    """

    name: str
    title: str
    note: str
    y_label: str
    lines: Mapping[str, str] = field(default_factory=dict)
    scale: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)


_HALVES = {"search": "search half", "train": "training half"}
_WEIGHTS_ALONE = "of the supernet while its weights are trained alone, before the search begins."

_PLOTS = {
    "pretrain": (
        _Plot(
            "pretrain-loss",
            "Weights alone: loss",
            f"Cross-entropy {_WEIGHTS_ALONE}",
            "cross-entropy",
            {"train_loss": "training half"},
        ),
        _Plot(
            "pretrain-accuracy",
            "Weights alone: accuracy",
            f"Accuracy {_WEIGHTS_ALONE}",
            "accuracy, %",
            {"train_accuracy": "training half"},
            100,
        ),
    ),
    "search": (
        _Plot(
            "search-loss",
            "Search: loss",
            "Cross-entropy on the half that moves the gates (search) and on the half that trains the weights (train).",
            "cross-entropy",
            {f"{half}_loss": label for half, label in _HALVES.items()},
        ),
        _Plot(
            "search-accuracy",
            "Search: accuracy",
            "Share of images that the supernet classifies correctly on either half.",
            "accuracy, %",
            {f"{half}_accuracy": label for half, label in _HALVES.items()},
            100,
        ),
        _Plot(
            "marginal",
            "Marginal contribution of each cell",
            "Cross-entropy of the supernet minus that without the cell: below zero, the cell helps.",
            "cross-entropy",
            options={"zero_line": True},
        ),
        _Plot(
            "parameter_free",
            "Share of operations without weights",
            "Pools and identities among the operations that would be chosen; a cell at 100 % has collapsed.",
            "share, %",
            scale=100,
            options={"y_range": (-3, 103)},
        ),
        _Plot(
            "margin",
            "Lead of the gates",
            "Mean difference between a chosen gate and its runner-up; near zero, the choice is close to chance.",
            "difference of gates",
        ),
        _Plot(
            "search-distance",
            "Distance to the baseline",
            "Between the baseline and the operations whose gates are above the threshold, 0 to 1. The distance (of "
            "cells Hausdorff's, of blocks the share that differs) ignores where operations lie, the edit distance "
            "does not.",
            "distance",
            {"distance": "distance", "edit_distance": "edit distance"},
        ),
    ),
    "train": (
        _Plot(
            "train-loss",
            "Training: loss",
            "Loss on training images (augmented, with drop-path) and on validation images.",
            "loss",
            {"train_loss": "training", "val_loss": "validation"},
        ),
        _Plot(
            "train-accuracy",
            "Training: accuracy",
            "Share of images classified correctly; training images are augmented, which makes them harder.",
            "accuracy, %",
            {"train_accuracy": "training", "val_accuracy": "validation"},
            100,
        ),
        _Plot(
            "train-lr", "Training: learning rate", "At the end of each epoch.", "learning rate", {"lr": "learning rate"}
        ),
    ),
}


#: For tasks without an accuracy: what stands for it, how to read it, label and scale of the axis.
_SCORES: dict[Kind, tuple[str, str, str, float]] = {
    "multi-label": (
        "right labels",
        "Share of labels that are right; of validation images the mean average precision.",
        "share, %",
        100,
    ),
    "regression": (
        "mean absolute error",
        "In the unit of the labels; of several numbers per image, divided by their standard deviations.",
        "mean absolute error",
        -1,
    ),
}


def _of_task(plot: _Plot, task: Task) -> _Plot:
    """Return a chart of losses or accuracies in the words of a task."""
    if task.kind == "classification":
        return plot
    if plot.y_label == "accuracy, %":
        name, note, y_label, scale = _SCORES[task.kind]
        title = plot.title.replace("accuracy", name).replace("Accuracy", name[:1].upper() + name[1:])
        return replace(plot, title=title, note=note, y_label=y_label, scale=scale)
    y_label = plot.y_label.replace("cross-entropy", "loss")
    return replace(plot, note=plot.note.replace("Cross-entropy", "Loss"), y_label=y_label)


def stage_charts(records: Records, stage: str, task: Task = CLASSIFICATION) -> list[Chart]:
    """Return the charts of a stage; what the records do not hold gives no chart.

    Args:
        records: metrics of the stage, of kind "epoch".
        stage: "pretrain" (the epochs before a search in which only weights are trained), "search" or "train".
        task: of the run.

    Raises:
        RunError: a value is not a number, or a list of cells has another length than before.
    """
    plots = [_of_task(plot, task) for plot in _PLOTS[stage]]
    charts = [_curves(records, plot) if plot.lines else _per_cell(records, plot) for plot in plots]
    return [chart for chart in charts if chart]


#: Stage of each chart in which the curves of several runs lie on top of each other; its name is the key.
_OVERLAYS = (
    (
        "train",
        _Plot(
            "val_accuracy",
            "Validation accuracy",
            "Share of validation images classified correctly.",
            "accuracy, %",
            scale=100,
        ),
    ),
    (
        "train",
        _Plot(
            "train_accuracy",
            "Training accuracy",
            "Share of training images classified correctly; augmentation makes them harder.",
            "accuracy, %",
            scale=100,
        ),
    ),
    ("train", _Plot("val_loss", "Validation loss", "Cross-entropy on validation images.", "loss")),
    ("train", _Plot("train_loss", "Training loss", "Loss on training images.", "loss")),
    (
        "search",
        _Plot(
            "search_accuracy",
            "Accuracy of the supernet",
            "Share of images of the search half classified correctly during the search.",
            "accuracy, %",
            scale=100,
        ),
    ),
    ("search", _Plot("search_loss", "Loss of the supernet", "Cross-entropy on the search half.", "cross-entropy")),
    *(
        ("search", _Plot(name, f"{title} to the baseline", note, "distance"))
        for name, title, note in (
            ("distance", "Distance", "Of cells Hausdorff's, of which 0 does not mean the same network."),
            ("edit_distance", "Edit distance", "0: the same network, 1: nothing in common."),
        )
    ),
)


def overlaid_charts(runs: Sequence[tuple[str, Records]], tasks: Collection[Task] = (CLASSIFICATION,)) -> list[Chart]:
    """Return a chart for each number that at least one run has, with a line for each run.

    Args:
        runs: name and metrics of each run.
        tasks: of the runs; scores of different tasks are not drawn together.

    Raises:
        RunError: a value is not a number.
    """
    task, mixed = next(iter(tasks)), len({task.kind for task in tasks}) > 1
    plots = [(s, _of_task(p, task)) for s, p in _OVERLAYS if not (mixed and p.y_label == "accuracy, %")]
    charts = [_overlaid(runs, stage, plot) for stage, plot in plots]
    return [chart for chart in charts if chart]


def _overlaid(runs: Sequence[tuple[str, Records]], stage: str, plot: _Plot) -> Chart | None:
    lines = []
    for place, (label, metrics) in enumerate(runs):
        epochs = [r for r in metrics if r.get("stage") == stage and r.get("kind") == "epoch"]
        records = [record for record in epochs if record.get(plot.name) is not None]
        if records:
            values = [plot.scale * number(record, plot.name) for record in records]
            lines.append(Line(label, [number(record, "epoch") for record in records], values, place))
    name = f"{stage}-{plot.name}".replace("_", "-")
    return build_chart(name, plot.title, plot.note, lines, y_label=plot.y_label)


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
    if len(set(epochs)) < 2:  # no chart for one point
        header = ("operation and edge", "chosen", "gate")
        note = f"Gates of cell {cell} after one epoch, the chosen ones first."
        return Chart(f"Cell {cell}", note, "", header, tuple(row[:3] for row in rows[:_TABLE_ROWS]))
    svg = line_chart(
        f"gates-{cell}", drawn, y_label="gate", y_range=(-0.02, 1.02), legend=False, size=WIDE, description=f"{note} "
        f"Largest at the end: {'; '.join(f'{row[0]} {row[3]}' for row in rows[:3])}.",
    )  # fmt: skip
    header = ("operation and edge", "chosen", "first epoch", "last epoch")
    return Chart(f"Cell {cell}", note, svg, header, tuple(rows[:_TABLE_ROWS]))


def _curves(records: Records, plot: _Plot) -> Chart | None:
    """One chart with a line for each key that the records hold."""
    lines = []
    for i, (key, label) in enumerate(plot.lines.items()):
        there = [record for record in records if key in record]
        if any(record[key] is not None for record in there):
            values = [None if (v := number(record, key)) is None else plot.scale * v for record in there]
            lines.append(Line(label, [number(record, "epoch") for record in there], values, i))
    return build_chart(plot.name, plot.title, plot.note, lines, y_label=plot.y_label)


def _per_cell(records: Records, plot: _Plot) -> Chart | None:
    """One chart with a line for each cell."""
    key, note = plot.name, plot.note
    there = [record for record in records if record.get(key) is not None]
    if not there:
        return None
    count = len(listing(there[-1], key))
    epochs = [number(record, "epoch") for record in there]
    for record in there:
        if len(listing(record, key)) != count:
            found = len(record[key])
            raise RunError(f"metrics.jsonl: {key!r} has {found} cells at epoch {record['epoch']}, later {count}")
    lines = []
    for cell in range(count):
        values = [checked(record[key][cell], key) for record in there]
        lines.append(Line(f"cell {cell}", epochs, [None if v is None else plot.scale * v for v in values]))
    if all(v is None for line in lines for v in line.y):  # contributions, of strategies without ablations
        return None
    if count > LEGEND_ENTRIES:
        note += " Point at a line to read which cell it is."
    return build_chart(key.replace("_", "-"), plot.title, note, lines, y_label=plot.y_label, **plot.options)


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
    header = ("epoch", *(line.label for line in lines))
    return Chart(title, note, svg, header, tuple(rows), options.get("y_label", ""))


def _text(value: float | None) -> str:
    return NONE if value is None else f"{value:.4g}"
