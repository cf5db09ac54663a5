"""How images become what a network takes, and what its logits mean: plain data that travels with every model file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ddarts.errors import DDartsError, GenotypeError, nearest
from ddarts.nn.tasks import CLASSIFICATION, KINDS, Kind, Task
from ddarts.runtime import json_input as checks

FORMAT = "ddarts-preprocessing"
VERSION = 1
FILE_NAME = "preprocessing.json"

#: The largest number of channels, and of pixels a side, that a description may name.
MAX_CHANNELS = 2**16
MAX_SIDE = 2**16

#: The smallest standard deviation: float32 can divide by it.
_LEAST_STD = 1e-7

#: For readers in other languages: what `ddarts.data.decode.decode` and `ddarts.data.Normalise` do.
_STEPS = {
    "resize": "scale (bilinear, antialiased) until the image covers [height, width], keep the centre",
    "scale": "divide 8-bit values by 255",
    "normalise": "(image - mean) / std, channel by channel",
    "input": "images: float32 [batch, in_channels, height, width]",
}
OUTPUTS: dict[Kind, str] = {
    "classification": "logits: float32 [batch, classes]; softmax gives probabilities",
    "multi-label": "logits: float32 [batch, classes]; sigmoid gives the probability of each label",
    "regression": "logits: float32 [batch, columns]; logits * target_std + target_mean gives the values",
}
#: Keys of what is said of a task other than classification.
TASK_KEYS = ("task", "target_mean", "target_std")


class ModelError(DDartsError):
    """A model is missing, broken, or holds weights that do not fit its own description."""


@dataclass(frozen=True)
class Preprocessing:
    """How images are prepared for a network, and the names of its classes.

    Attributes:
        in_channels: channels of the images, 1 (grey), 3 (RGB) or others.
        resolution: (height, width) of the images in pixels.
        mean, std: of each channel, of images scaled to 0..1; the network wants (image - mean) / std.
        classes: names of the classes, in the order of the logits; of the columns, for regression.
        task: what the logits mean.
    """

    in_channels: int
    resolution: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    task: Task = CLASSIFICATION

    def check(self, where: str) -> None:
        """Raise `ModelError`, its message beginning with `where`, unless all is in range and the lengths agree."""
        if not 1 <= self.in_channels <= MAX_CHANNELS:
            raise ModelError(
                f"{where}: in_channels = {checks.shown(self.in_channels)} is out of range, expected 1 to {MAX_CHANNELS}"
            )
        if not self.classes:
            raise ModelError(f"{where}: classes is empty; a network needs at least one")
        if len(set(self.classes)) != len(self.classes):
            twice = next(c for c in self.classes if self.classes.count(c) > 1)
            raise ModelError(f"{where}: the class {checks.shown(twice)} stands twice")
        if any(not 1 <= side <= MAX_SIDE for side in self.resolution):
            raise ModelError(
                f"{where}: resolution {checks.shown(list(self.resolution))} must be 1 to {MAX_SIDE} pixels"
            )
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != self.in_channels:
                raise ModelError(f"{where}: {name} has {len(values)} values for {self.in_channels} image channels")
        if self.task.kind == "regression":
            if {len(self.task.mean), len(self.task.std)} != {len(self.classes)}:
                raise ModelError(f"{where}: target_mean and target_std must have a value for each of the classes")
            if any(value <= 0 for value in self.task.std):
                raise ModelError(f"{where}: target_std {checks.shown(list(self.task.std))} must be above 0")
        if any(value < _LEAST_STD for value in self.std):
            raise ModelError(f"{where}: std {checks.shown(list(self.std))} must be at least {_LEAST_STD:g}")

    @classmethod
    def from_fields(cls, data: dict[str, Any], where: str) -> Preprocessing:
        """Build from JSON data that has all the fields, checking each.

        Raises:
            GenotypeError: a field has the wrong type.
            ModelError: a value is out of range, or the lengths disagree.
        """
        found = cls(
            in_channels=checks.integer(data["in_channels"], f"{where}: in_channels"),
            resolution=_pair(checks.integers(data["resolution"], f"{where}: resolution"), f"{where}: resolution"),
            mean=_numbers(data["mean"], f"{where}: mean"),
            std=_numbers(data["std"], f"{where}: std"),
            classes=tuple(
                checks.text(c, f"{where}: classes[{i}]")
                for i, c in enumerate(checks.listing(data["classes"], f"{where}: classes"))
            ),
            task=_task(data, where),
        )
        found.check(where)
        return found

    def to_json(self) -> str:
        """Return the text of preprocessing.json, which names the steps for readers that are not ddarts, too."""
        data = {
            "format": FORMAT,
            "version": VERSION,
            "in_channels": self.in_channels,
            "resolution": list(self.resolution),
            "mean": list(self.mean),
            "std": list(self.std),
            "classes": list(self.classes),
            **self.task.to_dict(),
            "steps": _STEPS | {"output": OUTPUTS[self.task.kind]},
        }
        return json.dumps(data, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Preprocessing:
        """Read the text that `to_json` wrote, or untrusted text; `where` names it in messages.

        Raises:
            ModelError: the text is not such a description, or a value is out of range.
        """
        try:
            data = checks.parse(text, where, "description of a model's images")
            checks.header(data, where, what="preprocessing", form=FORMAT, version=VERSION)
            fields = tuple(name for name in cls.__dataclass_fields__ if name != "task")
            checks.mapping(data, where, required=("format", "version", *fields), optional=("steps", *TASK_KEYS))
            return cls.from_fields(data, where)
        except GenotypeError as error:
            raise ModelError(str(error)) from None


def _task(data: dict[str, Any], where: str) -> Task:
    """Return the task; files without one are of classifications."""
    kind = data.get("task", "classification")
    if kind not in KINDS:
        raise ModelError(f"{where}: unknown task {checks.shown(kind)}{nearest(str(kind)[:60], KINDS)}")
    if kind != "regression":
        return Task(kind)
    mean, std = (_numbers(data.get(f"target_{n}"), f"{where}: target_{n}", 1e30) for n in ("mean", "std"))
    return Task(kind, mean, std)


def _pair(values: tuple[int, ...], where: str) -> tuple[int, int]:
    if len(values) != 2:
        raise ModelError(f"{where}: expected [height, width], found {len(values)} numbers")
    return values[0], values[1]


def _numbers(data: Any, where: str, most: float = 1e6) -> tuple[float, ...]:
    values = checks.listing(data, where)
    for i, value in enumerate(values):
        if type(value) not in (int, float) or not abs(value) <= most:  # NaN compares false
            raise ModelError(f"{where}[{i}]: {checks.shown(value)} must be a number")
    return tuple(float(value) for value in values)
