import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ddarts.errors import RunError
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.reporting.chosen import CellEvidence
from ddarts.reporting.drawing import draw_cell, draw_genotype, write_drawings
from ddarts.reporting.names import KINDS, operation_kind
from ddarts.space.cell_space import cell_edges
from ddarts.space.operations import BUILT_IN_OPERATIONS

GOLDEN = Path(__file__).parents[1] / "reference" / "golden"
SVG = "{http://www.w3.org/2000/svg}"
TINY = CellGenotype((Edge("skip_connect", 0, 2),), (2,))
TWO = CellGenotype((Edge("skip_connect", 0, 2), Edge("sep_conv_3x3", 2, 3)), (2, 3), reduction=True)


def texts(svg: str) -> list[str]:
    return ["".join(e.itertext()) for e in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def proof(gates: dict[Edge, float], margins: dict[Edge, float] | None = None) -> CellEvidence:
    return CellEvidence(0, gates, margins or {})


def published() -> list[tuple[str, list]]:
    found = json.loads((GOLDEN / "published.json").read_text())["ddarts"]
    return [(name, [(genes, item["concat"]) for genes in item["genes"] if genes]) for name, item in found.items()]


@pytest.mark.parametrize(("name", "cells"), published(), ids=lambda v: v if isinstance(v, str) else "")
def test_every_published_genotype_can_be_drawn(name: str, cells: list) -> None:
    genes, concat = max(cells, key=lambda c: len(c[0]))
    cell = CellGenotype(tuple(Edge(op, source, target) for op, target, source in genes), tuple(concat))
    drawn = texts(draw_cell(cell))
    assert sorted(t for t in drawn if t in BUILT_IN_OPERATIONS) == sorted(e.operation for e in cell.edges)


def test_all_states_and_operations_are_named() -> None:
    assert texts(draw_cell(TWO)) == [
        "reduction cell",
        "stride 2 from both inputs",
        "skip_connect",
        "sep_conv_3x3",
        "ck\N{MINUS SIGN}2",
        "ck\N{MINUS SIGN}1",
        "0",
        "1",
        "output",
    ]


def test_a_normal_cell_is_not_marked_as_a_reduction() -> None:
    assert "cell" in texts(draw_cell(TINY))
    assert not any("stride" in text for text in texts(draw_cell(TINY)))


def test_the_gate_stands_under_its_operation() -> None:
    drawn = texts(draw_cell(TWO, gates={TWO.edges[1]: 0.98765}))
    assert drawn[drawn.index("sep_conv_3x3") + 1] == "0.988"
    assert drawn[drawn.index("skip_connect") + 1] == "sep_conv_3x3"


def test_the_lead_over_the_runner_up_stands_beside_the_gate() -> None:
    first, second = TWO.edges
    drawn = texts(draw_cell(TWO, gates={first: 0.9, second: 0.5}, margins={first: 0.25, second: -0.125}))
    assert drawn[drawn.index("skip_connect") + 1] == "0.900 +0.250"
    assert drawn[drawn.index("sep_conv_3x3") + 1] == "0.500 \N{MINUS SIGN}0.125"


def test_the_drawing_says_in_words_what_it_shows() -> None:
    root = ElementTree.fromstring(draw_cell(TWO, title="cell 2", gates={TWO.edges[0]: 0.5}))
    assert root.get("role") == "img"
    assert root.get("aria-label") == "cell 2"
    assert root.findtext(f"{SVG}title") == "cell 2"
    assert root.findtext(f"{SVG}desc") == (
        "skip_connect from c_{k-2} to node 0, gate 0.5000; sep_conv_3x3 from node 0 to node 1. "
        "The output concatenates node 0, node 1."
    )


def test_the_drawing_brings_its_own_background() -> None:
    paper = ElementTree.fromstring(draw_cell(TINY)).find(f"{SVG}rect")
    assert paper is not None
    assert paper.get("fill") == "#ffffff"


def test_nodes_that_receive_nothing_are_drawn_dashed() -> None:
    cell = CellGenotype((Edge("skip_connect", 0, 2), Edge("dil_conv_3x3", 3, 4)), (2, 3, 4))
    groups = [g for g in ElementTree.fromstring(draw_cell(cell)).iter(f"{SVG}g") if g.get("class") == "node"]
    assert [g.get("stroke-dasharray") for g in groups] == [None, "4 3", "4 3"]


def test_every_line_and_its_label_have_the_colour_of_the_kind() -> None:
    for operation in BUILT_IN_OPERATIONS:
        svg = draw_cell(CellGenotype((Edge(operation, 1, 2),), (2,)))
        kind = operation_kind(operation)
        assert f'class="line {kind}"' in svg
        assert svg.count(KINDS[kind].colour) == 3  # line, arrow, label's frame
    assert len({kind.colour for kind in KINDS.values()}) == len(KINDS)


def test_hostile_text_is_escaped() -> None:
    title = '</title><script>alert("&")</script>'
    assert ElementTree.fromstring(draw_cell(TINY, title=title)).get("aria-label") == title
    assert "<script" not in draw_cell(TINY, title=title)
    svg = draw_genotype(Genotype((TINY,), title))
    assert "<script" not in svg
    assert title in texts(svg)


def test_a_full_cell_of_the_largest_space_can_be_drawn() -> None:
    edges = tuple(Edge(BUILT_IN_OPERATIONS[(s + 2 * t) % len(BUILT_IN_OPERATIONS)], s, t) for s, t in cell_edges(8))
    drawn = texts(draw_cell(CellGenotype(edges, tuple(range(2, 10)))))
    assert len([t for t in drawn if t in BUILT_IN_OPERATIONS]) == 44


def test_a_genotype_shows_every_cell_with_its_place_and_gates() -> None:
    svg = draw_genotype(Genotype((TINY, TWO, TINY), "three"), [proof({TINY.edges[0]: 0.25}), proof({}), proof({})])
    drawn = texts(svg)
    assert [t for t in drawn if t.startswith("cell")] == ["cell 0", "cell 1 (reduction)", "cell 2"]
    assert "three" in drawn
    assert "0.250" in drawn
    assert ElementTree.fromstring(svg).findtext(f"{SVG}desc") == "3 cells; reductions at 1."


def test_many_cells_wrap_into_rows() -> None:
    one, many = (ElementTree.fromstring(draw_genotype(Genotype((TINY,) * n), [proof({})] * n)) for n in (1, 30))
    assert float(many.get("width", 0)) < 1600
    assert float(many.get("height", 0)) > 2 * float(one.get("height", 0))


def test_drawings_are_written_beside_each_other_and_stale_ones_removed(tmp_path: Path) -> None:
    write_drawings(Genotype((TINY, TWO, TINY)), tmp_path / "cells")
    (tmp_path / "cells" / "notes.txt").write_text("mine")
    paths = write_drawings(Genotype((TINY, TWO)), tmp_path / "cells", [proof({TINY.edges[0]: 0.9}), proof({})])
    names = sorted(p.name for p in (tmp_path / "cells").iterdir())
    assert names == ["cell_00.svg", "cell_01.svg", "cells.svg", "notes.txt"]
    assert [p.name for p in paths] == ["cell_00.svg", "cell_01.svg", "cells.svg"]
    assert paths[0].read_text() == draw_cell(TINY, title="cell 0", gates={TINY.edges[0]: 0.9})


def test_a_folder_that_cannot_be_written_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "cells").write_text("a file")
    with pytest.raises(RunError, match=r"cell_00\.svg: cannot be written"):
        write_drawings(Genotype((TINY,)), tmp_path / "cells")
