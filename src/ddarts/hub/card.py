"""The model card: what is known of a trained network, for people who find it on the hub.

Every number is counted from the network or read from the run that trained it. What is not known is left out.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from ddarts.cost.counting import count_macs, count_parameters
from ddarts.genotype.genotype import Genotype
from ddarts.nn.tasks import Task

if TYPE_CHECKING:
    from ddarts.hub.saved import ModelConfig
    from ddarts.nn.choice_network import AnyNetwork

_MOST_BYTES = 1024 * 1024

#: Read by the hub, as its documentation of model cards describes.
_HEAD = """---
library_name: ddarts
{kind}
- neural-architecture-search
# license: name the licence of your weights here before you publish, for example apache-2.0
---
"""


@dataclass(frozen=True)
class TrainingFacts:
    """What a run says about the network that it trained; None where it says nothing.

    Attributes:
        data: name of the data set, without folders.
        test_top1, val_top1: share of images whose class is found, 0 to 1, or another score
            (`ddarts.nn.tasks.Task.shown`).
        tested: number of test images.
        verdict: how it compares with a standard network of the same size, in words.
        train_images: number of training images.
        searched: whether the run searched the architecture too.
        versions: name and version of each package that made it.
        changed: whether the weights are no longer those that the run left: then its accuracy says nothing of them.
    """

    data: str | None = None
    test_top1: float | None = None
    val_top1: float | None = None
    tested: int | None = None
    verdict: str | None = None
    train_images: int | None = None
    searched: bool = False
    versions: tuple[tuple[str, str], ...] = ()
    changed: bool = False


def training_facts(network: AnyNetwork, folder: Path | None) -> TrainingFacts:
    """Return what the run around a network's model folder says; a network without a run has no facts."""
    if folder is None or not (folder.parent / "settings.yaml").is_file():
        return TrainingFacts()
    summary, test = (_read(folder.parent / name) for name in ("summary.json", "test.json"))
    task = Task.of(summary)
    changed = not _same_weights(network, folder)
    versions, reference = summary.get("versions"), summary.get("reference")
    verdict = None if changed or not isinstance(reference, dict) else reference.get("verdict")
    return TrainingFacts(
        data=_data_name(summary.get("data")),
        test_top1=None if changed else _score(summary.get("test_top1"), task),
        val_top1=None if changed else _score(summary.get("val_top1"), task),
        tested=None if changed or test.get("top1") != summary.get("test_top1") else _whole(test.get("count")),
        verdict=_plain(verdict) if verdict else None,
        train_images=_whole(summary.get("train_images")),
        searched="search_s" in summary,
        versions=tuple((_plain(n), _plain(v)) for n, v in versions.items()) if isinstance(versions, dict) else (),
        changed=changed,
    )


def model_card(
    network: AnyNetwork, config: ModelConfig, facts: TrainingFacts, name: str, repository: str | None = None
) -> str:
    """Return the text of README.md.

    Args:
        network: any device.
        config: its description.
        facts: what its run says.
        name: what the card is headed with.
        repository: USER/NAME on the hub, if there is to be one.
    """
    height, width = config.resolution
    kind = {1: "grey", 3: "RGB"}.get(config.in_channels, f"{config.in_channels}-channel")
    made_of = "made of cells" if isinstance(network.genotype, Genotype) else "made of choices"
    how = "found by differentiable architecture search and trained" if facts.searched else made_of
    shown = [f"`{_plain(c)}`" for c in config.classes[:100]]
    more = f" and {len(config.classes) - 100} more (config.json)" if len(config.classes) > 100 else ""
    loading = f'Network.from_pretrained("{repository or "FOLDER"}")'
    if not isinstance(network.genotype, Genotype):
        loading = 'load_model("FOLDER").network'
    rows = list(_rows(network, config, facts))
    what, head, heading = {
        "classification": (
            "An image classifier",
            "pipeline_tag: image-classification\ntags:\n- image-classification",
            "Classes",
        ),
        "multi-label": (
            "A classifier of images with several labels each",
            "pipeline_tag: image-classification\ntags:\n- image-classification\n- multi-label-classification",
            "Labels",
        ),
        "regression": ("A regression on images", "tags:\n- image-regression", "Numbers"),
    }[config.task.kind]
    does = {
        "classification": f"distinguishes {len(config.classes)} classes",
        "multi-label": f"says which of {config.task.outputs(len(config.classes))} apply",
        "regression": f"estimates {config.task.outputs(len(config.classes))} for each",
    }[config.task.kind]
    measure = "accuracy" if config.task.kind == "classification" else config.task.metric
    lines = [
        f"# {_plain(name)}",
        "",
        f"{what}, {how} with ddarts (D-DARTS, arXiv 2108.09306).",
        f"It takes {kind} images of {height}x{width} pixels and {does}.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {left} | {right} |" for left, right in rows),
        "",
    ]
    if facts.changed:
        lines += [f"The weights were changed after the run that they come from; their {measure} was not measured.", ""]
    elif facts.test_top1 is None:
        lines += [f"Its {measure} on test images was not measured.", ""]
    lines += [
        "## Use",
        "",
        "```sh",
        "pip install ddarts",
        *([f"hf download {repository} --local-dir FOLDER"] if repository else []),
        "ddarts predict --model FOLDER IMAGE.png",
        "```",
        "",
        "```python",
        "import ddarts",
        "",
        f"network = ddarts.{loading}",
        "```",
        "",
        f"Images are scaled until they cover {height}x{width} pixels and cut to their centre, divided by 255, and",
        f"normalised with mean {_list(config.mean)} and standard deviation {_list(config.std)}.",
        "",
        f"## {heading}",
        "",
        ", ".join(shown) + more,
        "",
        "## Licence",
        "",
        "To be named by who publishes the weights.",
        "",
    ]
    return _HEAD.format(kind=head) + "\n" + "\n".join(lines)


def _rows(network: AnyNetwork, config: ModelConfig, facts: TrainingFacts) -> Any:
    if facts.data is not None:
        count = f", training part of {facts.train_images:,} images" if facts.train_images is not None else ""
        yield "data", f"{facts.data}{count}"
    if facts.test_top1 is not None:
        count = f" ({facts.tested:,} images)" if facts.tested is not None else ""
        yield f"{config.task.metric} on test images", f"{config.task.shown(facts.test_top1)}{count}"
    if facts.verdict is not None:
        yield "compared on the same test images", facts.verdict
    if facts.val_top1 is not None:
        yield f"{config.task.metric} on validation images", config.task.shown(facts.val_top1)
    height, width = config.resolution
    yield "parameters", f"{count_parameters(network):,}"
    yield f"multiply-adds at {height}x{width}", f"{count_macs(network, (config.in_channels, height, width)):,}"
    genotype = network.genotype
    if isinstance(genotype, Genotype):
        yield "cells", f"{len(genotype)}, reductions at {', '.join(map(str, genotype.reductions)) or 'none'}"
    else:
        yield "choices", f"{len(genotype)}, of the space {genotype.space}"
    if facts.versions:
        yield "made with", ", ".join(f"{n} {v}" for n, v in facts.versions)


def _same_weights(network: AnyNetwork, folder: Path) -> bool:
    """Return whether the network still has the weights of its folder."""
    try:
        with safe_open(str(folder / "model.safetensors"), framework="pt") as weights:
            stored = set(weights.keys())
            state = network.state_dict()
            return stored <= state.keys() and all(
                torch.equal(weights.get_tensor(name), state[name].detach().cpu()) for name in stored
            )
    except (OSError, SafetensorError):
        return False


def _read(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a run; what is missing or broken says nothing."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return {}
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _data_name(value: Any) -> str | None:
    """Return the name of a data set without the folders that lead to it: they are nobody's business."""
    if not isinstance(value, str) or not value:
        return None
    head = value if os.path.isabs(value) else value.partition(":")[0]
    return _plain(Path(head).name) or None


def _score(value: Any, task: Task) -> float | None:
    most, least = (0, -1e30) if task.kind == "regression" else (1, 0)
    return float(value) if type(value) in (int, float) and least <= value <= most else None


def _whole(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _plain(value: Any) -> str:
    """Return text that can break out of no cell, quotation or line of the card."""
    text = "".join(c if c.isprintable() else " " for c in str(value))[:200]
    return text.translate(str.maketrans({"`": "'", "|": "/", "<": "(", ">": ")", '"': "'", "[": "(", "]": ")"}))


def _list(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{v:.4g}" for v in values) + ")"
