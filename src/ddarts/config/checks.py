"""From a layer of values to a checked settings object, and from pydantic's errors to one line."""

from __future__ import annotations

import os
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from ddarts.config.layers import GROUPS, STAGES, Given, Key, groups_of
from ddarts.config.strategies import STRATEGIES, DDartsOptions, StrategyOptions
from ddarts.errors import SettingsError, nearest


def build(stage: str, layer: dict[Key, Given]) -> Any:
    """Return the settings object of a stage from a layer; shared settings that the stage does not use are left out.

    Raises:
        SettingsError: a value is of the wrong type or out of range.
    """
    values: dict[str, Any] = {}
    if "search" in groups_of(stage):
        layer = dict(layer)
        strategy = _take_strategy(layer)
        values["search"] = {"strategy": strategy}
        if strategy.rule is not None and "method" not in strategy.ignores:
            layer["derive", "method"] = _only_rule(strategy, layer.get(("derive", "method")))
    for (*group, name), given in layer.items():
        model, owner = (GROUPS[group[0]], values.setdefault(group[0], {})) if group else (STAGES[stage], values)
        if name in model.model_fields:
            owner[name] = _prepare(given.value, model.model_fields[name])
    try:
        return STAGES[stage].model_validate(values)
    except ValidationError as error:
        raise SettingsError(one_line(error, layer)) from None


def _take_strategy(layer: dict[Key, Given]) -> StrategyOptions:
    """Return the settings of the search's strategy; remove them, and what has no effect with it, from the layer."""
    named = layer.pop(("search", "strategy"), None)
    options = STRATEGIES.get(str(named.value), named.where.rstrip(": ")) if named else DDartsOptions
    fields = {name: field for name, field in options.model_fields.items() if name != "name"}
    own: dict[str, Any] = {}
    known = GROUPS["search"].model_fields.keys() | GROUPS["derive"].model_fields.keys()
    for key in [k for k in layer if k[0] in ("search", "derive")]:
        name, given = key[1], layer[key]
        if name in fields:
            own[name] = _prepare(given.value, fields[name])
            continue
        if name in known and name not in options.ignores:
            continue
        if given.asked:
            strategy = options.model_fields["name"].default
            raise SettingsError(f"{given.where}{given.name} has no effect with strategy {strategy}; leave it out")
        del layer[key]
    try:
        found = options.model_validate(own)
    except ValidationError as error:
        raise SettingsError(one_line(error, {k[-1:]: g for k, g in layer.items()})) from None
    for name in own:
        del layer["search", name]
    return found


def _only_rule(strategy: StrategyOptions, given: Given | None) -> Given:
    """Return the one rule that fits the gates of a strategy; another one that was asked for is an error."""
    if given is not None and given.asked and given.value != strategy.rule:
        raise SettingsError(
            f"{given.where}{given.name} = {given.value!r} does not fit the gates of strategy {strategy.name}; "
            f"use {strategy.rule}, or leave it out"
        )
    return Given(strategy.rule, "method", "", asked=False)


def _prepare(value: Any, field: FieldInfo) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, str) and value.lower() in ("none", "null") and type(None) in _members(field):
        return None
    return value


def _members(field: FieldInfo) -> tuple[Any, ...]:
    if typing.get_origin(field.annotation) in (typing.Union, types.UnionType):
        return typing.get_args(field.annotation)
    return (field.annotation,)


_REASONS = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list of whole numbers, such as 2,5",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
}


def one_line(error: ValidationError, layer: Mapping[Key, Given]) -> str:
    """Turn the first error of pydantic into one line: where, which setting, the value, the reason."""
    first = error.errors(include_url=False)[0]
    loc = tuple(str(part) for part in first["loc"] if not isinstance(part, int))
    given = layer.get(loc)
    name, where, value = (given.name, given.where, given.value) if given else (".".join(loc), "", first["input"])
    if first["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", first.get("ctx", {}).get("expected", ""))
        return f"{where}unknown {name} {value!r}{nearest(str(value), known)}"
    kind = first["type"]
    if len(loc) < len(first["loc"]) and not kind.startswith(("greater", "less")):
        kind = "tuple_type"  # an item of a list is no whole number
    reason = _REASONS.get(kind)
    reason = reason.format(**first.get("ctx", {})) if reason else first["msg"][:1].lower() + first["msg"][1:]
    return f"{where}{name} = {_shown(value)} {reason}"


def _shown(value: Any) -> str:
    """Show a value as the user wrote it: numbers bare (the command line gives them as text), other text quoted."""
    text = repr(value)
    if isinstance(value, str):
        try:
            float(value)
            text = value
        except ValueError:
            pass
    return text if len(text) <= 80 else text[:77] + "..."
