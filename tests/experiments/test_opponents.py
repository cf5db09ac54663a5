"""Random networks of the same size, and random search within a budget."""

import itertools

import pytest

from ddarts.errors import SettingsError
from ddarts.experiments.opponents import Draw, random_genotypes, same_size, search_at_cost
from ddarts.space.cell_space import build_space

SPACE = build_space("darts", cells=3, nodes=2)


def drawn(count, **options):
    return list(itertools.islice(random_genotypes(SPACE, **{"seed": 1, "label": "x", **options}), count))


def test_draws_repeat_for_a_seed_and_differ_between_seeds_and_purposes():
    assert drawn(3) == drawn(3)
    assert len({g.to_json() for g in drawn(3) + drawn(3, seed=2) + drawn(3, label="y")}) == 9
    assert len(drawn(1, layers=6)[0]) == 6


def test_the_first_draw_within_the_tolerance_is_taken():
    draws = drawn(5)
    sizes = dict(zip((g.name for g in draws), (50, 89, 111, 110, 100), strict=True))
    assert same_size(iter(draws), 100, lambda g: sizes[g.name]) is draws[3]
    with pytest.raises(SettingsError, match=r"none of 3,000 random networks has 1,000 parameters within 10 %"):
        same_size(random_genotypes(SPACE, seed=0, label=""), 1000, lambda g: 1)


def searched(scores, budget_s, *, pace=1.0, epochs=24):
    def evaluate(index, length):
        return Draw(index, length, scores(index, length), pace * length)

    return search_at_cost(evaluate, budget_s=budget_s, epochs=epochs)


def test_halving_spends_the_budget_and_no_more():
    winner, draws = searched(lambda i, n: i, 108)
    assert sum(d.seconds for d in draws) == 108
    assert [sum(d.epochs == n for d in draws) for n in (3, 6, 12)] == [12, 6, 3]
    assert winner == 11
    assert {d.index for d in draws if d.epochs == 12} == {9, 10, 11}


def test_the_longest_training_decides():
    winner, _ = searched(lambda i, n: -abs(i - 8) if n == 12 else i, 108)
    assert winner == 9  # of 9, 10, 11, which got that far


@pytest.mark.parametrize("budget", [0, 1, 10, 37, 1000])
def test_a_budget_is_never_passed_but_by_the_first_draw(budget):
    _, draws = searched(lambda i, n: i % 7, budget)
    assert sum(d.seconds for d in draws) <= max(budget, 3)
    assert draws


def test_a_short_final_training_has_fewer_rungs():
    _, draws = searched(lambda i, n: i, 12, epochs=2)
    assert {d.epochs for d in draws} == {1}
    assert len(draws) == 12


def test_cheap_networks_are_not_drawn_without_end():
    _, draws = search_at_cost(lambda i, n: Draw(i, n, i, 1e-6), budget_s=3600, epochs=8, most=10)
    assert [sum(d.epochs == n for d in draws) for n in (1, 2, 4)] == [10, 5, 3]
