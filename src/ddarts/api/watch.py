"""``ddarts watch``: follow a search or a training in a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddarts.errors import SettingsError
from ddarts.nn.tasks import Kind, Task
from ddarts.reporting.formatting import percent
from ddarts.results import Outcome, simple_table
from ddarts.runs.folder import RunFolder
from ddarts.runtime.progress import format_seconds

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ddarts.reporting.watched import Watched

PathLike = str | os.PathLike[str]

_OF_RUNS = {"compare", "study"}  # these consist of runs, and write NAME.json at the end
_SILENT_S = 600.0  # where locks cannot be read, a run without new records for so long counts as finished


@dataclass(frozen=True)
class WatchResult(Outcome):
    """Status of a run.

    Attributes:
        path: the run.
        state: running, finished, or stopped.
        stage: pretrain, search or train; empty before the first record.
        epoch: of the stage, that was finished last.
        epochs: of the stage.
        left_s: seconds that the stage will still take; None if that is not known or it is not running.
        numbers: of the last epoch, as (name, value).
        cells: for each searched cell the lead of its gates, its share without weights, and its contribution.
        test_top1: 0 to 1, once the run is tested; of other tasks than classification their score.
        task: its kind.
    """

    path: Path
    state: str
    stage: str
    epoch: int
    epochs: int | None
    left_s: float | None
    numbers: tuple[tuple[str, str], ...]
    cells: tuple[tuple[float | None, float | None, float | None], ...]
    test_top1: float | None = None
    task: Kind = "classification"

    title = "watch"

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return what the table shows."""
        yield "run", str(self.path)
        yield "state", self.state
        if self.stage:
            yield "stage", _STAGE_NAMES[self.stage]
            yield "epoch", f"{self.epoch} of {'?' if self.epochs is None else self.epochs}"
        if self.left_s is not None:
            yield "time left in this stage", format_seconds(self.left_s)
        yield from self.numbers
        for i, (lead, free, marginal) in enumerate(self.cells):
            yield f"cell {i}", f"lead {_text(lead)}, without weights {percent(free)}, contribution {_text(marginal)}"
        if self.test_top1 is not None:
            task = Task(self.task)
            yield f"{task.metric} (test)", task.shown(self.test_top1)

    def line(self) -> str:
        """Return the state in a line, for a log."""
        left = "" if self.left_s is None else f"  left {format_seconds(self.left_s)}"
        numbers = "  ".join(f"{name} {value}" for name, value in self.numbers)
        return f"{self.stage or 'run'}: epoch {self.epoch}/{self.epochs or '?'}  {numbers}{left}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        keys = ("lead", "parameter_free", "marginal")
        return {
            **super().to_dict(),
            "stage": self.stage or None,
            "numbers": dict(self.numbers),
            "cells": [dict(zip(keys, cell, strict=True)) for cell in self.cells],
        }


_STAGE_NAMES = {"pretrain": "search: weights alone", "search": "search", "train": "training"}


def watch(run: PathLike, *, once: bool = False, every: float = 2.0) -> WatchResult:
    """Follow a run until it ends, or until Ctrl-C, and return its state; nothing is written into it.

    On a terminal a table is kept up to date; elsewhere every epoch gives a line. Both go to stderr.

    Args:
        run: the folder of the run.
        once: return the status at once.
        every: seconds between two updates.

    Raises:
        RunError: there is no such run, or it cannot be read.
        SettingsError: `every` is not a number of seconds above 0.
    """
    folder = RunFolder.open(run)
    pause = _seconds(every)
    follower = _Follower(folder)
    follower.look()
    if not once:
        try:
            follower.follow(pause)
        except KeyboardInterrupt:
            follower.look()
    return follower.result()


class _Follower:
    """A run and the records read from it."""

    def __init__(self, run: RunFolder) -> None:
        from ddarts.reporting.watched import MetricsTail, Watched

        self.run = run
        self.tail = MetricsTail(run.path / "metrics.jsonl")
        self.watched: Watched = Watched()
        self.settings: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.news = time.time()  # of the last record
        self.busy = True

    def look(self) -> bool:
        """Read new records; return whether an epoch was finished."""
        from ddarts.reporting.watched import Watched

        self.busy = self._is_busy()  # before reading: what is written until the end is then seen
        records, again = self.tail.read()
        if again:
            self.watched = Watched()
        closed = [self.watched.add(record) for record in records]
        with contextlib.suppress(OSError):
            self.news = self.tail.path.stat().st_mtime
        self.settings = self.run.settings
        self.summary = self.run.summary
        return any(closed)

    def _is_busy(self) -> bool:
        in_use = self.run.in_use
        return time.time() - self.news < _SILENT_S if in_use is None else in_use

    def follow(self, pause: float) -> None:
        """Show the run until it ends."""
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True, highlight=False)
        if not console.is_terminal:
            self._say()
            while self.busy:
                time.sleep(pause)
                if self.look():
                    self._say()
            return
        with Live(self.picture(), console=console, auto_refresh=False, transient=True) as live:
            while self.busy:
                time.sleep(pause)
                self.look()
                live.update(self.picture(), refresh=True)

    def _say(self) -> None:
        print(self.result().line(), file=sys.stderr, flush=True)

    def result(self) -> WatchResult:
        """Return the state as a record."""
        seen, top1 = self.watched, self.summary.get("test_top1")
        state = "running" if self.busy else "finished" if self._complete() else self._stopped()
        left = seen.seconds_left(self.settings, time.time() - self.news) if self.busy else None
        return WatchResult(
            self.run.path,
            state,
            seen.stage,
            seen.last.get(seen.stage, {}).get("epoch", 0),
            seen.epochs(self.settings),
            left,
            tuple(seen.rows(Task.of(self.summary)) or self._parts()),
            tuple(seen.cells()),
            top1 if isinstance(top1, int | float) else None,
            Task.of(self.summary).kind,
        )

    def _complete(self) -> bool:
        for stage in _OF_RUNS & self.settings.keys():
            return (self.run.path / f"{stage}.json").is_file()
        if "run" in self.settings:
            return (self.run.path / "report.html").is_file()
        return ("train_s" if "train" in self.settings else "search_s") in self.summary

    def _parts(self) -> list[tuple[str, str]]:
        """Return how many runs of a comparison or a study are complete."""
        if not _OF_RUNS & self.settings.keys():
            return []
        done = sum(b'"train_s"' in path.read_bytes() for path in self.run.path.glob("trainings/*/summary.json"))
        done += sum(1 for _ in self.run.path.glob("trials/*/*.json"))
        return [("trainings complete", str(done))]

    def _stopped(self) -> str:
        command = next((name for name in ("run", "search", "train", *_OF_RUNS) if name in self.settings), None)
        return f"stopped; resume with: ddarts {command} --resume {self.run.path}" if command else "stopped"

    def picture(self) -> RenderableType:
        """Return what the terminal shows: the state, a bar, and the cells."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        result = self.result()
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in result.rows():
            if not name.startswith("cell "):
                table.add_row(Text(name), Text(value))
        if result.epochs:
            table.add_row(Text("progress"), ProgressBar(total=result.epochs, completed=result.epoch, width=40))
        parts: list[RenderableType] = [table]
        if result.cells:
            cells = simple_table()
            for head in ("cell", "lead of the gates", "without weights", "contribution"):
                cells.add_column(head, justify="right")
            for i, (lead, free, marginal) in enumerate(result.cells):
                cells.add_row(str(i), _text(lead), percent(free), _text(marginal))
            parts.append(cells)
        return Group(*parts, Text("Ctrl-C ends this display, not the run", style="dim"))


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise SettingsError(f"every = {value!r} must be a number of seconds, above 0 and at most 3600")
    return seconds
