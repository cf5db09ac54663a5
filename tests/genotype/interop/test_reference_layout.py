"""What the published code builds from a genotype, where that is another network than the genotype says."""

from __future__ import annotations

import dataclasses

import pytest

from ddarts.errors import GenotypeError
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.interop.reference_layout import reference_concat, reference_layout
from tests.reference.golden import golden_json
from tests.reference.mapping import genotype_from_reference


def _numbered(count: int, reductions: tuple[int, ...]) -> Genotype:
    """Cells that can be told apart: cell i concatenates node i + 2 alone."""
    cells = (CellGenotype((Edge("skip_connect", 0, i + 2),), (i + 2,), i in reductions) for i in range(count))
    return Genotype(tuple(cells), "numbered")


def _sources(genotype: Genotype) -> list[int]:
    return [cell.concat[0] - 2 for cell in genotype.cells]


def test_eight_cells_are_laid_out_over_fourteen_as_published() -> None:
    deeper = reference_layout(_numbered(8, (2, 6)), 14)
    assert deeper is not None
    assert _sources(deeper) == [0, 0, 0, 1, 2, 4, 3, 4, 3, 5, 6, 7, 6, 7]  # by hand from the published code
    assert deeper.reductions == (2, 6)  # where they were, not where cells 2 and 5 went
    assert deeper.name == "numbered"


def test_as_many_cells_as_before_are_the_same_genotype() -> None:
    genotype = _numbered(8, (2, 6))
    assert reference_layout(genotype, 8) is genotype


@pytest.mark.parametrize(("count", "reductions"), [(8, (1, 2, 3)), (3, (1, 2)), (4, (1,)), (1, ())])
def test_where_the_published_code_fails_there_is_no_layout(count: int, reductions: tuple[int, ...]) -> None:
    assert reference_layout(_numbered(count, reductions), count + 6) is None


def test_every_node_with_an_edge_is_concatenated() -> None:
    edges = tuple(Edge("skip_connect", i, i + 2) for i in range(3))
    some = Genotype((CellGenotype(edges, (4,)), CellGenotype(edges, (2, 3, 4)), CellGenotype(edges, (4, 3, 2))))
    whole = reference_concat(some)
    assert [cell.concat for cell in whole.cells] == [(2, 3, 4)] * 3
    assert whole.cells[1] is some.cells[1]
    assert [cell.edges for cell in whole.cells] == [edges] * 3


def test_nodes_that_are_named_out_of_order_are_refused() -> None:
    edges = (Edge("skip_connect", 2, 3), Edge("skip_connect", 0, 2))
    genotype = Genotype((CellGenotype(edges, (2, 3)),))
    with pytest.raises(GenotypeError, match=r"cell 0 names its nodes in the order 3, 2; .*list the edges node by node"):
        reference_concat(genotype)


def test_published_genotypes_of_resnet50_concatenate_six_nodes_in_the_published_code() -> None:
    genotype = genotype_from_reference(golden_json("published")["ddarts"]["ResNet50_cifar10_threshold_sparse_0.85"])
    assert {cell.concat for cell in genotype.cells} == {(4, 5, 6, 7)}
    assert {cell.concat for cell in reference_concat(genotype).cells} == {(2, 3, 4, 5, 6, 7)}
    other = genotype_from_reference(golden_json("published")["ddarts"]["ResNet18_cifar10_threshold_sparse_0.85"])
    assert reference_concat(other) == dataclasses.replace(other)
