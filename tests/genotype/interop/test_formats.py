"""Published text formats: what they say, exact round trips, and broken or hostile text."""

import random
import re
import time
from collections import namedtuple

import pytest

from ddarts.errors import GenotypeError
from ddarts.genotype.distance import architecture_distance
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.interop.formats import read_genotype, read_record
from ddarts.genotype.interop.writers import ReferenceGenotype, TwoCellGenotype, to_reference_text
from ddarts.genotype.zoo.baselines import BASELINES, baseline
from ddarts.genotype.zoo.catalogue import zoo_entry, zoo_names
from ddarts.genotype.zoo.lookup import find_genotype
from tests.reference.golden import golden_json

# What Python itself prints for such records is what the published code wrote.
Genotype_nested = namedtuple("Genotype_nested", "genes concat reductions")
Genotype_opt = namedtuple("Genotype_opt", "genes seq concat reductions")
TwoCells = namedtuple("Genotype", "normal normal_concat reduce reduce_concat")

DARTS_LIKE = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=[2, 3], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1)], reduce_concat=[2, 3])"
)
FAIR_LIKE = (
    "Genotype(normal=[('max_pool_3x3', 2, 0), ('sep_conv_3x3', 5, 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('avg_pool_3x3', 2, 1)], reduce_concat=[2, 3, 4, 5])"
)
NESTED = (
    "Genotype_nested(genes=[[('sep_conv_3x3', 2, 1), ('max_pool_3x3', 3, 2)], [('skip_connect', 2, 0), "
    "('sep_conv_5x5', 2, 0)]], concat=range(2, 4), reductions=[1])"
)
OPT = "Genotype_opt(genes=[[('simple_conv_3x3', 2, 0)]], seq=[0, 0, 0], concat=[2], reductions=range(1, 3))"

SOURCE = '''
from collections import namedtuple
Genotype = namedtuple('Genotype', 'normal normal_concat reduce reduce_concat')
"""
Operations
"""
PRIMITIVES = ['none', 'max_pool_3x3']  # not a genotype
stem = {'a': 1.5}

def load(path):
    Inner = Genotype(normal=1)
    return Inner

# 3.3M
A = Genotype(
  normal = [
    ('sep_conv_3x3', 0), # first
    ('sep_conv_3x3', 1),
    ],
  normal_concat = range(2, 3),
  reduce = [('max_pool_3x3', 0), ("max_pool_3x3", 1)], reduce_concat = [2],
)
unknown = Genotype(normal=[('sep_conv_7x7', 0)], normal_concat=[2], reduce=[], reduce_concat=[2])
layer = [('simple_conv_3x3', 2, 0)]; more = layer + [('skip_connect', 3, 2)]
B = Genotype_opt([layer, more], [0]*2 + [1], concat=range(2, 4), reductions=range(1, 3))
Best = A
'''


def run(numbers):
    in_a_row = len(numbers) > 1 and list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    return range(numbers[0], numbers[-1] + 1) if in_a_row else list(numbers)


def published_texts():
    for name, item in golden_json("published")["ddarts"].items():
        genes = [[tuple(edge) for edge in cell] for cell in item["genes"]]
        yield name, str(Genotype_nested(genes, run(item["concat"]), run(item["reductions"])))


def edges_of(cell):
    return [(edge.operation, edge.target, edge.source) for edge in cell.edges]


# -- reading -------------------------------------------------------------------------------------------------------


def test_published_results_are_read_and_written_to_the_letter():
    for name, text in published_texts():
        record = read_record(text, name)
        assert record.to_text() == text
        if name != "Xception_cifar100_threshold_edge_0.85":
            genotype = read_genotype(text, name)
            assert to_reference_text(genotype) == text
            assert read_genotype(to_reference_text(genotype)) == genotype


def test_fields_are_read_in_any_order_and_by_position():
    other_order = "Genotype_nested(genes=[[('skip_connect', 2, 0)]], reductions=[0], concat=range(2, 3))"
    by_position = "Genotype_nested([[('skip_connect', 2, 0)]], (2,), reductions=[0,],)"
    cell = CellGenotype((Edge("skip_connect", 0, 2),), (2,), reduction=True)
    assert read_genotype(other_order) == read_genotype(by_position) == Genotype((cell,))


def test_two_cell_text_gives_two_edges_to_each_node_in_turn():
    record = read_record(DARTS_LIKE)
    assert [(e.operation, e.source, e.target) for e in record.normal] == [
        ("sep_conv_3x3", 0, 2),
        ("sep_conv_3x3", 1, 2),
        ("skip_connect", 0, 3),
        ("dil_conv_3x3", 2, 3),
    ]


def test_a_two_cell_genotype_is_laid_out_with_reductions_at_a_third_and_two_thirds():
    record = read_record(DARTS_LIKE)
    assert len(read_genotype(DARTS_LIKE)) == 20
    assert record.expand().reductions == (6, 13)
    assert record.expand(8).reductions == (2, 5)
    assert record.expand(14, reductions=(3,)).reductions == (3,)
    cells = record.expand(8).cells
    assert {cell.edges for cell in cells if cell.reduction} == {record.reduce}
    assert {cell.edges for cell in cells if not cell.reduction} == {record.normal}


@pytest.mark.parametrize(("layers", "reductions"), [(0, None), (1001, None), (8, (8,)), (8, (-1,))])
def test_a_layout_out_of_range_is_an_error(layers, reductions):
    with pytest.raises(GenotypeError):
        read_record(DARTS_LIKE).expand(layers, reductions)


def test_python_source_gives_its_assignments_without_being_run():
    assert read_record(SOURCE, name="Best") == read_record(SOURCE, name="A")
    network = read_genotype(SOURCE, name="B")
    assert [edges_of(cell) for cell in network.cells] == [
        [("simple_conv_3x3", 2, 0)],
        [("simple_conv_3x3", 2, 0)],
        [("simple_conv_3x3", 2, 0), ("skip_connect", 3, 2)],
    ]
    assert network.reductions == (1, 2)


def test_baselines_written_with_a_sequence_are_the_baselines():
    for name, item in golden_json("published")["baselines"].items():
        genes = [[tuple(edge) for edge in cell] for cell in item["cells"]]
        text = str(Genotype_opt(genes, item["sequence"], run(item["concat"]), run(item["reductions"])))
        assert read_genotype(text).cells == baseline(name).cells
        assert read_record(text).to_text() == text


def test_an_assignment_is_picked_by_name_and_an_alias_is_no_second_genotype(tmp_path):
    path = tmp_path / "genotypes.py"
    path.write_text(SOURCE)
    assert find_genotype(f"{path}:B") == read_genotype(SOURCE, name="B")
    with pytest.raises(GenotypeError, match=r"holds 3 genotypes; name one as .*:NAME, of A, unknown, B, Best"):
        find_genotype(path)
    with pytest.raises(GenotypeError, match="no genotype is assigned to 'C'"):
        find_genotype(f"{path}:C")
    with pytest.raises(GenotypeError, match=r"line 23, column 29: unknown operation 'sep_conv_7x7'; did you mean"):
        find_genotype(f"{path}:unknown")
    path.write_text(f"X = {NESTED}\nDARTS = X\n")
    assert find_genotype(path) == read_genotype(NESTED)


def test_files_are_told_by_their_content(tmp_path):
    text, as_json = tmp_path / "text", tmp_path / "data.txt"
    text.write_text(f"\n  {NESTED}\n")
    read_genotype(NESTED).save(as_json)
    assert find_genotype(text) == find_genotype(as_json) == read_genotype(NESTED)
    (tmp_path / "broken.json").write_text("Genotype_nested(")
    with pytest.raises(GenotypeError, match="line 1, column 1: Expecting value"):
        find_genotype(tmp_path / "broken.json")


def test_reductions_beyond_the_listed_cells_are_kept_in_the_record_and_mean_nothing():
    text = "Genotype_nested(genes=[[('simple_conv_3x3', 2, 0)]], concat=[2], reductions=range(1, 4))"
    assert read_record(text).reductions == (1, 2, 3)
    assert read_record(text).to_text() == text
    assert read_genotype(text).reductions == ()


def test_unexpanded_lists_give_the_published_distances():
    golden = golden_json("distances")
    genotypes = {}
    for name, item in golden["genotypes"].items():
        genes = [[tuple(edge) for edge in cell] for cell in item["genes"]]
        record = read_record(str(Genotype_nested(genes, run(item["concat"]), list(item["reductions"]))), name)
        assert len(record.genes) == len(genes)
        if name != "Xception_cifar100_edge":  # its last cell cannot be built
            genotypes[name] = record.expand()
    pairs = [pair for pair in golden["distances"] if {pair["a"], pair["b"]} <= genotypes.keys()]
    assert len(pairs) > 50
    for pair in pairs:
        found = architecture_distance(genotypes[pair["a"]], genotypes[pair["b"]])
        assert found == pytest.approx(pair["distance"], abs=1e-9)


def test_a_cell_that_cannot_be_built_is_read_as_written_and_named():
    text = dict(published_texts())["Xception_cifar100_threshold_edge_0.85"]
    assert len(read_record(text).genes[12]) == 5
    with pytest.raises(GenotypeError, match=r"line 1, column 1: cell 12: no node in concat .* has an input"):
        read_genotype(text)


# -- writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [DARTS_LIKE, FAIR_LIKE, NESTED, OPT])
def test_text_in_canonical_form_is_written_as_it_was_read(text):
    record = read_record(text)
    assert record.to_text() == text
    assert read_record(record.to_text()) == record


def test_two_cells_are_written_as_pairs_or_triples():
    record = read_record(DARTS_LIKE)
    triples = record.to_text(triples=True)
    assert "('dil_conv_3x3', 3, 2)" in triples
    assert read_record(triples) == record
    with pytest.raises(GenotypeError, match="write triples instead"):
        read_record(FAIR_LIKE).to_text(triples=False)


def test_every_baseline_and_entry_of_the_zoo_survives_a_round_trip():
    for genotype in [baseline(name) for name in BASELINES] + [zoo_entry(name).genotype() for name in zoo_names()]:
        assert read_genotype(to_reference_text(genotype)).cells == genotype.cells


def test_cells_without_an_unfed_node_are_written_with_the_concatenation_of_all():
    whole = CellGenotype((Edge("skip_connect", 0, 2), Edge("skip_connect", 1, 3)), (2, 3))
    half = CellGenotype((Edge("skip_connect", 0, 2),), (2,), reduction=True)
    back = read_genotype(to_reference_text(Genotype((whole, half))))
    assert tuple(cell.pruned() for cell in back.cells) == (whole, half)


def test_concatenations_that_one_list_cannot_tell_are_an_error():
    first = CellGenotype((Edge("skip_connect", 0, 2), Edge("skip_connect", 1, 3)), (2, 3))
    second = CellGenotype(first.edges, (3,))
    with pytest.raises(GenotypeError, match=r"cell 1 concatenates \[3\].*keep this genotype as JSON"):
        to_reference_text(Genotype((first, second)))


def test_names_take_no_part_in_comparisons():
    edges = (Edge("skip_connect", 0, 2),)
    assert ReferenceGenotype((edges,), (2,), name="a") == ReferenceGenotype((edges,), (2,), name="b")
    assert TwoCellGenotype(edges, (2,), edges, (2,), "a") == TwoCellGenotype(edges, (2,), edges, (2,), "b")


# -- broken and hostile text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1, column 1: no Genotype_nested, Genotype_opt, Genotype is in this text"),
        ("Genotype_nestd(genes=[])", "line 1, column 1: 'Genotype_nestd' .*did you mean 'Genotype_nested'"),
        (NESTED[:-1], r"line 1, column \d+: expected ',' or '\)' for the bracket of line 1, column 16, found the end"),
        (NESTED + " x", f"line 1, column {len(NESTED) + 2}: 'x' is not expected here"),
        (NESTED.replace("'max_pool_3x3'", "\n'max_pol'"), "line 2, column 1: unknown operation 'max_pol'"),
        (NESTED.replace("3, 2", "2, 3"), "line 1, column .*: 3 is out of range; expected 0 to 1"),
        (NESTED.replace("3, 2", "99, 2"), "99 is out of range; expected 2 to 33"),
        (NESTED.replace("3, 2", "True, 2"), "unknown name 'True'"),
        (NESTED.replace("3, 2", "3.5, 2"), "'3.5' is not a whole number"),
        (NESTED.replace("3, 2", "'3', 2"), "expected a whole number from 2 to 33"),
        (NESTED.replace(", 3, 2", ", 3"), r"column 49: an edge of 2 entries, expected \(operation, to, from\)"),
        (NESTED.replace("genes", "gnes"), "has no field 'gnes'; did you mean 'genes'"),
        (NESTED.replace("concat=range(2, 4), ", ""), "Genotype_nested without 'concat'"),
        (NESTED.replace("range(2, 4)", "[2, 2]"), "state 2 stands twice"),
        (NESTED.replace("range(2, 4)", "range(4, 2)"), "an empty concatenation"),
        (NESTED.replace("range(2, 4)", "range(2, 4, 0)"), "range takes one to three whole numbers"),
        (NESTED.replace("('sep_conv_5x5', 2, 0)", "('skip_connect', 2, 0)"), "skip_connect from 0 to 2 stands twice"),
        (NESTED.replace("[1]", "[-1]"), "-1 is out of range"),
        (NESTED.replace("genes=", "genes=1, genes="), "'genes' is given twice"),
        (NESTED.replace("genes=[", "genes=[[]*3, "), "cell 0: no node in concat"),
        (OPT.replace("[0, 0, 0]", "[0, 1]"), "1 is out of range; expected 0 to 0"),
        (DARTS_LIKE.replace("('skip_connect', 0)", "('skip_connect', 3, 0)"), "an edge of 3 entries after edges of 2"),
        ("Genotype(recurrent=[('tanh', 0)], concat=range(1, 9))", "has no field 'recurrent'"),
        ("x = 'abc\n", "line 1, column 5: the string that opens here is not closed on its line"),
        ('\n"""abc', "line 2, column 1: the string that opens here is not closed"),
        ("Genotype_nested(" + "[" * 100_000, "column 36: brackets are nested deeper than 20"),
        ("a = [0] * 999999999\n", "column 9: a list of more than 200000 values"),
        ("a = range(999999999)\n", "a list of more than 200000 values"),
        ("a = [0] * 150000\n" * 9, "lists of more than 1000000 values in all"),
        ("a = [0]\n" + "a = a + a\n" * 60, "line 1[0-9], column 5: a list of more than 200000 values"),
        ("#" * 2_000_000, "2000000 characters are more than the 1048576 that are read"),
        ("Genotype_nested(__import__('os').system('true'))", "'__import__' is not a genotype's constructor"),
        ("Genotype_nested(genes=[('\\x41', 2, 0)])", "only plain strings without escapes are read"),
        ("Genotype_nested(" + "9" * 5000 + ")", "is not a whole number of at most 9 digits"),
        ("\0" * 50, "'\\\\x00' stands where a value is expected"),
    ],
)
def test_broken_text_tells_where_and_why(text, told):
    start = time.monotonic()
    with pytest.raises(GenotypeError, match=told) as caught:
        read_genotype(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert time.monotonic() - start < 5


def mutated(text, chance):
    """Return `text` after one to four edits."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        i, j = sorted(chance.randrange(len(text) + 1) for _ in range(2))
        piece = chance.choice(
            ("", "(", ")", "[", "]", ",", "=", "'", '"', "\n", "\\", "#", "\0", "é", "9" * 30, "-", " * 9", " + ")
            + ("range(", "Genotype(", "genes=", "'none'", "lambda: 0", "0", "None", text[i : i + 20])
        )
        kind = chance.randrange(6)
        if kind == 0:
            text = text[:i] + piece + text[i:]
        elif kind == 1:
            text = text[:i] + piece + text[i + chance.randint(1, 5) :]
        elif kind == 2:
            text = text[:i] + text[min(j, i + 30) :]
        elif kind == 3:
            text = text[:i] + text[i : i + 10] * 2 + text[i + 10 :]
        else:  # gentle: another number, or a blank somewhere
            digits = [k for k, letter in enumerate(text) if letter.isdigit()] or [0]
            k = chance.choice(digits)
            text = text[:k] + chance.choice("0123456") + text[k + 1 :] if kind == 4 else text[:i] + " " + text[i:]
    return text


def test_mutated_text_ends_in_a_genotype_or_an_error_with_its_place():
    chance = random.Random(20210820)
    genotypes, errors = 0, []
    for _ in range(10_000):
        text = mutated(chance.choice((DARTS_LIKE, FAIR_LIKE, NESTED, OPT, "x = 1\nA = " + OPT)), chance)
        try:
            record = read_record(text)
            assert read_record(record.to_text()) == record
            assert len(read_genotype(text)) >= 1
            genotypes += 1
        except GenotypeError as error:
            errors.append(str(error))
    assert [error for error in errors if not re.fullmatch(r"text: line \d+, column \d+: .+", error)] == []
    assert genotypes > 500
    assert len(errors) > 5000
