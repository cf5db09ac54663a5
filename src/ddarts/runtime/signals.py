"""Ctrl-C as a request: finish the step, write a checkpoint, then stop."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from types import FrameType
from typing import Any


class StopRequest:
    """Turns the first SIGINT or SIGTERM into a flag that a loop reads between two steps.

    The second signal raises `KeyboardInterrupt` at once. Handlers are restored on leaving. Python delivers signals to
    the main thread only, so anywhere else this does nothing.

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
        self.requested = False
        self._patience_s = patience_s
        self._first = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None: the handler was set outside Python and cannot be put back from here
            with contextlib.suppress(TypeError, ValueError):
                signal.signal(number, handler)
        self._before.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested and now - self._first >= self._patience_s:
            raise KeyboardInterrupt
        if not self.requested:
            self.requested, self._first = True, now
