"""A trained network as a folder of plain data: model.safetensors and config.json. Loading runs no code from it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ddarts.cost.activations import peak_activation_bytes
from ddarts.errors import GenotypeError, nearest
from ddarts.genotype.choices import AnyGenotype, genotype_from_dict
from ddarts.genotype.genotype import Genotype
from ddarts.nn.choice_network import AnyNetwork, ChoiceNetwork
from ddarts.nn.network import Network
from ddarts.nn.preprocessing import MAX_CHANNELS, TASK_KEYS, ModelError, Preprocessing
from ddarts.nn.resolution import STEM_HALVINGS
from ddarts.nn.tasks import CLASSIFICATION, Task
from ddarts.runtime import json_input as checks
from ddarts.runtime.atomic_files import write_bytes, write_text
from ddarts.runtime.memory import available_memory

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"

FORMAT = "ddarts-model"
VERSION = 1
#: Key of config.json with the SHA-256 digest of the weights file; older folders lack it.
_DIGEST = "sha256"
#: Pixels an image, below which a forward pass needs little memory with any weights that fit into it.
_FEW_PIXELS = 64 * 64

__all__ = ["ModelConfig", "ModelError", "SavedModel", "load_model", "save_model"]


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
        task: what the logits mean.
    """

    channels: int
    in_channels: int
    classes: tuple[str, ...]
    stem: str
    auxiliary: bool
    resolution: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    task: Task = CLASSIFICATION

    @property
    def preprocessing(self) -> Preprocessing:
        """The part of the description that images and logits need, and weights do not."""
        return Preprocessing(self.in_channels, self.resolution, self.mean, self.std, self.classes, self.task)


Saved = TypeVar("Saved", bound=AnyNetwork, covariant=True)
Cells = TypeVar("Cells", bound=Network)


@dataclass(frozen=True, eq=False)
class SavedModel(Generic[Saved]):
    """A network in evaluation mode, its description, and the model folder that holds both."""

    network: Saved
    config: ModelConfig
    folder: Path

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.network.parameters())
        size = "x".join(map(str, (*self.config.resolution, self.config.in_channels)))
        return (
            f"{type(self).__name__}({str(self.folder)!r}, {count:,} parameters, images {size}, "
            f"{self.config.task.outputs(len(self.config.classes))})"
        )


def save_model(
    folder: str | os.PathLike[str],
    network: AnyNetwork,
    *,
    classes: Sequence[str],
    resolution: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    auxiliary: bool = False,
    task: Task = CLASSIFICATION,
) -> None:
    """Write a network into `folder`, which is made if need be; each file appears whole or not at all.

    Args:
        folder: where to write.
        network: any device, any memory format.
        classes: names of the classes, in the order of the logits.
        resolution: (height, width) of the images in pixels.
        mean, std: of each channel, of images scaled to 0..1.
        auxiliary: keep the auxiliary head, which only training uses and which may be larger than the rest.
        task: what the logits mean.

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
        task=task,
    )
    _check(config, str(folder))
    if len(config.classes) != network.classes:
        raise ModelError(f"{folder}: {len(config.classes)} names for a network of {network.classes} classes")
    state = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
        if config.auxiliary or not name.startswith("auxiliary.")
    }
    weights = save(state, metadata={"format": "pt"})
    data = {
        "format": FORMAT,
        "version": VERSION,
        **{name: value for name, value in asdict(config).items() if name != "task"},
        **task.to_dict(),
        _DIGEST: hashlib.sha256(weights).hexdigest(),
        "genotype": network.genotype.to_dict(),
    }
    write_bytes(folder / WEIGHTS_NAME, weights)
    write_text(folder / CONFIG_NAME, json.dumps(data, indent=2) + "\n")


def load_model(
    folder: str | os.PathLike[str], *, device: torch.device | str = "cpu", cells: type[Network] = Network
) -> SavedModel[AnyNetwork]:
    """Read a network of choices, or of cells as the class `cells`, that `save_model` wrote; see `load_model_as`."""
    folder, config, genotype, digest = _described(folder)
    build = cells if isinstance(genotype, Genotype) else ChoiceNetwork
    return _load(build, folder, config, genotype, digest, device)


def load_model_as(
    kind: type[Cells], folder: str | os.PathLike[str], *, device: torch.device | str = "cpu"
) -> SavedModel[Cells]:
    """Read a network of cells that `save_model` wrote, from its folder or from the folder of the run that trained it.

    Nothing in the folder is trusted: sizes are compared with the weights that are there before memory is claimed.

    Raises:
        ModelError: a file is missing or broken, the weights do not fit config.json (the first tensor is named), the
            network is one of choices, or one image of the resolution that it names takes more memory than there is.
    """
    folder, config, genotype, digest = _described(folder)
    if not isinstance(genotype, Genotype):
        raise ModelError(f"{folder}: a network of the choice space {genotype.space}; name a network of cells")
    return _load(kind, folder, config, genotype, digest, device)


def _described(folder: str | os.PathLike[str]) -> tuple[Path, ModelConfig, AnyGenotype, str | None]:
    """Return the model folder that `folder` means, and what its config.json says."""
    folder = Path(folder)
    if not (folder / CONFIG_NAME).exists() and (folder / "model").is_dir():
        folder = folder / "model"
    try:
        return (folder, *_read_config(folder))
    except GenotypeError as error:
        raise ModelError(str(error)) from None


def _load(
    build: Callable[..., Any],
    folder: Path,
    config: ModelConfig,
    genotype: AnyGenotype,
    digest: str | None,
    device: torch.device | str,
) -> SavedModel[Any]:
    try:
        with torch.device("meta"):
            network = build(
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
    if config.resolution[0] * config.resolution[1] > _FEW_PIXELS:
        images_at_once(network, config, 1, str(folder / CONFIG_NAME))
    state = _read_weights(folder / WEIGHTS_NAME, network.state_dict(), torch.device(device), digest)
    # copies: what lies in a file at odd addresses may be computed by other code, with other last digits
    network.load_state_dict({name: tensor.clone() for name, tensor in state.items()}, assign=True)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return SavedModel(network.eval(), config, folder)


def images_at_once(network: AnyNetwork, config: ModelConfig, wanted: int, where: str) -> int:
    """Return how many images, at most `wanted`, a forward pass can take with the memory that is available.

    Raises:
        ModelError: not even one.
    """
    shape = (1, config.in_channels, *config.resolution)
    try:
        needed = peak_activation_bytes(network, shape)
    except RuntimeError:  # more bytes than a number of 64 bits can count
        needed = 2**63
    available = available_memory()
    if needed > available:
        raise ModelError(
            f"{where}: one image of the resolution {list(config.resolution)} takes {needed / 2**30:.1f} GB, "
            f"{available / 2**30:.1f} GB are available; correct the resolution, or use a machine with more memory"
        )
    return min(wanted, max(available // (2 * needed), 1))  # twice, for what kernels need besides


def _read_config(folder: Path) -> tuple[ModelConfig, AnyGenotype, str | None]:
    """Read and check config.json; return the digest of the weights, too, if it has one."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder; check the path or run `ddarts train`")
    text, where = checks.read_text(folder / CONFIG_NAME, what="model", inside=CONFIG_NAME, way_out="ddarts train")
    data = checks.parse(text, where, "model description")
    checks.header(data, where, what="model", form=FORMAT, version=VERSION)
    fields = tuple(name for name in ModelConfig.__dataclass_fields__ if name != "task")
    checks.mapping(data, where, required=("format", "version", "genotype", *fields), optional=(_DIGEST, *TASK_KEYS))
    prepared = Preprocessing.from_fields(data, where)
    config = ModelConfig(
        channels=checks.integer(data["channels"], f"{where}: channels"),
        stem=checks.text(data["stem"], f"{where}: stem"),
        auxiliary=_boolean(data["auxiliary"], f"{where}: auxiliary"),
        **{name: getattr(prepared, name) for name in Preprocessing.__dataclass_fields__},
    )
    _check(config, where)
    digest = checks.text(data[_DIGEST], f"{where}: {_DIGEST}") if _DIGEST in data else None
    return config, genotype_from_dict(data["genotype"], f"{where}: genotype"), digest


def _check(config: ModelConfig, where: str) -> None:
    """Raise `ModelError` unless every field is in its range and the lengths agree."""
    if not 1 <= config.channels <= MAX_CHANNELS:
        raise ModelError(
            f"{where}: channels = {checks.shown(config.channels)} is out of range, expected 1 to {MAX_CHANNELS}"
        )
    if config.stem not in STEM_HALVINGS:
        raise ModelError(f"{where}: unknown stem {checks.shown(config.stem)}{nearest(config.stem[:60], STEM_HALVINGS)}")
    config.preprocessing.check(where)


def _read_weights(
    path: Path, expected: dict[str, Tensor], device: torch.device, digest: str | None
) -> dict[str, Tensor]:
    """Read the tensors whose names and shapes are those of `expected` (on the meta device); compare the digest."""
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
            with path.open("rb") as stream:  # now that its size is known to be that of the network
                if digest not in (None, hashlib.file_digest(stream, "sha256").hexdigest()):
                    raise ModelError(
                        f"{path}: the content does not match the checksum in {CONFIG_NAME}: the file is damaged, or "
                        "the two are not of one model; copy both from where the model was trained"
                    )
            state = {name: weights.get_tensor(name) for name in expected}
    except FileNotFoundError:
        raise ModelError(f"{path}: no such weights file; copy it from where the model was trained") from None
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{path}: not a readable safetensors file: {reason}; copy it again from where the model was trained"
        ) from None
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
