"""The settings of a function in its signature, for `help` and for completion while Python runs.

Type checkers read the names from ``**settings: Unpack[...]``; `inspect.signature`, and with it notebooks, do not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


class _OfThePreset:
    """The default of a setting in a signature: what the preset says."""

    def __repr__(self) -> str:
        return "..."


def names_settings(keywords: type) -> Callable[[Function], Function]:
    """Let the signature of a function name the settings that it takes.

    Args:
        keywords: a typed dictionary of `ddarts.config.keywords`.
    """

    def decorate(function: Function) -> Function:
        written = inspect.signature(function)
        first = [p for p in written.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_OfThePreset(), annotation=kind)
            for name, kind in keywords.__annotations__.items()
            if name not in written.parameters
        ]
        function.__signature__ = written.replace(parameters=[*first, *more])  # type: ignore[attr-defined]
        return function

    return decorate
