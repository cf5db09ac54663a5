"""What a study consists of: methods, data sets and seeds, and the place of each trial in its folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from ddarts.config.checks import one_line
from ddarts.config.layers import GROUPS, drop_none, place_of, read_config
from ddarts.config.loading import load_settings
from ddarts.config.schema import Options, RunSettings
from ddarts.errors import SettingsError

#: The opponents of every method: what a search has to beat to be worth its cost.
SAME_SIZE = "random-same-size"
EQUAL_COST = "random-search-equal-cost"

_NAME = re.compile(r"[A-Za-z0-9_.+-]{1,40}")
#: The method that is run if none is named.
_DEFAULT = "d-darts"


class StudySettings(Options):
    """Settings of `ddarts.study`.

    Attributes:
        methods: for each name the settings of `ddarts.run` that make the method, under dotted names.
        shared: settings of `ddarts.run` for all methods, under dotted names.
    """

    methods: dict[str, dict[str, Any]] = Field(min_length=1)
    data: tuple[str, ...] = Field(min_length=1)
    seed: int = Field(default=0, ge=0, lt=2**62, description="first seed")
    seeds: int = Field(default=10, ge=1, le=1000, description="seeds of each method on each data set")
    preset: str | None = None
    opponents: bool = True
    draws: int = Field(default=100, ge=1, le=3000, description="most networks that random search draws for a trial")
    shared: dict[str, Any] = Field(default_factory=dict)

    def values(self, method: str, data: str, seed: int) -> dict[str, Any]:
        """Return the settings of a trial, a mapping for `config` of the public functions."""
        return {"threads": 1, **self.shared, **self.methods[method], "data": data, "seed": seed}

    def settings(self, method: str, data: str, seed: int) -> RunSettings:
        """Return the settings of a trial, checked."""
        return load_settings("run", preset=self.preset, config=self.values(method, data, seed))


@dataclass(frozen=True)
class Spec:
    """One trial: a method, or an opponent of it.

    Attributes:
        folder: of the study.
        name: of the method or the opponent.
        method: the method; that which the opponent is measured against.
        kind: "" for the method itself, else `SAME_SIZE` or `EQUAL_COST`.
    """

    folder: Path
    name: str
    method: str
    kind: str
    data: str
    place: str
    seed: int

    @property
    def run(self) -> Path:
        """The folder of its run."""
        return self.folder / "trials" / self.place / f"{self.name}-seed{self.seed}"

    @property
    def record(self) -> Path:
        """The file of its record."""
        return self.run.with_name(f"{self.run.name}.json")

    @property
    def draws(self) -> Path:
        """The folder of the short trainings of an `EQUAL_COST` opponent."""
        return self.folder / "draws" / self.place / f"{self.name}-seed{self.seed}"

    def of_method(self) -> Spec:
        """Return the trial of the method with the same data and seed."""
        return Spec(self.folder, self.method, self.method, "", self.data, self.place, self.seed)


def specs(settings: StudySettings, folder: Path, *kinds: str) -> Iterator[Spec]:
    """Yield the trials of the study, seed by seed, so that a study that is stopped has results of each method.

    Args:
        settings: the study.
        folder: its folder.
        kinds: "" for the methods, `SAME_SIZE`, `EQUAL_COST`.
    """
    places = {data: f"{i}-{_safe(data)}" for i, data in enumerate(settings.data)}
    for seed in range(settings.seed, settings.seed + settings.seeds):
        for data in settings.data:
            for kind in kinds:
                for method in settings.methods:
                    alone = len(settings.methods) == 1
                    name = method if not kind else kind if alone else f"{kind}-as-{method}"
                    yield Spec(folder, name, method, kind, data, places[data], seed)


def plan(
    *,
    strategies: str | list[str] | tuple[str, ...] | Mapping[str, Any] | None,
    data: str | list[str] | tuple[str, ...] | None,
    seeds: Any,
    preset: str | None,
    config: Any,
    opponents: bool | None,
    draws: Any,
    overrides: Mapping[str, Any],
) -> StudySettings:
    """Return the study that keywords and a YAML file describe; keywords count more.

    A YAML file holds ``strategies`` (a list of names, or a mapping of names to settings of `ddarts run`), ``data``,
    ``seeds``, ``opponents``, ``draws``, ``preset``, and settings of `ddarts run` for all strategies.

    Raises:
        SettingsError: a name or a setting is unknown or wrong; the message names the strategy.
    """
    values = dict(read_config(config).values)
    where = place_of(config)
    described = values.pop("strategies", None)
    listed = [] if isinstance(described, Mapping) else _names(described)
    own = {str(name): _dotted(v, where) for name, v in described.items()} if isinstance(described, Mapping) else {}
    if isinstance(strategies, Mapping):
        own |= {str(name): _dotted(v, "") for name, v in strategies.items()}
        strategies = list(strategies)
    names = _names(strategies) or list(own) or listed or [_DEFAULT]
    methods = {name: own.get(name, {"search.strategy": name}) for name in names}
    if len(methods) < len(names):
        raise SettingsError(f"strategies: {', '.join(names)}: a name stands twice; leave one out")
    if not isinstance(data, str | os.PathLike | None) and any(not isinstance(d, str | os.PathLike) for d in data):
        raise SettingsError("a study reads data sets by name or folder in every trial; save the images, or use compare")
    sets = _names(data) or _names(values.pop("data", None)) or ["digits"]
    values.pop("data", None)
    given = {"seeds": seeds, "draws": draws, "opponents": opponents, "preset": preset, "seed": overrides.get("seed")}
    for key, value in given.items():
        stored = values.pop(key, None)
        given[key] = stored if value is None else value
    shared = _dotted(values, where) | _dotted({k: v for k, v in overrides.items() if k != "seed"}, "")
    for name, of in methods.items():
        if not _NAME.fullmatch(name) or name.startswith((SAME_SIZE, EQUAL_COST)):
            raise SettingsError(f"strategy {name!r}: use 1 to 40 letters, digits and _.+- and no name of an opponent")
        for key in {"data", "seed"} & of.keys():
            raise SettingsError(f"strategy {name!r} sets {key}, which is the same for all; set it for the study")
    try:
        study = StudySettings.model_validate(
            {"methods": methods, "data": sets, "shared": shared, **{k: v for k, v in given.items() if v is not None}}
        )
    except ValidationError as error:
        raise SettingsError(one_line(error, {})) from None
    for name in methods:
        for one in sets:
            try:
                settings = study.settings(name, one, study.seed)
            except SettingsError as error:
                raise SettingsError(f"strategy {name!r}: {error}") from None
            if (settings.devices or 1) * (settings.machines or 1) > 1:
                raise SettingsError("a study trains in one process a trial; leave out devices and machines, see --jobs")
            if study.opponents and settings.validation == 0:
                raise SettingsError(
                    "validation = 0 leaves nothing to choose random networks by; set it, or --no-opponents"
                )
    return study


def _names(value: Any) -> list[str]:
    if value is None:
        return []
    items = value.split(",") if isinstance(value, str) else [value] if isinstance(value, os.PathLike) else value
    return [str(item).strip() for item in items if str(item).strip()]


def _dotted(values: Any, where: str) -> dict[str, Any]:
    """Return settings under dotted names, whether they were given so or in groups."""
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where}{str(values)[:60]!r}: settings must be a mapping of names to values")
    found: dict[str, Any] = {}
    for key, value in drop_none(values).items():
        if key in GROUPS and isinstance(value, Mapping):
            found |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            found[key] = value
    return found


def _safe(data: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(data.partition(":")[0]).name).strip("-.")[:40] or "data"
