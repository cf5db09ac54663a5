"""A trained network as a folder of plain data: model.safetensors and config.json. Loading runs no code from it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ddarts.architecture import checks
from ddarts.architecture.genotype import Genotype
from ddarts.errors import DDartsError, GenotypeError, nearest
from ddarts.files import write_bytes, write_text
from ddarts.models.network import Network
from ddarts.models.resolution import STEM_HALVINGS

FORMAT = "ddarts-model"
VERSION = 1
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
_MAX_CHANNELS = 2**16
_MAX_SIDE = 2**16


class ModelError(DDartsError):
    """A model folder is missing, broken, or holds weights that do not fit its own description."""


@dataclass(frozen=True)
class ModelConfig:
    """What a network is and how its images are prepared: all that config.json tells besides the genotype.

    Attributes:
        channels: C of the first cell.
        in_channels: channels of the images, 1 (grey), 3 (RGB) or others.
        classes: names of the classes, in the order of the logits.
        stem: "cifar" or "imagenet".
        auxiliary: whether the weights hold the auxiliary head.
        resolution: (height, width) of the images in pixels.
        mean, std: of each channel, of images scaled to 0..1; the network wants (image - mean) / std.
    """

    channels: int
    in_channels: int
    classes: tuple[str, ...]
    stem: str
    auxiliary: bool
    resolution: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A network in evaluation mode, and its description."""

    network: Network
    config: ModelConfig


def save_model(
    folder: str | os.PathLike[str],
    network: Network,
    *,
    classes: Sequence[str],
    resolution: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    auxiliary: bool = False,
) -> None:
    """Write a network into `folder`, which is made if need be; each file appears whole or not at all.

    Args:
        folder: where to write.
        network: any device, any memory format.
        classes: names of the classes, in the order of the logits.
        resolution: (height, width) of the images in pixels.
        mean, std: of each channel, of images scaled to 0..1.
        auxiliary: keep the auxiliary head, which only training uses and which may be larger than the rest.

    Raises:
        ModelError: the description does not fit the network.
        RunError: a file cannot be written.
    """
    folder = Path(folder)
    config = ModelConfig(
        channels=network.channels,
        in_channels=network.in_channels,
        classes=tuple(classes),
        stem=network.stem_name,
        auxiliary=auxiliary and network.auxiliary is not None,
        resolution=(int(resolution[0]), int(resolution[1])),
        mean=tuple(float(m) for m in mean),
        std=tuple(float(s) for s in std),
    )
    _check(config, str(folder))
    if len(config.classes) != network.classes:
        raise ModelError(f"{folder}: {len(config.classes)} names for a network of {network.classes} classes")
    data = {"format": FORMAT, "version": VERSION, **asdict(config), "genotype": network.genotype.to_dict()}
    state = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
        if config.auxiliary or not name.startswith("auxiliary.")
    }
    write_bytes(folder / WEIGHTS_NAME, save(state, metadata={"format": "pt"}))
    write_text(folder / CONFIG_NAME, json.dumps(data, indent=2) + "\n")


def load_model(folder: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> SavedModel:
    """Read a network that `save_model` wrote, from its folder or from the folder of the run that trained it.

    Nothing in the folder is trusted: sizes are compared with the weights that are there before memory is claimed.

    Raises:
        ModelError: a file is missing or broken, or the weights do not fit config.json (the first tensor is named).
    """
    folder = Path(folder)
    if not (folder / CONFIG_NAME).exists() and (folder / "model").is_dir():
        folder = folder / "model"
    try:
        config, genotype = _read_config(folder)
    except GenotypeError as error:
        raise ModelError(str(error)) from None
    try:
        with torch.device("meta"):
            network = Network(
                genotype,
                channels=config.channels,
                in_channels=config.in_channels,
                classes=len(config.classes),
                stem=config.stem,
                auxiliary=config.auxiliary,
            )
    except (RuntimeError, OverflowError, TypeError, ValueError):
        raise ModelError(
            f"{folder / CONFIG_NAME}: channels = {config.channels}, doubled {len(genotype.reductions)} times, are more "
            "than any network can have; is the file broken?"
        ) from None
    state = _read_weights(folder / WEIGHTS_NAME, network.state_dict(), torch.device(device))
    network.load_state_dict(state, assign=True)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return SavedModel(network.eval(), config)


def _read_config(folder: Path) -> tuple[ModelConfig, Genotype]:
    """Read and check config.json."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder; check the path or run `ddarts train`")
    text, where = checks.read_text(folder / CONFIG_NAME, what="model", inside=CONFIG_NAME, way_out="ddarts train")
    data = checks.parse(text, where, "model description")
    checks.header(data, where, what="model", form=FORMAT, version=VERSION)
    fields = tuple(ModelConfig.__dataclass_fields__)
    checks.mapping(data, where, required=("format", "version", "genotype", *fields))
    config = ModelConfig(
        channels=checks.integer(data["channels"], f"{where}: channels"),
        in_channels=checks.integer(data["in_channels"], f"{where}: in_channels"),
        classes=tuple(
            checks.text(c, f"{where}: classes[{i}]")
            for i, c in enumerate(checks.listing(data["classes"], f"{where}: classes"))
        ),
        stem=checks.text(data["stem"], f"{where}: stem"),
        auxiliary=_boolean(data["auxiliary"], f"{where}: auxiliary"),
        resolution=_pair(checks.integers(data["resolution"], f"{where}: resolution"), f"{where}: resolution"),
        mean=_numbers(data["mean"], f"{where}: mean"),
        std=_numbers(data["std"], f"{where}: std"),
    )
    _check(config, where)
    return config, Genotype.from_dict(data["genotype"], f"{where}: genotype")


def _check(config: ModelConfig, where: str) -> None:
    """Raise `ModelError` unless every field is in its range and the lengths agree."""
    for name in ("channels", "in_channels"):
        value = getattr(config, name)
        if not 1 <= value <= _MAX_CHANNELS:
            raise ModelError(f"{where}: {name} = {checks.shown(value)} is out of range, expected 1 to {_MAX_CHANNELS}")
    if not config.classes:
        raise ModelError(f"{where}: classes is empty; a network needs at least one")
    if len(set(config.classes)) != len(config.classes):
        twice = next(c for c in config.classes if config.classes.count(c) > 1)
        raise ModelError(f"{where}: the class {checks.shown(twice)} stands twice")
    if config.stem not in STEM_HALVINGS:
        raise ModelError(f"{where}: unknown stem {checks.shown(config.stem)}{nearest(config.stem[:60], STEM_HALVINGS)}")
    if any(not 1 <= side <= _MAX_SIDE for side in config.resolution):
        raise ModelError(f"{where}: resolution {checks.shown(list(config.resolution))} must be 1 to {_MAX_SIDE} pixels")
    for name in ("mean", "std"):
        values = getattr(config, name)
        if len(values) != config.in_channels:
            raise ModelError(f"{where}: {name} has {len(values)} values for {config.in_channels} image channels")
    if any(value <= 0 for value in config.std):
        raise ModelError(f"{where}: std {checks.shown(list(config.std))} must be above 0")


def _read_weights(path: Path, expected: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Read the tensors whose names and shapes are those of `expected` (on the meta device)."""
    try:
        with safe_open(str(path), framework="pt", device=str(device)) as weights:
            found = set(weights.keys())
            _name_difference(path, "lacks", sorted(expected.keys() - found))
            _name_difference(path, "holds, and config.json does not know of,", sorted(found - expected.keys()))
            for name, tensor in expected.items():
                shape = weights.get_slice(name).get_shape()
                if list(shape) != list(tensor.shape):
                    raise ModelError(
                        f"{path}: {name} has the shape {shape}, expected {list(tensor.shape)} by config.json; "
                        "the two files are not of one model"
                    )
            state = {name: weights.get_tensor(name) for name in expected}
    except FileNotFoundError:
        raise ModelError(f"{path}: no such weights file; copy it from where the model was trained") from None
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a readable safetensors file: {' '.join(str(error).split())[:200]}") from None
    for name, tensor in state.items():
        if tensor.dtype != expected[name].dtype:
            raise ModelError(f"{path}: {name} is {tensor.dtype}, expected {expected[name].dtype}")
        if not tensor.isfinite().all():
            raise ModelError(f"{path}: {name} holds values that are not finite; train the network again")
    return state


def _name_difference(path: Path, verb: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise ModelError(f"{path} {verb} the tensor {names[0][:200]}{more}; the two files are not of one model")


def _boolean(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise ModelError(f"{where}: {checks.shown(value)} must be true or false")
    return value


def _pair(values: tuple[int, ...], where: str) -> tuple[int, int]:
    if len(values) != 2:
        raise ModelError(f"{where}: expected [height, width], found {len(values)} numbers")
    return values[0], values[1]


def _numbers(data: Any, where: str) -> tuple[float, ...]:
    values = checks.listing(data, where)
    for i, value in enumerate(values):
        if type(value) not in (int, float) or not abs(value) <= 1e6:  # NaN compares false
            raise ModelError(f"{where}[{i}]: {checks.shown(value)} must be a number")
    return tuple(float(value) for value in values)
