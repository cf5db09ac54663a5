"""The early stop of a search from a baseline, once the distance to it is steady (specification, section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ddarts.config.schema import SearchOptions
from ddarts.errors import GenotypeError
from ddarts.genotype.choices import AnyGenotype
from ddarts.genotype.derive import derive_genotype
from ddarts.genotype.distance import edit_distance
from ddarts.genotype.gates import AnyGates
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.operation_weights import OperationWeights
from ddarts.searching.start import StartingPoint, distance_between

#: The rule that derives the current architecture, whatever rule derives the final one.
_RULE = "threshold_edge"


@dataclass(frozen=True)
class DistanceWatch:
    """Measures the distance of a search from its baseline.

    Attributes:
        baseline: where the search started.
        weights: of the operations.
        threshold: smallest gate that counts.
        tolerance: largest change between two epochs of a steady distance.
        epochs: number of consecutive changes, none above `tolerance`, that make the distance steady.
    """

    baseline: AnyGenotype
    weights: OperationWeights
    threshold: float
    tolerance: float
    epochs: int

    @classmethod
    def of(cls, options: SearchOptions, start: StartingPoint, threshold: float) -> DistanceWatch:
        """Build it from the settings."""
        return cls(start.baseline, start.weights, threshold, options.distance_tolerance, options.distance_epochs)

    def measure(self, gates: AnyGates) -> tuple[float | None, float | None]:
        """Return the distance and the edit distance of the current architecture, 0 to 1.

        The first is that of `steady`. Both are None while a cell would be empty; there is no edit distance of choices.
        """
        try:
            current = derive_genotype(gates, _RULE, self.threshold)
        except GenotypeError:
            return None, None
        edits = None
        if isinstance(self.baseline, Genotype) and isinstance(current, Genotype):
            edits = edit_distance(self.baseline, current)
        return distance_between(self.baseline, current, self.weights), edits

    def steady(self, distances: Sequence[float | None]) -> bool:
        """Return whether the last distances, one per epoch, are steady.

        A distance of 0 never is: it does not show that nothing has changed (see `ddarts.genotype.distance`), and as
        alphas need many steps to the threshold, a search that stopped there could return the baseline.
        """
        last = [d for d in distances[-self.epochs - 1 :] if d is not None]
        if len(last) <= self.epochs or last[-1] == 0:
            return False
        return all(abs(b - a) <= self.tolerance for a, b in pairwise(last))
