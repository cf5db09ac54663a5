"""Ctrl-C as a request: finish the step, write a checkpoint, then stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from types import FrameType
from typing import Any


class StopRequest:
    """Turns the first SIGINT or SIGTERM into a flag that a loop reads between two steps.

    The second signal raises `KeyboardInterrupt` at once. Handlers are restored on leaving. Python delivers signals to
    the main thread only, so anywhere else this does nothing.

    Example::

        with StopRequest() as stop:
            for step in steps:
                work(step)
                if stop.requested:
                    save_checkpoint()
                    raise Stopped("...")
    """

    def __init__(self) -> None:
        self.requested = False
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
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
