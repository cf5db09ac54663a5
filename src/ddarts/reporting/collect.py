"""The content of a run folder, read and checked for the report. Everything is optional; a damaged file is an error."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddarts.errors import GenotypeError, RunError, printable
from ddarts.genotype.choices import ChoiceGenotype, load_genotype
from ddarts.genotype.gates import Gates, load_gates
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.operation_weights import FILE_NAME as WEIGHTS_FILE
from ddarts.genotype.operation_weights import OperationWeights
from ddarts.nn.tasks import CLASSIFICATION, Task
from ddarts.reporting.background import read_numbers, rule_of
from ddarts.reporting.budgets import front_chart
from ddarts.reporting.charts import Chart
from ddarts.reporting.formatting import percent
from ddarts.reporting.network_drawing import NetworkNumbers
from ddarts.reporting.thumbnails import read_thumbnail
from ddarts.runs.folder import RunFolder

#: Mistakes that a page shows.
MOST_MISTAKES = 24


@dataclass(frozen=True)
class ShownMistake:
    """A test image that was classified wrongly.

    Attributes:
        file: its file, or "test image N".
        truth: name of its class.
        taken: name of the predicted class.
        confidence: probability that the network gave to `taken`, 0 to 1.
        chance: probability that it gave to the truth.
        png: a small picture of it, None if there is none.
    """

    file: str
    truth: str
    taken: str
    confidence: float
    chance: float
    png: bytes | None

    @property
    def picture(self) -> str:
        """`png` as a data address for a page, empty without one."""
        return "" if self.png is None else f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class TestOutcome:
    """Results on the test images.

    Attributes:
        top1: share of images whose class was found, 0 to 1, or the score of another task.
        count: images.
        loss: mean loss, None if not known.
        classes: names.
        confusion: [true class][predicted class] number of images; empty for other tasks than classification.
        mistakes: the worst ones, the worst first.
    """

    __test__ = False  # not a test, whatever pytest makes of the name

    top1: float
    count: int
    loss: float | None
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    mistakes: tuple[ShownMistake, ...] = ()
    task: Task = CLASSIFICATION
    each: tuple[tuple[str, str], ...] = ()
    """Of other tasks: average precision or mean absolute error of each class or column, as text."""

    @property
    def each_label(self) -> tuple[str, str, str]:
        """Headings of `each`, and its caption."""
        if self.task.kind == "regression":
            return "column", "mean absolute error", "Mean absolute error of each number, in its unit"
        return "label", "average precision", "Average precision of each label"


@dataclass(frozen=True)
class RunContents:
    """A run as the report sees it; what the folder does not hold is empty or None.

    The architecture is `genotype` (with `gates`) if it consists of cells, and `choices` if it is of a choice space; the
    search started from `baseline` or `choices_before`.
    """

    name: str
    summary: dict[str, Any]
    settings: dict[str, dict[str, Any]]
    metrics: list[dict[str, Any]]
    genotype: Genotype | None
    choices: ChoiceGenotype | None
    gates: Gates | None
    baseline: Genotype | None
    weights: OperationWeights
    numbers: NetworkNumbers
    test: TestOutcome | None
    front: Chart | None = None
    choices_before: ChoiceGenotype | None = None

    def records(self, stage: str) -> list[dict[str, Any]]:
        """Return the records of the epochs of a stage."""
        return [r for r in self.metrics if r.get("stage") == stage and r.get("kind") == "epoch"]

    @property
    def task(self) -> Task:
        """What was learned, as far as its words go."""
        return Task.of(self.summary)

    @property
    def rule(self) -> tuple[str, float]:
        """Method and threshold that the genotype was derived with, the defaults if the settings do not say."""
        return rule_of(self.settings)


def read_run(path: Path) -> RunContents:
    """Read what a run folder holds.

    Raises:
        RunError: there is no run, or one of its files is damaged; the message names the file and what to do.
    """
    run = RunFolder.open(path)
    genotype, gates, baseline = (run.path / f"{name}.json" for name in ("genotype", "gates", "baseline"))
    weights = run.path / WEIGHTS_FILE
    settings = run.settings
    try:
        architecture = load_genotype(genotype) if genotype.exists() else None
        found = load_gates(gates) if gates.exists() else None
        start = load_genotype(baseline) if baseline.exists() else None
        return RunContents(
            name=run.path.resolve().name,
            summary=run.summary,
            settings=settings,
            metrics=run.metrics(),
            genotype=architecture if isinstance(architecture, Genotype) else None,
            choices=architecture if isinstance(architecture, ChoiceGenotype) else None,
            gates=found if isinstance(found, Gates) else None,
            baseline=start if isinstance(start, Genotype) else None,
            choices_before=start if isinstance(start, ChoiceGenotype) else None,
            weights=OperationWeights.load(weights) if weights.exists() else OperationWeights.published(),
            numbers=read_numbers(run.path, settings),
            test=_read_test(run.path / "test.json"),
            front=front_chart(run.path),
        )
    except GenotypeError as error:
        raise RunError(f"{error} (fix the file, or remove it to leave it out of the report)") from None


def _read_test(path: Path) -> TestOutcome | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, f"cannot be read: {error}") from None
    if not isinstance(data, dict) or not _is_number(data.get("top1")):
        raise _damaged(path, "expected an object with top1, a number")
    task = Task.of(data)
    if task.kind != "classification":
        return _read_scores(path, data, task)
    confusion = data.get("confusion", [])
    size = len(confusion) if isinstance(confusion, list) else -1
    if size < 0 or any(
        not isinstance(row, list) or len(row) != size or any(type(n) is not int or n < 0 for n in row)
        for row in confusion
    ):
        raise _damaged(path, "confusion must be a square table of counts")
    classes = data.get("classes") or [str(i) for i in range(size)]
    if not isinstance(classes, list) or len(classes) != size or any(not isinstance(name, str) for name in classes):
        raise _damaged(path, f"classes must be {size} names, one for each row of confusion")
    loss, count = data.get("loss"), data.get("count", sum(map(sum, confusion)))
    if (loss is not None and not _is_number(loss)) or type(count) is not int:
        raise _damaged(path, "loss must be a number and count a whole number")
    mistakes = _read_mistakes(path, data.get("mistakes", []), classes)
    return TestOutcome(data["top1"], count, loss, tuple(classes), tuple(map(tuple, confusion)), mistakes)


def _read_scores(path: Path, data: dict[str, Any], task: Task) -> TestOutcome:
    """Read the test of a task that has no confusion matrix."""
    each, loss, count = data.get("per_class"), data.get("loss"), data.get("count")
    if not isinstance(each, dict) or any(v is not None and not _is_number(v) for v in each.values()):
        raise _damaged(path, "per_class must have a number for each class")
    if (loss is not None and not _is_number(loss)) or type(count) is not int:
        raise _damaged(path, "loss must be a number and count a whole number")
    text = "{:.4g}".format if task.kind == "regression" else percent
    shown = tuple((printable(name), "-" if value is None else text(value)) for name, value in each.items())
    return TestOutcome(data["top1"], count, loss, tuple(each), (), task=task, each=shown)


def _read_mistakes(path: Path, data: Any, classes: list[str]) -> tuple[ShownMistake, ...]:
    if not isinstance(data, list):
        raise _damaged(path, "mistakes must be a list")
    found = []
    for i, item in enumerate(data[:MOST_MISTAKES]):
        item = item if isinstance(item, dict) else {}
        image, truth, taken = (item.get(name) for name in ("image", "truth", "taken"))
        confidence, chance = item.get("confidence"), item.get("chance")
        file = str(item.get("file", f"test image {image}"))
        known = range(len(classes))
        if type(image) is not int or type(truth) is not int or type(taken) is not int:
            raise _damaged(path, f"mistakes[{i}] must have image, truth and taken, whole numbers")
        if truth not in known or taken not in known:
            raise _damaged(path, f"mistakes[{i}] must name two of the {len(classes)} classes")
        if not isinstance(confidence, int | float) or not isinstance(chance, int | float):
            raise _damaged(path, f"mistakes[{i}] must have confidence and chance, numbers")
        png = read_thumbnail(path.parent, i)
        found.append(
            ShownMistake(printable(file), classes[truth], classes[taken], float(confidence), float(chance), png)
        )
    return tuple(found)


def _damaged(path: Path, reason: str) -> RunError:
    return RunError(f"{path}: {reason}; delete the file and test again with `ddarts test`")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
