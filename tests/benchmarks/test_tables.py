"""benchmarks/tables: genotypes as short text, neighbours, and the tables that are shipped."""

from __future__ import annotations

import importlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from ddarts.genotype.random import random_genotype
from ddarts.space.cell_space import build_space

TABLES = Path(__file__).parents[2] / "benchmarks" / "tables"


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TABLES))
    return importlib.import_module("cells")


def drawn(cells: Any, seed: int) -> Any:
    space = build_space("darts", cells=cells.CELLS, nodes=cells.NODES, reductions=cells.REDUCTIONS)
    return random_genotype(space, seed=seed)


@pytest.mark.parametrize("seed", range(5))
def test_a_genotype_comes_back_from_its_text(cells: Any, seed: int):
    genotype = drawn(cells, seed)
    assert cells.decode(cells.encode(genotype)).cells == genotype.cells


def test_a_genotype_of_another_space_has_no_text(cells: Any):
    with pytest.raises(ValueError, match="not of the table's space"):
        cells.encode(random_genotype(build_space("darts", cells=5, nodes=2), seed=0))


@pytest.mark.parametrize("changes", [1, 3])
def test_a_neighbour_is_another_valid_genotype_with_at_most_so_many_new_edges(cells: Any, changes: int):
    text = cells.encode(drawn(cells, 0))
    other = cells.neighbour(text, random.Random(0), changes)
    old, new = cells.decode(text), cells.decode(other)
    different = sum(len(set(b.edges) - set(a.edges)) for a, b in zip(old.cells, new.cells, strict=True))
    assert 1 <= different <= changes
    assert cells.encode(new) == other


@pytest.mark.parametrize("table", sorted(TABLES.glob("cells-*.jsonl")), ids=lambda path: path.stem)
def test_a_shipped_table_holds_each_training_once_and_accuracies_are_shares(cells: Any, table: Path):
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    assert len({(row["genotype"], row["seed"], row["kind"], row.get("steps")) for row in rows}) == len(rows) > 0
    for row in rows:
        assert 0 <= row["val"] <= 1
        assert row["kind"] == "trial" or 0 <= row["test"] <= 1
        assert cells.encode(cells.decode(row["genotype"])) == row["genotype"]


def test_searches_are_judged_by_pairs_of_found_genotypes_and_by_sixes_of_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(TABLES))
    judge = importlib.import_module("searches").judge
    size = {"parameters": 1000}
    rows = [
        {"kind": "found", "search": s, "strategies": [name], "test": test + s / 1000, **size}
        for s in range(4)
        for name, test in (("bayes", 0.6), ("random", 0.5), ("d-darts", 0.55))
    ]
    table = [{"kind": "random", "seed": 0, "val": i / 100, "test": 0.5 + i % 6 / 100, **size} for i in range(18)]
    found = judge(rows, table)
    assert found["pairs"] == 4
    assert found["bayes"]["mean"] == pytest.approx(0.6015)
    assert found["random"]["mean"] == pytest.approx(0.5015)
    assert found["d-darts"]["searches"] == 4
    assert found["best of six trainings"] == {
        "searches": 3,
        "mean": pytest.approx(0.55),
        "interval": (0.55, 0.55),
        "p against bayes": pytest.approx(0.375),  # three of the tests of 1/8, 1/8 and 1/4, after Holm
    }
    assert found["bayes"]["share of all random ones below it"] == [1.0] * 4
