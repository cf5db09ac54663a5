"""The registry of search spaces: spaces of cells and of choices."""

from __future__ import annotations

from typing import Any

from ddarts.runtime.registry import Registry

#: Search spaces by name: a `ddarts.space.choice_space.ChoiceSpace`, or a function of the sizes of a network of cells,
#: as `ddarts.space.cell_space.cell_space` returns. Another package offers one by an entry point of the group.
SPACES: Registry[Any] = Registry(
    "search space",
    "ddarts.spaces",
    {
        "darts": "ddarts.space.cell_space:DARTS",
        "dartopti": "ddarts.space.cell_space:DARTOPTI",
        "mobile": "ddarts.space.mobile:MOBILE",
        "residual": "ddarts.space.residual:RESIDUAL",
    },
    families={
        **dict.fromkeys(("torchvision", "timm"), "ddarts.space.imported:imported_space"),
        "standard": "ddarts.space.standard:standard_space",
    },
)
