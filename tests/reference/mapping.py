"""The reference's genotypes, as the golden files hold them, in our terms."""

from __future__ import annotations

from typing import Any

from ddarts.genotype.genotype import CellGenotype, Edge, Genotype


def genotype_from_reference(data: dict[str, Any]) -> Genotype:
    """Build a genotype from {"genes": [[[operation, to, from], ...], ...], "concat": [...], "reductions": [...]}."""
    return Genotype(
        tuple(
            CellGenotype(
                tuple(Edge(operation, source, target) for operation, target, source in cell),
                tuple(data["concat"]),
                i in data["reductions"],
            )
            for i, cell in enumerate(data["genes"])
        )
    )
