import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddarts.errors import GenotypeError
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype, printable_name
from ddarts.space.operations import BUILT_IN_OPERATIONS

SKIP = Edge("skip_connect", 0, 2)
TINY = Genotype((CellGenotype((SKIP,), (2,)),), "tiny")


@st.composite
def cells(draw: st.DrawFn) -> CellGenotype:
    nodes = draw(st.integers(1, 5))
    pairs = [(s, t) for t in range(2, nodes + 2) for s in range(t)]
    edge = st.builds(lambda op, pair: Edge(op, *pair), st.sampled_from(BUILT_IN_OPERATIONS), st.sampled_from(pairs))
    edges = draw(st.lists(edge, unique=True, max_size=12))
    anchor = Edge("skip_connect", 0, nodes + 1)
    concat = draw(st.permutations(range(2, nodes + 2)))
    return CellGenotype((anchor, *(e for e in edges if e != anchor)), tuple(concat), draw(st.booleans()))


names = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=30)
genotypes = st.builds(lambda c, name: Genotype(tuple(c), name), st.lists(cells(), min_size=1, max_size=5), names)


def broken(change) -> dict:
    data = TINY.to_dict()
    change(data)
    return data


# -- round trip ----------------------------------------------------------------------------------------------------


@given(genotypes)
def test_json_gives_back_the_same_genotype(genotype: Genotype) -> None:
    assert Genotype.from_json(genotype.to_json()) == genotype
    assert json.loads(genotype.to_json()) == genotype.to_dict()


def test_a_saved_genotype_is_read_from_the_file_and_from_the_run_folder(tmp_path: Path) -> None:
    TINY.save(tmp_path / "genotype.json")
    assert Genotype.load(tmp_path / "genotype.json") == TINY
    assert Genotype.load(tmp_path) == TINY


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    path.write_bytes(b"\xef\xbb\xbf" + TINY.to_json().encode())
    assert Genotype.load(path) == TINY


def test_reductions_and_operations_are_counted_from_the_cells() -> None:
    normal = CellGenotype((SKIP, Edge("sep_conv_3x3", 1, 2)), (2,))
    reduction = CellGenotype((Edge("max_pool_3x3", 1, 2),), (2,), reduction=True)
    genotype = Genotype((normal, reduction, normal, reduction))
    assert genotype.reductions == (1, 3)
    assert genotype.operations == ("max_pool_3x3", "sep_conv_3x3", "skip_connect")
    assert normal.parameter_free_share == 0.5


# -- pruning -------------------------------------------------------------------------------------------------------


def test_a_node_without_input_goes_with_the_chain_that_only_it_fed() -> None:
    kept = (Edge("skip_connect", 0, 2), Edge("sep_conv_3x3", 2, 6))
    chain = (Edge("sep_conv_3x3", 3, 4), Edge("sep_conv_3x3", 4, 5), Edge("sep_conv_5x5", 5, 6))
    cell = CellGenotype((*chain, *kept), (2, 3, 4, 5, 6), reduction=True)
    assert cell.fed_states == {0, 1, 2, 6}
    assert cell.live_concat == (2, 6)
    assert cell.pruned() == CellGenotype(kept, (2, 6), reduction=True)


def test_pruning_keeps_a_node_that_another_state_feeds_too() -> None:
    cell = CellGenotype((Edge("skip_connect", 2, 3), Edge("skip_connect", 1, 3)), (2, 3))
    assert cell.pruned() == CellGenotype((Edge("skip_connect", 1, 3),), (3,))


@given(cells())
def test_pruning_leaves_only_fed_states_and_changes_nothing_the_second_time(cell: CellGenotype) -> None:
    pruned = cell.pruned()
    targets = {e.target for e in pruned.edges}
    assert all(e.source in targets | {0, 1} for e in pruned.edges)
    assert set(pruned.concat) <= targets
    assert pruned.pruned() == pruned
    assert pruned.fed_states == cell.fed_states


# -- cells that break a rule -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edges", "concat", "message"),
    [
        ((SKIP,), (), "cell: concat is empty; name at least one node"),
        ((SKIP,), (2, 2), r"cell: concat \[2, 2\] names a state twice"),
        ((SKIP,), (1,), "cell: concat names state 1, expected 2 to 33"),
        ((SKIP,), (34,), "cell: concat names state 34, expected 2 to 33"),
        ((Edge("skip_conect", 0, 2),), (2,), r"edges\[0\].op: unknown operation .* did you mean 'skip_connect'\?"),
        ((Edge("zzz", 0, 2),), (2,), "unknown operation 'zzz'; known: avg_pool_3x3, "),
        ((Edge("skip_connect", 0, 1),), (2,), r"edges\[0\].to: state 1, expected 2 to 33"),
        ((Edge("skip_connect", 2, 2),), (2,), r"edges\[0\].from: state 2 does not come before state 2; edges lead"),
        ((Edge("skip_connect", -1, 2),), (2,), r"edges\[0\].from: state -1 does not come before state 2"),
        ((SKIP, SKIP), (2,), r"edges\[1\]: skip_connect from 0 to 2 stands twice"),
        ((), (2,), r"no node in concat \[2\] has an input; the cell is empty"),
        ((Edge("skip_connect", 2, 3),), (2, 3), "the cell is empty"),
    ],
)
def test_a_cell_that_breaks_a_rule_says_which(edges: tuple, concat: tuple, message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        CellGenotype(edges, concat)


def test_a_genotype_needs_cells_but_not_thousands() -> None:
    with pytest.raises(GenotypeError, match="needs at least one cell"):
        Genotype(())
    with pytest.raises(GenotypeError, match="1001 cells are more than the 1000"):
        Genotype(TINY.cells * 1001)


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "\ud800", "x" * 201])
def test_a_name_that_could_upset_a_terminal_or_a_page_is_refused(name: str) -> None:
    with pytest.raises(GenotypeError, match="must be one line of at most 200 printable characters"):
        Genotype(TINY.cells, name)
    assert Genotype(TINY.cells, printable_name(name)).name


# -- broken data -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("format"), "f: 'format' is missing; is this a genotype file?"),
        (lambda d: d.update(format="ddarts-gates"), "f: format is 'ddarts-gates', expected 'ddarts-genotype'"),
        (lambda d: d.update(version=2, new=1), "f: version 2 cannot be read, this ddarts reads version 1"),
        (lambda d: d.update(version=True), "f: version True cannot be read"),
        (lambda d: d.update(version="9" * 500), "f: version '9999"),
        (lambda d: d.pop("cells"), "f: 'cells' is missing"),
        (lambda d: d.update(cels=[]), "f: unknown key 'cels'; did you mean 'cells'?"),
        (lambda d: d.update(cells={}), "f: cells: expected a list, found dict"),
        (lambda d: d.update(cells=[]), "f: a genotype needs at least one cell"),
        (lambda d: d.update(name=3), "f: name: 3 must be text"),
        (lambda d: d.update(cells=[3]), "f: cells[0]: expected an object with edges, concat, found int"),
        (lambda d: d["cells"][0].update(reduction=1), "f: cells[0].reduction: 1 must be true or false"),
        (lambda d: d["cells"][0].update(concat=[2.0]), "f: cells[0].concat[0]: 2.0 must be a whole number"),
        (lambda d: d["cells"][0].update(concat=2), "f: cells[0].concat: expected a list, found int"),
        (lambda d: d["cells"][0].update(concat=[7]), "f: cells[0]: no node in concat [7] has an input"),
        (lambda d: d["cells"][0]["edges"].append(None), "f: cells[0].edges[1]: expected an object with op, from, to"),
        (lambda d: d["cells"][0]["edges"][0].update(op=1), "f: cells[0].edges[0].op: 1 must be text"),
        (lambda d: d["cells"][0]["edges"][0].update(to=True), "f: cells[0].edges[0].to: True must be a whole number"),
        (
            lambda d: d["cells"][0]["edges"][0].update(op="sep_conv_3x4"),
            "f: cells[0].edges[0].op: unknown operation 'sep_conv_3x4'; did you mean 'sep_conv_3x3'?",
        ),
        (lambda d: d["cells"][0]["edges"][0].pop("from"), "f: cells[0].edges[0]: 'from' is missing"),
    ],
)
def test_broken_data_is_refused_with_the_path_into_it(change, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        Genotype.from_dict(broken(change), "f")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("data", [None, 3, "text", [], [1]])
def test_data_that_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(GenotypeError, match="genotype: expected an object with format and version, found"):
        Genotype.from_dict(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["format", "version", "name", "cells"]), json_values)
def test_any_value_in_any_field_is_read_or_refused_in_one_line(key: str, value: object) -> None:
    message = ""
    try:
        Genotype.from_dict(TINY.to_dict() | {key: value})
    except GenotypeError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 300


# -- broken files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{\n  "format": }', "line 2, column 13: Expecting value"),
        (b"", "line 1, column 1: Expecting value"),
        (b"\xff\xfe{}", "not UTF-8 text at byte 0; is this a genotype file?"),
        (b"[" * 200_000, "not a genotype: maximum recursion depth exceeded"),
        (b'{"format": "ddarts-genotype", "version": ' + b"1" * 5000 + b"}", "not a genotype: Exceeds the limit"),
        (b'{"format": 1, "format": 2}', "the key 'format' stands twice in one object"),
        (b" " * (16 * 1024 * 1024 + 1), "more than 16777216 bytes; is this a genotype file?"),
    ],
    ids=["syntax", "empty", "binary", "deep", "digits", "twice", "huge"],
)
def test_a_broken_file_is_refused_with_its_name_and_the_place(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(GenotypeError) as caught:
        Genotype.load(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(GenotypeError, match=r"nothing\.json: no such genotype file; check the path or run `ddarts der"):
        Genotype.load(tmp_path / "nothing.json")
    with pytest.raises(GenotypeError, match=r"genotype\.json: no such genotype file"):
        Genotype.load(tmp_path)


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b"])
def test_an_impossible_path_is_refused_in_one_line(path: str) -> None:
    with pytest.raises(GenotypeError, match="cannot be read: "):
        Genotype.load(path)
