"""What a person may call an architecture: a file, a run, or the name of a baseline."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ddarts.architecture.baselines import BASELINES, baseline
from ddarts.architecture.genotype import Genotype
from ddarts.errors import GenotypeError, nearest

PathLike = str | os.PathLike[str]


def find_genotype(source: Genotype | PathLike) -> Genotype:
    """Return the genotype that `source` means.

    Args:
        source: a `Genotype`; a genotype file; a run folder that has one; or the name of a baseline. What is there as a
            file wins over a name.

    Raises:
        GenotypeError: nothing of that name is there (with the nearest name), or the file is broken.
    """
    if isinstance(source, Genotype):
        return source
    text = os.fspath(source)
    if Path(text).exists():
        return Genotype.load(text)
    if text.lower() in BASELINES:
        return baseline(text)
    if re.fullmatch(r"[\w.-]+", text) and Path(text).suffix.lower() not in (".json", ".txt", ".py"):
        raise GenotypeError(f"{text}: no such genotype file, run or baseline{nearest(text.lower(), BASELINES)}")
    return Genotype.load(text)
