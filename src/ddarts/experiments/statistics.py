"""Statistics for a few paired values: intervals, tests, corrections, the seeds still needed, and verdicts in words.

The values of two methods are paired by seed: the same seed draws the same split, batches and initial weights, so the
differences of pairs vary less than the values. With 3 to 10 pairs no distribution can be checked, so the test is the
exact sign-flip permutation test: it assumes only that, without a difference, each pair may as well be swapped
(Fisher 1935; Good, *Permutation, Parametric and Bootstrap Tests*, 3rd ed., section 3.6). SciPy computes everything.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from ddarts.errors import SettingsError

CONFIDENCE = 0.95
#: Resamples of the bootstrap, and permutations where all are too many (more than 13 pairs).
RESAMPLES = 9999
#: Pairs below which the test cannot find a difference: 2 / 2^5 is above 0.05.
LEAST_PAIRS = 6
#: More pairs than anybody trains: a difference that needs more counts as none.
MOST_SEEDS = 1000

Interval = tuple[float, float]


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean."""
    return math.fsum(values) / len(values)


def interval_of_mean(values: Sequence[float], *, confidence: float = CONFIDENCE, seed: int = 0) -> Interval | None:
    """Return the bootstrap confidence interval of the mean, None for fewer than two values.

    Bias-corrected and accelerated (BCa; Efron 1987), by `scipy.stats.bootstrap`. With fewer than about ten values a
    bootstrap interval is too narrow (it covers less than it claims): verdicts rest on the test, not on the interval.

    Args:
        values: of independent seeds.
        confidence: the share of repetitions in which the interval should hold the true mean.
        seed: of the resampling; the same values give the same interval.
    """
    if len(values) < 2:
        return None
    if min(values) == max(values):
        return values[0], values[0]
    from scipy import stats

    found = stats.bootstrap(
        (values,), _mean, n_resamples=RESAMPLES, confidence_level=confidence, method="BCa", rng=seed
    ).confidence_interval
    return float(found.low), float(found.high)


def paired_p(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> float:
    """Return the two-sided p-value of the sign-flip permutation test on the mean difference of pairs.

    p = share of the 2^n ways to swap within pairs whose mean difference is at least as far from 0. Exact for up to 13
    pairs, by `RESAMPLES` random swaps beyond. It cannot fall below 2 / 2^n: three pairs never give less than 0.25, and
    p < 0.05 takes at least six.

    Raises:
        SettingsError: the lengths differ, or there are fewer than two pairs.
    """
    if len(first) != len(second) or len(first) < 2:
        raise SettingsError(f"{len(first)} and {len(second)} values are no pairs; a test needs two pairs or more")
    if all(a == b for a, b in zip(first, second, strict=True)):
        return 1.0
    from scipy import stats

    def difference(a: Any, b: Any, axis: int) -> Any:
        return _mean(a - b, axis)

    test = stats.permutation_test(
        (first, second), difference, permutation_type="samples", n_resamples=RESAMPLES, vectorized=True, rng=seed
    )
    return float(test.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's step-down correction, which bounds the chance of any false claim.

    In ascending order, p'(i) = max over j <= i of min(1, (m - j + 1) p(j)) (Holm 1979).
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def seeds_needed(differences: Sequence[float], *, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Return how many pairs would tell the two apart if the difference is what it seems; None for more than 1,000.

    The smallest n at which the two-sided paired t-test of size `alpha` has the wanted power, with effect
    d = mean / standard deviation of the observed differences: 1 - F(t) >= power, F the noncentral t distribution with
    n - 1 degrees of freedom and noncentrality d sqrt(n) (Cohen 1988, chapter 2; the tail on the wrong side left out).
    Not below the n at which the permutation test can reach `alpha` at all, 1 + log2(1 / alpha).
    """
    if len(differences) < 2:
        return None
    from scipy import stats

    least = math.ceil(1 + math.log2(1 / alpha))
    average = mean(differences)
    deviation = math.sqrt(math.fsum((d - average) ** 2 for d in differences) / (len(differences) - 1))
    if deviation <= 1e-12 * max(map(abs, differences), default=0):
        return least if average else None

    def powerful(n: int) -> bool:
        t, shift = stats.t.ppf(1 - alpha / 2, n - 1), abs(average) / deviation * math.sqrt(n)
        return bool(stats.nct.sf(t, n - 1, shift) >= power)

    if average == 0 or not powerful(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS  # the power rises with n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if powerful(middle) else (middle, high)
    return max(high, least)


@dataclass(frozen=True)
class Verdict:
    """How two methods compare.

    Attributes:
        first, second: their names.
        pairs: seeds that both have.
        difference: mean of first minus second; None without a pair.
        interval: 95 % bootstrap interval of the difference; None with fewer than two pairs.
        p: of the paired test, after Holm's correction; None with fewer than two pairs.
        needed: seeds that would tell the two apart; None if that is not known or they are too many.
        unit: of the difference in words: points of a percent, or what an error is in.
    """

    first: str
    second: str
    pairs: int
    difference: float | None
    interval: Interval | None = None
    p: float | None = None
    needed: int | None = None
    unit: str = "points"

    @property
    def distinguishable(self) -> bool:
        """Whether the test finds a difference, p < 0.05 after the correction."""
        return self.p is not None and self.p < 1 - CONFIDENCE

    @property
    def text(self) -> str:
        """The verdict in words."""
        if self.difference is None:
            return f"{self.first} and {self.second} have no seed in common: nothing to compare"
        text = (
            "{:.4g}".format if self.unit != "points" else lambda share: f"{round(100 * share, 2) + 0.0:.2f}"
        )  # no -0.00
        points = f"{text(abs(self.difference))} {self.unit}"
        if self.interval is None or self.p is None:
            word = "above" if self.difference >= 0 else "below"
            return (
                f"{self.first} is {points} {word} {self.second}; one seed gives no spread: "
                "a spread needs at least two seeds"
            )
        sign = -1 if self.difference < 0 else 1
        low, high = sorted(sign * bound for bound in self.interval)
        facts = f"95 % interval {text(low)} to {text(high)}, p = {p_text(self.p)} after Holm"
        if self.distinguishable:
            word = "better" if self.difference > 0 else "worse"
            return f"{self.first} is {word} than {self.second} by {points} ({facts})"
        equal = f"{self.first} and {self.second} are not distinguishable: {points} ({facts})"
        if self.needed is None:
            return f"{equal}; a difference this small would need more than {MOST_SEEDS:,} seeds"
        more = max(self.needed - self.pairs, 1)
        return f"{equal}; about {more} more seed{'s' * (more != 1)} would be needed"


def p_text(p: float) -> str:
    """Return a p-value as text, such as 0.004."""
    return "below 0.001" if p < 0.001 else f"{p:.2g}"


def judge(
    families: Sequence[Mapping[str, Mapping[int, float]]],
    *,
    against_first: bool = False,
    units: Sequence[str] | None = None,
) -> list[tuple[Verdict, ...]]:
    """Compare methods in pairs, for each data set; all tests together are one family for Holm's correction.

    Args:
        families: for each data set, the values of each method by seed, larger the better.
        against_first: compare with the first method only, instead of every two.
        units: of the values of each data set in words (`Verdict.unit`); shares of 0 to 1 if not given.
    """
    pairs, p_values = [], []
    for values in families:
        names = [(name, next(iter(values))) for name in list(values)[1:]] if against_first else combinations(values, 2)
        pairs.append([(a, b, sorted(values[a].keys() & values[b].keys())) for a, b in names])
        for a, b, seeds in pairs[-1]:
            if len(seeds) > 1:
                p_values.append(paired_p([values[a][s] for s in seeds], [values[b][s] for s in seeds]))
    adjusted, strictest = iter(holm(p_values)), (1 - CONFIDENCE) / max(len(p_values), 1)
    found = []
    for values, named, unit in zip(families, pairs, units or ["points"] * len(pairs), strict=True):
        verdicts = []
        for a, b, seeds in named:
            gaps = [values[a][s] - values[b][s] for s in seeds]
            p = next(adjusted) if len(seeds) > 1 else None
            needed = seeds_needed(gaps, alpha=strictest)
            average, interval = mean(gaps) if gaps else None, interval_of_mean(gaps)
            verdicts.append(Verdict(a, b, len(seeds), average, interval, p, needed, unit))
        found.append(tuple(verdicts))
    return found


@dataclass(frozen=True)
class RankAgreement:
    """Rank correlations of scores with the truth, each with its 95 % bootstrap interval (None: too few, or ties only).

    Attributes:
        count: items ranked.
        kendall: tau-b, -1 to 1; None if either side is constant.
        spearman: rho, likewise.
    """

    count: int
    kendall: float | None
    kendall_interval: Interval | None
    spearman: float | None
    spearman_interval: Interval | None


def rank_agreement(
    scores: Sequence[float], truths: Sequence[float], groups: Sequence[Any] | None = None, *, seed: int = 0
) -> dict[Any, RankAgreement]:
    """Return how well scores order what they stand for, for all items (key None) and for each group.

    Kendall's tau-b and Spearman's rho by `scipy.stats`; percentile bootstrap over items (BCa's jackknife fails where
    leaving out one item leaves ties only).

    Args:
        scores: what a search believes of each genotype, or of each choice in a cell.
        truths: the accuracy of each.
        groups: a label for each item, such as its cell; every group is ranked within itself.

    Raises:
        SettingsError: the lengths differ.
    """
    if len(scores) != len(truths) or (groups is not None and len(groups) != len(scores)):
        raise SettingsError(f"{len(scores)} scores and {len(truths)} truths do not match; give one of each an item")
    found = {None: _agreement(list(scores), list(truths), seed)}
    for group in dict.fromkeys(groups or ()):
        chosen = [i for i, other in enumerate(groups or ()) if other == group]
        found[group] = _agreement([scores[i] for i in chosen], [truths[i] for i in chosen], seed)
    return found


def _agreement(scores: list[float], truths: list[float], seed: int) -> RankAgreement:
    if len(set(scores)) < 2 or len(set(truths)) < 2:
        return RankAgreement(len(scores), None, None, None, None)
    from scipy import stats

    values: list[Any] = []
    correlations: tuple[Any, ...] = (stats.kendalltau, stats.spearmanr)
    for correlation in correlations:
        with warnings.catch_warnings():  # a resample may hold one value only: its correlation is left out
            warnings.simplefilter("ignore")
            drawn = stats.bootstrap(
                (scores, truths),
                lambda a, b, of=correlation: of(a, b).statistic,
                paired=True,
                vectorized=False,
                n_resamples=999,
                method="percentile",
                rng=seed,
            ).bootstrap_distribution
        known = sorted(float(value) for value in drawn if value == value)
        tail = (1 - CONFIDENCE) / 2 * (len(known) - 1)
        enough = len(scores) > 3 and len(known) > 1
        values += [
            float(correlation(scores, truths).statistic),
            (known[math.floor(tail)], known[-1 - math.floor(tail)]) if enough else None,
        ]
    return RankAgreement(len(scores), *values)


def _mean(values: Any, axis: int = -1) -> Any:
    import numpy

    return numpy.mean(values, axis=axis)
