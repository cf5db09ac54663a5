"""Searches with compiled grouped edges: the same gates, and a compiler that fails is told.

The backend runs what was traced, as in tests/supernet/backends/test_inductor.py.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ddarts.errors import SettingsError
from ddarts.genotype.gates import Gates
from ddarts.supernet.backends import selection
from ddarts.supernet.backends.inductor import compile_edges
from tests.searching.small import made_up, search

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")

#: The fewest shapes: two cells alike.
_SIZES: dict[str, Any] = {"cells": 2, "nodes": 1, "reductions": (), "epochs": 1, "ablation": "off"}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_a_compiled_search_ends_with_the_gates_of_a_plain_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "compile_edges", functools.partial(compile_edges, backend="aot_eager"))
    plain = search(tmp_path / "plain", made_up(), **_SIZES)
    search(tmp_path / "compiled", made_up(), backend="inductor", **_SIZES)
    found = Gates.load(tmp_path / "compiled" / "gates.json")
    torch.testing.assert_close(torch.tensor(found.values), torch.tensor(plain.gates.values), rtol=0, atol=1e-3)


def test_a_compiler_that_fails_stops_the_search_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("there is no compiler here")

    monkeypatch.setattr(selection, "compile_edges", functools.partial(compile_edges, backend=failing))
    with pytest.raises(SettingsError, match=r"there is no compiler here; choose another backend"):
        search(tmp_path / "run", made_up(), backend="inductor", **_SIZES)
    search(tmp_path / "run", made_up(), **_SIZES)  # nothing is lost
    assert (tmp_path / "run" / "gates.json").exists()
