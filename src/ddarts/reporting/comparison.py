"""Several runs on one page: results side by side, curves on top of each other, cells in pairs, distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ddarts.genotype.distance import architecture_distance, edit_distance
from ddarts.reporting.charts import overlaid_charts
from ddarts.reporting.chosen import CellEvidence
from ddarts.reporting.collect import RunContents, read_run
from ddarts.reporting.formatting import NONE, percent
from ddarts.reporting.page import flat, versions_of
from ddarts.reporting.reference import wilson_interval
from ddarts.reporting.results import KNOWN, known_of, numbers_of, what_was_run
from ddarts.reporting.template import render_page
from ddarts.reporting.views import CellView, cell_view, kinds_used, proofs_of
from ddarts.runtime.atomic_files import write_text

_DRAWN_BYTES = 2_000_000
_MOST_CLASSES = 100  # of which the page compares the accuracies
_LARGER_IS_BETTER = ("test_top1", "val_top1")
#: Not rated: seconds depend on what else the machine did. Latencies are rated by `_fastest`.
_NOT_RATED = ("distance", "edit_distance", "blocks_changed", "latency_ms", "search_s", "train_s")


@dataclass(frozen=True)
class Value:
    """A number of one run; `best` if no other run has a better one."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class CellsAt:
    """The cells that stand at one position, of all runs that have it, under the names of the runs."""

    title: str
    cells: tuple[tuple[str, CellView], ...]


def write_comparison(paths: Sequence[Path], target: Path) -> Path:
    """Write a page that compares runs and return its path.

    Raises:
        RunError: one of them is no run or is damaged, or the page cannot be written.
    """
    write_text(target, render([read_run(path) for path in paths], labels_of(paths)))
    return target


def labels_of(paths: Sequence[Path]) -> list[str]:
    """Return a name for each run: its folder's, as much of the path as is needed to tell them apart, or a number."""
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(p[-length:]) for p in parts]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{path.resolve().name} ({i})" for i, path in enumerate(paths, 1)]


def render(runs: Sequence[RunContents], labels: Sequence[str]) -> str:
    """Return the page as HTML."""
    named = list(zip(labels, runs, strict=True))
    cells, left_out = _cells(named)
    return render_page(
        "comparison.html",
        labels=labels,
        what=[(label, what_was_run(run)) for label, run in named],
        verdict=_verdict(named),
        results=_results(runs),
        charts=overlaid_charts([(label, run.metrics) for label, run in named], [run.task for run in runs]),
        classes=_classes(runs),
        cells=cells,
        cells_left_out=left_out,
        distances=_distances(named),
        settings=_differences([_settings(run) for run in runs]),
        versions=_differences([dict(versions_of(run)) for run in runs], all_rows=True),
        kinds_used=sorted({kind for run in runs for kind in kinds_used(run.genotype)}),
    )


def _verdict(named: Sequence[tuple[str, RunContents]]) -> str:
    """Return a sentence that answers which run is the best, and whether that may be chance; empty without a test."""
    if len({run.summary.get("data") for _, run in named}) > 1:
        return "The runs are of different data: their accuracies cannot be compared."
    tested = [(run.test.top1, run.test.count, label) for label, run in named if run.test is not None and run.test.count]
    if not tested:
        return ""
    top1, count, best = max(tested, key=lambda test: test[0])
    task = named[0][1].task
    if task.kind != "classification":
        return f"{best} has the best {task.metric}: {task.shown(top1)}. Whether that may be chance is not tested here."
    low, high = wilson_interval(top1, count)
    text = f"{percent(top1)} of {count} test images (95 % confidence interval {percent(low)} to {percent(high)})"
    if len(tested) == 1:
        return f"Only {best} was tested: {text}."
    near = [label for share, n, label in tested if label != best and wilson_interval(share, n)[1] >= low]
    unclear = f"; the interval of {', '.join(near)} overlaps it, so the difference may be chance" if near else ""
    return f"{best} has the highest accuracy: {text}{unclear}."


def _results(runs: Sequence[RunContents]) -> list[tuple[str, list[Value]]]:
    numbers, rows = [numbers_of(run) for run in runs], []
    same_data = len({run.summary.get("data") for run in runs}) == 1  # nothing is better on other images
    for key in KNOWN:
        there = [n[key] for n in numbers if key in n]
        if not there:
            continue
        best = max(there) if key in _LARGER_IS_BETTER else min(there)
        rated = same_data and len(there) > 1 and key not in _NOT_RATED and len(set(there)) > 1
        shown = [known_of(key, run.task) for run in runs]
        pairs = zip(numbers, shown, strict=True)
        values = [Value(k.text(n[key]), rated and n[key] == best) if key in n else Value(NONE) for n, k in pairs]
        if key == "latency_ms" and same_data and (fastest := _fastest(runs)) is not None:
            values[fastest] = replace(values[fastest], best=True)
        rows.append((" or ".join(dict.fromkeys(k.label for k in shown)), values))
    rows.append(("Cells", [Value(str(len(run.genotype)) if run.genotype else NONE) for run in runs]))
    for key, label in (("data", "Data"), ("seed", "Seed")):
        rows.append((label, [Value(str(run.summary.get(key, NONE))) for run in runs]))
    return rows


def _fastest(runs: Sequence[RunContents]) -> int | None:
    """Return the run with the lowest latency, None if that may be noise.

    Its 95th percentile must lie below every other median, all measured on the same machine in the same runtime.
    """
    found = []
    for i, run in enumerate(runs):
        median, p95 = (run.summary.get(key) for key in ("latency_ms", "latency_p95_ms"))
        if isinstance(median, int | float) and isinstance(p95, int | float):
            found.append((median, p95, i))
    measured = [run.summary for run in runs if "latency_ms" in run.summary]
    if len(found) < 2 or len({(s.get("latency_on"), s.get("latency_runtime")) for s in measured}) > 1:
        return None
    (_, p95, fastest), (second, _, _), *_ = sorted(found)
    return fastest if p95 < second else None


def _classes(runs: Sequence[RunContents]) -> list[tuple[str, list[Value]]]:
    """Accuracy of each class, if all tests are of the same classes."""
    tests = [run.test for run in runs]
    names = {test.classes for test in tests if test is not None and test.confusion}
    if len(names) != 1 or None in tests:
        return []
    rows = []
    for i, name in enumerate(next(iter(names))[:_MOST_CLASSES]):
        shares = []
        for test in tests:
            row = test.confusion[i] if test is not None and test.confusion else ()
            shares.append(row[i] / sum(row) if sum(row) else None)
        known = [share for share in shares if share is not None]
        rated = len(set(known)) > 1
        rows.append((name, [Value(percent(s), rated and s == max(known)) for s in shares]))
    return rows


def _cells(named: Sequence[tuple[str, RunContents]]) -> tuple[list[CellsAt], int]:
    """Return the cells by position, as many as fit the page, and how many positions are left out."""
    found: list[CellsAt] = []
    proofs = {label: proofs_of(run) for label, run in named}
    longest = max((len(run.genotype) for _, run in named if run.genotype), default=0)
    drawn = 0
    for position in range(longest):
        if drawn > _DRAWN_BYTES:
            return found, longest - position
        views = []
        for label, run in named:
            if run.genotype is None or position >= len(run.genotype):
                continue
            proof = proofs[label][position] if proofs[label] else CellEvidence(None, {}, {})
            views.append((label, cell_view(position, run.genotype.cells[position], proof)))
        drawn += sum(len(view.svg) for _, view in views)
        found.append(CellsAt(f"Cell {position}", tuple(views)))
    return found, 0


@dataclass(frozen=True)
class Distances:
    """Distances of architectures by one measure, [row][column] as text and shade 0 to 1."""

    title: str
    labels: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]


def _distances(named: Sequence[tuple[str, RunContents]]) -> list[Distances]:
    """Return how far the architectures are from each other and from their baselines, if there are two of them."""
    architectures = [(label, run.genotype) for label, run in named if run.genotype is not None]
    for _, run in named:
        if run.baseline is not None and all(run.baseline.cells != other.cells for _, other in architectures):
            architectures.append((f"baseline {run.baseline.name}".rstrip(), run.baseline))
    if len(architectures) < 2:
        return []
    names = tuple(label for label, _ in architectures)
    tables = []
    for title, measure in (("Hausdorff distance", architecture_distance), ("Edit distance", edit_distance)):
        numbers = [[measure(a, b) for _, b in architectures] for _, a in architectures]
        largest = max(map(max, numbers)) or 1.0
        rows = (tuple((f"{d:.3f}", d / largest) for d in row) for row in numbers)
        tables.append(Distances(title, names, tuple(zip(names, rows, strict=True))))
    return tables


def _settings(run: RunContents) -> dict[str, str]:
    """Return all settings of a run under the names that `ddarts run` gives them, whichever command made it."""
    return {name: value for section in run.settings.values() for name, value in flat(section)}


def _differences(settings: Sequence[Mapping[str, str]], *, all_rows: bool = False) -> list[tuple[str, list[Value]]]:
    """Return the settings in which runs differ, of those that two runs or more have, or all of them."""
    names = dict.fromkeys(name for section in settings for name in section)
    found = [(name, [section.get(name, NONE) for section in settings]) for name in names]
    return [
        (name, [Value(text) for text in texts]) for name, texts in found if all_rows or len(set(texts) - {NONE}) > 1
    ]
