"""The run folder: everything that a run makes, in one place, safe against kills and full disks.

Layout: settings.yaml (marks a run; one section a stage), summary.json, metrics.jsonl, events/ (TensorBoard),
checkpoints/, baseline.json, gates.json, genotype.json, cells/, model/, test.json, mistakes/, report.html,
skipped.txt, reference/ (a run: the training of a standard network).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ddarts.config.yaml_file import read_yaml
from ddarts.errors import RunError, SettingsError, printable
from ddarts.runs import checkpoints
from ddarts.runs.lock import RunLock
from ddarts.runs.metrics import EventLog, MetricsFile, plain
from ddarts.runtime.atomic_files import write_text

if TYPE_CHECKING:
    from pydantic import BaseModel

_FORMAT = "ddarts-run"
_VERSION = 2
_LOCK = ".lock"
#: Everything that a run may make, what a reader looks for first; `--overwrite` deletes these and nothing else.
PRODUCTS = (
    "report.html",
    "genotype.json",
    "cells",
    "model",
    "settings.yaml",
    "summary.json",
    "metrics.jsonl",
    "events",
    "gates.json",
    "test.json",
    "mistakes",
    "mistakes.csv",
    "baseline.json",
    "baseline.safetensors",
    "found",
    "original",
    "reference",
    "operation_weights.json",
    "compare.json",
    "architectures",
    "trainings",
    "study.json",
    "trials",
    "draws",
    "skipped.txt",
    "device.json",
    "latencies.json",
    "answers.safetensors",
    "front",
    "checkpoints",
)

#: Limits of file systems, in bytes: of a name, and of a path with room for the files of a run.
_LONGEST_NAME, _LONGEST_PATH = 255, 3800


@dataclass(frozen=True)
class Hooks:
    """Functions of the caller that a job calls. A run does not store them: whoever resumes it gives them again.

    Attributes:
        loss: (logits [B, classes], labels int64 [B]) -> scalar; what the final training minimises instead of the
            cross-entropy with label smoothing. A search always uses the cross-entropy.
        on_step: called after each step of a search or training with its stage, epoch and step.
        on_epoch: called after each epoch with its record, as in metrics.jsonl.
    """

    loss: Callable[[Any, Any], Any] | None = None
    on_step: Callable[[dict[str, Any]], object] | None = None
    on_epoch: Callable[[dict[str, Any]], object] | None = None

    def __post_init__(self) -> None:
        for name, hook in vars(self).items():
            if hook is not None and not callable(hook):
                raise SettingsError(f"{name} = {str(hook)[:60]!r}: must be a function")


class RunFolder:
    """One run's folder.

    Reading is open to all. The first write takes a lock, which is held until `close` (or the end of the process,
    however it ends), so that two processes never write into one run.

    Build with `create` or `open`; use as a context manager or call `close`.

    Attributes:
        path: the folder.
        pictures: gives, for a record that is logged, PNG files by name for the TensorBoard events; None for none.
        hooks: what the caller wants to be called.
        writes: whether this process writes into it; with several processes rank 0 does (`ddarts.runs.follower`).
    """

    writes = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: RunLock | None = None
        self._metrics = MetricsFile(path / "metrics.jsonl")
        self._events: dict[str, EventLog] = {}
        self.pictures: Callable[[dict[str, Any]], Mapping[str, bytes]] | None = None
        self.hooks = Hooks()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, overwrite: bool = False) -> RunFolder:
        """Make a new run in `path`, which is created if need be.

        Args:
            path: the folder; absent, empty, or (with `overwrite`) one that holds a run.
            overwrite: delete the run that is there. Files that no run makes are left alone. A kill during the deletion
                leaves a run without settings, which can be overwritten but not resumed.

        Raises:
            RunError: the folder holds a run and `overwrite` is not given, holds other files, is in use by another
                process, or cannot be written.
        """
        path = Path(path)
        cls.check_free(path, overwrite=overwrite)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path}: cannot be made: {error.strerror}; choose another folder with --out") from None
        run = cls(path)
        run.claim()
        cls.check_free(path, overwrite=overwrite)  # again: another process may have made a run meanwhile
        run._write_sections({})  # one step ends the previous run: its other files belong to no stage any more
        try:
            for name in PRODUCTS:
                if name != "settings.yaml":
                    _delete(path / name)
        except OSError as error:
            raise RunError(
                f"{error.filename or path}: cannot be deleted: {error.strerror}; delete it, then repeat with "
                "--overwrite"
            ) from None
        return run

    @classmethod
    def check_free(cls, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Check, without writing anything, that `create` could make a run in `path`.

        Raises:
            RunError: as `create`.
        """
        path = Path(path)
        _check_path(path)
        nearest = next(p for p in (path, *path.absolute().parents) if p.exists())
        if not nearest.is_dir():
            raise RunError(f"{nearest} is a file, not a folder; choose another folder with --out")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise RunError(f"{nearest}: no permission to write; choose another folder with --out")
        if nearest != path:
            return
        try:
            names = {p.name for p in path.iterdir() if p.name != _LOCK and not _is_leftover(p)}
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error.strerror}; choose another folder with --out") from None
        is_run = "settings.yaml" in names and _is_run(path)
        if is_run and not overwrite:
            raise RunError(
                f"{path} holds a run already; choose another folder with --out, or resume it with --resume {path}, "
                "or replace it with --overwrite"
            )
        if names and not is_run:
            raise RunError(
                f"{path} is not empty and holds no run of ddarts (it holds {min(names)!r}); "
                "choose another folder with --out"
            )

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """Open the run in `path`.

        Raises:
            RunError: there is no such folder, or it holds no run.
        """
        path = Path(path)
        if not path.is_dir():
            what = "is a file, not the folder of a run" if path.exists() else "there is no such run"
            raise RunError(f"{path}: {what}; give a folder made by `ddarts run`, `search` or `train`")
        if not (path / "settings.yaml").is_file():
            raise RunError(
                f"{path} holds no run (no settings.yaml); give a folder made by `ddarts run`, `search` or `train`"
            )
        return cls(path)

    def close(self) -> None:
        """Close files and release the lock; the object can still be used and will take the lock again."""
        self._metrics.close()
        for log in self._events.values():
            log.close()
        self._events.clear()
        self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- settings and summary --------------------------------------------------------------------------------------

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages whose settings the run holds, such as ("search", "train")."""
        return tuple(self._sections())

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Settings that the run holds, by stage."""
        return self._sections()

    def write_settings(self, stage: str, settings: BaseModel) -> None:
        """Write the settings of one stage into its section of settings.yaml, with their groups."""
        self.claim()
        self._write_sections({**self._sections(), stage: settings.model_dump(mode="json")})

    def read_settings(self, stage: str) -> dict[str, Any]:
        """Return the settings of one stage as `write_settings` got them.

        Raises:
            RunError: the run has no such stage, or settings.yaml is broken.
        """
        sections = self._sections()
        if stage not in sections:
            has = f"it has {', '.join(sections)}" if sections else "it has none at all"
            raise RunError(f"{self.path}: the run has no settings of the stage {stage!r} ({has})")
        return sections[stage]

    @property
    def summary(self) -> dict[str, Any]:
        """What summary.json holds; empty if there is none yet."""
        path = self.path / "summary.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path}: cannot be read: {error}; delete the file, it is made again") from None
        if not isinstance(data, dict):
            raise RunError(
                f"{path}: expected an object, found {type(data).__name__}; delete the file, it is made again"
            )
        return data

    def update_summary(self, **values: Any) -> None:
        """Set values in summary.json and keep the others.

        Raises:
            RunError: a number is not finite, or the file cannot be written.
        """
        self.claim()
        for key, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise RunError(f"{self.path}: {key} is {value}, which is no result; start a new run")
        merged = self.summary | {key: plain(value) for key, value in values.items()}
        write_text(self.path / "summary.json", json.dumps(merged, indent=2) + "\n")

    def _sections(self) -> dict[str, dict[str, Any]]:
        path = self.path / "settings.yaml"
        try:
            sections = read_yaml(path, typed=True).values
        except SettingsError as error:
            raise RunError(f"{error}; the run cannot be used without its settings") from None
        if sections.pop("format", None) != _FORMAT:
            raise RunError(f"{path}: not the settings of a ddarts run (no `format: {_FORMAT}`)")
        version = sections.pop("version", None)
        if version != _VERSION:
            raise RunError(f"{path}: run version {version!r} cannot be read, this ddarts reads version {_VERSION}")
        for stage, section in sections.items():
            if not isinstance(section, dict):
                raise RunError(f"{path}: section {stage!r} must hold keys and values")
        return sections

    def _write_sections(self, sections: dict[str, Any]) -> None:
        data = {"format": _FORMAT, "version": _VERSION, **sections}
        write_text(self.path / "settings.yaml", yaml.safe_dump(data, sort_keys=False, allow_unicode=True))

    # -- metrics ---------------------------------------------------------------------------------------------------

    def log(self, stage: str, kind: str, *, epoch: int, step: int, **values: Any) -> None:
        """Append one line to metrics.jsonl, and the numbers among `values` to the TensorBoard events.

        Numbers that are not finite are written as null (JSON has no others).

        Raises:
            RunError: the disk is full; the message names the file. Checkpoints are untouched.
        """
        self.claim()
        record = {
            "stage": stage,
            "kind": kind,
            "epoch": epoch,
            "step": step,
            **{k: plain(v) for k, v in values.items()},
        }
        self._metrics.append(record)
        if stage not in self._events:
            self._events[stage] = EventLog(self.path / "events" / stage)
        self._events[stage].write(stage, step, record, self.pictures(record) if self.pictures else None)
        if self.hooks.on_epoch is not None and kind == "epoch":
            self.hooks.on_epoch(record)

    def metrics(self, stage: str | None = None, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the metrics records, in order, of one stage or all and of one kind or all."""
        return [r for r in self._metrics.read() if stage in (None, r.get("stage")) and kind in (None, r.get("kind"))]

    def rewind(self, stage: str, step: int, epoch: int | None = None) -> None:
        """Forget the metrics of `stage` that it is going to write again, because it resumes from a checkpoint.

        Args:
            stage: name of the stage.
            step: steps done since its start; what came after is forgotten.
            epoch: the epoch under way. Its closing line is forgotten even if all of its steps are done: a kill between
                that line and the next checkpoint leaves the line to be written again.
        """

        def wanted(record: dict[str, Any]) -> bool:
            if record.get("stage") != stage:
                return True
            closes = epoch is not None and record.get("kind") == "epoch" and _number(record, "epoch") >= epoch
            return _number(record, "step") <= step and not closes

        self.claim()
        self._metrics.keep(wanted)
        if stage in self._events:
            self._events.pop(stage).close()
        if (self.path / "events" / stage).is_dir():
            self._events[stage] = EventLog(self.path / "events" / stage, purge_step=step + 1)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def save_checkpoint(self, stage: str, state: dict[str, Any]) -> None:
        """Write the state of a stage; at every moment at least one whole checkpoint lies on the disk.

        Args:
            stage: name of the stage.
            state: dicts, lists and tuples of tensors, numbers, text, bytes and None (what can be loaded safely).

        Raises:
            RunError: the disk is full or the folder cannot be written; the last checkpoint is untouched.
            TypeError: `state` holds something that could not be loaded again, with the path to it.
        """
        self.claim()
        self._metrics.sync()  # a checkpoint must never be younger on disk than the metrics that led to it
        checkpoints.save(state, *self._checkpoint_paths(stage))

    def load_checkpoint(self, stage: str) -> dict[str, Any] | None:
        """Return the newest whole checkpoint of a stage (on the CPU), or None if there is none.

        If the newest is broken, the one before is used and a line on stderr says so.

        Raises:
            RunError: there are checkpoints, and none can be loaded.
        """
        broken: list[str] = []
        for path in self._checkpoint_paths(stage):
            if not path.exists():
                continue
            try:
                state = checkpoints.load(path)
            except RunError as error:
                broken.append(str(error))
                continue
            if broken:
                print(f"ddarts: warning: {printable(broken[0])}; resuming from {path.name}", file=sys.stderr)
            return state
        if broken:
            raise RunError(
                f"{broken[0]}; no other checkpoint of {stage} is left: "
                f"delete {self.path / 'checkpoints'} to start the stage again, or start a new run"
            )
        return None

    def _checkpoint_paths(self, stage: str) -> tuple[Path, Path]:
        folder = self.path / "checkpoints"
        return folder / f"{stage}.pt", folder / f"{stage}.previous.pt"

    @property
    def in_use(self) -> bool | None:
        """Whether a process is writing into the run now, this one included; None where that cannot be told."""
        return True if self._lock is not None else RunLock.is_held(self.path / _LOCK)

    # -- one writer at a time --------------------------------------------------------------------------------------

    def claim(self) -> None:
        """Take the lock of the run now, not at the first write.

        Raises:
            RunError: another process is writing into the run, it cannot be written, or the folder has been removed
                since the lock was taken.
        """
        if self._lock is not None:
            if not self._lock.still_at(self.path / _LOCK):
                raise RunError(
                    f"{self.path}: the folder of the run was removed or replaced while the run was in progress; "
                    "start a new run"
                )
            return
        self._lock = RunLock.take(self.path / _LOCK)
        for folder in (self.path, *(self.path / name for name in PRODUCTS)):
            if folder.is_dir() and not folder.is_symlink():
                for leftover in filter(_is_leftover, folder.iterdir()):  # of a write that was killed
                    with contextlib.suppress(OSError):
                        leftover.unlink()


def _check_path(path: Path) -> None:
    """Raise RunError for a path in which a run could not write its files: before the work, not after it."""
    try:
        os.fspath(path).encode()
        names = [os.fsencode(part) for part in path.absolute().parts]
    except (UnicodeEncodeError, OSError):
        raise RunError(
            f"{path}: the path is not UTF-8 text (or the locale cannot express it); choose another one with --out"
        ) from None
    if max(map(len, names)) > _LONGEST_NAME or sum(len(name) + 1 for name in names) > _LONGEST_PATH:
        raise RunError(f"{str(path)[:60]}...: the path is too long; choose a shorter one with --out")


def group_of(settings: Mapping[str, Any], group: str) -> dict[str, Any]:
    """Return a group such as "search" of the settings that a run holds, whichever stage has it; empty if none has."""
    found = (section.get(group) for section in settings.values() if isinstance(section, dict))
    return next((inner for inner in found if isinstance(inner, dict)), {})


def _is_run(path: Path) -> bool:
    """Return whether settings.yaml in `path` says that it is of a run: many programs have files of that name."""
    try:
        return (path / "settings.yaml").is_file() and (
            read_yaml(path / "settings.yaml", typed=True).values.get("format") == _FORMAT
        )
    except SettingsError:
        return False


def _delete(path: Path) -> None:
    """Delete a file or a folder with all that is in it; of a symbolic link, the link only."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _number(record: dict[str, Any], key: str) -> float:
    value = record.get(key)
    return value if isinstance(value, int | float) else 0


def _is_leftover(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".tmp")
