"""Results of the public functions: small frozen records with a table for people and a dict for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddarts.errors import printable
from ddarts.genotype.choices import AnyGenotype, ChoiceGenotype, choice_differences
from ddarts.genotype.distance import cell_differences, edit_distance
from ddarts.genotype.gates import AnyGates
from ddarts.genotype.genotype import Genotype
from ddarts.nn.tasks import Kind, Task
from ddarts.reporting.formatting import cost_text, count, count_text, difference_rows, genotype_rows, percent
from ddarts.runs.metrics import plain
from ddarts.runtime.progress import counted, format_seconds

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from torch import Tensor


#: Mistakes of a test that are kept with their images.
KEPT_MISTAKES = 24


class Outcome:
    """Base of all results."""

    title = ""
    path_key = "run"
    conclusion: str = ""  # printed after the table

    def __init_subclass__(cls) -> None:
        """Keep the short representation: `dataclass` would write one with every matrix and list."""
        cls.__repr__ = Outcome.__repr__

    def __repr__(self) -> str:
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.repr}  # type: ignore[arg-type]
        texts = [
            f"{name}={value:.4g}"
            if isinstance(value, float)
            else f"{name}={str(value)!r}"
            if isinstance(value, Path)
            else f"{name}=<{counted(len(value), 'item')}>"
            if isinstance(value, tuple)
            else f"{name}={value!r}"
            for name, value in shown.items()
            if isinstance(value, str | int | float | Path | AnyGenotype) or (isinstance(value, tuple) and value)
        ]
        return f"{type(self).__name__}({', '.join(texts)})"

    @property
    def exit_status(self) -> int:
        """Exit status of the command that prints it."""
        return 0

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return what the table shows, as (name, value)."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data: the fields, `path` under `path_key`."""
        shown = (f.name for f in fields(self) if f.repr)  # type: ignore[arg-type]
        return {self.path_key if name == "path" else name: plain(getattr(self, name)) for name in shown}

    def _repr_html_(self) -> str:
        """Return the rows, and a drawing of the genotype if there is one, for a notebook."""
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in self.rows())
        genotype = getattr(self, "genotype", None)
        drawing = "" if genotype is None else genotype._repr_html_()
        return f"<table><caption>{escape(self.title)}</caption>{rows}</table>{drawing}"

    def table(self) -> RenderableType:
        """Return a table for a terminal."""
        from rich.text import Text

        table = simple_table(self.title or None, show_header=False)
        table.add_column("name", no_wrap=True)
        table.add_column("value", overflow="fold")
        for name, value in self.rows():
            table.add_row(Text(name), Text(value))
        return table


def simple_table(title: Any = None, **options: Any) -> Table:
    """Return an empty table for a terminal, in the look that all tables share."""
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False, **options)


@dataclass(frozen=True)
class SearchResult(Outcome):
    """What `ddarts.search` found.

    Attributes:
        path: the run.
        gates: of the kept epoch.
        genotype: what was derived from them.
        best_epoch: the kept epoch.
        search_s: seconds of searching.
        stopped: why it ended early, if it did.
        distance: Hausdorff distance to the baseline, 0 to 1, if the search started at one.
        baseline: the architecture at which the search started, with as many cells as `genotype`.
        parameters: of the baseline's network and of the derived one, at the width of the search.
        macs: multiply-adds of both for an image, if the baseline is a network of torchvision or timm.
    """

    path: Path
    gates: AnyGates
    genotype: AnyGenotype
    best_epoch: int
    search_s: float
    stopped: str | None = None
    distance: float | None = None
    baseline: AnyGenotype | None = None
    parameters: tuple[int, int] | None = None
    macs: tuple[int, int] | None = None

    title = "search"

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return what the table shows."""
        yield "cells searched", str(self.gates.space.searched_cells)
        yield "cells in the network", str(len(self.genotype))
        yield "epoch whose gates are kept", str(self.best_epoch)
        yield "stopped early", self.stopped or "no"
        if isinstance(self.baseline, Genotype) and isinstance(self.genotype, Genotype):
            edits = edit_distance(self.baseline, self.genotype)
            hausdorff = "" if self.distance is None else f"Hausdorff {self.distance:.4f}, "
            yield "distance to the baseline", f"{hausdorff}edit {edits:.4f}"
            yield from difference_rows(cell_differences(self.baseline, self.genotype))
            if edits == 0:
                yield "operations", "none changed: search for more steps, or with a larger --alpha-lr"
        if isinstance(self.baseline, ChoiceGenotype) and isinstance(self.genotype, ChoiceGenotype):
            changes = choice_differences(self.baseline, self.genotype)
            yield "blocks changed", f"{len(changes)} of {len(self.genotype)}"
            for change in changes:
                yield f"{change.kind} {change.choice}", f"{change.before} -> {change.after}"
        if self.parameters is not None:
            yield "parameters", "{:,} in the baseline, {:,} now".format(*self.parameters)
        if self.macs is not None:
            yield "multiply-adds", "{:,} in the baseline, {:,} now".format(*self.macs)
        yield "search time", format_seconds(self.search_s)
        yield "run", str(self.path)
        yield "genotype", str(self.path / "genotype.json")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {
            "run": str(self.path),
            "genotype": self.genotype.to_dict(),
            "best_epoch": self.best_epoch,
            "search_s": self.search_s,
            "stopped": self.stopped,
            "distance": self.distance,
            **self._against_the_baseline(),
        }

    def _against_the_baseline(self) -> dict[str, Any]:
        if isinstance(self.baseline, ChoiceGenotype) and isinstance(self.genotype, ChoiceGenotype):
            costs = {"parameters": self.parameters, "macs": self.macs}
            return {
                "differences": [change._asdict() for change in choice_differences(self.baseline, self.genotype)],
                **{name: dict(zip(("before", "after"), pair or (), strict=False)) for name, pair in costs.items()},
            }
        if not isinstance(self.baseline, Genotype) or not isinstance(self.genotype, Genotype):
            return {}
        return {
            "edit_distance": edit_distance(self.baseline, self.genotype),
            "differences": [asdict(cell) for cell in cell_differences(self.baseline, self.genotype)],
            "parameters": None
            if self.parameters is None
            else dict(zip(("before", "after"), self.parameters, strict=True)),
        }


@dataclass(frozen=True)
class DeriveResult(Outcome):
    """What `ddarts.derive` made, and the file that holds it.

    Attributes:
        genotype: with the size that a budget has chosen, if there is one.
        path: the file.
        method, threshold: the rule.
        costs: of its network, of each kind that has a budget.
        front: networks along the front of gates and cost: file, share of the best gates, and costs.
    """

    genotype: AnyGenotype
    path: Path
    method: str
    threshold: float
    costs: Mapping[str, float] = field(default_factory=dict)
    front: tuple[Mapping[str, Any], ...] = ()

    title = "derived genotype"
    path_key = "file"

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return what the table shows."""
        yield "method", self.method
        yield "threshold", f"{self.threshold:g}"
        yield from genotype_rows(self.genotype)
        if self.genotype.size is not None:
            yield "channels, stem", f"{self.genotype.size.channels}, {self.genotype.size.stem}"
        for kind, value in self.costs.items():
            yield kind, cost_text(kind, value)
        yield "file", str(self.path)
        for row in self.front:
            costs = ", ".join(f"{cost_text(kind, value)} {kind}" for kind, value in row["costs"].items())
            yield row["file"], f"{percent(row['gates'])} of the best gates, {costs}"


def _reference_rows(reference: Mapping[str, Any] | None, task: Task) -> Iterable[tuple[str, str]]:
    if reference is None:
        return
    tested = reference.get("test_top1") is not None
    top1 = task.shown(reference.get("test_top1" if tested else "val_top1"))
    costs = f"{count_text(reference['parameters'])} parameters, {count_text(reference['macs'])} MACs"
    part = "test" if tested else "validation"
    yield f"{reference['title']}, C = {reference['channels']}", f"{top1} ({part}), {costs}"


@dataclass(frozen=True)
class TrainResult(Outcome):
    """What `ddarts.train` made; the model lies in ``path / "model"``.

    If validation accuracy was still rising at the end, `longer` is the command for a longer training. `reference` has
    the numbers of the standard network that was trained alike, and of the difference to it once both were tested.
    `val_top1` is the score of the task on validation images, such as top-1 accuracy (`ddarts.nn.tasks.Task.shown`).
    """

    path: Path
    parameters: int
    macs: int
    train_s: float
    val_top1: float | None = None
    longer: str | None = None
    reference: Mapping[str, Any] | None = None
    task: Kind = "classification"

    title = "training"

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return what the table shows."""
        task = Task(self.task)
        yield f"{task.metric} (validation)", task.shown(self.val_top1)
        yield "parameters", count(self.parameters)
        yield "MACs", count(self.macs)
        yield "training time", format_seconds(self.train_s)
        yield from _reference_rows(self.reference, task)
        if self.longer:
            yield "still improving", f"train longer: {self.longer}"
        yield "run", str(self.path)
        yield "model", str(self.path / "model")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return Task(self.task).named({**super().to_dict(), "model": str(self.path / "model")})


@dataclass(frozen=True)
class TestResult(Outcome):
    """How a model does on test images.

    Attributes:
        top1: share of images whose class is found, 0 to 1; of other tasks their score (`ddarts.nn.tasks.Task.shown`).
        loss: mean loss of the task.
        count: images.
        confusion: [true class][predicted class], images; empty for other tasks than classification.
        classes: names of the classes.
        skipped: files that could not be decoded.
        mistakes: the images whose class was not found, those first about whose wrong class the network was most
            certain: file (or "test image N"), image, truth, taken, confidence, chance (see
            `ddarts.training.mistakes.Mistake`).
        thumbnails: a PNG of each of the first mistakes.
        listing: the CSV file that lists the mistakes, if the model is that of a run.
        task: its kind.
        each: for other tasks than classification, average precision or mean absolute error of each class or column.
        exact: share of images of which all labels are right, where they may have several.
        r2: coefficient of determination of a regression, the mean over the numbers.
        evidence: what `ddarts.nn.tasks.scorer` needs, of other tasks than classification.
    """

    __test__ = False  # not a test, whatever pytest makes of the name

    model: Path
    data: str
    top1: float
    loss: float
    count: int
    confusion: Sequence[Sequence[int]]
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    mistakes: tuple[dict[str, Any], ...] = ()
    thumbnails: tuple[bytes, ...] = field(default=(), repr=False, compare=False)
    listing: Path | None = None
    task: Kind = "classification"
    each: tuple[float | None, ...] = ()
    exact: float | None = None
    r2: float | None = None
    evidence: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)

    title = "test"

    @property
    def per_class(self) -> dict[str, float | None]:
        """Share of each class's images that are found, 0 to 1; None for a class without test images.

        For other tasks what `each` holds.
        """
        if self.task != "classification":
            return dict(zip(self.classes, self.each, strict=True))
        pairs = zip(self.classes, self.confusion, strict=True)
        return {name: row[i] / sum(row) if sum(row) else None for i, (name, row) in enumerate(pairs)}

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return what the table shows."""
        task = Task.of({"task": self.task, "classes": self.classes})
        yield f"{task.metric} (test)", task.shown(self.top1)
        if self.exact is not None:
            yield "images with all labels right", percent(self.exact)
        if self.r2 is not None:
            yield "R2", f"{self.r2:.4f}"
        yield "loss", f"{self.loss:.4f}"
        yield "images", str(self.count)
        if self.skipped:
            yield "files skipped", str(len(self.skipped))
        if self.task != "classification":
            yield {"multi-label": "average precision", "regression": "mean absolute error"}[self.task], ""
        for name, share in list(self.per_class.items())[:20]:
            yield f"  {name}", f"{share:.4g}" if self.task == "regression" else percent(share)
        if len(self.classes) > 20:
            yield "  ...", f"{len(self.classes)} classes in all; --json lists them"
        for m in self.mistakes[:5]:
            taken, truth = self.classes[m["taken"]], self.classes[m["truth"]]
            yield "mistake", f"{printable(m['file'])}: {taken} ({percent(m['confidence'])}), is {truth}"
        if self.listing is not None:
            yield "all mistakes", str(self.listing)
        yield "model", str(self.model)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        found = {**super().to_dict(), "mistakes": plain(self.mistakes[:KEPT_MISTAKES]), "per_class": self.per_class}
        return Task(self.task).named(found)


@dataclass(frozen=True)
class RunResult(Outcome):
    """What `ddarts.run` made, from the search to the test; `longer` and `reference` are as in `TrainResult`.

    `conclusion` says in one line what came out and which files to take.
    """

    path: Path
    test_top1: float | None
    parameters: int
    macs: int
    search_s: float
    train_s: float
    val_top1: float | None = None
    stopped: str | None = None
    files: tuple[str, ...] = field(default=())
    longer: str | None = None
    reference: Mapping[str, Any] | None = None
    conclusion: str = ""
    task: Kind = "classification"

    title = "run"

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return what the table shows."""
        task, tested = Task(self.task), self.test_top1 is not None
        yield f"{task.metric} (test)", task.shown(self.test_top1) if tested else "the data has no test images"
        yield f"{task.metric} (validation)", task.shown(self.val_top1)
        yield "parameters", count(self.parameters)
        yield "MACs", count(self.macs)
        yield "search time", format_seconds(self.search_s)
        yield "training time", format_seconds(self.train_s)
        yield from _reference_rows(self.reference, task)
        if self.stopped:
            yield "search stopped early", self.stopped
        if self.longer:
            yield "still improving", f"train longer: {self.longer}"
        yield "run", str(self.path)
        for name in self.files:
            yield f"  {name}", str(self.path / name)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        files = {name: str(self.path / name) for name in self.files}
        return Task(self.task).named({**super().to_dict(), "files": files})


@dataclass(frozen=True)
class PredictResult(Outcome):
    """What a model predicts for images (`ddarts.training.evaluate.Prediction`).

    Classes, the most probable first; all labels above 0.5; or numbers. Files in `skipped` could not be decoded.
    """

    model: Path
    predictions: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
    skipped: tuple[str, ...] = ()
    task: Kind = "classification"

    title = "predictions"

    @property
    def exit_status(self) -> int:
        """3 if files were skipped."""
        return 3 if self.skipped else 0

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return what the table shows."""
        yield "model", str(self.model)
        for path, classes in self.predictions:
            shown = (f"{n} {v:.6g}" if self.task == "regression" else f"{n} {percent(v)}" for n, v in classes)
            yield printable(path), ", ".join(shown) or "no label above 50 %"
        for reason in self.skipped:
            yield "skipped", reason

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        if self.task == "regression":
            found = [{"image": path, "values": dict(values)} for path, values in self.predictions]
        else:
            found = [
                {"image": path, "classes": [{"class": name, "probability": p} for name, p in classes]}
                for path, classes in self.predictions
            ]
        return {
            "model": str(self.model),
            "predictions": found,
            "skipped": list(self.skipped),
        }


@dataclass(frozen=True)
class ShowResult(Outcome):
    """A genotype, and the drawing of it if one was asked for; `chain` lists the stages of the network if they were."""

    genotype: AnyGenotype
    path: Path | None = None
    cell: int | None = None
    chain: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """What the table is headed with."""
        return self.genotype.name or "genotype"

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return what the table shows: where the drawing is, or else the genotype as text."""
        if self.path is not None:
            yield "drawing", str(self.path)
        else:
            yield from self.chain or genotype_rows(self.genotype, self.cell)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {
            "genotype": self.genotype.to_dict(),
            "drawing": None if self.path is None else str(self.path),
            **({"network": [{"stage": name, "output": text} for name, text in self.chain]} if self.chain else {}),
        }


@dataclass(frozen=True)
class ReportResult(Outcome):
    """Where the report of a run lies."""

    path: Path

    title = "report"
    path_key = "report"

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return what the table shows."""
        yield "page", str(self.path)
