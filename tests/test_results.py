from pathlib import Path

from ddarts.genotype.gates import Gates
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.results import SearchResult
from ddarts.space.cell_space import build_space

SKIP, CONV = Edge("skip_connect", 0, 2), Edge("simple_conv_3x3", 1, 2)


def result(genotype, distance, baseline, parameters=None):
    space = build_space(cells=len(genotype), nodes=1)
    gates = Gates.from_space(space, [[[0.5] * len(space.operations)] * len(space.edges)] * len(genotype))
    return SearchResult(Path("r"), gates, genotype, 1, 1.0, None, distance, baseline, parameters)


def test_a_search_from_a_baseline_reports_what_was_removed_although_the_hausdorff_distance_is_zero():
    other = Edge("skip_connect", 0, 3)
    before = Genotype((CellGenotype((SKIP, other, CONV), (2, 3)),) * 2)
    after = Genotype((CellGenotype((SKIP, CONV), (2,)),) * 2)
    rows = dict(result(after, 0.0, before, (43494, 23174)).rows())
    assert rows["distance to the baseline"] == "Hausdorff 0.0000, edit 0.3333"
    assert rows["operations"] == "0 added, 2 removed, 0 changed, in 2 cells"
    assert rows["  cells 0-1"] == "removed skip_connect (c_{k-2} to node 1)"
    assert rows["parameters"] == "43,494 in the baseline, 23,174 now"


def test_a_search_that_returns_its_baseline_says_so():
    same = Genotype((CellGenotype((SKIP, CONV), (2,)),) * 2)
    assert dict(result(same, 0.0, same).rows())["operations"].startswith("none changed")
    assert result(same, 0.0, same).to_dict()["differences"] == []
