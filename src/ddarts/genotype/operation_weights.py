"""What each operation counts for in the distance between architectures: weights, and the file that holds them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ddarts.errors import GenotypeError
from ddarts.runtime import json_input as checks
from ddarts.runtime.atomic_files import write_text
from ddarts.space.operations import BUILT_IN_OPERATIONS, OPERATIONS

FORMAT = "ddarts-operation-weights"
VERSION = 1

#: Name of the file inside the folder that `ddarts measure-operations` makes.
FILE_NAME = "operation_weights.json"

_PUBLISHED = resources.files("ddarts.genotype.zoo") / "published" / "operations" / "weights.json"


@dataclass(frozen=True)
class OperationWeights:
    """A positive weight for each built-in operation, and for the registered ones that have been measured.

    The weight of an operation is an accuracy, in percent, of a small network in which it stands alone in one place
    (paper, section 5; specification, section 8). Only the proportions of the weights count.

    Attributes:
        weights: by operation, the built-in ones first; read-only.
        source: where they come from, for people; one line.

    Raises:
        GenotypeError: a weight is missing, unknown, not a number, not finite, or not above 0.
    """

    weights: Mapping[str, float]
    source: str = ""

    def __post_init__(self) -> None:
        data = dict(self.weights) if isinstance(self.weights, Mapping) else self.weights
        names = data if isinstance(data, dict) else ()
        others = tuple(name for name in names if name in OPERATIONS and name not in BUILT_IN_OPERATIONS)
        checks.mapping(data, "weights", required=BUILT_IN_OPERATIONS, optional=others)
        ordered = {name: _weight(data[name], f"weights.{name}") for name in (*BUILT_IN_OPERATIONS, *others)}
        total = math.fsum(ordered.values()) if max(ordered.values()) < 1e300 else math.inf
        if not math.isfinite(total) or min(ordered.values()) / total < 1e-12:
            raise GenotypeError(
                f"weights: {min(ordered.values()):g} and {max(ordered.values()):g} are too far apart to be compared; "
                "weights are accuracies in percent"
            )
        if not self.source.isprintable() or len(self.source) > 500:
            raise GenotypeError(
                f"source: {checks.shown(self.source)} must be one line of at most 500 printable characters"
            )
        object.__setattr__(self, "weights", MappingProxyType(ordered))
        object.__setattr__(self, "_total", total)

    def __hash__(self) -> int:
        return hash((tuple(self.weights.items()), self.source))

    @property
    def total(self) -> float:
        """Sum of all weights: the distance between rows is measured in it."""
        return self.__dict__["_total"]

    def between(self, row: Set[str], other: Set[str]) -> float:
        """Return the weighted Hamming distance of two rows of operations, 0 to 1.

        Raises:
            GenotypeError: an operation in which they differ has no weight.
        """
        differing = row ^ other
        for name in differing - self.weights.keys():
            raise GenotypeError(
                f"operation {name} has no weight for distances; measure one by ddarts measure-operations, and pass its "
                "file (distance --weights, search --operation-weights)"
            )
        # math.fsum rounds once, whatever the order of a set, so that equal differences give equal numbers
        return math.fsum(self.weights[name] for name in differing) / self.total

    @staticmethod
    def published() -> OperationWeights:
        """Return the published weights, measured on CIFAR-10. They are the default everywhere.

        They are the means over twelve positions, although the paper speaks of medians: the published distances follow
        from the means.
        """
        return _published()

    @classmethod
    def of(cls, source: OperationWeights | str | os.PathLike[str] | None) -> OperationWeights:
        """Return the weights that `source` means: themselves, their file or folder (`load`), or None: the published.

        Raises:
            GenotypeError: the file is missing or broken.
        """
        if source is None:
            return cls.published()
        return source if isinstance(source, OperationWeights) else cls.load(source)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data (`from_dict` reads it back)."""
        return {"format": FORMAT, "version": VERSION, "source": self.source, "weights": dict(self.weights)}

    @classmethod
    def from_dict(cls, data: Any, where: str = "operation weights") -> OperationWeights:
        """Build weights from JSON data, checking every field; `where` starts every message, such as a file's name.

        Raises:
            GenotypeError: with the path into the data and the reason.
        """
        checks.header(data, where, what="operation weights", form=FORMAT, version=VERSION)
        data = checks.mapping(data, where, required=("format", "version", "weights"), optional=("source",))
        source = checks.text(data.get("source", ""), f"{where}: source")
        try:
            return cls(data["weights"], source)
        except GenotypeError as error:
            raise GenotypeError(f"{where}: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights as JSON, one a line; the file appears whole or not at all."""
        write_text(Path(path), json.dumps(self.to_dict(), indent=2) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> OperationWeights:
        """Read a file of weights, or the one in a folder that ``ddarts measure-operations`` made.

        Raises:
            GenotypeError: the file is missing, is not JSON (with line and column), or holds no valid weights.
        """
        text, where = checks.read_text(
            path, what="operation weights", inside=FILE_NAME, way_out="ddarts measure-operations"
        )
        return cls.from_dict(checks.parse(text, where, "operation weights"), where)


@cache
def _published() -> OperationWeights:
    where = "published operation weights"
    return OperationWeights.from_dict(checks.parse(_PUBLISHED.read_text(encoding="utf-8"), where, where), where)


def _weight(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise GenotypeError(f"{where}: {checks.shown(value)} must be a number above 0")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number <= 0:
        raise GenotypeError(f"{where}: {checks.shown(value)} must be a finite number above 0")
    return number
