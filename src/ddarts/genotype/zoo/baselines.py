"""Hand-made networks written as cells, from which a DARTOpti search may start (paper, section 5)."""

from __future__ import annotations

from importlib import resources

from ddarts.errors import GenotypeError, nearest
from ddarts.genotype.genotype import Genotype

_FOLDER = resources.files("ddarts.genotype.zoo") / "published" / "baselines"

#: Names of the baselines, for `baseline`.
BASELINES = ("resnet18", "resnet50", "xception", "inceptionv4")


def baseline(name: str) -> Genotype:
    """Return a baseline, laid out over all its cells. Upper and lower case are the same.

    Some of its cells concatenate nodes that have no input in the baseline: a search may use them.

    Raises:
        GenotypeError: there is no such baseline; the message names the nearest.
    """
    if name.lower() not in BASELINES:
        raise GenotypeError(f"unknown baseline {name[:60]!r}{nearest(name[:60].lower(), BASELINES)}")
    path = _FOLDER / f"{name.lower()}.json"
    return Genotype.from_json(path.read_text(encoding="utf-8"), f"baseline {name.lower()}")


def shared_sequence(genotype: Genotype) -> tuple[int, ...]:
    """Return, for each cell, the index of the alpha that it uses when equal cells share theirs.

    Cells are equal if their operations and concatenated states are; where the reductions stand plays no part. For the
    published baselines this is the published sequence: ResNet50 gives (0, 1, 2, 0).
    """
    distinct: list[object] = []
    sequence = []
    for cell in genotype.cells:
        key = (frozenset(cell.edges), cell.concat)
        if key not in distinct:
            distinct.append(key)
        sequence.append(distinct.index(key))
    return tuple(sequence)
