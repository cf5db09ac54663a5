"""The outcomes of trials, and the board of each data set: means, intervals, costs and verdicts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddarts.errors import RunError
from ddarts.experiments.statistics import LEAST_PAIRS, Interval, Verdict, interval_of_mean, judge, mean
from ddarts.nn.tasks import CLASSIFICATION, Task
from ddarts.reporting.formatting import count
from ddarts.results import simple_table
from ddarts.runtime.atomic_files import write_text
from ddarts.runtime.progress import counted, format_seconds

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Trial:
    """One method on one data set with one seed, and how it ended.

    Attributes:
        method: name of the method, or of the architecture.
        data: name of the data set.
        seed: of everything random.
        top1: accuracy that is compared, 0 to 1, or another score (`ddarts.nn.tasks.Task.shown`); None if it failed.
        val_top1: the same of the validation images; None without any.
        part: what `top1` is of: "test", "validation", or "table" (looked up).
        search_s: seconds spent before the final training: on the search, or on short trainings.
        train_s: seconds of the final training.
        search_steps, train_steps: optimizer steps of both, on weights.
        parameters, macs: of the network that was trained; macs are multiply-accumulates an image.
        error: one line, if the trial failed.
        task: its kind.
        classes: outputs of the network.
    """

    method: str
    data: str
    seed: int
    top1: float | None = None
    val_top1: float | None = None
    part: str = "test"
    search_s: float | None = None
    train_s: float | None = None
    search_steps: int | None = None
    train_steps: int | None = None
    parameters: int | None = None
    macs: int | None = None
    error: str | None = None
    task: str | None = None
    classes: int | None = None

    def save(self, path: Path) -> None:
        """Write the record as JSON, in one step."""
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Trial | None:
        """Return the record in a file, None if there is none.

        Raises:
            RunError: the file is damaged.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path}: cannot be read: {error}; delete the file, and resume the study") from None
        known = {f.name: f.type for f in fields(cls)}
        data = {"task": None, "classes": None, **data} if isinstance(data, dict) else data  # older records lack them
        if not isinstance(data, dict) or set(data) != set(known):
            raise RunError(f"{path}: not the record of a trial; delete the file, and resume the study")
        for name, value in data.items():
            kinds = {"str": str, "int": int, "float": int | float}[known[name].partition(" ")[0]]
            optional = known[name].endswith("None")
            if isinstance(value, bool) or not (isinstance(value, kinds) or (optional and value is None)):
                raise RunError(f"{path}: {name} = {str(value)[:40]!r}; delete the file, and resume the study")
        return cls(**data)


@dataclass(frozen=True)
class Line:
    """The trials of one method on one data set.

    Attributes:
        name: of the method.
        trials: those that ended well, by seed.
        failed: those that did not.
        interval: 95 % bootstrap interval of the mean score; None with fewer than two trials.
    """

    name: str
    trials: tuple[Trial, ...]
    failed: tuple[Trial, ...]
    interval: Interval | None

    @property
    def top1(self) -> tuple[float, ...]:
        """The score of each seed, an accuracy of 0 to 1 for classes."""
        return tuple(t.top1 for t in self.trials if t.top1 is not None)

    @property
    def mean(self) -> float | None:
        """The mean score; None without a trial that ended well."""
        return mean(self.top1) if self.trials else None

    def average(self, name: str) -> float | None:
        """Return the mean of a field over the trials that have it."""
        known = [value for t in self.trials if (value := getattr(t, name)) is not None]
        return mean(known) if known else None

    def cost(self) -> list[str]:
        """Return parameters, multiply-adds, seconds of search and of training, as text."""
        shown: list[tuple[str, Callable[[Any], str]]] = [
            ("parameters", _short),
            ("macs", _short),
            ("search_s", format_seconds),
            ("train_s", format_seconds),
        ]
        return ["-" if (v := self.average(name)) is None else text(v) for name, text in shown]

    @property
    def task(self) -> Task:
        """What was learned."""
        return next((Task.of(asdict(t)) for t in self.trials), CLASSIFICATION)

    def interval_text(self) -> str:
        """Return the interval as text, such as ``95.10 to 96.32`` in percent."""
        if self.interval is None:
            return "-"
        return " to ".join(map(self.task.number, sorted(self.interval, key=lambda bound: self.task.sign * bound)))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data: shares, or errors above 0."""
        sign, name = self.task.sign, next(iter(self.task.named({"top1": None})))
        return {
            "name": self.name,
            "seeds": [t.seed for t in self.trials],
            name: [sign * value for value in self.top1],
            "mean": None if self.mean is None else sign * self.mean,
            "interval": None if self.interval is None else sorted(sign * bound for bound in self.interval),
            **{name: self.average(name) for name in ("parameters", "macs", "search_s", "train_s", "search_steps")},
            "failed": {str(t.seed): t.error for t in self.failed},
        }


HEADS = ("mean", "95 % interval", "each seed", "parameters", "MACs", "search", "training")


@dataclass(frozen=True)
class Board:
    """What was found on one data set.

    Attributes:
        data: its name.
        part: what the accuracies are of.
        lines: a line for each method, in the order of the study.
        verdicts: on pairs of methods.
    """

    data: str
    part: str
    lines: tuple[Line, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def task(self) -> Task:
        """What was learned."""
        return next((line.task for line in self.lines if line.trials), CLASSIFICATION)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table as text, a row for each method: its name, then what `HEADS` say."""
        return [
            (
                line.name,
                line.task.shown(line.mean),
                line.interval_text(),
                " ".join(map(line.task.number, line.top1)) or "-",
                *line.cost(),
            )
            for line in self.lines
        ]

    def summary(self) -> str:
        """Return the line with the highest mean in a sentence, and from which others the tests distinguish it."""
        done = [line for line in self.lines if line.trials]
        if not done:
            return ""
        best = max(done, key=lambda line: mean(line.top1))
        highest = best.task.shown(mean(best.top1))
        text = f"{best.name} has the highest mean, {highest} of {counted(len(best.trials), 'seed')}"
        found = [v for v in self.verdicts if best.name in (v.first, v.second)]
        others = {v: v.second if v.first == best.name else v.first for v in found}
        clear, unclear = ([others[v] for v in found if v.distinguishable is told] for told in (True, False))
        if clear:
            text += f"; it is distinguishable from {', '.join(clear)}"
        if unclear:
            text += f"; it is not distinguishable from {', '.join(unclear)}"
            if all(v.pairs < LEAST_PAIRS for v in found):
                text += f"; that takes {LEAST_PAIRS} seeds or more"
        return f"{text}."

    def notes(self) -> list[str]:
        """Return the verdicts, then the failures, a line each."""
        failed = [f"{t.method}, seed {t.seed}, failed: {t.error}" for line in self.lines for t in line.failed]
        return [*(verdict.text for verdict in self.verdicts), *failed]

    def table(self, what: str = "method") -> Table:
        """Return the table for a terminal, with the notes below."""
        from rich.text import Text

        table = simple_table(f"{self.data}: {self.task.metric} ({self.part})")
        table.add_column(what, no_wrap=True)
        for head in HEADS:
            table.add_column(head, justify="right", overflow="fold")
        for row in self.rows():
            table.add_row(*map(Text, row))
        table.caption = Text("\n".join(self.notes()))
        table.caption_justify = "left"
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {
            "data": self.data,
            "part": self.part,
            "methods": [line.to_dict() for line in self.lines],
            "verdicts": [
                {**asdict(verdict), "distinguishable": verdict.distinguishable, "text": verdict.text}
                for verdict in self.verdicts
            ],
        }


def boards(trials: Iterable[Trial], *, against_first: bool = False) -> tuple[Board, ...]:
    """Sort trials by data set and method, in the order in which they first appear, and judge them.

    Args:
        trials: records; those that failed are listed but take no part in the statistics.
        against_first: compare each method with the first only, instead of every two.
    """
    sorted_: dict[str, dict[str, list[Trial]]] = {}
    for trial in trials:
        sorted_.setdefault(trial.data, {}).setdefault(trial.method, []).append(trial)
    found = {data: [_line(name, of) for name, of in methods.items()] for data, methods in sorted_.items()}
    values = [{li.name: dict(zip(_seeds(li), li.top1, strict=True)) for li in lines} for lines in found.values()]
    tasks = [next((line.task for line in lines if line.trials), CLASSIFICATION) for lines in found.values()]
    units = [f"in {task.metric}" if task.kind == "regression" else "points" for task in tasks]
    judged = judge(values, against_first=against_first, units=units)
    return tuple(
        Board(data, next((t.part for li in lines for t in li.trials), "test"), tuple(lines), verdicts)
        for (data, lines), verdicts in zip(found.items(), judged, strict=True)
    )


def _line(name: str, trials: Sequence[Trial]) -> Line:
    done = tuple(sorted((t for t in trials if t.top1 is not None), key=lambda t: t.seed))
    failed = tuple(t for t in trials if t.top1 is None)
    return Line(name, done, failed, interval_of_mean([t.top1 for t in done if t.top1 is not None]))


def _seeds(line: Line) -> list[int]:
    return [t.seed for t in line.trials]


def _short(value: float) -> str:
    return count(round(value)).rpartition("(")[2].rstrip(")")
