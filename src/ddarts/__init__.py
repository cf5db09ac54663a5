"""ddarts: differentiable architecture search with cells of their own (D-DARTS, DARTOpti).

The public names, imported when first used, so that ``import ddarts`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "run": "ddarts.stages",
    "search": "ddarts.stages",
    "derive": "ddarts.stages",
    "train": "ddarts.stages",
    "test": "ddarts.stages",
    "predict": "ddarts.stages",
    "compare": "ddarts.commands.compare",
    "export": "ddarts.commands.export",
    "profile": "ddarts.commands.profile",
    "show": "ddarts.commands.show",
    "import_weights": "ddarts.commands.import_weights",
    "report": "ddarts.commands.report",
    "watch": "ddarts.commands.watch",
    "baselines": "ddarts.commands.catalogue",
    "zoo": "ddarts.commands.catalogue",
    "distance": "ddarts.commands.distance",
    "measure_operations": "ddarts.commands.measure",
    "CellGenotype": "ddarts.architecture.genotype",
    "Edge": "ddarts.architecture.genotype",
    "Gates": "ddarts.architecture.gates",
    "Genotype": "ddarts.architecture.genotype",
    "SearchSpace": "ddarts.architecture.spaces",
    "build_space": "ddarts.architecture.spaces",
    "deepen": "ddarts.architecture.deepen",
    "derive_genotype": "ddarts.architecture.derive",
    "Network": "ddarts.models.network",
    "load_model": "ddarts.models.saved",
    "load_data": "ddarts.data",
    "RunFolder": "ddarts.runs",
    "DDartsError": "ddarts.errors",
}

__all__ = [
    "CellGenotype",
    "DDartsError",
    "Edge",
    "Gates",
    "Genotype",
    "Network",
    "RunFolder",
    "SearchSpace",
    "__version__",
    "baselines",
    "build_space",
    "compare",
    "deepen",
    "derive",
    "derive_genotype",
    "distance",
    "export",
    "import_weights",
    "load_data",
    "load_model",
    "measure_operations",
    "predict",
    "profile",
    "report",
    "run",
    "search",
    "show",
    "test",
    "train",
    "watch",
    "zoo",
]

__version__: str
"""Of the installed package."""

if TYPE_CHECKING:
    from ddarts.architecture.deepen import deepen
    from ddarts.architecture.derive import derive_genotype
    from ddarts.architecture.gates import Gates
    from ddarts.architecture.genotype import CellGenotype, Edge, Genotype
    from ddarts.architecture.spaces import SearchSpace, build_space
    from ddarts.commands.catalogue import baselines, zoo
    from ddarts.commands.compare import compare
    from ddarts.commands.distance import distance
    from ddarts.commands.export import export
    from ddarts.commands.import_weights import import_weights
    from ddarts.commands.measure import measure_operations
    from ddarts.commands.profile import profile
    from ddarts.commands.report import report
    from ddarts.commands.show import show
    from ddarts.commands.watch import watch
    from ddarts.data import load_data
    from ddarts.errors import DDartsError
    from ddarts.models.network import Network
    from ddarts.models.saved import load_model
    from ddarts.runs import RunFolder
    from ddarts.stages import derive, predict, run, search, test, train


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("ddarts")
    if name not in _HOME:
        raise AttributeError(f"module 'ddarts' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
