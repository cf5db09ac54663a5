"""Finds the reference values (`golden/`), which lie beside the repository and not in it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

_ROOT = Path(__file__).resolve().parents[2]


def golden_folder() -> Path:
    """Return the folder of reference values: $DDARTS_SHARED/golden or ../shared/golden; skip the test without it."""
    shared = Path(os.environ.get("DDARTS_SHARED") or _ROOT.parent / "shared")
    if not (shared / "golden").is_dir():
        pytest.skip(f"no reference values in {shared}/golden; set DDARTS_SHARED to the folder that holds golden/")
    return shared / "golden"


def golden_json(name: str) -> Any:
    """Return the data of golden/<name>.json."""
    return json.loads((golden_folder() / f"{name}.json").read_text(encoding="utf-8"))


def golden_tensors(name: str) -> dict[str, Tensor]:
    """Return the tensors of golden/<name>.safetensors."""
    return load_file(golden_folder() / f"{name}.safetensors")


def relative_error(value: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference over the norm of what is expected."""
    return float((value.detach() - expected).norm() / expected.norm())
