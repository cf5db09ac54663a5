"""The results of a run as rows of a table and as the few numbers at the top of the page."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ddarts.config.layers import presets
from ddarts.config.loading import default_preset, load_settings
from ddarts.config.schema import SharedSettings, TrainOptions
from ddarts.genotype.choices import choice_differences
from ddarts.genotype.distance import architecture_distance, cell_distances, edit_distance
from ddarts.nn.tasks import Task
from ddarts.reporting.collect import RunContents
from ddarts.reporting.formatting import cost_text, count_text, distance, milliseconds, percent, unread_cells
from ddarts.reporting.reference import comparison_of, wilson_interval
from ddarts.reporting.values import checked
from ddarts.runs.folder import group_of
from ddarts.runtime.progress import counted, format_seconds


@dataclass(frozen=True)
class Known:
    """How a number of summary.json is shown."""

    label: str
    text: Callable[[Any], str]


KNOWN = {
    "test_top1": Known("Test accuracy (top-1)", percent),
    "val_top1": Known("Validation accuracy (top-1)", percent),
    "parameters": Known("Parameters", count_text),
    "macs": Known("MACs per image", count_text),
    "size_bytes": Known("File of weights", partial(cost_text, "size")),
    "latency_ms": Known("Latency per image", milliseconds),
    "distance": Known("Hausdorff distance to the baseline", distance),
    "edit_distance": Known("Edit distance to the baseline", distance),
    "blocks_changed": Known("Blocks changed", percent),
    "search_s": Known("Search time", format_seconds),
    "train_s": Known("Training time", format_seconds),
}
_LABELS = {
    "data": "Data",
    "task": "Task",
    "classes": "Classes",
    "train_images": "Training images",
    "skipped": "Files skipped",
    "seed": "Seed",
    "best_epoch": "Epoch of the gates",
    "stopped": "Search stopped early",
}
#: Shown with latency_ms, or beside the settings.
_HIDDEN = ("latency_p95_ms", "latency_on", "latency_runtime", "latency_pytorch_ms", "found", "distance")
#: Settings of a final training that a longer one shares.
_TRAINED = (SharedSettings.model_fields.keys() | TrainOptions.model_fields.keys()) - {
    *("device", "devices", "machines", "min_steps", "steps_per_epoch", "checkpoint_steps")
}
_RISING = 0.005  # share of images by which a validation curve must rise over its last fifth


def known_of(key: str, task: Task) -> Known:
    """Return how a number of a run of this task is shown."""
    if task.kind == "classification" or key not in ("test_top1", "val_top1"):
        return KNOWN[key]
    return Known(f"{'Test' if key == 'test_top1' else 'Validation'}: {task.metric}", task.shown)


def numbers_of(run: RunContents) -> dict[str, float]:
    """Return the numbers of a run under the keys of `KNOWN`, those that are there."""
    found = {key: run.summary.get(key) for key in KNOWN}
    if run.genotype is not None and run.baseline is not None:
        found["distance"] = architecture_distance(run.genotype, run.baseline, run.weights)
        found["edit_distance"] = edit_distance(run.baseline, run.genotype)
    if run.choices is not None:  # the distance of their networks is that share
        found["blocks_changed"] = found.pop("distance")
    return {key: v for key, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}


@dataclass(frozen=True)
class Tile:
    """A number at the top of the page, with a note in small print, and that of the standard network if there is one."""

    label: str
    value: str
    note: str = ""
    reference: str = ""


def headline(run: RunContents) -> list[Tile]:
    """Return the numbers at the top of the page."""
    tiles = []
    numbers, other = numbers_of(run), comparison_of(run.summary)
    for key, number in numbers.items():
        if key == "val_top1" and "test_top1" in numbers:
            continue
        note = f"{number:,}" if key in ("parameters", "macs") and isinstance(number, int) else ""
        note = _latency_note(run.summary) if key == "latency_ms" else note
        if key == "blocks_changed" and run.choices is not None:
            note = f"{round(number * len(run.choices))} of {len(run.choices)}"
        known, against = known_of(key, run.task), other.numbers.get(key, "") if other else ""
        tiles.append(Tile(known.label, known.text(number), note, against))
    return tiles


def verdict(run: RunContents) -> str:
    """Return a sentence that answers whether the result is good; empty if nothing was measured yet."""
    test, val, task, other = run.test, run.summary.get("val_top1"), run.task, comparison_of(run.summary)
    compared = f", {other.verdict}" if other is not None and other.verdict else ""
    if task.kind != "classification":
        part, score = ("test", test.top1) if test is not None else ("validation", val)
        untested = compared if test is not None else "; it was not tested yet"
        known = isinstance(score, int | float)
        return f"{task.metric} {task.shown(score)} on {part} images{untested}." if known else ""
    if test is not None and test.count:
        low, high = wilson_interval(test.top1, test.count)
        sentence = (
            f"{percent(test.top1)} of {test.count} test images are classified correctly "
            f"(95 % confidence interval {percent(low)} to {percent(high)}){compared}"
        )
        named = zip(test.classes, test.confusion, strict=True)
        classes = [(row[i] / sum(row), sum(row), name) for i, (name, row) in enumerate(named) if sum(row)]
        if len(classes) > 1:
            totals = [total for _, total, _ in classes]
            weakest, _, name = min(classes)
            sentence += f"; always naming the most frequent class would give {percent(max(totals) / sum(totals))}"
            sentence += f"; the weakest class is {name} with {percent(weakest)}"
        return f"{sentence}."
    if isinstance(val, int | float):
        return f"{percent(val)} of the validation images are classified correctly; it was not tested yet."
    if "search_s" in run.summary and not group_of(run.settings, "train"):
        return "How good this network is shows once it is trained; it was not trained yet."
    return ""


def advice(run: RunContents) -> tuple[str, str] | None:
    """Return what to do next, and its command or Python."""
    if still_rising(run.records("train")):
        told = "Results on validation images were still improving at the end; train longer:"
        return told, longer_training(run.settings, run.name, run.summary.get("found", ()))
    data = str(run.summary.get("data"))
    if "search_s" not in run.summary or group_of(run.settings, "train") or " sha256:" in data:
        return None
    command = f"ddarts train --genotype {run.name} --data {shlex.quote(data)} --reference resnet"
    return "Train it, and a standard network of its size to compare it with:", command


def still_rising(records: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the validation accuracy in records of epochs was higher in their last fifth than before.

    Errors, which are below 0, must have fallen by the same share of what they were.
    """
    curve = [v for r in records if isinstance(v := r.get("val_accuracy"), int | float)]
    last = max(1, len(curve) // 5)
    return len(curve) > 2 and max(curve[-last:]) > (best := max(curve[:-last])) + _RISING * (
        abs(best) if best < 0 else 1
    )


def longer_training(settings: Mapping[str, Mapping[str, Any]], where: str, found: Iterable[str] = ()) -> str:
    """Return the command, or the Python of data from Python, that trains the network of a run twice as long.

    Args:
        settings: of the run by stage.
        where: the run.
        found: names of settings that were found from the images and the machine; they are found again.
    """
    stored: dict[str, Any] = {}
    for stage in ("train", "run"):
        stored |= settings.get(stage, {})
    options = stored.get("train", {})
    wanted = {name: v for name, v in (stored | options).items() if name in _TRAINED and name not in found}
    steps = options.get("steps_per_epoch")
    wanted["epochs"] = 2 * options.get("epochs", 1)

    def differences(preset: str) -> dict[str, Any]:
        usual = load_settings("train", preset=preset).model_dump()
        usual |= usual.pop("train")
        return {name: v for name, v in wanted.items() if usual.get(name) != v or name in ("epochs", "data")}

    data = str(stored.get("data", "digits"))
    given, usual = " sha256:" in data, default_preset(data)
    preset = min((usual, *presets()), key=lambda name: len(differences(name)))
    shown = {"data": data, "genotype": where} | ({} if preset == usual else {"preset": preset}) | differences(preset)
    shown |= {"out": f"{where}-longer"} | ({} if steps is None else {"steps_per_epoch": steps})
    if given:
        return f"ddarts.train({', '.join(f'{k}={v!r}' if k != 'data' else 'data' for k, v in shown.items())})"
    flags = []
    for name, value in shown.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            flags.append(f"--{flag} {shlex.quote(str(value))}")
    return f"ddarts train {' '.join(flags)}"


def summary_rows(run: RunContents) -> list[tuple[str, str]]:
    """Return the rows of the summary table: what the tiles do not show, then the rest of summary.json."""
    numbers, other, rows = numbers_of(run), comparison_of(run.summary), []
    if {"val_top1", "test_top1"} <= set(numbers):
        known, against = known_of("val_top1", run.task), other.numbers.get("val_top1") if other else None
        shown = known.text(numbers["val_top1"]) + (f" (standard network: {against})" if against else "")
        rows.append((known.label, shown))
    others = [key for key in run.summary if key not in _LABELS and key not in numbers and key not in _HIDDEN]
    for key in (*_LABELS, *others):
        value = run.summary.get(key)
        if value is None or isinstance(value, dict):
            continue
        shown = " x ".join(map(str, value)) if isinstance(value, list) else str(value)
        rows.append((_LABELS.get(key, key.replace("_", " ").capitalize()), shown))
    if run.choices:
        rows.append(("Choices", f"{len(run.choices)} of the space {run.choices.space}"))
    if run.genotype:
        reductions = ", ".join(map(str, run.genotype.reductions)) or "none"
        rows.append(("Cells", f"{len(run.genotype)} (reductions: {reductions})"))
    if run.baseline:
        about = unread_cells(run.baseline) or counted(len(run.baseline), "cell")
        rows.append(("Baseline", f"{run.baseline.name} ({about})".lstrip()))
    return rows


def changes(run: RunContents) -> list[tuple[str, str]]:
    """Return what a search from a baseline changed: costs of both networks at the width of the search, then blocks."""
    costs, rows = run.summary.get("against_baseline"), []
    for key in ("parameters", "macs"):
        pair = costs.get(key) if isinstance(costs, Mapping) else None
        if isinstance(pair, list) and len(pair) == 2:
            before, after = (checked(value, key) or 0.0 for value in pair)
            change = f" ({after / before - 1:+.1%})".replace("%", " %") if before and after != before else ""
            rows.append((KNOWN[key].label, f"{before:,.0f} \u2192 {after:,.0f}{change}"))
    if run.choices is not None and run.choices_before is not None:
        found = choice_differences(run.choices_before, run.choices)
        rows += [(f"{one.kind.capitalize()}: {one.choice}", f"{one.before} \u2192 {one.after}") for one in found]
    return rows


def _latency_note(summary: Mapping[str, Any]) -> str:
    p95, machine = summary.get("latency_p95_ms"), summary.get("latency_on")
    runtime, plain = summary.get("latency_runtime"), summary.get("latency_pytorch_ms")
    parts = [f"{runtime if isinstance(runtime, str) else 'pytorch'}, median of single images"]
    if isinstance(p95, int | float) and not isinstance(p95, bool):
        parts.append(f"95 % below {milliseconds(p95)}")
    if runtime != "pytorch" and isinstance(plain, int | float):
        parts.append(f"pytorch {milliseconds(plain)}")
    if isinstance(machine, str):
        parts.append(machine)
    return "; ".join(parts)


def distances_to_baseline(run: RunContents) -> tuple[float, ...]:
    """Return the Hausdorff distance of each cell to the one at its position in the baseline; empty without one."""
    if run.genotype is None or run.baseline is None:
        return ()
    return cell_distances(run.genotype, run.baseline, run.weights)


def what_was_run(run: RunContents) -> str:
    """Return in a sentence what was run, as far as the settings say."""
    search, train = group_of(run.settings, "search"), group_of(run.settings, "train")
    parts = []
    if search:
        start = f" from {search['baseline']}" if search.get("baseline") else ""
        cells = len(run.gates.values) if run.gates is not None else search.get("cells")
        what = f"{cells} cell{'s' * (cells != 1)}"
        if run.choices is not None:
            what = f"{len(run.choices)} choices in the space {run.choices.space}"
        parts.append(f"a search of {what}{start} for {_epochs(search, len(run.records('search')))}")
    if train:
        parts.append(f"a training for {_epochs(train, len(run.records('train')))} at C = {train.get('channels')}")
    data = run.summary.get("data")
    text = " and ".join(parts)
    return f"{text[:1].upper()}{text[1:]}{f' on {data}' if data else ''}." if text else ""


def _epochs(section: Mapping[str, Any], done: int) -> str:
    wanted = section.get("epochs")
    count = counted(wanted, "epoch") if isinstance(wanted, int) else f"{wanted} epochs"
    return f"{done} of {count}" if done and isinstance(wanted, int) and done < wanted else count
