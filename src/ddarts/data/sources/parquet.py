"""A folder of Parquet files with an image and a label column, as Hugging Face's image data sets have them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ddarts.data.encoded import decode_all
from ddarts.data.loaded import Loaded, Request
from ddarts.data.sources.folders import PART_NAMES, subfolders
from ddarts.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_IMAGE_NAMES = ("image", "img", "images", "picture", "photo")
_LABEL_NAMES = ("label", "labels", "fine_label", "class", "target", "category")
_ROWS = 256  # a batch


@dataclass(frozen=True, eq=False)
class Rows:
    """Image rows of Parquet files, an `Encoded`; images are read from disk as they are asked for."""

    paths: list[Path]
    starts: list[int]
    column: str
    labels: Tensor

    def name(self, position: int) -> str:
        """Return file and row (from 0)."""
        number = int(np.searchsorted(self.starts, position, side="right")) - 1
        return f"{self.paths[number]} row {position - self.starts[number]}"

    def read(self, positions: Tensor) -> Iterator[bytes | None]:
        """Yield the bytes of the images at `positions` (ascending); row groups without any are not read."""
        wanted = positions.numpy()
        ends = [*self.starts[1:], len(self.labels)]
        for path, start, end in zip(self.paths, self.starts, ends, strict=True):
            if ((wanted >= start) & (wanted < end)).any():
                with _errors(path):
                    yield from _read_file(path, self.column, wanted - start)


def find_parquet(folder: Path) -> list[Path]:
    """Return the Parquet files in a folder and the folders in it, hidden ones left out."""
    found: list[Path] = []
    for place in (folder, *subfolders(folder)):
        found += sorted(path for path in place.glob("*.parquet") if not path.name.startswith(".") and path.is_file())
    return found


def load_parquet(folder: Path, paths: list[Path], request: Request) -> Loaded:
    """Read Parquet files; the name of a file or of its folder gives its split: train*, validation*, test*.

    Raises:
        DataError: pyarrow is missing, columns cannot be told, labels do not fit, and all that `decode_all` raises.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise DataError(f'{folder}: reading Parquet files needs pyarrow; pip install "ddarts[parquet]"') from error
    by_part = _by_part(folder, paths)
    raw = {part: _read_labels(files) for part, files in by_part.items()}
    first = by_part["train"][0]
    with _errors(first):
        names = _class_names(first, raw["train"][0].label)
    classes, numbers = _number_labels(folder, {part: labels for part, (_, labels, _) in raw.items()}, names)
    parts = {
        part: Rows(by_part[part], starts, columns.image, numbers[part]) for part, (columns, _, starts) in raw.items()
    }
    return decode_all(parts, name=folder.resolve().name, place=str(folder), classes=classes, request=request)


@dataclass(frozen=True)
class _Columns:
    image: str
    label: str


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises about a broken file into a DataError; it raises UnicodeDecodeError and KeyError too."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a whole Parquet file: {reason}; copy it again") from error


def _by_part(folder: Path, paths: list[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        part = _part_of(path.stem) or (_part_of(path.parent.name) if path.parent != folder else None)
        found.setdefault(part or "", []).append(path)
    unnamed = found.pop("", [])
    if "train" not in found and unnamed:
        found["train"] = unnamed
    elif unnamed:
        raise DataError(
            f"{unnamed[0]}: neither train, validation nor test by its name, beside {found['train'][0].name}; "
            "rename it or move it away"
        )
    if "train" not in found:
        raise DataError(
            f"{folder}: no train*.parquet, only {', '.join(p.name for p in paths)}; add the training images"
        )
    return {part: found[part] for part in ("train", "validation", "test") if part in found}


def _part_of(name: str) -> str | None:
    name = name.lower()
    for prefix in sorted(PART_NAMES, key=len, reverse=True):
        if name.startswith(prefix) and not name[len(prefix) :][:1].isalpha():
            return PART_NAMES[prefix]
    return None


def _read_labels(paths: list[Path]) -> tuple[_Columns, list[Any], list[int]]:
    """Return the columns, all labels, and at which row each file starts."""
    import pyarrow.parquet as pq

    labels: list[Any] = []
    starts: list[int] = []
    columns: _Columns | None = None
    for path in paths:
        with _errors(path):
            columns = _find_columns(path, pq.read_schema(path))
            starts.append(len(labels))
            labels += pq.read_table(path, columns=[columns.label]).column(0).to_pylist()
    assert columns is not None
    if not labels:
        raise DataError(f"{paths[0]}: no rows; give files that hold images")
    if None in labels:
        row = labels.index(None)
        raise DataError(f"{paths[0].parent}: row {row} of {paths[0].name} and its like has no label; remove such rows")
    return columns, labels, starts


def _find_columns(path: Path, schema: pa.Schema) -> _Columns:
    images = [f.name for f in schema if _holds_bytes(f.type)]
    labels = [f.name for f in schema if _holds_labels(f.type)]
    image = next((n for n in _IMAGE_NAMES if n in images), images[0] if len(images) == 1 else None)
    label = next((n for n in _LABEL_NAMES if n in labels), labels[0] if len(labels) == 1 else None)
    if image is None or label is None:
        kind = (
            "an image column (struct of bytes and path, or binary)" if image is None else "a label column (int, text)"
        )
        have = ", ".join(f"{f.name}: {f.type}" for f in schema)
        raise DataError(f"{path}: cannot tell {kind} among: {have}; name the columns image and label")
    return _Columns(image, label)


def _holds_bytes(kind: pa.DataType) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return any(kind.field(i).name == "bytes" and _holds_bytes(kind.field(i).type) for i in range(kind.num_fields))
    return types.is_binary(kind) or types.is_large_binary(kind)


def _holds_labels(kind: pa.DataType) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _holds_labels(kind.value_type)
    return types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)


def _class_names(path: Path, label: str) -> list[str] | None:
    """Return the names that the schema's metadata gives, either as `class_names` or as Hugging Face's features."""
    import pyarrow.parquet as pq

    metadata = pq.read_schema(path).metadata or {}
    if text := metadata.get(b"class_names", b"").decode("utf-8", "replace").strip():
        names = _json(text) if text.startswith("[") else text.split(",")
        return [str(n).strip() for n in names] if isinstance(names, list) else None
    value = _json(metadata.get(b"huggingface", b"").decode("utf-8", "replace"))
    for key in ("info", "features", label, "names"):
        value = value.get(key) if isinstance(value, dict) else None
    return [str(n) for n in value] if isinstance(value, list) else None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _number_labels(
    folder: Path, raw: dict[str, list[Any]], names: list[str] | None
) -> tuple[list[str], dict[str, Tensor]]:
    """Return the class names and each part's labels as indices into them."""
    values = sorted(set().union(*raw.values()), key=lambda v: (isinstance(v, str), v))
    if len({isinstance(v, str) for v in values}) > 1:
        raise DataError(f"{folder}: labels are numbers in one file and text in another; use one kind")
    if isinstance(values[0], str) or names is None:
        number = {value: n for n, value in enumerate(values)}
        names = [str(v) for v in values]
    else:
        number = {n: n for n in range(len(names))}
        wrong = [v for v in values if v not in number]
        if wrong:
            raise DataError(f"{folder}: label {wrong[0]}, but the {len(names)} class names allow 0 to {len(names) - 1}")
        if len(set(names)) < len(names):
            raise DataError(f"{folder}: two classes have the same name in the schema's metadata; give each its own")
    return names, {part: torch.tensor([number[v] for v in labels], dtype=torch.int64) for part, labels in raw.items()}


def _read_file(path: Path, column: str, wanted: np.ndarray) -> Iterator[bytes | None]:
    """Yield the images of the rows `wanted` (ascending; those outside the file belong to others)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            if not ((wanted >= start) & (wanted < end)).any():
                start = end
                continue
            for batch in file.iter_batches(_ROWS, row_groups=[group], columns=[column], use_threads=False):
                rows = wanted[(wanted >= start) & (wanted < start + len(batch))] - start
                images = batch.column(0)
                if isinstance(images, pa.StructArray):
                    images = images.flatten()[images.type.get_field_index("bytes")]
                yield from images.take(pa.array(rows)).to_pylist()
                start += len(batch)
