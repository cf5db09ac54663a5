"""Progress of a long job: a bar on a terminal, a line every ten seconds in a log, nothing if quiet.

Everything goes to stderr; stdout is for results.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from ddarts.errors import printable

_LINE_EVERY_S = 10.0  # shortest time between two lines of a log
_WIDE = 110  # columns of a terminal that has room for a bar and the elapsed time


_later: ContextVar[float] = ContextVar("later", default=0.0)


@contextlib.contextmanager
def work_after(seconds: float) -> Iterator[None]:
    """Let the time left that `Progress` shows inside include `seconds` of work after what it counts."""
    token = _later.set(seconds)
    try:
        yield
    finally:
        _later.reset(token)


class _LeftColumn(ProgressColumn):
    """The time left of the whole job: of the task, and `later` seconds after it."""

    def __init__(self, later: float) -> None:
        super().__init__()
        self._later = later

    def render(self, task: Task) -> Text:
        """Return it as h:mm:ss."""
        if task.time_remaining is None:
            return Text("left -:--:--")
        minutes, seconds = divmod(int(task.time_remaining + self._later), 60)
        return Text(f"left {minutes // 60}:{minutes % 60:02}:{seconds:02}")


class Progress:
    """Live progress of one job.

    Args:
        title: what is being done, such as "search".
        total: steps in all.
        unit: what is counted, in the singular.
        quiet: show nothing at all.
        stream: where to write; stderr if not given.

    Example::

        with Progress("search", total=500) as progress:
            progress.update(37, epoch="1/10", loss=2.17)
            progress.note("epoch 1: accuracy 0.81")
    """

    def __init__(
        self, title: str, total: int, unit: str = "step", *, quiet: bool = False, stream: TextIO | None = None
    ) -> None:
        self.title = title
        self.total = total
        self.unit = unit
        self.quiet = quiet
        self._later = _later.get()
        self._stream = sys.stderr if stream is None else stream
        self._bar: RichProgress | None = None
        self._start = self._said = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> Progress:
        self._start = self._said = time.monotonic()
        if self.quiet:
            return self
        console = Console(file=self._stream, highlight=False)
        if console.is_terminal:
            wide = console.width >= _WIDE
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                *([BarColumn(bar_width=24)] if wide else []),
                MofNCompleteColumn(),
                *([TimeElapsedColumn()] if wide else []),
                _LeftColumn(self._later),
                TextColumn("{task.fields[shown]}", markup=False),
                console=console,
                refresh_per_second=4,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, shown="")
        else:
            self._say(f"{self.title}: {counted(self.total, self.unit)}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def update(self, done: int, **fields: object) -> None:
        """Report that `done` of the steps are finished; `fields` are shown beside the bar (floats with 4 digits)."""
        if self.quiet:
            return
        if self._first is None:
            self._first = max(done - 1, 0)  # steps before a resumed job do not count for its speed
        if self._bar is not None:
            # title, bar, steps, elapsed and remaining time come first; the fields get the rest of the line
            used = len(self.title) + 2 * len(str(self.total)) + 16 + (33 if self._bar.console.width >= _WIDE else 0)
            self._bar.update(self._task, completed=done, shown=_shown(fields, self._bar.console.width - used))
            return
        now = time.monotonic()
        if now - self._said >= _LINE_EVERY_S or done >= self.total:
            self._said = now
            left = self._later + (now - self._start) / max(done - self._first, 1) * max(self.total - done, 0)
            parts = [f"{self.title}: {done}/{self.total}", _shown(fields), f"left {format_seconds(left)}"]
            self._say("  ".join(p for p in parts if p))

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.console.print(Text(printable(text)))
        else:
            self._say(text)

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a full disk or a closed terminal does not end the work
            print(printable(text), file=self._stream, flush=True)


def counted(number: int, noun: str) -> str:
    """Return ``1 step`` or ``2 steps``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def format_seconds(seconds: float) -> str:
    """Return a duration such as ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = max(int(seconds + 0.5), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _shown(fields: dict[str, object], room: int | None = None) -> str:
    """Return the fields as text of at most `room` characters: losses are left out first, then the last fields."""
    texts = [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in fields.items()]
    for text in [t for t in texts[::-1] if "loss" in t] + [t for t in texts[::-1] if "loss" not in t]:
        if room is None or len("  ".join(texts)) <= room:
            break
        texts.remove(text)
    return "  ".join(texts)
