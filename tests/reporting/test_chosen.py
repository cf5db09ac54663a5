import pytest

from ddarts.genotype.deepen import deepen
from ddarts.genotype.derive import RULES, derive_genotype, edge_margins
from ddarts.genotype.gates import Gates
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.reporting.chosen import evidence
from ddarts.space.cell_space import build_space


def searched(cells: int = 5) -> Gates:
    space = build_space("darts", cells=cells, nodes=2)
    number = iter(range(10**6))
    values = [[[(next(number) * 37 % 101) / 100 for _ in range(7)] for _ in space.edges] for _ in range(cells)]
    return Gates.from_space(space, values)


@pytest.mark.parametrize("method", RULES)
def test_every_edge_of_a_derived_genotype_has_its_gate_and_margin(method: str) -> None:
    gates = searched()
    genotype = derive_genotype(gates, method, 0.3)
    found = evidence(genotype, gates, method, 0.3)
    assert [proof.searched for proof in found] == [0, 1, 2, 3, 4]
    for i, (proof, cell) in enumerate(zip(found, genotype.cells, strict=True)):
        assert set(proof.gates) == set(cell.edges)
        assert all(
            gate == gates.values[i][gates.space.edges.index(e[1:])][gates.operations.index(e.operation)]
            for e, gate in proof.gates.items()
        )
        assert proof.margins == edge_margins(gates.values[i], gates.operations, 2, method, 0.3)


def test_cells_of_a_deeper_network_are_traced_to_the_searched_ones() -> None:
    gates = searched()
    genotype = deepen(derive_genotype(gates), 9)
    original = derive_genotype(gates)
    for proof, cell in zip(evidence(genotype, gates), genotype.cells, strict=True):
        assert proof.searched is not None
        assert original.cells[proof.searched] == cell


def test_cells_that_come_from_elsewhere_have_no_evidence() -> None:
    foreign = Genotype((CellGenotype((Edge("bottleneck_1x3x1", 0, 9),), (9,)),))
    (proof,) = evidence(foreign, searched())
    assert (proof.searched, proof.gates, proof.margins) == (None, {}, {})
