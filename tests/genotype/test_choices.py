from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ddarts.errors import GenotypeError, SettingsError
from ddarts.genotype.choices import (
    ChoiceGenotype,
    best_choices,
    choice_distance,
    genotype_from_dict,
    load_genotype,
    neighbours,
    random_choices,
)
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.random import random_genotype
from ddarts.space.cell_space import build_space
from ddarts.space.mobile import MOBILE

LAYERS = len(MOBILE)


def data(**changes: Any) -> dict[str, Any]:
    return {**random_choices(MOBILE, seed=0).to_dict(), **changes}


def test_a_genotype_survives_its_file(tmp_path: Path) -> None:
    genotype = random_choices(MOBILE, seed=3)
    genotype.save(tmp_path / "genotype.json")
    assert load_genotype(tmp_path / "genotype.json") == load_genotype(tmp_path) == genotype


def test_the_format_decides_which_kind_of_genotype_a_file_holds(tmp_path: Path) -> None:
    cells = random_genotype(build_space(cells=3), seed=0)
    cells.save(tmp_path / "cells.json")
    assert load_genotype(tmp_path / "cells.json") == cells
    assert isinstance(genotype_from_dict(data()), ChoiceGenotype)
    assert isinstance(genotype_from_dict(cells.to_dict()), Genotype)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"format": "ddarts-gates"},
            "format is 'ddarts-gates', expected 'ddarts-genotype' or 'ddarts-choices'; is this",
        ),
        ({"version": 2}, "version 2 cannot be read, this ddarts reads version 1"),
        ({"version": True}, "version True cannot be read"),
        ({"more": 1}, "unknown key 'more'"),
        ({"name": 3}, "name: 3 must be text"),
        ({"name": "a\nb"}, "name 'a.*nb' must be one line"),
        ({"space": ["mobile"]}, r"space: \['mobile'\] must be text"),
        ({"space": "mobil"}, "space: unknown search space 'mobil'; did you mean 'mobile'"),
        ({"space": "os:system"}, "space: unknown search space 'os:system'"),
        ({"choices": "skip"}, "choices: expected a list, found str"),
        ({"choices": ["skip"] * (LAYERS - 1) + [1]}, rf"choices\[{LAYERS - 1}\]: 1 must be text"),
        ({"choices": ["skip"] * (LAYERS + 1)}, f"{LAYERS + 1} choices, expected {LAYERS}, those of the space mobile"),
        (
            {"choices": ["skip"] * (LAYERS - 1) + ["skipp"]},
            rf"choices\[{LAYERS - 1}\]: 'skipp' is not a candidate of layer {LAYERS - 1} in the space mobile; did you",
        ),
        ({"choices": ["x" * 10**6] * LAYERS}, r"choices\[0\]: 'xxx.{,80}' is not a candidate"),
    ],
)
def test_untrusted_data_is_checked(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(GenotypeError, match=f"^a.json: {reason}") as error:
        genotype_from_dict(data(**changes), "a.json")
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_what_is_no_object_is_no_genotype(value: Any) -> None:
    with pytest.raises(GenotypeError, match="expected an object"):
        genotype_from_dict(value)


def test_derivation_takes_the_largest_weight_and_the_first_of_equals() -> None:
    candidates = MOBILE.choices[0].candidates
    weights = [[0.1] * len(candidates) for _ in range(LAYERS)]
    weights[2][5] = 0.2
    genotype = best_choices(MOBILE, weights, "found")
    assert genotype.indices == (0, 0, 5, *[0] * (LAYERS - 3))
    assert genotype.name == "found"


def test_draws_follow_from_the_seed_and_cover_the_candidates() -> None:
    assert random_choices(MOBILE, seed=1) == random_choices(MOBILE, seed=1)
    drawn = Counter(c for seed in range(100) for c in random_choices(MOBILE, seed=seed).choices)
    assert set(drawn) == set(MOBILE.choices[0].candidates)
    assert max(drawn.values()) < 2 * min(drawn.values())


def test_neighbours_differ_in_one_choice() -> None:
    genotype = random_choices(MOBILE, seed=0)
    found = list(neighbours(genotype))
    assert len(set(found)) == len(found) == LAYERS * (len(MOBILE.choices[0].candidates) - 1)
    assert all(choice_distance(genotype, other) == 1 / LAYERS for other in found)
    assert choice_distance(genotype, genotype.canonical()) == 0


def test_genotypes_of_two_spaces_have_no_distance() -> None:
    from benchmarks.tables.spaces import MACRO

    with pytest.raises(SettingsError, match="spaces mobile and nasbench-macro have no distance"):
        choice_distance(random_choices(MOBILE, seed=0), random_choices(MACRO, seed=0))


def test_the_share_without_weights() -> None:
    genotype = ChoiceGenotype("mobile", ("skip",) * 7 + ("mb_e3_k3",) * (LAYERS - 7))
    assert genotype.parameter_free_share == 0.5
    assert genotype.operations == ("mb_e3_k3", "skip")
