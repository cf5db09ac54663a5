"""Registries: what can be added to ddarts by name, from Python or from another installed package.

Operations (`ddarts.operations`), search spaces (`ddarts.spaces`), strategies (`ddarts.strategies`) and data sources
(`ddarts.sources`) are registered here. A package offers one by an entry point in its pyproject.toml::

    [project.entry-points."ddarts.operations"]
    gated_conv_3x3 = "my_package.operations:GatedConv"

Nothing is imported before it is used by name, so that a list of names costs no import of torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ddarts.errors import DDartsError, SettingsError, nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


def load_reference(reference: str) -> Any:
    """Import what ``"package.module:attribute"`` refers to."""
    module, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(module), attribute)


class Registry(Generic[T]):
    """Named values of one kind: built-in ones, registered ones, and those that entry points offer.

    Args:
        kind: what an error message calls a value, such as "operation".
        group: the group of entry points, such as "ddarts.operations".
        built_in: name -> value, or a reference "package.module:attribute" that is imported when the name is used.
        convert: makes the stored value of what was registered, built-in or loaded; it may raise a `DDartsError`.
        error: the exception for an unknown name.
        families: prefix -> reference of a function, which returns the value of a name of the form ``prefix:rest``.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        built_in: Mapping[str, T | str] | None = None,
        *,
        convert: Callable[[str, Any], T] | None = None,
        error: type[DDartsError] = SettingsError,
        families: Mapping[str, str] | None = None,
    ) -> None:
        self.kind, self.group, self.error = kind, group, error
        self._families = dict(families or {})
        self._convert = convert
        self._references: dict[str, str] = {}
        self._values: dict[str, T] = {}
        self._entry_points: dict[str, EntryPoint] | None = None
        for name, value in (built_in or {}).items():
            if isinstance(value, str):
                self._references[name] = value
            else:
                self._values[name] = self._converted(name, value)

    def register(self, name: str, value: Any) -> T:
        """Add a value under a new name and return it as it is stored.

        Raises:
            SettingsError: the name is not a plain word, or it is registered already.
        """
        if not name or not name.replace("-", "_").isidentifier():
            raise SettingsError(
                f"{self.kind} {str(name)[:60]!r}: a name consists of letters, digits, - and _, and begins with a letter"
            )
        if name in self._values or name in self._references:
            raise SettingsError(f"{self.kind} {name!r} is registered already; choose another name")
        self._values[name] = self._converted(name, value)
        return self._values[name]

    def unregister(self, name: str) -> None:
        """Remove a registered value; a name that is not registered is ignored."""
        self._values.pop(name, None)

    def get(self, name: str, where: str = "") -> T:
        """Return the value of a name.

        Args:
            name: the name.
            where: what an error message begins with, such as the file that holds the name.

        Raises:
            DDartsError: `error` for an unknown name, with the nearest known one; `SettingsError` if an entry point
                cannot be imported.
        """
        if name not in self._values:
            if name in self._references:
                self._values[name] = self._converted(name, load_reference(self._references[name]))
            elif ":" in name and name.partition(":")[0] in self._families:
                self._values[name] = load_reference(self._families[name.partition(":")[0]])(name)
            elif name in self._found():
                self._values[name] = self._load(self._found()[name])
            else:
                prefix = f"{where}: " if where else ""
                raise self.error(f"{prefix}unknown {self.kind} {name[:60]!r}{nearest(name[:60], self.names())}")
        return self._values[name]

    def names(self) -> tuple[str, ...]:
        """Return every known name: built-in and registered ones in their order, then those of entry points."""
        return tuple(dict.fromkeys((*self._references, *self._values, *self._found())))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kind}: {', '.join(self.names())})"

    def __contains__(self, name: object) -> bool:
        return name in self._values or name in self._references or name in self._found()

    def _converted(self, name: str, value: Any) -> T:
        return value if self._convert is None else self._convert(name, value)

    def _found(self) -> dict[str, EntryPoint]:
        """The entry points of the group; the installed packages are read once."""
        if self._entry_points is None:
            from importlib.metadata import entry_points  # takes 30 ms to import

            found: dict[str, EntryPoint] = {}
            for entry in entry_points(group=self.group):
                if entry.name in self._references or entry.name in self._values or entry.name in found:
                    raise SettingsError(
                        f"{self.kind} {entry.name!r} of {_origin(entry)} is registered already; rename that entry point"
                    )
                found[entry.name] = entry
            self._entry_points = found
        return self._entry_points

    def _load(self, entry: EntryPoint) -> T:
        try:
            return self._converted(entry.name, entry.load())
        except Exception as error:  # an untrusted package's import may raise anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise SettingsError(
                f"{self.kind} {entry.name!r} of {_origin(entry)} cannot be loaded: {reason[:200]}; "
                f"fix or uninstall that package"
            ) from error


def _origin(entry: EntryPoint) -> str:
    package = f"package {entry.dist.name}" if entry.dist is not None else "an installed package"
    return f"{package} (entry point {entry.value})"
