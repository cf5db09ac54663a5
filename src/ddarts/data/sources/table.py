"""A folder of images and a CSV file with their labels: classes, several labels per image, or numbers."""

from __future__ import annotations

import csv
import io
import os
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddarts.data.encoded import decode_all
from ddarts.data.loaded import Loaded, Request
from ddarts.data.sources.folders import PART_NAMES, ImageFiles
from ddarts.errors import DataError, printable
from ddarts.nn.tasks import Kind

_FILE_NAMES = ("file", "filename", "file_name", "image", "image_name", "img", "path", "filepath", "file_path")
_LIST_NAMES = ("labels", "tags", "classes", "categories")
#: Stands for an image that has none of the labels.
_NO_LABEL = "-"
_FALSE_TRUE = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}

_MOST_BYTES = 2**27
_LONGEST_LINE = 2**22
_MOST_CELLS = 50_000_000
_MOST_CLASSES = 10_000
_LARGEST = 1e30


@dataclass(frozen=True)
class _Column:
    """Cells of a column, stripped, and the line of each in the file."""

    path: Path
    name: str
    cells: list[str]
    lines: list[int]

    def error(self, row: int, reason: str) -> DataError:
        """Return the error of a cell; `reason` says what is wrong and what to do."""
        shown = printable(self.cells[row][:60])
        return DataError(f"{self.path}: line {self.lines[row]}: {printable(self.name)} = {shown!r} {reason}")


@dataclass(frozen=True)
class _Labels:
    """What was understood.

    Attributes:
        kind: of the task.
        classes: names of the classes or columns.
        labels: as `ddarts.nn.tasks.Task` describes them, of all rows.
        words: how they were understood, for people.
    """

    kind: Kind
    classes: tuple[str, ...]
    labels: Tensor
    words: str


def load_table(folder: Path, request: Request) -> Loaded:
    """Read the images of a folder that a CSV file names, with the labels that it gives them.

    The file has a header, a column ``file`` with paths inside the folder, perhaps a column ``split`` (train, val or
    test), and the labels: a column of names (one class per image), a column of names separated by ``|`` or, where it is
    called labels or tags, by spaces, several columns of 0 and 1 (several labels per image), or columns of numbers.

    Raises:
        DataError: the file cannot be read or understood, names no image in a row, or one twice; and all that
            `decode_all` raises.
    """
    assert request.labels is not None
    path = Path(os.path.expanduser(request.labels))
    columns = _read(path)
    files = _take(columns, _FILE_NAMES)
    if files is None:
        have = ", ".join(printable(c.name) for c in columns[:10])
        raise DataError(f"{path}: no column names the images, only {have}; call that column file")
    split = _take(columns, ("split",))
    if not columns:
        raise DataError(f"{path}: no column of labels beside {files.name}; add one")
    found = _understood(columns, request.task)
    names = _checked_names(files, folder)
    parts = {}
    for part, rows in _split_rows(split, len(names)).items():
        chosen = [names[row] for row in rows]
        ends = np.cumsum([len(name) for name in chosen], dtype=np.int64)
        parts[part] = ImageFiles(folder, b"".join(chosen), ends, found.labels[torch.tensor(rows)])
    return decode_all(
        parts,
        name=folder.resolve().name,
        place=str(path),
        classes=found.classes,
        request=request,
        kind=found.kind,
        labelled=f"{path.name}: {found.words}",
    )


def _read(path: Path) -> list[_Column]:
    """Return the columns of a file; those without a name, such as a row number, are left out."""
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            raise DataError(f"labels {str(path)!r}: not a file; name a CSV file")
        if about.st_size > _MOST_BYTES:
            raise DataError(f"{path}: {about.st_size:,} bytes; a file of labels may have {_MOST_BYTES:,}, divide it")
        content = path.read_bytes()
        if (longest := max(map(len, content.split(b"\n")))) > _LONGEST_LINE:
            raise DataError(f"{path}: a line of {longest:,} bytes; is it CSV? a line may have {_LONGEST_LINE:,}")
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start}); save it as CSV UTF-8") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"labels {str(path)!r}: cannot be read: {reason}; check the path") from error
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    header: list[str] = []
    try:
        for row in reader:
            if not row:
                continue
            if not header:
                header = [name.strip() for name in row]
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{path}: line {reader.line_num} has {len(row)} fields, the header {len(header)}; "
                    "complete it, and quote fields that hold the separator"
                )
            if len(rows) * len(header) > _MOST_CELLS:
                raise DataError(f"{path}: more than {_MOST_CELLS:,} fields; use fewer rows or columns")
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: not CSV ({error}); fix that line") from None
    if not rows:
        raise DataError(f"{path}: no rows below a header such as file,label; add the images")
    twice = next((name for name, count in Counter(header).items() if name and count > 1), None)
    if twice is not None:
        raise DataError(f"{path}: two columns are called {printable(twice)}; rename or remove one")
    return [_Column(path, name, [row[i].strip() for row in rows], lines) for i, name in enumerate(header) if name]


def _take(columns: list[_Column], names: Sequence[str]) -> _Column | None:
    """Remove the column of the first of these names that is there, and return it."""
    for name in names:
        for column in columns:
            if column.name.lower() == name:
                columns.remove(column)
                return column
    return None


def _checked_names(files: _Column, folder: Path) -> list[bytes]:
    """Return the names of all images, which exist inside the folder, each once."""
    seen: dict[bytes, int] = {}
    for row, cell in enumerate(files.cells):
        name = os.path.normpath(cell.replace("\\", "/"))
        if not cell or os.path.isabs(name) or ":" in name[:2] or name.split("/")[0] in ("..", "."):
            raise files.error(row, f"is no path inside {folder}; name a file in it, or remove the row")
        try:
            exists = os.path.isfile(folder / name)
        except ValueError:  # a null byte
            exists = False
        if not exists:
            raise files.error(row, f"does not exist in {folder}; add the image, or remove the row")
        before = seen.setdefault(os.fsencode(name), row)
        if before != row:
            raise files.error(
                row, f"is in line {files.lines[before]} too; keep one row, with all labels separated by |"
            )
    return list(seen)


def _split_rows(split: _Column | None, count: int) -> dict[str, list[int]]:
    """Return which rows each part has."""
    if split is None:
        return {"train": list(range(count))}
    found: dict[str, list[int]] = {}
    for row, cell in enumerate(split.cells):
        part = PART_NAMES.get(cell.lower())
        if part is None:
            raise split.error(row, "is no split; write train, val or test")
        found.setdefault(part, []).append(row)
    if "train" not in found:
        raise DataError(f"{split.path}: no row has the split train; mark the training images")
    return {part: found[part] for part in ("train", "validation", "test") if part in found}


def _understood(columns: Sequence[_Column], task: str) -> _Labels:
    if len(columns) > _MOST_CLASSES:
        raise DataError(f"{columns[0].path}: {len(columns):,} columns of labels; use at most {_MOST_CLASSES:,}")
    for column in columns:
        if "" in column.cells:
            none = f", write {_NO_LABEL} for none" if len(columns) == 1 else ""
            raise column.error(column.cells.index(""), f"is empty; add a label{none}, or remove the row")
    if task in ("auto", "multi-label") and all(c.lower() in _FALSE_TRUE for column in columns for c in column.cells):
        if len(columns) > 1 or task == "multi-label":
            return _indicators(columns)
        return _classes(columns[0])
    if len(columns) == 1 and task != "regression":
        (column,) = columns
        several = any("|" in cell for cell in column.cells)
        spaced = column.name.lower() in _LIST_NAMES and any(len(cell.split()) > 1 for cell in column.cells)
        numeric = [_number(cell) is not None for cell in column.cells]
        if task == "classification" or (task == "auto" and not several and not spaced and not any(numeric)):
            return _classes(column)
        if task == "multi-label" or several or spaced:
            return _lists(column, "|" if several else None)
        if 2 * sum(numeric) < len(numeric):
            return _classes(column)
    elif task in ("classification", "multi-label"):
        wanted = "one column of classes" if task == "classification" else "columns of 0 and 1"
        others = ", ".join(printable(c.name) for c in columns[:5])
        raise DataError(
            f"{columns[0].path}: {task} needs {wanted}; found {others}: remove the others, or leave out --task"
        )
    return _numbers(columns, task)


def _classes(column: _Column) -> _Labels:
    names = sorted(set(column.cells))
    if all((value := _number(name)) is not None and abs(value) <= _LARGEST for name in names):
        names.sort(key=float)
    _check_count(column, names)
    place = {name: i for i, name in enumerate(names)}
    labels = torch.tensor([place[cell] for cell in column.cells])
    return _Labels("classification", tuple(names), labels, f"column {column.name}: one class for each image")


def _lists(column: _Column, separator: str | None) -> _Labels:
    lists = [
        [] if cell == _NO_LABEL else [n for name in cell.split(separator) if (n := name.strip())]
        for cell in column.cells
    ]
    names = sorted({name for names in lists for name in names})
    _check_count(column, names)
    place = {name: i for i, name in enumerate(names)}
    labels = torch.zeros(len(lists), len(names), dtype=torch.uint8)
    for row, found in enumerate(lists):
        labels[row, [place[name] for name in found]] = 1
    how = "separated by |" if separator else "separated by spaces"
    return _several(names, labels, f"column {column.name}, {how}")


def _indicators(columns: Sequence[_Column]) -> _Labels:
    cells = [[_FALSE_TRUE[cell.lower()] for cell in column.cells] for column in columns]
    names = [column.name for column in columns]
    return _several(names, torch.tensor(cells, dtype=torch.uint8).T.contiguous(), "a column of 0 and 1 for each label")


def _several(names: Sequence[str], labels: Tensor, how: str) -> _Labels:
    mean = labels.sum().item() / len(labels)
    return _Labels("multi-label", tuple(names), labels, f"{how}: {mean:.1f} of {len(names)} labels for each image")


def _numbers(columns: Sequence[_Column], task: str) -> _Labels:
    values: list[list[float]] = []
    for column in columns:
        found = [_number(cell) for cell in column.cells]
        for row, value in enumerate(found):
            if value is None:
                more = "--task classification takes all for classes" if len(columns) == 1 else "or remove the column"
                raise column.error(row, f"is no number, as others of its column or beside it are; fix it, {more}")
            if not abs(value) <= _LARGEST:
                raise column.error(row, f"is not finite, or beyond {_LARGEST:g}; correct it, or remove the row")
        values.append([value for value in found if value is not None])
    if task == "auto" and len(columns) > 1 and all(value in (-1, 0, 1) for column in values for value in column):
        raise DataError(
            f"{columns[0].path}: columns of -1, 0 and 1; write 0 for no and 1 for yes, or --task regression for numbers"
        )
    low, high = min(map(min, values)), max(map(max, values))
    names = tuple(column.name for column in columns)
    what = f"column{'s' * (len(names) > 1)} {', '.join(names[:5])}"
    words = f"{what}: numbers from {low:g} to {high:g}, regression"
    if len(columns) == 1 and all(value.is_integer() for value in values[0]) and len(set(values[0])) <= 100:
        words += f" ({len(set(values[0]))} different ones; --task classification takes them for classes)"
    return _Labels("regression", names, torch.tensor(values, dtype=torch.float64).T.contiguous(), words)


def _number(cell: str) -> float | None:
    """Return the number in a cell, perhaps not finite, or None."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _check_count(column: _Column, names: Sequence[str]) -> None:
    if len(names) > _MOST_CLASSES or len(names) * len(column.cells) > 40 * _MOST_CELLS:
        raise DataError(f"{column.path}: column {printable(column.name)} has {len(names):,} classes; name fewer")
