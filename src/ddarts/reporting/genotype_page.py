"""A genotype as a page: the cells, the chain that they form, and both in words."""

from __future__ import annotations

from ddarts.genotype.genotype import Genotype
from ddarts.reporting.background import Background
from ddarts.reporting.names import StateText
from ddarts.reporting.scene import to_svg
from ddarts.reporting.template import render_page
from ddarts.reporting.views import CellView, cell_view, cell_views, kinds_used, network_view


def render_genotype(
    genotype: Genotype, background: Background, *, cell: int | None = None, network: bool = False
) -> str:
    """Return the page as HTML.

    Args:
        genotype: the architecture.
        background: gates, margins and sizes from its run.
        cell: show only this cell.
        network: show only the chain of cells.
    """
    cells: list[CellView] = []
    if cell is not None:
        proof = background.proof(cell)
        cells = [cell_view(cell, genotype.cells[cell], proof)]
    elif not network:
        cells = cell_views(genotype, background.proofs)
    chain = network_view(genotype, background) if cell is None else None
    return render_page(
        "genotype.html",
        name=genotype.name or "Genotype",
        count=len(genotype),
        reductions=", ".join(map(str, genotype.reductions)) or "none",
        cells=cells,
        cells_left_out=0 if network or cell is not None else len(genotype) - sum(view.count for view in cells),
        chain=to_svg(chain) if chain else "",
        chain_text=StateText(chain.description if chain else ""),
        kinds_used=kinds_used(genotype),
        has_gates=any(proof.gates for proof in background.proofs),
    )
