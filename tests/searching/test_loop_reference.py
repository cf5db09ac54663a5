"""Searches with the reference supernet: the same gates as with the grouped one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ddarts.errors import SettingsError
from ddarts.preflight import check_search_settings
from tests.searching.small import made_up, search, settings


@pytest.mark.parametrize(
    "changes", [{}, {"ablation": "monitor", "ablation_kind": "random"}, {"space": "dartopti", "nodes": 2}]
)
def test_a_search_ends_with_the_gates_of_the_reference(tmp_path: Path, changes: dict[str, Any]) -> None:
    sizes = {"cells": 3, "reductions": (1,), "epochs": 1, "steps_per_epoch": 3, **changes}
    found = [search(tmp_path / b, made_up(), backend=b, **sizes).gates.values for b in ("auto", "reference")]
    assert torch.tensor(found[0]).sub(0.5).abs().max() > 1e-2  # the alphas have moved
    torch.testing.assert_close(torch.tensor(found[0]), torch.tensor(found[1]), rtol=0, atol=1e-5)


def test_the_reference_saves_no_memory_and_says_so() -> None:
    with pytest.raises(SettingsError, match="backend reference computes nothing twice; leave out memory low"):
        check_search_settings(settings(backend="reference", memory="low"), None)
