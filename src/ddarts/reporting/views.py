"""Cells, gates and test results as a page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ddarts.genotype.distance import cell_differences
from ddarts.genotype.gates import Gates
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.reporting.background import Background
from ddarts.reporting.charts import Chart, gate_charts
from ddarts.reporting.chosen import CellEvidence, evidence
from ddarts.reporting.collect import RunContents, TestOutcome
from ddarts.reporting.drawing import cell_scene
from ddarts.reporting.formatting import describe_cell, difference_text, percent
from ddarts.reporting.names import KINDS, StateText, cell_title, equal_cells, operation_kind, state_name
from ddarts.reporting.network_drawing import network_scene
from ddarts.reporting.scene import Scene, to_svg

_MATRIX_CLASSES = 60  # with more classes the confusion matrix would not fit a page
_MOST_CONFUSED = 15
_DRAWN_BYTES = 1_500_000  # of all drawings together, so that the page stays under 5 MB
_NETWORK_CELLS = 60  # cells of the longest network that is drawn as a chain


@dataclass(frozen=True)
class CellView:
    """A cell as the page shows it: drawing, text, and a row for each edge.

    Attributes:
        rows: operation, from, to, gate, lead over the runner-up.
        width: of the drawing at full size, in pixels.
        count: number of equal cells that it stands for.
        distance: Hausdorff distance to the cell at its position in the baseline, None without one.
        changes: its differences from that cell, in words.
    """

    title: str
    svg: str
    text: str
    rows: tuple[tuple[str, ...], ...]
    width: int
    count: int = 1
    distance: float | None = None
    changes: str = ""

    @property
    def least_width(self) -> int:
        """Width below which the drawing is scrolled instead of scaled, so that its words stay legible."""
        return round(0.72 * self.width)


def cell_views(
    genotype: Genotype,
    proofs: Sequence[CellEvidence],
    baseline: Genotype | None = None,
    distances: tuple[float, ...] = (),
    most: int = _DRAWN_BYTES,
) -> list[CellView]:
    """Return the cells, from the first on, whose drawings have at most about `most` bytes together.

    Equal cells of which the page says the same are one view.
    """
    views: list[CellView] = []
    changes = {} if baseline is None else {c.position: difference_text(c) for c in cell_differences(baseline, genotype)}
    distinct: list[tuple[list[int], CellGenotype]] = []
    for places, cell in equal_cells(genotype):
        alike: dict[object, list[int]] = {}  # positions by what the page says of their cells
        for i in places:
            known = (tuple(proofs[i].gates.items()), tuple(proofs[i].margins.items())) if proofs else ()
            alike.setdefault((known, distances[i : i + 1], changes.get(i)), []).append(i)
        distinct += [(where, cell) for where in alike.values()]
    for where, cell in sorted(distinct, key=lambda group: group[0]):
        if sum(len(view.svg) for view in views) > most:
            break
        first = where[0]
        view = cell_view(where, cell, proofs[first] if proofs else CellEvidence(None, {}, {}))
        if first < len(distances):
            view = replace(view, distance=distances[first], changes=StateText(changes.get(first, "no differences")))
        views.append(view)
    return views


def cell_view(position: int | Sequence[int], cell: CellGenotype, proof: CellEvidence) -> CellView:
    """Return one cell, or equal cells at several positions."""
    scene = cell_scene(cell, title=cell_title(position, cell), gates=proof.gates, margins=proof.margins)
    rows = tuple(edge_row(edge, proof) for edge in cell.edges)
    count = 1 if isinstance(position, int) else len(position)
    return CellView(scene.title, to_svg(scene), StateText(describe_cell(cell)), rows, round(scene.width), count)


def edge_row(edge: Edge, proof: CellEvidence) -> tuple[str, ...]:
    """Return operation, from, to, gate, and lead over the runner-up; what is not known is empty."""
    gate, margin = proof.gates.get(edge), proof.margins.get(edge)
    return (
        edge.operation,
        StateText(state_name(edge.source)),
        StateText(state_name(edge.target)),
        "" if gate is None else f"{gate:.4f}",
        "" if margin is None else f"{margin:+.4f}".replace("-", "\N{MINUS SIGN}"),
    )


def network_view(genotype: Genotype, background: Background) -> Scene | None:
    """Return the chain of cells, None if it is too long for a page."""
    return network_scene(genotype, background.numbers) if len(genotype) <= _NETWORK_CELLS else None


def kinds_used(genotype: Genotype | None, gates: Gates | None = None) -> list[str]:
    """Return the kinds of operations that drawings and charts show, in the order of `KINDS`."""
    operations = {edge.operation for cell in (genotype.cells if genotype else ()) for edge in cell.edges}
    operations |= set(gates.operations) if gates else set()
    kinds = {operation_kind(operation) for operation in operations}
    return [kind for kind in KINDS if kind in kinds]


def proofs_of(run: RunContents) -> list[CellEvidence]:
    """Return gates and margins of each cell of a run's genotype; empty if they are not known."""
    if run.genotype is None or run.gates is None:
        return []
    return evidence(run.genotype, run.gates, *run.rule)


@dataclass(frozen=True)
class GateView:
    """The gates of one searched cell over the epochs, and what was chosen in the end."""

    chart: Chart
    chosen: tuple[tuple[str, ...], ...]


def gate_views(run: RunContents, proofs: Sequence[CellEvidence]) -> list[GateView]:
    """Return the searched cells of a run."""
    records = run.records("search")
    if run.gates is None or (run.genotype is None and not records):
        return []
    chosen: list[frozenset[Edge]] = [frozenset()] * len(run.gates.values)
    rows: list[tuple[tuple[str, ...], ...]] = [()] * len(run.gates.values)
    for i, proof in enumerate(proofs):
        if proof.searched is not None and run.genotype is not None:
            chosen[proof.searched] = frozenset(proof.gates)
            rows[proof.searched] = tuple(edge_row(edge, proof) for edge in run.genotype.cells[i].edges)
    charts = gate_charts(records, run.gates.operations, run.gates.space.edges, chosen)
    return [GateView(chart, rows[i]) for i, chart in enumerate(charts)]


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix as the page shows it.

    Attributes:
        rows: for each true class its name, its accuracy, and for each predicted class the count and the shade 0 to 1.
        worst: the pairs (true, predicted, images, share of the true class) most often confused.
        matrix: whether the page has room for it.
    """

    classes: tuple[str, ...]
    rows: tuple[tuple[str, int, float | None, tuple[tuple[int, float], ...]], ...]
    worst: tuple[tuple[str, str, int, float], ...]
    matrix: bool

    @property
    def worst_rows(self) -> list[tuple[str, ...]]:
        """`worst` as text."""
        return [(truth, taken, str(n), percent(share)) for truth, taken, n, share in self.worst]


def confusion_view(test: TestOutcome | None) -> Confusion | None:
    """Return the confusion matrix of a test, if there is one."""
    if test is None or not test.confusion:
        return None
    rows, pairs = [], []
    for i, (name, row) in enumerate(zip(test.classes, test.confusion, strict=True)):
        total = sum(row)
        shades = tuple((n, n / total if total else 0.0) for n in row)
        rows.append((name, total, row[i] / total if total else None, shades))
        pairs += [(name, test.classes[j], n, n / total) for j, n in enumerate(row) if n and j != i]
    pairs.sort(key=lambda pair: -pair[2])
    return Confusion(test.classes, tuple(rows), tuple(pairs[:_MOST_CONFUSED]), len(rows) <= _MATRIX_CLASSES)
