"""Settings as options of a command line: names, placeholders and help texts, made from the fields of the classes."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from ddarts.config.layers import GROUPS, RUN_GROUPS, STAGES
from ddarts.config.schema import DataOptions, EngineOptions


@dataclass(frozen=True)
class SettingDoc:
    """One setting as a command line shows it.

    Attributes:
        name: dotted name, such as ``search.alpha_lr``.
        group: heading under which it stands.
        metavar: placeholder of the value.
        help: description, bounds and default.
        is_switch: whether it is true or false.
    """

    name: str
    group: str
    metavar: str
    help: str
    is_switch: bool


def documented_fields(stage: str) -> Iterator[SettingDoc]:
    """Yield every setting of a stage, group by group; those of the groups of `run` have dotted names."""
    fields = {name: field for name, field in STAGES[stage].model.model_fields.items() if name not in GROUPS}
    order = ("data", "engine", stage, *STAGES[stage].groups)
    for name, field in sorted(fields.items(), key=lambda item: order.index(_heading(stage, item[0]))):
        yield _doc(name, _heading(stage, name), field)
    if stage == "run":
        for group in RUN_GROUPS:
            for name, field in GROUPS[group].model_fields.items():
                yield _doc(f"{group}.{name}", group, field)


def _heading(stage: str, name: str) -> str:
    if name in DataOptions.model_fields:
        return "data"
    if name in EngineOptions.model_fields:
        return "engine"
    return next((group for group in STAGES[stage].groups if name in GROUPS[group].model_fields), stage)


def _doc(name: str, group: str, field: FieldInfo) -> SettingDoc:
    members = typing.get_args(field.annotation) if _is_union(field.annotation) else (field.annotation,)
    bounds = _bounds(field, members)
    default = _text(field.default)
    notes = "; ".join(note for note in (bounds, f"default {default}" if default else "") if note)
    text = f"{field.description} ({notes})" if notes else str(field.description)
    return SettingDoc(name, group, _metavar(members), text, bool in members)


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _metavar(members: tuple[Any, ...]) -> str:
    if any(typing.get_origin(m) is typing.Literal for m in members):
        return "NAME"
    if any(typing.get_origin(m) is tuple for m in members):
        return "N,N"
    return "N" if int in members else "X" if float in members else "TEXT"


def _bounds(field: FieldInfo, members: tuple[Any, ...]) -> str:
    for member in members:
        if typing.get_origin(member) is typing.Literal:
            return ", ".join(str(choice) for choice in typing.get_args(member))
    limits = {}
    for item in field.metadata:
        for name, word in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
            limit = getattr(item, name, None)
            if limit is not None and limit < 2**31:
                limits[word] = f"{word} {limit:g}"
    return ", ".join(limits.values())


def _text(default: Any) -> str:
    if default is None or default == "":
        return ""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:g}" if isinstance(default, float) else str(default)
