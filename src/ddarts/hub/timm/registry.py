"""The names under which `timm.create_model` finds the networks of ddarts."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, is_model, register_model
from torch import Tensor, nn

from ddarts.errors import SettingsError, nearest
from ddarts.genotype.deepen import deepen
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.zoo.baselines import BASELINES
from ddarts.genotype.zoo.catalogue import zoo_entry, zoo_names
from ddarts.genotype.zoo.lookup import PathLike, find_genotype
from ddarts.hub.saved import CONFIG_NAME, WEIGHTS_NAME, SavedModel, load_model
from ddarts.hub.timm import ddarts_models
from ddarts.hub.timm.network import TimmNetwork
from ddarts.nn.features import find_levels
from ddarts.nn.preprocessing import OUTPUTS
from ddarts.nn.pruning import live_states
from ddarts.nn.resolution import STEM_HALVINGS
from ddarts.nn.stems import STEMS
from ddarts.nn.tasks import Task

#: Width and, for two-cell genotypes, number of cells of networks with each stem: those of the literature.
_WIDTH = {"imagenet": 48, "cifar": 36}
_CELLS = {"imagenet": 14, "cifar": 20}

#: What images a network with each stem is made for; statistics of ImageNet and of CIFAR-10.
_IMAGES: dict[str, dict[str, Any]] = {
    "imagenet": {
        "input_size": (3, 224, 224),
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "num_classes": 1000,
        "crop_pct": 0.875,
        "interpolation": "bicubic",
    },
    "cifar": {
        "input_size": (3, 32, 32),
        "mean": (0.4914, 0.4822, 0.4465),
        "std": (0.2470, 0.2435, 0.2616),
        "num_classes": 10,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
    },
}

_folders: dict[str, Path] = {}  # what `register_model_folder` has registered


def model_names() -> list[str]:
    """Return the names that ddarts has given to timm, sorted."""
    return sorted(ddarts_models.default_cfgs)


def register_model_folder(path: PathLike, name: str | None = None) -> str:
    """Make a trained model known to timm: ``timm.create_model(name, pretrained=True)`` loads its weights.

    Args:
        path: a model folder, or the folder of the run that trained it. It is read again whenever a model is created.
        name: letters, digits and underscores; None for ``ddarts_`` and the name of the folder.

    Returns:
        The name. A name that stood for another folder is given to this one.

    Raises:
        ModelError: there is no model, or it is broken.
        SettingsError: the name cannot be used, or is that of another model.
    """
    folder = Path(path).resolve()
    saved = load_model(folder)
    if name is None:
        name = _identifier(folder.name)
    if not re.fullmatch(r"\w{1,100}", name, re.ASCII):
        raise SettingsError(f"model name {name[:100]!r} must be letters, digits and underscores, at most 100")
    if is_model(name) and name not in _folders:
        raise SettingsError(f"model name {name!r} is that of another model of timm; choose another name")
    _folders[name] = folder

    def build(pretrained: bool = False, **options: Any) -> nn.Module:
        return _from_folder(name, folder, pretrained, options)

    _register(name, build, _cfg_of_folder(folder, saved))
    return name


def register_architectures() -> None:
    """Register ``ddarts``, and ``ddarts_<name>`` for every baseline and every entry of the zoo.

    They are ImageNet networks of width 48, two-cell genotypes over 14 cells. With ``stem="cifar"`` these are 36 and 20;
    ``channels=`` and ``layers=`` (cells) choose others.
    """
    first, *_ = sources = (*BASELINES, *zoo_names())
    _register("ddarts", _build_any, _cfg_of_architecture(_laid_out(first, "imagenet", None), "imagenet"))
    for source in sources:

        def build(pretrained: bool = False, *, source: str = source, **options: Any) -> nn.Module:
            return _from_genotype(_identifier(source), source, pretrained, options)

        _register(_identifier(source), build, _cfg_of_architecture(_laid_out(source, "imagenet", None), "imagenet"))


def _laid_out(source: Genotype | PathLike, stem: str, layers: int | None) -> Genotype:
    """Return the whole network's genotype; a two-cell entry of the zoo has any number of cells."""
    if isinstance(source, str) and source in zoo_names():
        entry = zoo_entry(source)
        return entry.genotype(_CELLS[stem] if layers is None and entry.two_cells else layers)
    genotype = find_genotype(source)
    return genotype if layers is None else deepen(genotype, layers)


def _build_any(
    pretrained: bool = False,
    genotype: Genotype | PathLike | None = None,
    folder: PathLike | None = None,
    **options: Any,
) -> nn.Module:
    """Build the network of a genotype (name, file or run), or of a trained model (its folder or run).

    Raises:
        SettingsError: neither or both are given.
    """
    if genotype is not None and folder is None:
        return _from_genotype("ddarts", genotype, pretrained, options)
    if folder is not None and genotype is None:
        return _from_folder("ddarts", Path(folder), pretrained, options)
    raise SettingsError("the model 'ddarts' needs one of genotype=NAME, FILE or RUN, and folder=MODEL or RUN")


def _from_genotype(name: str, source: Genotype | PathLike, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    stem = options.pop("stem", "imagenet")
    if stem not in STEMS:
        raise SettingsError(f"unknown stem {str(stem)[:60]!r}{nearest(str(stem)[:60], STEMS)}")
    genotype = _laid_out(source, stem, options.pop("layers", None))
    options = {"genotype": genotype, "stem": stem, "channels": _WIDTH[stem], **options}
    return _build(name, pretrained, _cfg_of_architecture(genotype, stem), options)


def _from_folder(name: str, folder: Path, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    saved = load_model(folder)  # weights too, whatever `pretrained` says: its messages are better than timm's
    fixed = {"genotype": saved.network.genotype, "channels": saved.config.channels, "stem": saved.config.stem}
    for key in (*fixed, "layers"):
        if key in options:
            raise SettingsError(f"{key} = {str(options[key])[:60]} cannot be chosen: {folder} holds a trained network")
    return _build(name, pretrained, _cfg_of_folder(folder, saved), {**fixed, **options})


def _build(name: str, pretrained: bool, cfg: dict[str, Any], options: dict[str, Any]) -> nn.Module:
    """Let timm build the network, load weights into it, and wrap it if only features are wanted."""
    genotype, stem = options["genotype"], options["stem"]
    levels = find_levels(genotype, live_states(genotype) | {-2}, [1] * (len(genotype) + 2), STEMS[stem].states)
    return build_model_with_cfg(
        TimmNetwork,
        name,
        pretrained,
        pretrained_cfg=options.pop("pretrained_cfg", None) or cfg,
        pretrained_filter_fn=_without_auxiliary,
        feature_cfg={"out_indices": tuple(range(len(levels))), "feature_cls": "getter"},
        **options,
    )


def _without_auxiliary(state: dict[str, Tensor], _model: nn.Module) -> dict[str, Tensor]:
    """Leave out the auxiliary head, which no timm model has."""
    return {name: tensor for name, tensor in state.items() if not name.startswith("auxiliary.")}


def _register(name: str, build: Callable[..., nn.Module], cfg: dict[str, Any]) -> None:
    build.__name__ = build.__qualname__ = name
    build.__module__ = ddarts_models.__name__
    setattr(ddarts_models, name, build)
    ddarts_models.default_cfgs.update(generate_default_cfgs({name: cfg}))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f"Overwriting {name} in registry")
        register_model(build)


def _identifier(text: str) -> str:
    """Return the timm name of what is called `text`: letters, digits and underscores."""
    return "ddarts_" + re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_").lower()[:90]


def _cfg_of_architecture(genotype: Genotype, stem: str) -> dict[str, Any]:
    cfg = {**_IMAGES[stem], **_layers(stem), "paper_ids": "arXiv:2108.09306"}
    return {**cfg, "pool_size": _last_size(genotype, stem, cfg["input_size"])}


def _cfg_of_folder(folder: Path, saved: SavedModel) -> dict[str, Any]:
    config, genotype = saved.config, saved.network.genotype
    inside = folder if (folder / CONFIG_NAME).exists() else folder / "model"
    input_size = (config.in_channels, *config.resolution)
    return {
        **_layers(config.stem),
        "file": str(inside / WEIGHTS_NAME),
        "input_size": input_size,
        "pool_size": _last_size(genotype, config.stem, input_size),
        "mean": config.mean,
        "std": config.std,
        "num_classes": len(config.classes),
        "label_names": config.classes,
        **({} if config.task.kind == "classification" else {"description": _meaning(config.task)}),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
    }


def _meaning(task: Task) -> str:
    """Return what the outputs for another task than classification mean, for timm's description of the network."""
    numbers = f"; target_mean {list(task.mean)}, target_std {list(task.std)}" if task.kind == "regression" else ""
    return f"{task.kind}: {OUTPUTS[task.kind]}{numbers}"


def _layers(stem: str) -> dict[str, Any]:
    """Return the names of the layers that timm changes when it adapts weights."""
    return {"first_conv": f"stem.{STEMS[stem].first}", "classifier": "classifier"}


def _last_size(genotype: Genotype, stem: str, input_size: tuple[int, ...]) -> tuple[int, ...]:
    """Return height and width of the last map."""
    reduction = 2 ** (STEM_HALVINGS[stem] + len(genotype.reductions))
    return tuple(-(-side // reduction) for side in input_size[1:])


register_architectures()
