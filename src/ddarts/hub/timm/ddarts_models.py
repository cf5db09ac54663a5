"""Where timm looks for what ddarts has registered: ``timm.list_models(module="ddarts_models")``.

The functions that build models are put here under their names by `ddarts.hub.timm.registry`.
"""

from __future__ import annotations

from timm.models import DefaultCfg

#: What timm knows of each model: input size, normalisation, names of layers.
default_cfgs: dict[str, DefaultCfg] = {}

__all__: list[str] = []
