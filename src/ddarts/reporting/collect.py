"""What lies in a run folder, read and checked for the report. Everything is optional; what is damaged is an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddarts.architecture.derive import RULES
from ddarts.architecture.gates import Gates
from ddarts.architecture.genotype import Genotype
from ddarts.errors import GenotypeError, RunError
from ddarts.models.resolution import STEM_HALVINGS
from ddarts.reporting.chosen import CellEvidence, evidence
from ddarts.reporting.network_drawing import NetworkNumbers
from ddarts.runs import RunFolder


@dataclass(frozen=True)
class TestOutcome:
    """Results on the test images.

    Attributes:
        top1: share of images whose class was found, 0 to 1.
        count: images.
        loss: mean cross-entropy, None if not known.
        classes: names.
        confusion: [true class][predicted class] number of images.
    """

    __test__ = False  # not a test, whatever pytest makes of the name

    top1: float
    count: int
    loss: float | None
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class RunContents:
    """A run as the report sees it; what the folder does not hold is empty or None."""

    name: str
    summary: dict[str, Any]
    settings: dict[str, dict[str, Any]]
    metrics: list[dict[str, Any]]
    genotype: Genotype | None
    gates: Gates | None
    test: TestOutcome | None

    def records(self, stage: str) -> list[dict[str, Any]]:
        """Return the records of the epochs of a stage."""
        return [r for r in self.metrics if r.get("stage") == stage and r.get("kind") == "epoch"]

    @property
    def rule(self) -> tuple[str, float]:
        """Method and threshold that the genotype was derived with, the defaults if the settings do not say."""
        return _rule(self.settings)


def read_run(path: Path) -> RunContents:
    """Read what a run folder holds.

    Raises:
        RunError: there is no run, or one of its files is damaged; the message names the file and what to do.
    """
    run = RunFolder.open(path)
    genotype, gates = run.path / "genotype.json", run.path / "gates.json"
    try:
        return RunContents(
            name=run.path.resolve().name,
            summary=run.summary,
            settings={stage: run.read_settings(stage) for stage in run.stages},
            metrics=run.metrics(),
            genotype=Genotype.load(genotype) if genotype.exists() else None,
            gates=Gates.load(gates) if gates.exists() else None,
            test=_read_test(run.path / "test.json"),
        )
    except GenotypeError as error:
        raise RunError(f"{error} (mend the file, or delete it and the report leaves it out)") from None


@dataclass(frozen=True)
class Background:
    """What a run tells about its genotype: gates and margins of each cell, and the sizes of the network."""

    proofs: list[CellEvidence]
    numbers: NetworkNumbers


def read_background(path: Path | None, genotype: Genotype) -> Background:
    """Return what is known about a genotype that lies in `path`; of a file outside a run, nothing.

    Raises:
        RunError: gates.json or the settings of the run are damaged.
    """
    if path is None or not (path / "settings.yaml").is_file():
        return Background([], NetworkNumbers())
    run = RunFolder.open(path)
    settings = {stage: run.read_settings(stage) for stage in run.stages}
    proofs: list[CellEvidence] = []
    if (path / "gates.json").exists():
        try:
            proofs = evidence(genotype, Gates.load(path / "gates.json"), *_rule(settings))
        except GenotypeError as error:
            raise RunError(f"{error} (mend the file, or delete it)") from None
    return Background(proofs, read_numbers(path, settings))


def read_numbers(path: Path, settings: Mapping[str, Any]) -> NetworkNumbers:
    """Return the sizes of a run's network: from its trained model, else the width that the settings name."""
    try:
        model = json.loads((path / "model" / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        model = None
    if not isinstance(model, dict):
        training = settings.get("train") or (settings.get("run") or {}).get("train") or {}
        return NetworkNumbers(channels=_size(training.get("channels")) if isinstance(training, dict) else None)
    sides, classes = model.get("resolution"), model.get("classes")
    height, width = (_size(side) for side in sides) if isinstance(sides, list) and len(sides) == 2 else (None, None)
    return NetworkNumbers(
        channels=_size(model.get("channels")),
        resolution=(height, width) if height and width else None,
        stem=model["stem"] if model.get("stem") in STEM_HALVINGS else "cifar",
        in_channels=_size(model.get("in_channels")),
        classes=len(classes) if isinstance(classes, list) else None,
    )


def _size(value: Any) -> int | None:
    return value if type(value) is int and 1 <= value <= 2**16 else None


def _rule(settings: Mapping[str, Any]) -> tuple[str, float]:
    for section in (*settings.values(), *(s.get("derive") for s in settings.values())):
        if isinstance(section, dict) and section.get("method") in RULES:
            threshold = section.get("threshold", 0.85)
            if isinstance(threshold, int | float) and 0 <= threshold <= 1:
                return section["method"], threshold
    return "threshold_sparse", 0.85


def _read_test(path: Path) -> TestOutcome | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, f"cannot be read: {error}") from None
    if not isinstance(data, dict) or not _is_number(data.get("top1")):
        raise _damaged(path, "expected an object with top1, a number")
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
    return TestOutcome(data["top1"], count, loss, tuple(classes), tuple(map(tuple, confusion)))


def _damaged(path: Path, reason: str) -> RunError:
    return RunError(f"{path}: {reason}; delete the file and test again with `ddarts test`")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
