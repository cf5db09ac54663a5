"""Layers of settings: documents brought into one form, {place: value}, with every name checked.

A document has shared keys on top and the groups ``search``, ``derive``, ``train`` and ``measure``. A key of a group may
also stand on top, or have its dotted name there (``search.epochs``), if only one group of the stage has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ddarts.config.schema import (
    BudgetOptions,
    CompareSettings,
    DeriveOptions,
    DeriveSettings,
    EvaluateSettings,
    MeasureOptions,
    MeasureSettings,
    ProbeSettings,
    ProfileSettings,
    RunSettings,
    SearchOptions,
    SearchSettings,
    SharedSettings,
    TrainOptions,
    TrainSettings,
)
from ddarts.config.strategies import StrategyOptions, known_fields
from ddarts.config.yaml_file import YamlFile, parse_yaml, read_yaml
from ddarts.errors import SettingsError, nearest

#: A setting's place in a document: ("seed",) or ("search", "epochs").
Key = tuple[str, ...]

GROUPS: dict[str, type[BaseModel]] = {
    "search": SearchOptions,
    "derive": DeriveOptions,
    "budget": BudgetOptions,
    "train": TrainOptions,
    "measure": MeasureOptions,
}
SHARED: dict[str, FieldInfo] = SharedSettings.model_fields

#: The class of settings of each stage.
STAGES: dict[str, type[BaseModel]] = {
    "run": RunSettings,
    "search": SearchSettings,
    "derive": DeriveSettings,
    "train": TrainSettings,
    "compare": CompareSettings,
    "measure-operations": MeasureSettings,
    "test": EvaluateSettings,
    "profile": ProfileSettings,
    "probe": ProbeSettings,
}


def groups_of(stage: str) -> tuple[str, ...]:
    """Return the groups that the settings of a stage have."""
    return tuple(group for group in GROUPS if group in STAGES[stage].model_fields)


@dataclass(frozen=True)
class Given:
    """A value, the name under which it was given, and where, such as ``my.yaml: line 3: ``.

    A value is `asked` for unless it comes from a preset or from the settings of another run, which may hold settings
    that have no effect with the strategy of this one.
    """

    value: Any
    name: str
    where: str
    asked: bool = True


def presets() -> tuple[str, ...]:
    """Return the names of the presets."""
    folder = resources.files("ddarts.config") / "presets"
    return tuple(sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")))


# -- reading a layer ---------------------------------------------------------------------------------------------------


def read_config(config: str | os.PathLike[str] | Mapping[str, Any] | None) -> YamlFile:
    """Return the document that `config` is or names; an empty one for None."""
    if config is None:
        return YamlFile({})
    if isinstance(config, Mapping):
        return YamlFile(dict(config))
    return read_yaml(Path(config))


def place_of(config: Any) -> str:
    """Return how messages about `config` begin: with the name of its file, if it is one."""
    return f"{os.fspath(config)}: " if isinstance(config, str | os.PathLike) else ""


def preset_layer(name: str, stage: str) -> dict[Key, Given]:
    """Return the layer of a preset; an unknown name raises `SettingsError` with the nearest one."""
    if name not in presets():
        raise SettingsError(f"unknown preset {name!r}{nearest(name, presets())}")
    text = (resources.files("ddarts.config") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    document = parse_yaml(text, f"preset {name}")
    values = {key: v for key, v in document.values.items() if key in GROUPS or key in STAGES[stage].model_fields}
    layer = flatten(values, stage, f"preset {name}: ", document.lines)
    return {key: replace(given, asked=False) for key, given in layer.items()}


def group_fields(group: str, strategy: str = "d-darts") -> dict[str, FieldInfo]:
    """Return the settings that may stand in a group; in that of the search, those of strategies too."""
    fields = GROUPS[group].model_fields
    return {**fields, **known_fields(strategy)} if group == "search" else dict(fields)


def flatten(
    values: Mapping[str, Any], stage: str, where: str, lines: Mapping[Key, int], strategy: str = "d-darts"
) -> dict[Key, Given]:
    """Bring a document into the form {place: value}; groups of other stages are left out, but their names checked.

    Settings of the search's strategy stand beside those of the search, or in a group ``strategy`` of it.

    Args:
        values: the document.
        stage: for which stage.
        where: what messages begin with.
        lines: line of each key in its file.
        strategy: name of the search strategy, whose settings are known besides those of the built-in ones.

    Raises:
        SettingsError: a name is unknown, stands twice, or belongs to another place.
    """
    flat: dict[Key, Given] = {}
    own = groups_of(stage)

    def put(key: Key, value: Any, path: Key) -> None:
        place = _at(where, lines, path)
        if key == ("search", "strategy") and isinstance(value, StrategyOptions | Mapping):
            inner = value.model_dump() if isinstance(value, StrategyOptions) else dict(value)
            put(key, inner.pop("name", strategy), path)
            for name, item in inner.items():
                _known(str(name), group_fields("search", strategy), place, "search.")
                put(("search", str(name)), item, (*path, str(name)))
            return
        if key in flat:
            raise SettingsError(f"{place}{'.'.join(key)} is given twice, on top and in its group; keep one")
        if len(key) == 1 or key[0] in own:
            flat[key] = Given(value, ".".join(path), place)

    for name, value in ((str(k), v) for k, v in values.items()):
        group, dot, inner = name.partition(".")
        if group in GROUPS and dot:
            _known(inner, group_fields(group, strategy), _at(where, lines, (name,)), f"{group}.")
            put((group, inner), value, (name,))
        elif name in GROUPS:
            if isinstance(value, BaseModel):
                value = {n: getattr(value, n) for n in value.model_fields_set}
            if value is None:
                continue  # a group whose lines are all commented out
            if not isinstance(value, Mapping):
                raise SettingsError(f"{_at(where, lines, (name,))}{name} must be a group of keys and values")
            for inner, item in value.items():
                _known(inner, group_fields(name, strategy), _at(where, lines, (name, inner)), f"{name}.")
                put((name, inner), item, (name, inner))
        else:
            put(_key_of(name, stage, _at(where, lines, (name,)), strategy), value, (name,))
    return flat


def _key_of(name: str, stage: str, where: str, strategy: str) -> Key:
    """Return the place of a name that stands on top: shared, or of the one group of the stage that has it."""
    groups, fields = groups_of(stage), STAGES[stage].model_fields
    homes = homes_of(name, groups, strategy)
    if len(homes) == 1:
        return homes[0], name
    if name in fields or name in SHARED:
        return (name,)
    homes = homes or homes_of(name, groups_of("run"), strategy)
    if homes:
        written = " or ".join(f"{group}.{name}" for group in homes)
        raise SettingsError(f"{where}setting {name!r} belongs to a group; write {written}")
    known = {*GROUPS, *SHARED, *fields, *(inner for group in groups for inner in group_fields(group, strategy))}
    raise SettingsError(f"{where}unknown setting {name!r}{nearest(name, known)}")


def homes_of(name: str, groups: Iterable[str], strategy: str = "d-darts") -> list[str]:
    """Return those of the groups that have a setting of this name."""
    return [group for group in groups if name in group_fields(group, strategy)]


def _known(name: str, known: Iterable[str], where: str, prefix: str) -> None:
    names = [prefix + n for n in known]
    if f"{prefix}{name}" not in names:
        raise SettingsError(f"{where}unknown setting {f'{prefix}{name}'!r}{nearest(f'{prefix}{name}', names)}")


def _at(where: str, lines: Mapping[Key, int], path: Key) -> str:
    return f"{where}line {lines[path]}: " if path in lines else where


def drop_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` without those that are None ("not given"), in groups too."""
    return {k: drop_none(v) if isinstance(v, Mapping) else v for k, v in values.items() if v is not None}
