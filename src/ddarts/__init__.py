"""ddarts: differentiable architecture search with cells of their own (D-DARTS, DARTOpti).

The public names, imported when first used, so that ``import ddarts`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "run": "ddarts.api.stages",
    "search": "ddarts.api.stages",
    "derive": "ddarts.api.stages",
    "train": "ddarts.api.stages",
    "test": "ddarts.api.stages",
    "predict": "ddarts.api.stages",
    "compare": "ddarts.api.compare",
    "study": "ddarts.api.study",
    "export": "ddarts.api.export",
    "profile": "ddarts.api.profile",
    "probe": "ddarts.api.probe",
    "show": "ddarts.api.show",
    "import_weights": "ddarts.api.import_weights",
    "report": "ddarts.api.report",
    "watch": "ddarts.api.watch",
    "baselines": "ddarts.api.catalogue",
    "zoo": "ddarts.api.catalogue",
    "cache": "ddarts.api.cache",
    "distance": "ddarts.api.distance",
    "measure_operations": "ddarts.api.measure",
    "CellGenotype": "ddarts.genotype.genotype",
    "Edge": "ddarts.genotype.genotype",
    "Gates": "ddarts.genotype.gates",
    "Genotype": "ddarts.genotype.genotype",
    "SearchSpace": "ddarts.space.cell_space",
    "build_space": "ddarts.space.cell_space",
    "deepen": "ddarts.genotype.deepen",
    "derive_genotype": "ddarts.genotype.derive",
    "Network": "ddarts.hub.pretrained",
    "load_model": "ddarts.training.evaluate",
    "load_data": "ddarts.data",
    "RunFolder": "ddarts.runs.folder",
    "DDartsError": "ddarts.errors",
    "Operation": "ddarts.space.operations",
    "OPERATIONS": "ddarts.space.operations",
    "register_operation": "ddarts.space.operations",
    "STRATEGIES": "ddarts.config.strategies",
    "register_strategy": "ddarts.config.strategies",
    "SPACES": "ddarts.space.spaces",
    "SOURCES": "ddarts.data",
}

__all__ = [
    "OPERATIONS",
    "SOURCES",
    "SPACES",
    "STRATEGIES",
    "CellGenotype",
    "DDartsError",
    "Edge",
    "Gates",
    "Genotype",
    "Network",
    "Operation",
    "RunFolder",
    "SearchSpace",
    "__version__",
    "baselines",
    "build_space",
    "cache",
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
    "probe",
    "profile",
    "register_operation",
    "register_strategy",
    "report",
    "run",
    "search",
    "show",
    "study",
    "test",
    "train",
    "watch",
    "zoo",
]

__version__: str
"""Of the installed package."""

if TYPE_CHECKING:
    from ddarts.api.cache import cache
    from ddarts.api.catalogue import baselines, zoo
    from ddarts.api.compare import compare
    from ddarts.api.distance import distance
    from ddarts.api.export import export
    from ddarts.api.import_weights import import_weights
    from ddarts.api.measure import measure_operations
    from ddarts.api.probe import probe
    from ddarts.api.profile import profile
    from ddarts.api.report import report
    from ddarts.api.show import show
    from ddarts.api.stages import derive, predict, run, search, test, train
    from ddarts.api.study import study
    from ddarts.api.watch import watch
    from ddarts.config.strategies import STRATEGIES, register_strategy
    from ddarts.data import SOURCES, load_data
    from ddarts.errors import DDartsError
    from ddarts.genotype.deepen import deepen
    from ddarts.genotype.derive import derive_genotype
    from ddarts.genotype.gates import Gates
    from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
    from ddarts.hub.pretrained import Network
    from ddarts.runs.folder import RunFolder
    from ddarts.space.cell_space import SearchSpace, build_space
    from ddarts.space.operations import OPERATIONS, Operation, register_operation
    from ddarts.space.spaces import SPACES
    from ddarts.training.evaluate import load_model


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
