"""What all attempts share: processes that start at once, their limits, verdicts, and whole runs to compare with."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

LONGEST_S = 300.0
MOST_BYTES = 8 * 2**30  # of address space, of which PyTorch takes some gigabytes without using them
NOBODY = 65534
_PARENT_DEATH = 1
_HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU, signal.SIGUSR1)

_DATA = ("--data", "digits", "--limit", "60")
TINY = (*_DATA, "--device", "cpu", "--threads", "1", "--quiet")
_SEARCH = {"cells": 2, "nodes": 1, "channels": 2, "epochs": 2, "batch": 8, "checkpoint-steps": 1}
_TRAIN = {"channels": 2, "epochs": 2, "batch": 8, "checkpoint-steps": 1, "policy": "none", "cutout": 2}


def options(values: dict[str, object], group: str = "") -> list[str]:
    """Return settings as words of the command line."""
    return [word for name, value in values.items() for word in (f"--{group}{name}", str(value))]


_MEASURE = {"cells": 1, "positions": 1, "epochs": 1, "batch": 8, "channels": 2, "checkpoint-steps": 1}
_RUN = ["--derive.method", "darts", *options(_SEARCH, "search."), *options(_TRAIN, "train.")]
_STUDY = ["--strategies", "darts", "--seeds", "1", "--draws", "2", *options(_SEARCH, "search.")]
#: For each command: how it starts, the files whose bytes are compared, and whether it can be resumed.
COMMANDS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "search": (["search", *TINY, *options(_SEARCH), "--method", "darts"], ("gates.json", "genotype.json")),
    "train": (["train", "--genotype", "GENOTYPE", *TINY, *options(_TRAIN)], ("model/model.safetensors",)),
    "run": (["run", *TINY, *_RUN], ("gates.json", "model/model.safetensors", "test.json")),
    "study": (
        ["study", *_STUDY, *options(_TRAIN, "train."), "--no-opponents", *TINY],
        ("trials/*/*/model/model.safetensors", "trials/*/*/gates.json"),
    ),
    "compare": (
        ["compare", "GENOTYPE", "GENOTYPE", "--seeds", "1", *TINY, *options(_TRAIN)],
        ("trainings/*/model/model.safetensors",),
    ),
    "measure-operations": (["measure-operations", *TINY, *options(_MEASURE)], ("operation_weights.json",)),
    "export": (["export", "MODEL", "--quiet"], ("*",)),
}


#: How a command says that there is nothing to resume.
_NEVER_BEGUN = ("there is no such run", "holds no run", "was not made by", "stopped before it began")


def preload(modules: Path | None = None) -> None:
    """Import what commands import, as whole runs have recorded it; compute nothing, so that a child can be forked.

    Commands that are forked end as they do where onnxruntime is not installed, and time a network for a moment only;
    those in new interpreters do everything.
    """
    import torch

    from ddarts.cost import latency
    from ddarts.deploy import profiling
    from ddarts.deploy.extras import MissingPackageError

    def without_onnxruntime(*_: object) -> None:
        raise MissingPackageError("onnxruntime is left out")

    torch.set_num_threads(1)
    profiling.onnx_latency = without_onnxruntime  # type: ignore[assignment]
    latency.measure_latency = partial(latency.measure_latency, seconds=0.01)
    for name in (
        modules.read_text("utf-8").split() if modules is not None and modules.exists() else ("ddarts.pipeline",)
    ):
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def fork(work: Callable[[], int], said: Path, *, memory: int = MOST_BYTES, user: int | None = None) -> int:
    """Run a function in a process of its own group, forked from this one; return its number.

    Args:
        work: returns the exit status.
        said: file for its output.
        memory: bytes of address space.
        user: whom it becomes; the same as this process if None.
    """
    said.unlink(missing_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
        return pid
    status = 1
    try:
        os.setpgid(0, 0)
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(file, 1)
        os.dup2(file, 2)
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)  # a campaign that is stopped leaves nothing
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
        status = work()
    except KeyboardInterrupt:
        status = 130
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


class Command:
    """A ddarts command in a process of its own, forked or a new interpreter.

    Args:
        words: of the command.
        said: file for its output; a sibling of other files of the attempt.
        fresh: start a new interpreter instead of forking this process.
        before, after: called in the new process first and last; not with `fresh`.
        environment: variables to set.
    """

    #: Signals that met a process, of all commands.
    sent: ClassVar[Counter[int]] = Counter()

    def __init__(
        self,
        *words: object,
        said: Path,
        fresh: bool = False,
        before: Callable[[], object] | None = None,
        after: Callable[[], object] | None = None,
        environment: dict[str, str] | None = None,
        user: int | None = None,
        folder: Path | None = None,
    ) -> None:
        texts = [str(word) for word in words]

        def work() -> int:
            os.environ.update(environment or {})
            if folder is not None:
                os.chdir(folder)
            if fresh:
                os.execv(sys.executable, [sys.executable, "-m", "ddarts", *texts])
            if before is not None:
                before()
            from ddarts.cli.main import main

            sys.argv = ["ddarts", *texts]
            status = main()
            if after is not None:
                after()
            return status

        self._said = said
        self.pid = fork(work, said, user=user)
        self.status: int | None = None

    @property
    def said(self) -> str:
        """What it has written so far."""
        return self._said.read_text("utf-8", "replace") if self._said.exists() else ""

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.wait(0) is None:
            self.sent[number] += 1
            os.kill(self.pid, number)

    def wait(self, seconds: float = LONGEST_S) -> int | None:
        """Return its status, negative for the signal that ended it; None if it has not ended in time."""
        end = time.monotonic() + seconds
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= end:
                return None
            else:
                time.sleep(0.004)
        return self.status

    def end(self, seconds: float = LONGEST_S) -> tuple[int, str]:
        """Wait until it ends, kill it with all that it has started if it does not; return status (124) and output."""
        status = self.wait(seconds)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if status is None:
            self.wait()
            status = 124
        return status, self.said


def one_line(status: int, said: str) -> str | None:
    """Return what is wrong with how a command ended: a result, or one line and status 2, is right."""
    lines = [line for line in said.splitlines() if line.startswith("ddarts: error: ")]
    if status == 0 or (status == 2 and len(lines) == 1 and "Traceback" not in said):
        return None
    return f"status {status}: {said[-600:]}"


def stopped(status: int, said: str, number: int) -> str | None:
    """Return what is wrong with how a command ended after a signal: as without it, or by it, or with one line."""
    if "Traceback" in said:
        return f"status {status} after signal {number}: {said[-600:]}"
    # Python itself ends by SIGINT if the interrupt met an import that builds a class from text; shells show 130 too
    if (
        status in (130, -signal.SIGINT)
        and len([line for line in said.splitlines() if line.startswith("ddarts: ")]) <= 1
    ):
        return None
    return None if status == -number else one_line(status, said)


class Bench:
    """The folder of a campaign, and whole runs in it to compare with, made once.

    Attributes:
        out: folder of the campaign.
        place: folder of the attempt in progress, empty when it begins.
        work: the run in it, absent then.
        seconds: of each command, uninterrupted and forked.
    """

    def __init__(self, out: Path) -> None:
        self.out, self.place, self.said = out, out / "work", out / "said.txt"
        self.work = self.place / "run"  # genotypes are named after the folder
        self.whole = out / "whole"
        self.seconds: dict[str, float] = {}

    def command(self, *words: object, **how: Any) -> Command:
        """Start a command whose output goes to the file of this attempt."""
        return Command(*words, **{"said": self.said, **how})

    def reference(self, name: str) -> Path:
        """Return an uninterrupted run of a command."""
        path = self.whole / name / "run"
        if name not in self.seconds:
            shutil.rmtree(path, ignore_errors=True)
            self.whole.mkdir(parents=True, exist_ok=True)
            words = self.words(name)
            start = time.monotonic()
            status, said = self.command(*words, "--out", path, after=self._record).end()
            self.seconds[name] = time.monotonic() - start
            assert status == 0, said
            assert self.products(name, path), said
        return path

    def prepare(self) -> None:
        """Make whole runs, import what they have imported, and time them then."""
        self.out.mkdir(parents=True, exist_ok=True)
        modules = self.out / "modules.txt"
        if not modules.exists():
            preload()
            for name in COMMANDS:
                self.reference(name)
            self.seconds.clear()
        preload(modules)

    def _record(self) -> None:
        with (self.out / "modules.txt").open("a", encoding="utf-8") as stream:
            stream.write("\n".join(name for name in sys.modules if name != "__main__") + "\n")

    def words(self, name: str) -> list[str]:
        """Return the words of a command, with the genotype and the model of whole runs."""
        places = {"GENOTYPE": ("search", "genotype.json"), "MODEL": ("train", "model")}
        return [str(self.reference(places[w][0]) / places[w][1]) if w in places else w for w in COMMANDS[name][0]]

    def products(self, name: str, run: Path) -> dict[str, bytes]:
        """Return the files of a run that must be alike whatever happened to it."""
        found = (path for pattern in COMMANDS[name][1] for path in run.glob(pattern))
        # a test names the model that was tested; a run killed before --overwrite deleted anything is a copy of a whole
        own = re.compile(b"|".join(re.escape(os.fsencode(path)) for path in (run, self.whole / name / "run")))
        return {str(p.relative_to(run)): own.sub(b"RUN", p.read_bytes()) for p in found if p.is_file()}

    def differs(self, name: str, run: Path) -> str | None:
        """Return what of a run differs from the uninterrupted one's."""
        expected, found = self.products(name, self.reference(name)), self.products(name, run)
        wrong = [key for key in {**expected, **found} if expected.get(key) != found.get(key)]
        left = [str(path) for path in run.rglob(".*.tmp")]
        return f"{name}: differs: {wrong}" if wrong else f"{name}: left over: {left}" if left else None

    def completed(self, name: str, run: Path, **how: Any) -> str | None:
        """Let a run that was disturbed end, as its user would; return what is wrong with the outcome."""
        if name == "export":
            status, said = self.command(*self.words(name), "--out", run, "--overwrite", **how).end()
            return f"{name}: status {status}: {said[-600:]}" if status else self.differs(name, run)
        status, said = self.command(name, "--resume", run, "--quiet", **how).end()
        if status == 2 and any(text in said for text in _NEVER_BEGUN):
            again = ["--overwrite"] if (run / "settings.yaml").is_file() else []
            status, said = self.command(*self.words(name), "--out", run, *again, **how).end()
        return f"{name}: status {status}: {said[-600:]}" if status else self.differs(name, run)


def damage(data: bytes, moments: random.Random) -> bytes:
    """Return the bytes with bits flipped, cut off, or with two blocks swapped; never as they were."""
    if not data:
        return b"\0"
    kind, changed = moments.randrange(3), bytearray(data)
    if kind == 0:
        for _ in range(moments.choice([1, 1, 2, 8])):
            changed[moments.randrange(len(data))] ^= 1 << moments.randrange(8)
    elif kind == 1:
        del changed[moments.randrange(len(data)) :]
    else:
        size = moments.randint(1, max(len(data) // 4, 1))
        a, b = (moments.randrange(max(len(data) - size, 1)) for _ in range(2))
        changed[a : a + size], changed[b : b + size] = data[b : b + size], data[a : a + size]
    return bytes(changed) if bytes(changed) != data else damage(data, moments)
