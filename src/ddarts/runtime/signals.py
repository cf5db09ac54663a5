"""Signals as requests: finish the step, write a checkpoint, then stop; before and after, end with a message."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from types import FrameType
from typing import Any

#: Signals that ask a process to end; SIGHUP says that its terminal has gone (Windows has none).
_ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def end_with_a_word() -> None:
    """Let SIGTERM and SIGHUP raise `KeyboardInterrupt`, as SIGINT does, from now on.

    So a command that is stopped before its first step says so. An ignored signal stays ignored (nohup).
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(f"interrupted by {signal.Signals(number).name}")

    for number in _ENDING[1:]:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, interrupt)


def end_silently() -> None:
    """Let signals end the process as they do by default: what it had to do is done, and Python takes itself apart."""
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


class StopRequest:
    """Turns the first SIGINT, SIGTERM or SIGHUP into a flag that a loop reads between two steps.

    The second signal raises `KeyboardInterrupt` at once. Handlers are restored on leaving, and a request that nobody
    has read, as it came after the last step, is then delivered to them. Python delivers signals to the main thread
    only, so anywhere else this does nothing.

    Args:
        patience_s: seconds after the first signal in which others count as the same one. Where a launcher stands above
            many processes, Ctrl-C reaches each of them from the terminal and once more from the launcher.

    Example::

        with StopRequest() as stop:
            for step in steps:
                work(step)
                if stop.requested:
                    save_checkpoint()
                    raise Stopped("...")
    """

    def __init__(self, patience_s: float = 0.0) -> None:
        self._requested: int | None = None
        self._read = False
        self._patience_s = patience_s
        self._first = 0.0
        self._before: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come; who reads that has to act on it."""
        self._read = self._read or self._requested is not None
        return self._requested is not None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING:
                if number in _ENDING[:2] or signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for number, handler in self._before.items():
            # None: the handler was set outside Python and cannot be put back from here
            with contextlib.suppress(TypeError, ValueError):
                signal.signal(number, handler)
        self._before.clear()
        if kind is None and self._requested is not None and not self._read:
            signal.raise_signal(self._requested)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._requested is None:
            self._requested, self._first = number, now
        elif now - self._first >= self._patience_s:
            raise KeyboardInterrupt
