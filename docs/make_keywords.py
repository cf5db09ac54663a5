"""Write src/ddarts/config/keywords.py: the settings as keyword arguments, for type checkers and completion.

Run it after a change of the settings: ``python docs/make_keywords.py``. A test checks that the file is up to date.
"""

from __future__ import annotations

import sys
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ddarts.config import schema
from ddarts.config.layers import SHARED, group_fields

TARGET = Path(__file__).parents[1] / "src" / "ddarts" / "config" / "keywords.py"

_HEAD = '''"""Settings as keyword arguments: of the public functions, for type checkers and completion.

Made from `ddarts.config.schema` by ``python docs/make_keywords.py``. Names are those of the command line. A group, such
as `search` of `ddarts.run`, takes the settings of a stage where several stages share a name.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from ddarts.config.strategies import StrategyOptions
'''


def text() -> str:
    """Return the module."""
    search, train = group_fields("search"), group_fields("train")
    both = {name: field for name, field in search.items() if name in train}
    measure = {name: field for name, field in group_fields("measure").items() if name not in train}
    shared = {name: field for name, field in SHARED.items() if name != "data"}

    def own(model: type[BaseModel], *names: str) -> dict[str, FieldInfo]:
        return {name: model.model_fields[name] for name in names}

    def without(fields: dict[str, FieldInfo]) -> dict[str, FieldInfo]:
        return {name: field for name, field in fields.items() if name not in both}

    search_group, derive_group = {"search": "SearchGroup"}, {"derive": "DeriveGroup", "budget": "BudgetGroup"}
    train_group, data = {"train": "TrainGroup"}, {"data": "Any"}
    classes = (
        ("Shared", "", "Settings that every stage has", shared, {}),
        ("StepsGroup", "", "Settings that searches and trainings share", both, {}),
        ("SearchOnly", "", "Settings of a search alone", without(search), {}),
        ("SearchGroup", "SearchOnly, StepsGroup", "Settings of a search", {}, {}),
        ("DeriveGroup", "", "Settings of the derivation of a genotype", group_fields("derive"), {}),
        ("BudgetGroup", "", "Upper bounds of a network's costs", group_fields("budget"), {}),
        ("TrainOnly", "", "Settings of a training alone", without(train), {}),
        ("TrainGroup", "TrainOnly, StepsGroup", "Settings of a training", {}, {}),
        ("SearchKeywords", "Shared, SearchGroup, DeriveGroup, BudgetGroup", "Settings of `ddarts.search`", {},
         search_group | derive_group),
        ("DeriveKeywords", "DeriveGroup, BudgetGroup", "Settings of `ddarts.derive`", {}, derive_group),
        ("TrainKeywords", "Shared, TrainGroup", "Settings of `ddarts.train`",
         own(schema.TrainSettings, "reference"), train_group),
        ("RunKeywords", "Shared, SearchOnly, DeriveGroup, BudgetGroup, TrainOnly", "Settings of `ddarts.run`",
         own(schema.RunSettings, "time", "reference"), search_group | derive_group | train_group),
        ("CompareKeywords", "Shared, TrainGroup", "Settings of `ddarts.compare`",
         own(schema.CompareSettings, "seeds"), data | train_group),
        ("MeasureKeywords", "Shared, TrainGroup", "Settings of `ddarts.measure_operations`", measure,
         data | {"measure": "Mapping[str, Any]"}),
        ("EvaluateKeywords", "Shared", "Settings of `ddarts.test`", own(schema.EvaluateSettings, "batch"), data),
        ("ProfileKeywords", "", "Settings of `ddarts.profile`", schema.ProfileSettings.model_fields, {}),
        ("ProbeKeywords", "", "Settings of `ddarts.probe`", schema.ProbeSettings.model_fields, {}),
    )  # fmt: skip
    parts = [_HEAD]
    for name, bases, doc, fields, extra in classes:
        model = {"ProfileKeywords": schema.ProfileSettings, "ProbeKeywords": schema.ProbeSettings}.get(name)
        lines = [f"class {name}({bases or 'TypedDict'}, total=False):", f'    """{doc}."""']
        body = [f"    {key}: {_type(key, field, model)}" for key, field in fields.items()]
        body += [f"    {key}: {value}" for key, value in extra.items()]
        parts.append("\n".join([*lines, *([""] if body else []), *body]) + "\n")
    return "\n\n".join(parts)


def _type(name: str, field: FieldInfo, model: type[BaseModel] | None) -> str:
    if name == "strategy":
        return "str | StrategyOptions | Mapping[str, Any]"
    if name == "time":
        return "str | float | None"
    written = _written(field.annotation)
    if "FILE" in str(field.description):
        written = written.replace("str", "str | os.PathLike[str]")
    if written.startswith("Sequence") and model is not None and _takes_one(model, name):
        written = f"{written.removeprefix('Sequence[').removesuffix(']')} | {written}"
    return written


def _written(annotation: Any) -> str:
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(_written, inside))
    if origin is typing.Annotated:
        return _written(inside[0])
    if origin is tuple:
        return f"Sequence[{_written(inside[0])}]"
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(_quoted, inside))}]"
    return "None" if annotation is type(None) else annotation.__name__


def _quoted(value: str) -> str:
    return f'"{value}"'


def _takes_one(model: type[BaseModel], name: str) -> bool:
    try:
        model.model_validate({name: 1})
    except ValidationError:
        return False
    return True


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
    print(TARGET, file=sys.stderr)
