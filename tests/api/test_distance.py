"""`ddarts distance`: the table, JSON and picture, and what it says to bad input."""

import json
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

import ddarts
from ddarts.cli.main import main
from ddarts.errors import RunError, SettingsError
from ddarts.genotype.distance import architecture_distance, cell_distances, edit_distance
from ddarts.genotype.operation_weights import OperationWeights
from ddarts.genotype.zoo.baselines import baseline
from ddarts.space.operations import BUILT_IN_OPERATIONS
from tests.reference.golden import golden_json

A, B, C = (baseline(name) for name in ("resnet18", "resnet50", "xception"))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def printed(capsys, *arguments):
    assert main(["distance", *map(str, arguments)]) == 0
    return capsys.readouterr().out


# -- values --------------------------------------------------------------------------------------------------------


def test_files_names_and_genotypes_may_be_mixed(tmp_path):
    B.save(tmp_path / "mine.json")
    found = ddarts.distance("resnet18", tmp_path / "mine.json", C)
    assert found.names == ("resnet18", str(tmp_path / "mine.json"), "Xception")
    assert found.lengths == (4, 4, 13)
    for i, a in enumerate((A, B, C)):
        for j, b in enumerate((A, B, C)):
            assert found.matrix[i][j] == architecture_distance(a, b)
            assert found.per_cell[i][j] == cell_distances(a, b)


def test_one_list_is_as_good_as_many_arguments():
    assert ddarts.distance([A, "resnet50"]) == ddarts.distance(A, "resnet50")


def test_equal_names_are_told_apart():
    assert ddarts.distance(A, A, B).names == ("ResNet18 (1)", "ResNet18 (2)", "ResNet50")


def test_the_penalty_counts_cells_without_a_partner():
    plain, penalised = ddarts.distance(A, C), ddarts.distance(A, C, unequal="penalty")
    assert len(plain.per_cell[0][1]) == 4
    assert penalised.per_cell[0][1] == plain.per_cell[0][1] + (1.0,) * 9
    assert penalised.matrix[0][1] == pytest.approx((4 * plain.matrix[0][1] + 9) / 13)


def test_weights_come_from_a_file_or_its_folder(tmp_path):
    weights = OperationWeights(dict.fromkeys(BUILT_IN_OPERATIONS, 1.0) | {"bottleneck_1x3x1": 9.0}, "my own")
    weights.save(tmp_path / "operation_weights.json")
    found = ddarts.distance("resnet18", "resnet50", weights=tmp_path)
    assert found == ddarts.distance("resnet18", "resnet50", weights=tmp_path / "operation_weights.json")
    assert found.matrix[0][1] == architecture_distance(A, B, weights) != architecture_distance(A, B)
    assert found.to_dict()["weights"]["source"] == "my own"


# -- the command ---------------------------------------------------------------------------------------------------


def test_two_architectures_give_a_row_for_each_cell_and_the_mean(capsys):
    text = printed(capsys, "resnet18", "xception")
    assert "distance between resnet18 and xception" in text
    assert [line.split()[1] for line in text.splitlines() if line.startswith(" cell ")] == ["0", "1", "2", "3"]
    assert "mean" in text
    assert "4, 13 cells; cells of the shorter one" in text
    assert "published with D-DARTS" in text


def test_more_architectures_give_a_matrix_and_their_cells(capsys):
    text = printed(capsys, "resnet18", "resnet50", "xception")
    assert f"{architecture_distance(B, C):.3f}" in text
    assert "cells of 2 and 3" in text


def test_a_wide_matrix_is_folded(capsys):
    text = printed(capsys, *["resnet18", "resnet50", "xception", "inceptionv4"] * 4)
    assert max(map(len, text.splitlines())) <= 120
    assert "…" not in text
    assert sum(line.startswith(" 16 ") for line in text.splitlines()) == 4  # both distances


def test_two_architectures_are_compared_operation_by_operation(capsys):
    text = printed(capsys, "resnet18", "resnet50")
    assert f"edit distance               {edit_distance(A, B):.4f}" in text
    assert "operations                  18 added, 10 removed, 14 changed, in 4 cells" in text


def test_json_holds_names_the_matrix_and_the_cells(capsys):
    data = json.loads(printed(capsys, "resnet18", "resnet50", "xception", "--json"))
    assert data["names"] == ["resnet18", "resnet50", "xception"]
    assert data["matrix"][0][1] == architecture_distance(A, B)
    assert data["per_cell"][2][0] == list(cell_distances(A, C))
    assert data["unequal"] == "shorter"


def test_the_published_cells_of_a_baseline_give_the_published_distance(capsys):
    """ResNet50's published list has three cells; ours lays it out over four."""
    golden = next(
        pair for pair in golden_json("distances")["distances"] if (pair["a"], pair["b"]) == ("ResNet18", "ResNet50")
    )
    data = json.loads(printed(capsys, "resnet18", "resnet50", "--json"))
    assert data["per_cell"][0][1][0] == pytest.approx(golden["distance"], abs=1e-9)


# -- the picture ---------------------------------------------------------------------------------------------------


def test_the_picture_is_of_the_kind_that_its_name_asks_for(capsys, tmp_path):
    for name in ("map.svg", "map.png", "map.pdf"):
        assert name in printed(capsys, "resnet18", "resnet50", "xception", "--out", name)
    assert ET.parse(tmp_path / "map.svg").getroot().tag.endswith("svg")
    with Image.open(tmp_path / "map.png") as picture:
        assert min(picture.size) > 300
    assert (tmp_path / "map.pdf").read_bytes().startswith(b"%PDF")


def test_the_picture_shows_names_and_numbers_and_is_the_same_each_time(tmp_path):
    name = "a $\\frac$ & <b> name"
    odd = ddarts.Genotype(A.cells, name)
    first = ddarts.distance(odd, B, out="map.svg").path.read_text(encoding="utf-8")
    texts = "".join(ET.fromstring(first).itertext())
    assert name in texts
    assert "ResNet50" in texts
    assert f"{architecture_distance(A, B):.3f}" in texts
    assert f"{edit_distance(A, B):.3f}" in texts
    assert ddarts.distance(odd, B, out="map.svg").path.read_text(encoding="utf-8") == first


def test_a_name_that_the_font_lacks_and_a_long_one_are_drawn(tmp_path):
    ddarts.distance(ddarts.Genotype(A.cells, "網絡" * 50), B, out="map.png")
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.size[0] < 2000


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("resnet18", "1 architecture given; a distance needs at least two"),
        ("", "the following arguments are required: ARCHITECTURE"),
        ("resnet18 resnt50", "did you mean 'resnet50'?"),
        ("resnet18 no/such.json", "no/such.json: no such genotype file"),
        ("resnet18 resnet50 --unequal longer", "unknown value of unequal: 'longer'"),
        ("resnet18 resnet50 --out map.jpg", "out = 'map.jpg': a heat map ends in .svg, .png or .pdf"),
        ("resnet18 resnet50 --out map", "out = 'map': a heat map ends in .svg, .png or .pdf"),
        ("resnet18 resnet50 --weights none.json", "none.json: no such operation weights file"),
        ("resnet18 old.json", "old.json: version 7 cannot be read, this ddarts reads version 1"),
        ("resnet18 resnet50 --weights few.json", "few.json: weights: 'max_pool_3x3' is missing"),
        ("resnet18 resnet50 --weights minus.json", "minus.json: weights.skip_connect: -3 must be a finite number abo"),
        ("resnet18 resnet50 --weights old.json", "old.json: format is 'ddarts-genotype'"),
    ],
)
def test_bad_input_gives_one_line_and_status_2(capsys, tmp_path, arguments, told):
    (tmp_path / "old.json").write_text('{"format": "ddarts-genotype", "version": 7, "cells": []}')
    head = {"format": "ddarts-operation-weights", "version": 1}
    weights = dict.fromkeys(BUILT_IN_OPERATIONS, 80)
    (tmp_path / "minus.json").write_text(json.dumps({**head, "weights": {**weights, "skip_connect": -3}}))
    del weights["max_pool_3x3"]
    (tmp_path / "few.json").write_text(json.dumps({**head, "weights": weights}))
    assert main(["distance", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert told in captured.err


def test_no_architecture_at_all_is_told_in_python_too():
    with pytest.raises(SettingsError, match="0 architectures given"):
        ddarts.distance()


def test_a_picture_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        ddarts.distance(A, B, out=tmp_path / "file" / "map.png")
