"""Charts that lay the curves of several runs on top of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ddarts.reporting.charts import Chart, build_chart
from ddarts.reporting.curves import Line
from ddarts.reporting.values import number


class Overlay(NamedTuple):
    """A number of the epoch records of one stage."""

    stage: str
    key: str
    title: str
    note: str
    y_label: str
    scale: float = 1.0


_OVERLAYS = (
    Overlay(
        "train",
        "val_accuracy",
        "Validation accuracy",
        "Share of validation images classified correctly.",
        "accuracy, %",
        100,
    ),
    Overlay(
        "train",
        "train_accuracy",
        "Training accuracy",
        "Share of training images classified correctly; augmentation makes them harder.",
        "accuracy, %",
        100,
    ),
    Overlay("train", "val_loss", "Validation loss", "Cross-entropy on validation images.", "loss"),
    Overlay("train", "train_loss", "Training loss", "Loss on training images.", "loss"),
    Overlay(
        "search",
        "search_accuracy",
        "Accuracy of the supernet",
        "Share of images of the search half classified correctly during the search.",
        "accuracy, %",
        100,
    ),
    Overlay("search", "search_loss", "Loss of the supernet", "Cross-entropy on the search half.", "cross-entropy"),
    Overlay("search", "distance", "Distance to the baseline", "0: the same, 1: as far as can be.", "distance"),
)


def overlaid_charts(runs: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> list[Chart]:
    """Return a chart for each number that at least one run has, with a line for each run.

    Args:
        runs: name and metrics of each run.

    Raises:
        RunError: a value is not a number.
    """
    charts = [_overlaid(runs, overlay) for overlay in _OVERLAYS]
    return [chart for chart in charts if chart]


def _overlaid(runs: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], overlay: Overlay) -> Chart | None:
    lines = []
    for place, (label, metrics) in enumerate(runs):
        records = [
            r
            for r in metrics
            if r.get("stage") == overlay.stage and r.get("kind") == "epoch" and r.get(overlay.key) is not None
        ]
        if records:
            values = [overlay.scale * number(record, overlay.key) for record in records]
            lines.append(Line(label, [number(record, "epoch") for record in records], values, place))
    name = f"{overlay.stage}-{overlay.key}".replace("_", "-")
    return build_chart(name, overlay.title, overlay.note, lines, y_label=overlay.y_label)
