from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddarts.errors import GenotypeError
from ddarts.genotype.derive import RULES, derive_genotype
from ddarts.genotype.gates import AnyGates, gates_of
from ddarts.genotype.selection import Bound, choose_gates, total
from ddarts.space.cell_space import SearchSpace, build_space
from ddarts.space.choice_space import ChoiceSpace
from ddarts.space.mobile import MOBILE

TINY = SearchSpace(("skip_connect", "sep_conv_3x3"), 2, (2, 3), (0,), ())
ROWS = len(TINY.edges)


def numbers(space: SearchSpace | ChoiceSpace, seed: int) -> list[list[list[float]]]:
    draw = random.Random(seed)
    if isinstance(space, ChoiceSpace):
        return [[[draw.random() for _ in choice.candidates]] for choice in space.choices]
    return [[[draw.random() for _ in space.operations] for _ in space.edges] for _ in range(space.searched_cells)]


def chosen_of(gates: AnyGates) -> set[tuple[int, int, int]]:
    return {
        (q, e, o)
        for q, cell in enumerate(gates.values)
        for e, row in enumerate(cell)
        for o, gate in enumerate(row)
        if gate > 0
    }


def allowed(picks: tuple[int | None, ...], gates: Any, method: str, threshold: float) -> bool:
    """The rule for one cell, one operation an edge or none."""
    into = {2: picks[:2], 3: picks[2:]}
    counts = {node: sum(p is not None for p in edges) for node, edges in into.items()}
    if method == "darts":
        return counts == {2: 2, 3: 2}
    below = any(p is not None and gates[e][p] < threshold for e, p in enumerate(picks))
    unfed = picks[4] is not None and counts[2] == 0
    return not below and not unfed and max(counts.values()) <= 2 and sum(counts.values()) > 0


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(["darts", "threshold_sparse"]), st.floats(0.5, 4), st.floats(0, 1))
def test_the_choice_is_the_best_of_all_genotypes_within_the_bound(
    seed: int, method: str, bound: float, share: float
) -> None:
    values, costs = numbers(TINY, seed), numbers(TINY, seed + 1)
    gates = gates_of(TINY, values)
    best: float | None = None
    for picks in itertools.product((None, 0, 1), repeat=ROWS):
        if not allowed(picks, values[0], method, 0.4):
            continue
        cost = sum(costs[0][e][p] for e, p in enumerate(picks) if p is not None)
        worth = sum(values[0][e][p] for e, p in enumerate(picks) if p is not None)
        if share * bound <= cost <= bound and (best is None or worth > best):
            best = worth
    found = choose_gates(gates, method, 0.4, [Bound(costs, bound, share * bound)])
    assert (found is None) == (best is None)
    if found is not None:
        assert total(gates, found) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("method", RULES)
@pytest.mark.parametrize("seed", range(5))
def test_without_bounds_the_choice_is_what_the_rule_derives(method: str, seed: int) -> None:
    space = build_space("darts", cells=3, nodes=3)
    gates = gates_of(space, numbers(space, seed))
    chosen = choose_gates(gates, method, 0.6, [])
    assert chosen is not None
    assert derive_genotype(chosen, method, 0.6).canonical() == derive_genotype(gates, method, 0.6).canonical()


@pytest.mark.parametrize("method", RULES)
def test_a_rule_derives_all_that_was_chosen(method: str) -> None:
    space = build_space("darts", cells=2, nodes=3)
    gates, costs = gates_of(space, numbers(space, 1)), numbers(space, 2)
    chosen = choose_gates(gates, method, 0.3, [Bound(costs, 6.0)])
    assert chosen is not None
    genotype = derive_genotype(chosen, method, 0.3)
    assert sum(len(cell.edges) for cell in genotype.cells) == len(chosen_of(chosen))
    assert sum(costs[q][e][o] for q, e, o in chosen_of(chosen)) <= 6.0 + 1e-6


def test_a_choice_space_gets_one_candidate_each() -> None:
    gates, costs = gates_of(MOBILE, numbers(MOBILE, 3)), numbers(MOBILE, 4)
    chosen = choose_gates(gates, "darts", 0.0, [Bound(costs, 3.0)])
    assert chosen is not None
    assert [q for q, _, _ in sorted(chosen_of(chosen))] == list(range(len(MOBILE)))
    assert sum(costs[q][e][o] for q, e, o in chosen_of(chosen)) <= 3.0 + 1e-6


def test_a_bound_below_every_genotype_gives_none() -> None:
    gates = gates_of(TINY, numbers(TINY, 0))
    ones = [[[1.0, 1.0]] * ROWS]
    assert choose_gates(gates, "darts", 0.0, [Bound(ones, 3.9)]) is None
    assert choose_gates(gates, "threshold_edge", 0.9999, []) is None
    with pytest.raises(GenotypeError, match="would be empty"):
        derive_genotype(gates, "threshold_edge", 0.9999)
