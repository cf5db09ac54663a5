"""Packages that only some commands need: imported when they are, and named when they are missing."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from ddarts.errors import DDartsError


class MissingPackageError(DDartsError):
    """A command needs a package that is not installed; the message says how to install it."""


def require(module: str, extra: str, purpose: str) -> Any:
    """Import and return `module`, a part of the optional dependencies `extra`.

    Args:
        module: name of the module, such as "onnxruntime".
        extra: the group of pyproject.toml that holds it.
        purpose: what needs it, for the message, such as "the export to ONNX".

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"{purpose} needs {module}, which cannot be imported ({' '.join(str(error).split())[:120]}); "
            f"pip install 'ddarts[{extra}]'"
        ) from None


def installed(module: str) -> bool:
    """Return whether `module` can be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # ValueError: a module without a spec stands in sys.modules
        return False
