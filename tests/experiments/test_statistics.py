"""Statistics of a few paired values, against SciPy and values from textbooks."""

import math
import random

import pytest
from scipy import stats

from ddarts.errors import SettingsError
from ddarts.experiments.statistics import (
    MOST_SEEDS,
    Verdict,
    holm,
    interval_of_mean,
    judge,
    mean,
    paired_p,
    rank_agreement,
    seeds_needed,
)

#: Darwin's maize: heights of 15 crossed and self-fertilised plants, in eighths of an inch, paired by pot.
CROSSED = (188, 96, 168, 176, 153, 172, 177, 163, 146, 173, 186, 168, 177, 184, 96)
SELFED = (139, 163, 160, 160, 147, 149, 149, 122, 132, 144, 130, 144, 102, 124, 144)


def test_the_exact_test_counts_the_ways_to_swap():
    assert paired_p([3, 5, 7], [1, 2, 3]) == pytest.approx(2 / 2**3)  # the extreme way, and its mirror image
    assert paired_p([1, 2, 3], [3, 5, 7]) == pytest.approx(2 / 2**3)
    assert paired_p(range(1, 11), [0] * 10) == pytest.approx(2 / 2**10)
    assert paired_p([1, 0], [0, 1]) == pytest.approx(1)
    assert paired_p([0.5, 0.6, 0.7], [0.5, 0.6, 0.7]) == 1


def test_fishers_example_has_fishers_p():
    # Fisher (1935): 863 of 32,768 sums are as large, 1,726 in both tails; 15 pairs are sampled here
    assert paired_p(CROSSED, SELFED) == pytest.approx(1726 / 32768, abs=0.006)


def test_the_test_agrees_with_wilcoxon_where_differences_are_their_ranks():
    differences = [1, -2, 3, 4, 5, 6, -7, 8]
    assert paired_p(differences, [0] * 8) == pytest.approx(stats.wilcoxon(differences, mode="exact").pvalue)


def test_unequal_or_single_values_are_no_pairs():
    for first, second in (([1, 2], [1]), ([1], [2])):
        with pytest.raises(SettingsError, match="are no pairs; a test needs two pairs or more"):
            paired_p(first, second)


def test_holm_adjusts_as_published():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_the_interval_is_scipys_and_the_same_every_time():
    values = [0.91, 0.93, 0.92, 0.96, 0.90]
    found = interval_of_mean(values)
    assert found == interval_of_mean(values)
    expected = stats.bootstrap((values,), lambda x, axis: x.mean(axis), method="BCa", rng=0).confidence_interval
    assert found == pytest.approx((expected.low, expected.high))
    assert found[0] < mean(values) < found[1]
    narrower = interval_of_mean(values, confidence=0.5)
    assert found[0] < narrower[0] < narrower[1] < found[1]


def test_the_interval_of_one_value_or_of_equal_ones():
    assert interval_of_mean([0.5]) is None
    assert interval_of_mean([0.5, 0.5, 0.5]) == (0.5, 0.5)
    low, high = interval_of_mean([0.4, 0.6])
    assert 0.4 <= low < high <= 0.6


def test_an_interval_of_many_values_covers_the_mean_as_often_as_it_claims():
    draws = random.Random(1)
    held = 0
    for i in range(60):
        low, high = interval_of_mean([draws.gauss(0, 1) for _ in range(30)], seed=i)
        held += low <= 0 <= high
    assert held >= 51  # 57 expected


@pytest.mark.parametrize(("effect", "expected"), [(0.5, 34), (0.8, 15), (0.2, 199)])
def test_seeds_needed_are_those_of_cohens_tables(effect, expected):
    differences = [effect - math.sqrt(0.5), effect + math.sqrt(0.5)]  # of standard deviation 1
    assert seeds_needed(differences) == expected


def test_seeds_needed_follow_what_the_permutation_test_can_reach():
    assert seeds_needed([1.0, 1.0, 1.0]) == 6
    assert seeds_needed([1.0, 1.0], alpha=0.01) == 8
    assert seeds_needed([-0.01, 0.01]) is None
    assert seeds_needed([1 - 1e3, 1 + 1e3]) is None
    assert seeds_needed([1.0]) is None


def verdict(first, second):
    return judge([{"A": dict(enumerate(first)), "B": dict(enumerate(second))}])[0][0]


def test_a_clear_difference_is_said_with_interval_and_p():
    gaps = (0.012, 0.010, 0.013, 0.015, 0.011, 0.009, 0.014, 0.012)
    found = verdict([0.9 + g for g in gaps], [0.9] * 8)
    assert found.text.startswith("A is better than B by 1.20 points (95 % interval 1.0")
    assert found.text.endswith(", p = 0.0078 after Holm)")
    assert verdict([0.9] * 8, [0.9 + g for g in gaps]).text.startswith("A is worse than B by 1.20 points (95 % int")


def test_what_cannot_be_told_apart_is_said_with_the_seeds_that_it_would_take():
    found = verdict([0.90, 0.93, 0.92], [0.91, 0.91, 0.91])
    assert not found.distinguishable
    assert "A and B are not distinguishable: 0.67 points (95 % interval" in found.text
    assert f"; about {found.needed - 3} more seeds would be needed" in found.text
    assert f"more than {MOST_SEEDS:,} seeds" in verdict([0.9, 0.9], [0.9, 0.9]).text
    assert verdict([0.9, 0.8], [0.8, 0.7]).text.endswith("about 4 more seeds would be needed")  # 2 / 2^6 < 0.05


def test_one_seed_gives_no_spread():
    found = verdict([0.8], [0.9])
    assert found.text == "A is 10.00 points below B; one seed gives no spread: a spread needs at least two seeds"
    assert (found.p, found.interval, found.distinguishable) == (None, None, False)


def test_only_common_seeds_are_compared_and_all_tests_are_one_family():
    values = {"A": {0: 0.9, 1: 0.8, 2: 0.7}, "B": {1: 0.7, 2: 0.6, 3: 0.1}, "C": {9: 0.5}}
    ab, ac, bc = judge([values])[0]
    assert (ab.pairs, ab.difference) == (2, pytest.approx(0.1))
    assert ac.difference is None is bc.difference
    assert "no seed in common" in ac.text
    eight = {"A": dict.fromkeys(range(8), 0.9), "B": dict.fromkeys(range(8), 0.8)}
    alone, both = judge([eight]), judge([eight, eight])
    assert alone[0][0].p == pytest.approx(2 / 2**8)
    assert [v.p for (v,) in both] == pytest.approx([4 / 2**8] * 2)
    first_only = judge([{**eight, "C": eight["A"]}], against_first=True)[0]
    assert [(v.first, v.second) for v in first_only] == [("B", "A"), ("C", "A")]


def test_rank_agreement_is_scipys_for_all_and_within_each_group():
    draws = random.Random(0)
    truths = [draws.random() for _ in range(30)]
    scores = [t + 0.2 * draws.random() for t in truths]
    groups = [i % 3 for i in range(30)]
    found = rank_agreement(scores, truths, groups)
    assert list(found) == [None, 0, 1, 2]
    assert found[None].kendall == pytest.approx(stats.kendalltau(scores, truths).statistic)
    assert found[2].spearman == pytest.approx(stats.spearmanr(scores[2::3], truths[2::3]).statistic)
    low, high = found[None].kendall_interval
    assert 0.5 < low < found[None].kendall < high <= 1
    assert found == rank_agreement(scores, truths, groups)


def test_rank_agreement_of_constant_scores_is_not_known():
    assert rank_agreement([1, 1, 1], [1, 2, 3])[None].kendall is None
    assert rank_agreement([1, 2], [1, 2])[None].kendall == 1
    assert rank_agreement([1, 2], [1, 2])[None].kendall_interval is None
    with pytest.raises(SettingsError, match="2 scores and 1 truths do not match"):
        rank_agreement([1, 2], [1])


def test_a_verdict_of_a_tiny_p_says_so():
    assert "p = below 0.001" in Verdict("A", "B", 20, 0.1, (0.05, 0.15), 0.0001).text
