"""Gates and margins of each cell of a run's genotype, and the sizes of its network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddarts.errors import GenotypeError, RunError
from ddarts.genotype.derive import RULES
from ddarts.genotype.gates import Gates
from ddarts.genotype.genotype import Genotype
from ddarts.nn.resolution import STEM_HALVINGS
from ddarts.reporting.chosen import CellEvidence, evidence
from ddarts.reporting.network_drawing import NetworkNumbers
from ddarts.runs.folder import RunFolder, group_of


@dataclass(frozen=True)
class Background:
    """Gates and margins of each cell of a run's genotype, and the sizes of its network."""

    proofs: list[CellEvidence]
    numbers: NetworkNumbers

    def proof(self, cell: int) -> CellEvidence:
        """Return gates and margins of one cell, empty if they are not known."""
        return self.proofs[cell] if self.proofs else CellEvidence(None, {}, {})


def read_background(path: Path | None, genotype: Genotype) -> Background:
    """Return what is known about a genotype that lies in `path`; of a file outside a run, nothing.

    Raises:
        RunError: gates.json or the settings of the run are damaged.
    """
    if path is None or not (path / "settings.yaml").is_file():
        return Background([], NetworkNumbers())
    run = RunFolder.open(path)
    settings = run.settings
    proofs: list[CellEvidence] = []
    if (path / "gates.json").exists():
        try:
            proofs = evidence(genotype, Gates.load(path / "gates.json"), *rule_of(settings))
        except GenotypeError as error:
            raise RunError(f"{error} (fix or remove the file)") from None
    return Background(proofs, read_numbers(path, settings))


def read_numbers(path: Path, settings: Mapping[str, Any]) -> NetworkNumbers:
    """Return the sizes of a run's network: from its trained model, else the width that the settings name."""
    try:
        model = json.loads((path / "model" / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        model = None
    if not isinstance(model, dict):
        return NetworkNumbers(channels=_size(group_of(settings, "train").get("channels")))
    sides, classes = model.get("resolution"), model.get("classes")
    height, width = (_size(side) for side in sides) if isinstance(sides, list) and len(sides) == 2 else (None, None)
    return NetworkNumbers(
        channels=_size(model.get("channels")),
        resolution=(height, width) if height and width else None,
        stem=model["stem"] if model.get("stem") in STEM_HALVINGS else "cifar",
        in_channels=_size(model.get("in_channels")),
        classes=len(classes) if isinstance(classes, list) else None,
    )


def _size(value: Any) -> int | None:
    return value if type(value) is int and 1 <= value <= 2**16 else None


def rule_of(settings: Mapping[str, Any]) -> tuple[str, float]:
    """Return method and threshold that the settings of a run derive with, the defaults if they do not say."""
    rule = group_of(settings, "derive")
    threshold = rule.get("threshold", 0.85)
    if rule.get("method") in RULES and isinstance(threshold, int | float) and 0 <= threshold <= 1:
        return rule["method"], threshold
    return "threshold_sparse", 0.85
