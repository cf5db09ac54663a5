"""A found network against a standard network of its size that was trained alike: the numbers and their words."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddarts.errors import RunError
from ddarts.genotype.choices import load_genotype
from ddarts.nn.tasks import CLASSIFICATION, Task, scorer
from ddarts.reporting.formatting import cost_text, milliseconds, percent
from ddarts.reporting.values import checked
from ddarts.runs.folder import RunFolder, group_of
from ddarts.runtime.json_input import listing, parse, read_text
from ddarts.runtime.progress import format_seconds

#: Folder in a run, itself a run, with the training of the standard network that is compared.
REFERENCE = "reference"
#: Error probability from which on a difference is not called one.
_SIGNIFICANT = 0.05
#: Answers of a test for several labels or numbers: file in the run of the network.
ANSWERS = "answers.safetensors"
#: Text of each number of the standard network besides its scores.
_SHOWN: dict[str, Callable[[float], str]] = {
    "parameters": "{:,.0f}".format,
    "macs": "{:,.0f}".format,
    "size_bytes": partial(cost_text, "size"),
    "latency_ms": milliseconds,
    "train_s": format_seconds,
}


class Paired(NamedTuple):
    """The difference of two scores on the same images.

    Attributes:
        difference: the first network's score (share of images whose class is found) minus the second's.
        low, high: its 95 % confidence interval.
        p: the probability of so large a difference among networks that are equally good.
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


def bootstrapped_difference(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Paired:
    """Compare two networks by a paired bootstrap (Efron and Tibshirani, 1993) over the images of their test.

    Images are drawn with replacement, the same ones for both networks: the interval holds the middle 95 % of the
    differences of their scores, and p is twice the share of differences on the other side of 0.

    Args:
        first, second: what `ddarts.nn.tasks.scorer` makes scores of, of the same images.
    """
    count, columns = len(first["labels"]), first["labels"].shape[1]
    scores = [scorer(evidence) for evidence in (first, second)]
    draws = int(min(max(2e8 / (count * columns), 200), 2000))
    random, differences = np.random.default_rng(0), np.empty(draws)
    for i in range(draws):
        counts = torch.from_numpy(np.bincount(random.integers(count, size=count), minlength=count))
        differences[i] = scores[0](counts) - scores[1](counts)
    every = torch.ones(count)
    low, high = np.quantile(differences, (0.025, 0.975)).tolist()
    tail = min((differences <= 0).sum(), (differences >= 0).sum()).item()
    return Paired(scores[0](every) - scores[1](every), low, high, min(1.0, 2 * (tail + 1) / (draws + 1)))


def title_of(name: str) -> str:
    """Return ``ResNet-8`` for ``standard:resnet8``, and ``MobileNetV2 (11 blocks)`` for ``standard:mobilenet11``."""
    kind, number = name.partition(":")[2].rstrip("0123456789"), "".join(c for c in name if c.isdigit())
    return f"ResNet-{number}" if kind == "resnet" else f"MobileNetV2 ({number} blocks)"


def judged(title: str, paired: Paired, task: Task = CLASSIFICATION) -> str:
    """Return the result in words, such as ``better than ResNet-8 of the same size by 1.2 points (0.3 to 2.1)``."""
    against = f"{title} of the same size"
    text = "{:.4g}".format if task.kind == "regression" else lambda share: f"{100 * share + 0.0:.1f}"
    unit = "points" if task.kind == "classification" else f"points of {task.metric}"
    unit = f"in {task.metric}" if task.kind == "regression" else unit
    if task.kind == "classification" and paired.low == paired.high:
        return f"not distinguishable from {against} (right and wrong on the same images)"
    if paired.p >= _SIGNIFICANT:
        return f"not distinguishable from {against} (difference {text(paired.low)} to {text(paired.high)} {unit})"
    word, sign = ("better", 1) if paired.difference > 0 else ("worse", -1)
    low, high = sorted(sign * bound for bound in (paired.low, paired.high))
    return f"{word} than {against} by {text(abs(paired.difference))} {unit} ({text(low)} to {text(high)})"


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % confidence interval of a share of `count` images, each 0 to 1."""
    z = 1.959964
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def conclusion(summary: Mapping[str, Any], path: Path) -> str:
    """Return in one line what a run has made: accuracy, size, latency, the comparison, and which files to take."""
    top1, count, task = summary.get("test_top1"), summary.get("test_images"), Task.of(summary)
    parts = []
    if task.kind != "classification":
        tested = top1 is not None and count
        score, images = (top1, f"{count} test images") if tested else (summary.get("val_top1"), "the validation images")
        if score is not None:
            parts.append(f"{task.metric} {task.shown(score)} on {images}")
    elif top1 is not None and count:
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
    paired = _compared(run.path, path)
    if paired is not None:
        facts |= {"count": paired[0], **paired[1]._asdict()}
        facts["verdict"] = judged(facts["title"], paired[1], Task.of(run.summary))
    run.update_summary(reference=facts)


def _compared(first: Path, second: Path) -> tuple[int, Paired] | None:
    """Return the number of images on which the networks of two runs were tested, and their difference."""
    if (first / ANSWERS).is_file() and (second / ANSWERS).is_file():
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            evidence, other = (load_file(path / ANSWERS) for path in (first, second))
            same = torch.equal(evidence["labels"], other["labels"])
            return (len(evidence["labels"]), bootstrapped_difference(evidence, other)) if same else None
        except (OSError, SafetensorError, KeyError) as error:
            raise RunError(f"{first / ANSWERS}: cannot be read ({error}); delete it and test again") from None
    tests = [_tested(path / "test.json") for path in (first, second)]
    if any(test is None for test in tests):
        return None
    (count, wrong), (other_count, other_wrong) = tests  # type: ignore[misc]
    return (count, paired_difference(wrong, other_wrong, count)) if count == other_count else None


def _tested(path: Path) -> tuple[int, list[int]] | None:
    """Return how many images a run was tested on, and the numbers of those whose class was not found."""
    if not path.is_file():
        return None
    data = parse(*read_text(path, what="test", inside=path.name, way_out="ddarts test"), "test")
    data = data if isinstance(data, dict) else {}
    if Task.of(data).kind != "classification":
        return None
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
    count, task = int(checked(other.get("count"), "count") or 0), Task.of(summary)
    shown = {"test_top1": task.shown, "val_top1": task.shown, **_SHOWN}
    numbers = {key: checked(other.get(key), key) for key in shown}
    texts = {key: shown[key](value) for key, value in numbers.items() if value is not None}
    top1 = numbers["test_top1"]
    if task.kind == "classification" and top1 is not None and count > 0 and 0 <= top1 <= 1:
        low, high = wilson_interval(top1, count)
        texts["test_top1"] += f" ({percent(low)} to {percent(high)})"
    return Comparison(f"{other.get('title')}, C = {other.get('channels')}", str(other.get("verdict") or ""), texts)
