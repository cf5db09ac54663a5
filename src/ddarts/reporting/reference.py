"""A found network against a standard network of its size that was trained alike: the numbers and their words."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ddarts.errors import RunError
from ddarts.genotype.choices import load_genotype
from ddarts.reporting.formatting import cost_text, milliseconds, percent
from ddarts.reporting.values import checked
from ddarts.runs.folder import RunFolder, group_of
from ddarts.runtime.json_input import listing, parse
from ddarts.runtime.progress import format_seconds

#: Folder in a run, itself a run, with the training of the standard network that is compared.
REFERENCE = "reference"
#: Error probability from which on a difference is not called one.
_SIGNIFICANT = 0.05
#: Text of each number of the standard network.
_SHOWN: dict[str, Callable[[float], str]] = {
    "test_top1": percent,
    "val_top1": percent,
    "parameters": "{:,.0f}".format,
    "macs": "{:,.0f}".format,
    "size_bytes": partial(cost_text, "size"),
    "latency_ms": milliseconds,
    "train_s": format_seconds,
}


class Paired(NamedTuple):
    """The difference of two accuracies on the same images.

    Attributes:
        difference: of the shares of images whose class is found, the first network's minus the second's.
        low, high: its 95 % confidence interval.
        p: of McNemar's exact test: the probability of so large a difference among networks that are equally good.
    """

    difference: float
    low: float
    high: float
    p: float


def paired_difference(first: Collection[int], second: Collection[int], count: int) -> Paired:
    """Compare two networks by the images on which one of them is wrong and the other is not.

    Of n images, b are found by the first network only and c by the second only. McNemar's exact test asks whether b is
    binomial with b + c trials of probability 1/2. The interval comes from that of Clopper and Pearson for this
    probability q, as (2 q - 1)(b + c) / n: it excludes 0 exactly if p is below 0.05.

    Args:
        first, second: numbers of the images that each network gets wrong.
        count: n.
    """
    from scipy.stats import binomtest

    only_first, only_second = len(set(second) - set(first)), len(set(first) - set(second))
    unequal = only_first + only_second
    if not unequal:
        return Paired(0.0, 0.0, 0.0, 1.0)
    test = binomtest(only_first, unequal, 0.5)
    low, high = ((2 * q - 1) * unequal / count for q in test.proportion_ci(0.95, "exact"))
    return Paired((only_first - only_second) / count, low, high, float(test.pvalue))


def title_of(name: str) -> str:
    """Return ``ResNet-8`` for ``standard:resnet8``, and ``MobileNetV2 (11 blocks)`` for ``standard:mobilenet11``."""
    kind, number = name.partition(":")[2].rstrip("0123456789"), "".join(c for c in name if c.isdigit())
    return f"ResNet-{number}" if kind == "resnet" else f"MobileNetV2 ({number} blocks)"


def judged(title: str, paired: Paired) -> str:
    """Return the result in words, such as ``better than ResNet-8 of the same size by 1.2 points (0.3 to 2.1)``."""
    against = f"{title} of the same size"
    if paired.p >= _SIGNIFICANT:
        low, high = (f"{100 * bound + 0.0:.1f}" for bound in (paired.low, paired.high))
        return f"not distinguishable from {against} (difference {low} to {high} points)"
    word, sign = ("better", 1) if paired.difference > 0 else ("worse", -1)
    low, high = sorted(100 * sign * bound for bound in (paired.low, paired.high))
    return f"{word} than {against} by {100 * abs(paired.difference):.1f} points ({low:.1f} to {high:.1f})"


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % confidence interval of a share of `count` images, each 0 to 1."""
    z = 1.959964
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def conclusion(summary: Mapping[str, Any], path: Path) -> str:
    """Return in one line what a run has made: accuracy, size, latency, the comparison, and which files to take."""
    top1, count = summary.get("test_top1"), summary.get("test_images")
    parts = []
    if top1 is not None and count:
        low, high = wilson_interval(top1, count)
        parts.append(f"{percent(top1)} of {count} test images (95 % interval {100 * low:.1f} to {100 * high:.1f})")
    elif summary.get("val_top1") is not None:
        parts.append(f"{percent(summary['val_top1'])} of the validation images")
    for key in ("size_bytes", "latency_ms"):
        if summary.get(key) is not None:
            parts.append(_SHOWN[key](summary[key]))
    verdict = (summary.get("reference") or {}).get("verdict")
    return "; ".join([", ".join(parts), *filter(None, [verdict]), f"take {path / 'model'}"]) if parts else ""


def keep_reference(run: RunFolder) -> None:
    """Write the numbers of the standard network, and its difference to the run's own, into the summary of the run."""
    path = run.path / REFERENCE
    if not (path / "model" / "config.json").is_file():
        return
    genotype, other = load_genotype(path), RunFolder.open(path)
    summary = other.summary
    keys = ("parameters", "macs", "size_bytes", "latency_ms", "train_s", "val_top1", "test_top1")
    facts: dict[str, Any] = {"name": genotype.name, "title": title_of(genotype.name)}
    facts["channels"] = group_of(other.settings, "train").get("channels")
    facts |= {key: summary.get(key) for key in keys}
    tests = [_tested(folder / "test.json") for folder in (run.path, path)]
    if all(test is not None for test in tests):
        (count, wrong), (other_count, other_wrong) = tests  # type: ignore[misc]
        if count == other_count:
            paired = paired_difference(wrong, other_wrong, count)
            facts |= {"count": count, **paired._asdict(), "verdict": judged(facts["title"], paired)}
    run.update_summary(reference=facts)


def _tested(path: Path) -> tuple[int, list[int]] | None:
    """Return how many images a run was tested on, and the numbers of those that it got wrong."""
    if not path.is_file():
        return None
    data = parse(path.read_text(encoding="utf-8"), str(path), "a test")
    data = data if isinstance(data, dict) else {}
    wrong, count = listing(data.get("wrong"), f"{path}: wrong"), data.get("count")
    if type(count) is not int or len(wrong) > count or any(type(i) is not int or not 0 <= i < count for i in wrong):
        raise RunError(f"{path}: count and wrong do not fit together; delete the file and test again")
    return count, wrong


class Comparison(NamedTuple):
    """What a page shows of the standard network: its name, the result in words, and its numbers as text by key."""

    title: str
    verdict: str
    numbers: dict[str, str]


def comparison_of(summary: Mapping[str, Any]) -> Comparison | None:
    """Return the comparison in the summary of a run; None if there is none.

    Raises:
        RunError: the summary is damaged.
    """
    other = summary.get("reference")
    if not isinstance(other, dict):
        return None
    count = int(checked(other.get("count"), "count") or 0)
    numbers = {key: checked(other.get(key), key) for key in _SHOWN}
    texts = {key: _SHOWN[key](value) for key, value in numbers.items() if value is not None}
    top1 = numbers["test_top1"]
    if top1 is not None and count > 0 and 0 <= top1 <= 1:
        low, high = wilson_interval(top1, count)
        texts["test_top1"] += f" ({percent(low)} to {percent(high)})"
    return Comparison(f"{other.get('title')}, C = {other.get('channels')}", str(other.get("verdict") or ""), texts)
