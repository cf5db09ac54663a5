"""The page of a study or a comparison: tables, dots for each seed with intervals, cost, and verdicts in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddarts.experiments.trials import HEADS, Board, Line
from ddarts.reporting.template import render_page
from ddarts.runtime.atomic_files import write_text


@dataclass(frozen=True)
class Strip:
    """One line of the plot; places are 0 to 100, in percent of its width."""

    name: str
    dots: tuple[tuple[float, str], ...]
    mean: float | None
    span: tuple[float, float] | None
    text: str
    cost: str


@dataclass(frozen=True)
class Shown:
    """A data set on the page."""

    board: Board
    strips: tuple[Strip, ...]
    ticks: tuple[tuple[float, str], ...]


def write_page(boards: Sequence[Board], target: Path, *, title: str, what: str, note: str = "") -> Path:
    """Write the page and return its path.

    Args:
        boards: one for each data set.
        target: the file.
        title: heading.
        what: what a line of the tables is, "method" or "architecture".
        note: a sentence below the heading.
    """
    shown = [Shown(board, *_strips(board)) for board in boards]
    write_text(target, render_page("study.html", title=title, note=note, shown=shown, heads=(what, *HEADS)))
    return target


def _strips(board: Board) -> tuple[tuple[Strip, ...], tuple[tuple[float, str], ...]]:
    task = board.task
    values = [task.sign * v for line in board.lines for v in (*line.top1, *(line.interval or ()))]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    # an axis of at least two points (of errors: 2 %), so that a constant is not magnified
    middle = (low + high) / 2
    half = max((high - low) * 0.55, 0.01 * (middle or 1.0) if task.kind == "regression" else 0.01)
    low, high = middle - half, middle + half

    def at(value: float) -> float:
        return round(100 * (task.sign * value - low) / (high - low), 2)

    power = 10 ** math.floor(math.log10((high - low) / 5))
    step = next(s for s in (power, 2 * power, 5 * power, 10 * power) if (high - low) / s <= 5)
    first = int(low / step) + (low > 0)
    marks = [step * i for i in range(first, int(high / step) + 1)]
    text = "{:.4g}".format if task.kind == "regression" else lambda v: f"{100 * v:.{1 if step < 0.01 else 0}f} %"
    ticks = tuple((at(task.sign * v), text(v)) for v in marks)
    return tuple(_strip(line, at) for line in board.lines), ticks


def _strip(line: Line, at: Callable[[float], float]) -> Strip:
    pairs = zip(line.trials, line.top1, strict=True)
    dots = tuple((at(value), f"seed {trial.seed}: {line.task.shown(value)}") for trial, value in pairs)
    mean, cost = line.mean, line.cost()
    search = "" if line.average("search_s") is None else f", search {cost[2]}"
    return Strip(
        line.name,
        dots,
        None if mean is None else at(mean),
        None if line.interval is None else (min(map(at, line.interval)), max(map(at, line.interval))),
        "no result" if mean is None else line.task.shown(mean),
        f"{cost[0]} parameters{search}, training {cost[3]}" if line.trials else "",
    )
