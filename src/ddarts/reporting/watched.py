"""The state of a run that may still be under way, from its metrics as they grow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from ddarts.config.schema import PRETRAIN_EPOCHS
from ddarts.errors import RunError
from ddarts.nn.tasks import CLASSIFICATION, Task
from ddarts.runs.folder import group_of
from ddarts.runs.metrics import parse_records

#: Stages in their order, with the group of settings that has their epochs.
STAGES = {"pretrain": "search", "search": "search", "train": "train"}


class MetricsTail:
    """Follows metrics.jsonl: each `read` gives the records that came since the last one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._place = 0
        self._file: tuple[int, int] | None = None

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Return new records, and whether these are all, because the file was replaced (a run that was resumed).

        Raises:
            RunError: the file cannot be read.
        """
        try:
            with self.path.open("rb") as stream:
                status = os.fstat(stream.fileno())
                again = self._file != (status.st_dev, status.st_ino) or status.st_size < self._place
                self._file = (status.st_dev, status.st_ino)
                if again:
                    self._place = 0
                stream.seek(self._place)
                data = stream.read()
        except FileNotFoundError:
            return [], False
        except OSError as error:
            raise RunError(f"{self.path}: cannot be read: {error.strerror}") from None
        whole = data.rfind(b"\n") + 1  # the last line may be half written
        self._place += whole
        return parse_records(data[:whole]), again


@dataclass
class Watched:
    """What is known about a run so far.

    Attributes:
        first: the first record of an epoch, for each stage.
        last: the last one.
        epochs_done: records of epochs seen, for each stage.
        stage: the stage that wrote last.
    """

    first: dict[str, dict[str, Any]] = field(default_factory=dict)
    last: dict[str, dict[str, Any]] = field(default_factory=dict)
    epochs_done: dict[str, int] = field(default_factory=dict)
    step: dict[str, Any] = field(default_factory=dict)
    stage: str = ""

    def add(self, record: Mapping[str, Any]) -> bool:
        """Take in a record; return whether it closes an epoch."""
        stage = record.get("stage")
        if stage not in STAGES:
            return False
        self.stage = stage
        if record.get("kind") != "epoch" or not isinstance(record.get("epoch"), int):
            self.step = dict(record)
            return False
        self.first.setdefault(stage, dict(record))
        self.last[stage] = dict(record)
        self.epochs_done[stage] = self.epochs_done.get(stage, 0) + 1
        return True

    def epochs(self, settings: Mapping[str, Any]) -> int | None:
        """Return how many epochs the present stage has, None if the settings do not tell."""
        section = group_of(settings, STAGES.get(self.stage, ""))
        if self.stage == "pretrain":
            count = section.get("pretrain_epochs")
            return count if isinstance(count, int) else PRETRAIN_EPOCHS
        count = section.get("epochs")
        return count if isinstance(count, int) and not isinstance(count, bool) else None

    def seconds_left(self, settings: Mapping[str, Any], since: float) -> float | None:
        """Return the seconds that the rest of the present stage takes, at the pace of its epochs so far.

        Args:
            settings: of the run, by stage.
            since: seconds since the last record.
        """
        epochs, last = self.epochs(settings), self.last.get(self.stage)
        if epochs is None or last is None:
            return None
        first, done = self.first[self.stage], self.epochs_done[self.stage]
        start, end = first.get("elapsed_s"), last.get("elapsed_s")
        if not _is_number(start) or not _is_number(end):
            return None
        each = (end - start) / (done - 1) if done > 1 else end / max(last["epoch"], 1)
        return max(each * max(epochs - last["epoch"], 0) - since, 0.0)

    def rows(self, task: Task = CLASSIFICATION) -> list[tuple[str, str]]:
        """Return the last numbers of the present stage of a run of this task, as (name, value)."""
        last = self.last.get(self.stage, {})
        found = []
        for key, label in _NUMBERS.items():
            value = last.get(key)
            if _is_number(value) and key.endswith("accuracy"):
                name = "accuracy" if task.kind == "classification" else task.metric
                name = "right labels" if task.kind == "multi-label" and key != "val_accuracy" else name
                found.append((label.replace("accuracy", name), task.shown(value)))
            elif _is_number(value):
                found.append((label, f"{value:.4g}"))
        return found

    def cells(self) -> list[tuple[float | None, float | None, float | None]]:
        """Return lead of the gates, share without weights, and contribution of each cell, while searching."""
        last = self.last.get("search", {}) if self.stage == "search" else {}
        columns = [last.get(key) for key in ("margin", "parameter_free", "marginal")]
        lists = [column if isinstance(column, list) else [] for column in columns]
        count = max(map(len, lists), default=0)
        padded = [[*column, *[None] * (count - len(column))] for column in lists]
        clean = [[v if _is_number(v) else None for v in column] for column in padded]
        return list(zip(*clean, strict=True))


_NUMBERS = {
    "search_loss": "loss, search half",
    "train_loss": "loss, training",
    "val_loss": "loss, validation",
    "search_accuracy": "accuracy, search half",
    "train_accuracy": "accuracy, training",
    "val_accuracy": "accuracy, validation",
    "distance": "distance to the baseline",
    "edit_distance": "edit distance to the baseline",
}


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
