"""Settings as options of a command line: names, placeholders and help texts, made from the fields of the classes."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ddarts.config.layers import GROUPS, STAGES, groups_of, homes_of
from ddarts.config.loading import get_setting
from ddarts.config.schema import DataOptions, EngineOptions
from ddarts.config.strategies import STRATEGIES, strategy_fields


@dataclass(frozen=True)
class SettingDoc:
    """One setting as a command line shows it.

    Attributes:
        name: as the help shows it: ``alpha_lr``, or in a run, where stages have settings of one name,
            ``search.alpha_lr``.
        other: another name that is accepted: the dotted one, or the bare one where it is unambiguous; None for none.
        group: heading of the help text.
        metavar: placeholder of the value.
        help: description, bounds and default; then a line for each value of an enumeration.
        is_switch: whether it is true or false.
        common: whether ``--help`` shows it; ``--help-all`` shows all.
    """

    name: str
    other: str | None
    group: str
    metavar: str
    help: str
    is_switch: bool
    common: bool


def documented_fields(stage: str, defaults: BaseModel | None = None) -> Iterator[SettingDoc]:
    """Yield every setting of a stage, group by group.

    Args:
        stage: a key of `ddarts.config.layers.STAGES`.
        defaults: settings whose values are shown as defaults; those of the class if not given. Of the settings of a
            search, those that have an effect with their strategy are yielded.
    """
    defaults = STAGES[stage]() if defaults is None else defaults
    strategy = str(get_setting(defaults, ("search", "strategy")) or "d-darts")
    groups = groups_of(stage)
    headings = dict.fromkeys(DataOptions.model_fields, "data") | dict.fromkeys(EngineOptions.model_fields, "engine")
    on_top = ((headings.get(name, stage), name, field) for name, field in STAGES[stage].model_fields.items())
    order = ("data", "engine", stage)
    for heading, name, field in sorted(on_top, key=lambda item: order.index(item[0])):
        if name not in GROUPS:
            yield _doc((name, None), heading, field, get_setting(defaults, (name,)))
    for group in groups:
        for name, field in _fields(group, strategy).items():
            dotted, bare = f"{group}.{name}", name if len(homes_of(name, groups, strategy)) == 1 else None
            names = (dotted, bare) if bare is None or stage == "run" else (bare, dotted)
            yield _doc(names, group, field, get_setting(defaults, (group, name)))


def _fields(group: str, strategy: str) -> dict[str, FieldInfo]:
    """Return the settings of a group that have an effect with a strategy."""
    if group not in ("search", "derive"):
        return dict(GROUPS[group].model_fields)
    ignored = STRATEGIES.get(strategy).ignores
    fields = {name: field for name, field in GROUPS[group].model_fields.items() if name not in ignored}
    return {**fields, **strategy_fields(strategy)} if group == "search" else fields


def _doc(names: tuple[str, str | None], group: str, field: FieldInfo, default: Any) -> SettingDoc:
    members = typing.get_args(field.annotation) if _is_union(field.annotation) else (field.annotation,)
    facts: Any = field.json_schema_extra or {}
    shown = _text(default)
    notes = "; ".join(note for note in (_bounds(field, members), f"default {shown}" if shown else "") if note)
    text = f"{field.description} ({notes})" if notes else str(field.description)
    values = [f"  {value}: {meaning}" for value, meaning in facts.get("values", {}).items()]
    return SettingDoc(
        *names, group, _metavar(members), "\n".join([text, *values]), bool in members, facts.get("common", False)
    )


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _metavar(members: tuple[Any, ...]) -> str:
    if any(typing.get_origin(m) is typing.Literal for m in members):
        return "NAME"
    if any(typing.get_origin(m) is tuple for m in members):
        return "N,N"
    return "N" if int in members else "X" if float in members else "TEXT"


def _bounds(field: FieldInfo, members: tuple[Any, ...]) -> str:
    if any(typing.get_origin(member) is typing.Literal for member in members):
        return ""  # its values are listed
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
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else str(default)
