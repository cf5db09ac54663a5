"""Networks of ddarts as models of timm: after ``import ddarts.hub.timm``, `timm.create_model` knows them.

- ``ddarts_<name>`` for every named architecture, such as ``ddarts_resnet18``: random weights.
- ``ddarts`` with ``genotype=`` (a name, a file or a run), or with ``folder=`` (a trained model; its weights are loaded
  with ``pretrained=True``).
- `register_model_folder` gives a trained model a name of its own, for scripts that take nothing but names.

Needs timm: ``pip install "ddarts[timm]"``.
"""

from __future__ import annotations

from ddarts.errors import DDartsError


class MissingTimmError(DDartsError, ImportError):
    """timm is not installed."""


try:
    import timm  # noqa: F401 (the package of that name, not this one: imports are absolute)
except ImportError:
    raise MissingTimmError('ddarts.hub.timm needs timm, which is not installed; pip install "ddarts[timm]"') from None

from ddarts.hub.timm.network import TimmNetwork  # noqa: E402
from ddarts.hub.timm.registry import model_names, register_model_folder  # noqa: E402

__all__ = ["MissingTimmError", "TimmNetwork", "model_names", "register_model_folder"]
