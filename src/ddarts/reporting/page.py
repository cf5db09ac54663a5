"""The report of a run: one HTML file that needs nothing else and runs no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddarts.architecture.genotype import Edge
from ddarts.files import write_text
from ddarts.reporting.charts import Chart, gate_charts, search_charts, training_charts
from ddarts.reporting.chosen import CellEvidence, evidence
from ddarts.reporting.collect import RunContents, TestOutcome, read_run
from ddarts.reporting.curves import SERIES
from ddarts.reporting.drawing import draw_cell, write_drawings
from ddarts.reporting.names import KINDS, cell_title, state_name
from ddarts.reporting.text import describe_cell

__all__ = ["write_drawings", "write_report"]

_MATRIX_CLASSES = 100  # with more classes the confusion matrix would not fit a page
_MOST_CONFUSED = 15
_DRAWN_BYTES = 2_000_000  # of all drawings together, so that the page stays under 5 MB


@dataclass(frozen=True)
class CellView:
    """A cell as the page shows it: drawing, text, and a row for each edge."""

    title: str
    svg: str
    text: str
    rows: tuple[tuple[str, ...], ...]
    wide: bool
    least_width: int


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix as the page shows it.

    Attributes:
        rows: for each true class its name, its accuracy, and for each predicted class the count and the shade 0 to 1.
        worst: the pairs (true, predicted, images, share of the true class) most often confused.
    """

    classes: tuple[str, ...]
    rows: tuple[tuple[str, int, float | None, tuple[tuple[int, float], ...]], ...]
    worst: tuple[tuple[str, str, int, float], ...]
    matrix: bool


def write_report(run_path: Path) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    The page shows what the folder holds: results, cells, curves of search and training, tests, settings and versions.

    Raises:
        RunError: there is no run, one of its files is damaged, or the page cannot be written.
    """
    run_path = Path(run_path)
    target = run_path / "report.html"
    write_text(target, render(read_run(run_path)))
    return target


def render(run: RunContents) -> str:
    """Return the page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ddarts.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    proofs = _evidence(run)
    cells = _cell_views(run, proofs)
    search = search_charts(run.records("search"))
    gates = _gate_charts(run, proofs)
    return environment.get_template("report.html").render(
        name=run.name,
        headline=_headline(run),
        summary=summary_rows(run),
        cells=cells,
        cells_left_out=len(run.genotype) - len(cells) if run.genotype else 0,
        genotype_name=run.genotype.name if run.genotype else "",
        search=search,
        gates=gates,
        training=training_charts(run.records("train")),
        test=run.test,
        confusion=_confusion(run.test) if run.test and run.test.confusion else None,
        settings={stage: _flat(section) for stage, section in run.settings.items()},
        versions=_flat(run.summary["versions"]) if isinstance(run.summary.get("versions"), dict) else [],
        kinds=KINDS,
        series=SERIES,
    )


# -- numbers as text ---------------------------------------------------------------------------------------------------


def percent(share: float | None) -> str:
    """Return a share 0 to 1 as text, such as 97.33%."""
    return "\N{EN DASH}" if share is None else f"{100 * share:.2f}%"


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


_KNOWN = {
    "test_top1": ("Test accuracy (top-1)", percent),
    "val_top1": ("Validation accuracy (top-1)", percent),
    "parameters": ("Parameters", count_text),
    "macs": ("MACs an image", count_text),
    "search_s": ("Search time", duration),
    "train_s": ("Training time", duration),
}
_LABELS = {"data": "Data", "seed": "Seed", "best_epoch": "Best epoch of the search", "stopped": "Search stopped early"}
_HEADLINE = ("test_top1", "parameters", "macs", "search_s", "train_s")


def summary_rows(run: RunContents) -> list[tuple[str, str]]:
    """Return the rows of the summary table: what ddarts knows first, then whatever else summary.json holds."""
    rows = []
    for key in [*_KNOWN, *_LABELS, *(k for k in run.summary if k not in _KNOWN and k not in _LABELS)]:
        value = run.summary.get(key)
        if value is None or isinstance(value, dict):
            continue
        if key in _KNOWN and isinstance(value, int | float):
            label, text = _KNOWN[key]
            exact = f" ({value:,})" if key in ("parameters", "macs") and isinstance(value, int) else ""
            rows.append((label, text(value) + exact))
        else:
            rows.append((_LABELS.get(key, key.replace("_", " ")), str(value)))
    if run.genotype:
        reductions = ", ".join(map(str, run.genotype.reductions)) or "none"
        rows.append(("Cells", f"{len(run.genotype)} (reductions: {reductions})"))
    return rows


def _headline(run: RunContents) -> list[tuple[str, str]]:
    tiles = []
    for key in _HEADLINE:
        value = run.summary.get(key)
        if isinstance(value, int | float):
            label, text = _KNOWN[key]
            tiles.append((label, text(value)))
    return tiles


def _flat(section: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as rows of dotted names and values."""
    rows = []
    for key, value in section.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", "not set" if value is None else str(value)))
    return rows


# -- cells and gates ---------------------------------------------------------------------------------------------------


def _evidence(run: RunContents) -> list[CellEvidence]:
    if run.genotype is None or run.gates is None:
        return []
    return evidence(run.genotype, run.gates, *run.rule)


def _cell_views(run: RunContents, proofs: Sequence[CellEvidence]) -> list[CellView]:
    views = []
    for i, cell in enumerate(run.genotype.cells if run.genotype else ()):
        if sum(len(view.svg) for view in views) > _DRAWN_BYTES:
            break
        proof = proofs[i] if proofs else CellEvidence(None, {}, {})
        svg = draw_cell(cell, title=cell_title(i, cell), gates=proof.gates or None)
        width = int(svg.split(' width="', 1)[1].split('"', 1)[0])
        rows = [
            (
                edge.operation,
                state_name(edge.source),
                state_name(edge.target),
                f"{proof.gates[edge]:.4f}" if edge in proof.gates else "",
                f"{proof.margins[edge]:.4f}" if edge in proof.margins else "",
            )
            for edge in cell.edges
        ]
        views.append(
            CellView(cell_title(i, cell), svg, describe_cell(cell), tuple(rows), width > 640, round(0.7 * width))
        )
    return views


def _gate_charts(run: RunContents, proofs: Sequence[CellEvidence]) -> list[Chart]:
    records = run.records("search")
    if run.gates is None or not records:
        return []
    chosen: list[frozenset[Edge]] = [frozenset()] * len(run.gates.values)
    for proof in proofs:
        if proof.searched is not None:
            chosen[proof.searched] = frozenset(proof.gates)
    return gate_charts(records, run.gates.operations, run.gates.space.edges, chosen)


def _confusion(test: TestOutcome) -> Confusion:
    rows, pairs = [], []
    for i, (name, row) in enumerate(zip(test.classes, test.confusion, strict=True)):
        total = sum(row)
        rows.append(
            (name, total, row[i] / total if total else None, tuple((n, n / total if total else 0.0) for n in row))
        )
        pairs += [(name, test.classes[j], n, n / total) for j, n in enumerate(row) if n and j != i]
    pairs.sort(key=lambda pair: -pair[2])
    return Confusion(test.classes, tuple(rows), tuple(pairs[:_MOST_CONFUSED]), len(rows) <= _MATRIX_CLASSES)
