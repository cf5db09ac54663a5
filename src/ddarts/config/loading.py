"""From presets, a YAML file and overrides to checked settings.

Layers, each over the one before: the defaults of the classes in `config`, a preset, a YAML file, overrides (options of
the command line or keyword arguments).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ddarts.config.checks import build, one_line
from ddarts.config.layers import STAGES, Given, Key, drop_none, flatten, place_of, preset_layer, read_config
from ddarts.errors import SettingsError

#: Settings that may differ when a run is resumed: where it computes, and what changes no number. `threads` and
#: `backend` change the order of sums, and so the results.
FREE_ON_RESUME = frozenset({"device", "devices", "machines", "workers", "memory", "checkpoint_steps"})

#: Stages that start from a preset if none is named.
WITH_PRESET = ("run", "search", "train", "compare", "measure-operations")


def default_preset(data: str) -> str:
    """Return the preset that is used when none is named: ``demo`` for the embedded digits, ``small`` otherwise."""
    return "demo" if data == "digits" else "small"


def load_settings(
    stage: str,
    *,
    preset: str | None = None,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
) -> Any:
    """Return the settings of a stage, an object of the class ``STAGES[stage].model``.

    Args:
        stage: "run", "search", "derive", "train" or "test".
        preset: name of a preset. Run, search and train have a default, see `default_preset`.
        config: a YAML file, or a mapping of the same form.
        overrides: values by name, by dotted name (``search.epochs``) or by group; text is converted. None counts as
            "not given".
        base: values that take the place of the preset.

    Raises:
        SettingsError: a key or a preset is unknown (with the nearest name), a value is out of range or of the wrong
            type, or the file is broken (with the line).
    """
    document = read_config(config)
    where = place_of(config)
    values = dict(document.values)
    named = values.pop("preset", None)
    top_values = drop_none(overrides or {})
    strategy = strategy_of(top_values, values, base or {})
    file_layer = flatten(values, stage, where, document.lines, strategy)
    top_layer = flatten(top_values, stage, "", {}, strategy)
    if preset is None and named is not None:
        preset = str(named)
    layer: dict[Key, Given] = {}
    if base is not None:
        layer |= {k: replace(g, asked=False) for k, g in flatten(base, stage, "", {}, strategy).items()}
    if preset is not None or (base is None and stage in WITH_PRESET):
        layer |= preset_layer(preset or default_preset(_data_of(top_layer, file_layer)), stage)
    return build(stage, layer | file_layer | top_layer)


def resume_settings(
    stage: str,
    stored: Mapping[str, Any],
    run: Path,
    *,
    preset: str | None = None,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Any:
    """Return the settings with which a run goes on: those that it holds.

    What is given again must agree with them, except what is in `FREE_ON_RESUME`, which counts for this time only. The
    number of epochs must agree too: learning rates and the weight of the zero-one loss follow a schedule over all
    epochs, so a longer run is another run from its first step on.

    Raises:
        SettingsError: settings disagree; the message lists each with both values.
    """
    try:
        settings = STAGES[stage].model.model_validate(dict(stored))
    except ValidationError as error:
        raise SettingsError(
            f"{run}: settings.yaml does not fit this version of ddarts ({one_line(error, {})}); start a new run"
        ) from None
    given = given_keys(stage, preset, config, overrides, strategy_of(stored))
    if not given:
        return settings
    now = load_settings(stage, preset=preset, config=config, overrides=overrides, base=settings.model_dump())
    disagreeing, allowed = [], {}
    for key in sorted(given):
        before, after = get_setting(settings, key), get_setting(now, key)
        if before == after:
            continue
        if key[-1] in FREE_ON_RESUME:
            allowed[key] = after
        else:
            disagreeing.append(f"{'.'.join(key)} (the run has {before}, given is {after})")
    if disagreeing:
        raise SettingsError(
            f"{run} cannot go on with other settings: {', '.join(disagreeing)}; "
            "leave them out to go on, or start a new run: results would differ"
        )
    for key, value in allowed.items():
        settings = _with(settings, key, value)
    return settings


def _data_of(*layers: dict[Key, Given]) -> str:
    for layer in layers:
        if ("data",) in layer:
            return str(layer["data",].value)
    return "digits"


def given_keys(
    stage: str,
    preset: str | None,
    config: Any,
    overrides: Mapping[str, Any] | None,
    strategy: str | None = None,
    *,
    presets: bool = True,
) -> set[Key]:
    """Return the places of all settings that a preset (unless `presets` is false), a file and overrides give."""
    document = read_config(config)
    values = dict(document.values)
    preset = preset or values.pop("preset", None)
    strategy = strategy or strategy_of(overrides or {}, values)
    layers = flatten(values, stage, place_of(config), document.lines, strategy)
    layers |= flatten(drop_none(overrides or {}), stage, "", {}, strategy)
    if preset and presets:
        layers |= preset_layer(preset, stage)
    return set(layers)


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
    """Return a value by its place; for a single stage the group's keys are the settings' own."""
    owner: Any = settings
    if len(key) == 2 and key[0] in type(settings).model_fields:
        owner = getattr(settings, key[0])
    strategy = getattr(owner, "strategy", None)
    if key[-1] == "strategy" and strategy is not None:
        return strategy.name
    return getattr(owner, key[-1], getattr(strategy, key[-1], None))


def _with(settings: BaseModel, key: Key, value: Any) -> BaseModel:
    if len(key) == 2 and key[0] in type(settings).model_fields:
        group = getattr(settings, key[0]).model_copy(update={key[1]: value})
        return settings.model_copy(update={key[0]: group})
    return settings.model_copy(update={key[-1]: value})
