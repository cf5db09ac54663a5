"""Real processes that start at once: forked from one that has imported everything and done nothing else.

A new interpreter needs seconds of processor time to import torch. Use one where the import is the point of the test.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

#: The code of `python -m ddarts`.
COMMAND = "import sys; from ddarts.cli.main import main; sys.exit(main())"

#: Also for the first process of all, which waits until everything is imported, on a busy machine.
_PATIENCE_S = 120

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.preloaded"])


@functools.cache
def _place() -> Path:
    """Return the folder of all that processes write."""
    folder = Path(tempfile.mkdtemp(prefix="ddarts-processes-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Started:
    """A process that runs Python code.

    Args:
        code: what `python -c` would take.
        arguments: the words of sys.argv after the first.
        folder: where it works; that of this process if not given.

    Attributes:
        pid: its number.
    """

    def __init__(self, code: str, *arguments: object, folder: Path | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(dir=_place()))
        words = ["-c", *map(str, arguments)]
        here = str(folder or Path.cwd())
        self._process = _CONTEXT.Process(target=_work, args=(code, words, str(self._folder), here), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def out(self) -> str:
        """What it has written to standard output."""
        return self._written("out")

    @property
    def err(self) -> str:
        """What it has written to standard error."""
        return self._written("err")

    def _written(self, name: str) -> str:
        path = self._folder / name
        return path.read_text() if path.exists() else ""

    @property
    def status(self) -> int | None:
        """Its exit status, negative for the signal that ended it; None while it runs."""
        return self._process.exitcode

    def send(self, signal: int) -> None:
        """Send it a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal)

    def wait(self) -> int:
        """Return its exit status; if it takes too long, it is killed."""
        self._process.join(_PATIENCE_S)
        if self.status is None:
            self._process.kill()
            raise AssertionError(f"a process has not ended in {_PATIENCE_S} s: {self.err}")
        return self.status

    def wait_until_it_says(self, line: str) -> None:
        """Wait for a line on standard output."""
        for _ in range(50 * _PATIENCE_S):
            if f"{line}\n" in self.out:
                return
            assert self.status is None, self.err
            time.sleep(0.02)
        self._process.kill()
        raise AssertionError(f"not a word of {line!r} in {_PATIENCE_S} s: {self.err}")


def finished(code: str, *arguments: object, folder: Path | None = None) -> Started:
    """Return a process that has ended."""
    process = Started(code, *arguments, folder=folder)
    process.wait()
    return process


def _work(code: str, words: list[str], folder: str, here: str) -> None:
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.chdir(here)
    sys.argv = words
    exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
