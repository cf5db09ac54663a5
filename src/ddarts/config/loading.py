"""From presets, a YAML file and overrides to checked settings.

Layers, each over the one before: the defaults of the classes in `config`, a preset, a YAML file, overrides (options of
the command line or keyword arguments).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ddarts.config.checks import build, one_line
from ddarts.config.layers import STAGES, Given, Key, drop_none, flatten, place_of, preset_layer, read_config
from ddarts.errors import SettingsError

Stored = TypeVar("Stored", bound=BaseModel)
Config = str | os.PathLike[str] | Mapping[str, Any] | None

#: Settings that may differ when a run is resumed: where it computes, and what changes no number. `threads` and
#: `backend` change the order of sums, and so the results.
FREE_ON_RESUME = frozenset({"device", "devices", "machines", "workers", "memory", "checkpoint_steps"})

#: Settings that follow the images if nobody chose them (`ddarts.pipeline.Opening.fitted`).
FITTED = frozenset({("search", "batch"), ("train", "batch"), ("train", "epochs"), ("measure", "epochs")})

#: Stages that start from a preset if none is named.
WITH_PRESET = ("run", "search", "train", "compare", "measure-operations")


def default_preset(data: str, *, free: bool = False) -> str:
    """Return the preset that is used when none is named.

    Args:
        data: of the stage.
        free: whether the stage is a whole job, of which nothing is said about the search.

    Returns:
        ``demo`` for the embedded digits; for other data ``residual`` where the job is free to choose, else ``small``.
    """
    return "demo" if data == "digits" else "residual" if free else "small"


def load_settings(
    stage: str,
    *,
    preset: str | None = None,
    config: Config = None,
    overrides: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
) -> Any:
    """Return the settings of a stage, an object of the class ``STAGES[stage]``.

    Args:
        stage: a key of `STAGES`.
        preset: name of a preset. The stages in `WITH_PRESET` have a default, see `default_preset`.
        config: a YAML file, or a mapping of the same form.
        overrides: values by name, by dotted name (``search.epochs``) or by group; text is converted. None counts as
            "not given".
        base: values that replace the preset, in groups.

    Raises:
        SettingsError: a key or a preset is unknown (with the nearest name), a value is out of range or of the wrong
            type, or the file is broken (with the line).
    """
    given = read_layer(stage, preset=preset, config=config, overrides=overrides, base=base)
    return build(stage, _base_layer(base or {}, stage) | given)


def read_layer(
    stage: str,
    *,
    preset: str | None,
    config: Config,
    overrides: Mapping[str, Any] | None,
    base: Mapping[str, Any] | None = None,
) -> dict[Key, Given]:
    """Return what a preset, a file and overrides give, each over the one before, unchecked but for the names.

    See `load_settings`; `base` only replaces the default preset and names the strategy here.
    """
    document, where = read_config(config), place_of(config)
    values, top = dict(document.values), drop_none(overrides or {})
    named = values.pop("preset", None)
    strategy = strategy_of(top, values, base or {})
    layer = flatten(values, stage, where, document.lines, strategy) | flatten(top, stage, "", {}, strategy)
    preset = preset or (None if named is None else str(named))
    if preset is None and base is None and stage in WITH_PRESET:
        data = layer.get(("data",))
        free = stage == "run" and not any(key[0] in ("search", "derive") for key in layer)
        preset = default_preset("digits" if data is None else str(data.value), free=free)
    return layer if preset is None else preset_layer(preset, stage) | layer


def _base_layer(base: Mapping[str, Any], stage: str) -> dict[Key, Given]:
    layer = flatten(base, stage, "", {}, strategy_of(base))
    return {key: replace(given, asked=False) for key, given in layer.items()}


def resume_settings(
    stage: str,
    stored: Mapping[str, Any],
    run: Path,
    *,
    preset: str | None = None,
    config: Config = None,
    overrides: Mapping[str, Any] | None = None,
) -> Any:
    """Return the settings with which a run is resumed: those that it holds.

    What is given again must agree with them, except what is in `FREE_ON_RESUME`, which counts for this time only. The
    number of epochs must agree too: learning rates and the weight of the zero-one loss follow a schedule over all
    epochs, so a longer run is another run from its first step on.

    Raises:
        SettingsError: settings disagree; the message lists each with both values.
    """
    settings = stored_settings(STAGES[stage], stored, run)
    given = read_layer(stage, preset=preset, config=config, overrides=overrides, base=stored)
    if not given:
        return settings
    now = build(stage, _base_layer(settings.model_dump(), stage) | given)
    disagreeing = []
    for key in sorted(given):
        before, after = get_setting(settings, key), get_setting(now, key)
        if before == after:
            continue
        if key in FITTED and not given[key].asked:
            continue  # a preset is named again; the run has what fitted its images
        if key[-1] in FREE_ON_RESUME:
            settings = _with(settings, key, after)
        else:
            disagreeing.append(f"{'.'.join(key)} (the run has {before}, given is {after})")
    if disagreeing:
        raise SettingsError(
            f"{run} cannot be resumed with other settings: {', '.join(disagreeing)}; "
            "leave them out to resume it, or start a new run: results would differ"
        )
    return settings


def stored_settings(kind: type[Stored], stored: Mapping[str, Any], run: Path) -> Stored:
    """Return settings that a run holds, as an object of their class.

    Raises:
        SettingsError: they were written by another version of ddarts, or are damaged.
    """
    try:
        return kind.model_validate(dict(stored))
    except ValidationError as error:
        raise SettingsError(
            f"{run}: settings.yaml does not fit this version of ddarts ({one_line(error, {})}); start a new run"
        ) from None


def strategy_of(*layers: Mapping[str, Any]) -> str:
    """Return the name of the search strategy that the first of some documents names; d-darts if none does."""
    for values in layers:
        group = values.get("search")
        inner = group if isinstance(group, Mapping) else dict(group) if isinstance(group, BaseModel) else {}
        for value in (values.get("search.strategy"), values.get("strategy"), inner.get("strategy")):
            if value is not None:
                name = value.get("name") if isinstance(value, Mapping) else getattr(value, "name", value)
                return str(name or "d-darts")
    return "d-darts"


def get_setting(settings: BaseModel, key: Key) -> Any:
    """Return a value by its place; that of the strategy is its name, and its settings count as the search's."""
    owner = settings if len(key) == 1 else getattr(settings, key[0], None)
    strategy = getattr(owner, "strategy", None)
    if key[-1] == "strategy" and strategy is not None:
        return strategy.name
    return getattr(owner, key[-1], getattr(strategy, key[-1], None))


def _with(settings: BaseModel, key: Key, value: Any) -> BaseModel:
    """Return settings with another value in a place."""
    name, *rest = key
    if rest:
        value = _with(getattr(settings, name), tuple(rest), value)
    return settings.model_copy(update={name: value})
