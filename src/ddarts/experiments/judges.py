"""Look-up tables as judges: the accuracy of a genotype without training it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from ddarts.errors import DDartsError, RunError
from ddarts.experiments.statistics import mean
from ddarts.genotype.choices import AnyGenotype, genotype_from_dict
from ddarts.runtime.json_input import parse, shown

_MOST_BYTES = 512 * 1024 * 1024


class Table(Protocol):
    """What has looked-up accuracies."""

    def lookup(self, genotype: Any) -> Sequence[float]:
        """Return the accuracy of every repetition, 0 to 1, empty for a genotype that is not in the table."""
        ...


class TableJudge:
    """Judges by a table; a seed chooses the repetition."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def accuracy(self, genotype: Any, seed: int | None = None) -> float:
        """Return the accuracy of one repetition, or the mean of all.

        Raises:
            RunError: the genotype is not in the table.
        """
        values = list(self.table.lookup(genotype))
        if not values:
            raise RunError(f"{getattr(genotype, 'name', '') or 'the genotype'} is not in the table; train it instead")
        return mean(values) if seed is None else values[seed % len(values)]


class FileTable:
    """A table in a file of JSON lines, or CSV with a header.

    Each line has ``genotype`` (an object, or its JSON as text) and ``accuracies`` (a list; in CSV separated by spaces)
    or ``test`` (one number); lines of the same genotype add up. Genotypes are found by what they compute, names and
    order of edges do not matter.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            RunError: it cannot be read, is too large, or a line is not as described.
        """
        self._values: dict[str, list[float]] = {}
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise RunError(f"{path}: more than {_MOST_BYTES} bytes; split the table")
            with path.open(encoding="utf-8", newline="") as stream:
                rows = csv.DictReader(stream) if path.suffix == ".csv" else _objects(stream)
                for number, row in enumerate(rows, 1):
                    self._add(row, f"{path}: row {number}")
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunError(f"{path}: cannot be read: {reason}; give a table of JSON lines or CSV") from None

    def __len__(self) -> int:
        return len(self._values)

    def lookup(self, genotype: AnyGenotype) -> list[float]:
        """Return the accuracy of every repetition, 0 to 1; empty if the genotype is not in the table."""
        return self._values.get(genotype.canonical().to_json(), [])

    def _add(self, row: Any, where: str) -> None:
        if not isinstance(row, dict) or "genotype" not in row:
            raise RunError(f"{where}: expected genotype and accuracies, found {shown(row)}; fix or remove the row")
        try:
            held = row["genotype"]
            held = parse(held, where, "genotype") if isinstance(held, str) else held
            genotype = genotype_from_dict(held, where)
        except DDartsError as error:
            raise RunError(f"{error}; fix or remove the row") from None
        values: Any = row.get("accuracies") or row.get("test")
        values = values.split() if isinstance(values, str) else values
        try:
            numbers = [float(v) for v in (values if isinstance(values, list) else [values])]
        except (TypeError, ValueError):
            numbers = []
        if not numbers or not all(0 <= v <= 1 for v in numbers):
            raise RunError(f"{where}: accuracies = {shown(values)} must be numbers of 0 to 1; fix or remove the row")
        self._values.setdefault(genotype.canonical().to_json(), []).extend(numbers)


def _objects(lines: Iterator[str] | Any) -> Iterator[Any]:
    for line in lines:
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                yield line.strip()[:80]
