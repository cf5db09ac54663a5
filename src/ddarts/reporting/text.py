"""A genotype as text for a terminal."""

from __future__ import annotations

from ddarts.genotype.genotype import CellGenotype, Genotype
from ddarts.reporting.names import cell_title, state_name
from ddarts.space.cell_space import INPUT_STATES


def describe(genotype: Genotype) -> str:
    """Return a listing with one block per cell and one line per node, such as ``node 1 = sep_conv_3x3(node 0)``."""
    count = len(genotype)
    at = ", ".join(map(str, genotype.reductions))
    head = f"{genotype.name}: " if genotype.name else ""
    head += f"{count} cell{'s' if count != 1 else ''}, {f'reductions at {at}' if at else 'no reductions'}"
    blocks = [f"{cell_title(i, cell)}\n{describe_cell(cell)}" for i, cell in enumerate(genotype.cells)]
    return "\n\n".join([head, *blocks]) + "\n"


def describe_cell(cell: CellGenotype) -> str:
    """Return the lines of one cell, indented: each node as the sum of its operations, then the output."""
    names = [state_name(state) for state in range(INPUT_STATES, cell.nodes + INPUT_STATES)] + ["output"]
    wide = max(map(len, names))
    lines = []
    for state in range(INPUT_STATES, cell.nodes + INPUT_STATES):
        terms = [f"{e.operation}({state_name(e.source)})" for e in cell.edges if e.target == state]
        if terms:
            lines.append(f"  {state_name(state):<{wide}} = {' + '.join(terms)}")
    output = ", ".join(state_name(state) for state in cell.concat)
    lines.append(
        f"  {'output':<{wide}} = concat({output})" if len(cell.concat) > 1 else f"  {'output':<{wide}} = {output}"
    )
    return "\n".join(lines)
