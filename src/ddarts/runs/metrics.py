"""Metrics of a run: JSON lines (the truth) and TensorBoard events (a view of them)."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from ddarts.errors import RunError
from ddarts.runtime.atomic_files import write_bytes

_serial = itertools.count()
_BINS = 20  # of a histogram of gates


def plain(value: Any) -> Any:
    """Return `value` as JSON-ready data: tensors as lists, records as objects, numbers that are not finite as None."""
    if hasattr(value, "tolist"):  # torch, numpy
        value = value.tolist()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def parse_records(data: bytes) -> list[dict[str, Any]]:
    """Return the records in JSON lines; a torn or damaged line is left out."""
    records = []
    for line in data.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


class MetricsFile:
    """A file of JSON lines that is only ever appended to, and whose last line may be torn by a kill."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def append(self, record: dict[str, Any]) -> None:
        """Append one line; it reaches the operating system before this returns."""
        data = json.dumps(record, allow_nan=False).encode() + b"\n"
        try:
            if self._handle is None:
                self._handle = self._open_for_append()
            while data:
                data = data[os.write(self._handle, data) :]
        except OSError as error:
            self.close()
            raise _full(self.path, error) from error

    def read(self) -> list[dict[str, Any]]:
        """Return all records; a torn or damaged line is left out."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(f"{self.path}: cannot be read: {error.strerror}") from None
        return parse_records(data)

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Drop the records that are not `wanted`."""
        records = self.read()
        kept = [r for r in records if wanted(r)]
        if len(kept) < len(records):
            self.close()
            write_bytes(self.path, b"".join(json.dumps(r).encode() + b"\n" for r in kept))

    def sync(self) -> None:
        """Force what was appended to the disk."""
        if self._handle is not None:
            try:
                os.fsync(self._handle)
            except OSError as error:
                raise _full(self.path, error) from error

    def close(self) -> None:
        """Close the file; the next `append` opens it again."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __del__(self) -> None:
        self.close()

    def _open_for_append(self) -> int:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":  # a line torn by a kill: cut it off
            data = self.path.read_bytes()
            os.ftruncate(handle, data.rfind(b"\n") + 1)
        return handle


class EventLog:
    """TensorBoard events of one stage, written at once (tensorboardX's own writer thread would hang on a full disk).

    Args:
        folder: where the event files lie; each writer adds one.
        purge_step: tell TensorBoard to forget what earlier files say from this step on.
    """

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        self.folder = folder
        self._event: Any = event_pb2.Event  # pyright: ignore[reportAttributeAccessIssue]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}.{next(_serial)}")
            if purge_step is not None:
                event = self._event(wall_time=time.time(), step=purge_step)
                event.session_log.status = event.session_log.START
                self._writer.write_event(event)
                self._writer.flush()
        except OSError as error:
            raise _full(folder, error) from error

    def write(self, stage: str, step: int, record: dict[str, Any], pictures: Mapping[str, bytes] | None = None) -> None:
        """Write what `record` holds: numbers under ``stage/name``, lists of numbers under ``stage/name/cell i``.

        The gates of each cell, [cell][edge][operation], become a histogram under ``stage/gates/cell i``.

        Args:
            stage: name of the stage.
            step: steps since its start.
            record: what was logged.
            pictures: PNG files by name, written under ``stage/name``.
        """
        event = self._event(wall_time=time.time(), step=step)
        values = event.summary.value
        for name, value in record.items():
            if name == "gates" and isinstance(value, list):
                for cell, rows in enumerate(value):
                    if isinstance(rows, list):
                        _fill(values.add(tag=f"{stage}/gates/cell {cell}").histo, list(_numbers_in(rows)))
            elif isinstance(value, list):
                for cell, number in enumerate(value):
                    if _is_number(number):
                        values.add(tag=f"{stage}/{name}/cell {cell}", simple_value=number)
            elif _is_number(value) and name != "step":
                values.add(tag=f"{stage}/{name}", simple_value=value)
        for name, data in (pictures or {}).items():
            image = values.add(tag=f"{stage}/{name}").image
            image.width, image.height = struct.unpack(">II", data[16:24])  # PNG: the first chunk tells the size
            image.colorspace, image.encoded_image_string = 4, data  # RGBA
        try:
            self._writer.write_event(event)
            self._writer.flush()
        except OSError as error:
            raise _full(self.folder, error) from error

    def close(self) -> None:
        """Close the file; everything written is in it already."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed before
            self._writer.close()

    def __del__(self) -> None:
        if hasattr(self, "_writer"):
            self.close()


def _fill(histogram: Any, gates: list[float]) -> None:
    """Count gates, 0 to 1, in 20 bins of equal width."""
    if not gates:
        return
    histogram.min, histogram.max, histogram.num = min(gates), max(gates), len(gates)
    histogram.sum, histogram.sum_squares = math.fsum(gates), math.fsum(gate * gate for gate in gates)
    counts = [0] * _BINS
    for gate in gates:
        counts[min(max(int(gate * _BINS), 0), _BINS - 1)] += 1
    histogram.bucket_limit.extend((i + 1) / _BINS for i in range(_BINS))
    histogram.bucket.extend(counts)


def _numbers_in(value: Any) -> Iterator[float]:
    """Yield the numbers in nested lists; what is not finite is None there, and left out."""
    if isinstance(value, list):
        for item in value:
            yield from _numbers_in(item)
    elif _is_number(value):
        yield value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _full(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path}: cannot be written: {error.strerror or error}; free some space, then resume with "
        f"--resume {_run_of(path)} (the last checkpoint is usable)"
    )


def _run_of(path: Path) -> Path:
    return path.parent if path.name == "metrics.jsonl" else path.parent.parent
