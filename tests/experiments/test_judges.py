"""Look-up tables as judges."""

import json

import pytest

from ddarts.errors import RunError
from ddarts.experiments.judges import FileTable, TableJudge
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype


def made(operation, name=""):
    return Genotype((CellGenotype((Edge(operation, 0, 2), Edge("skip_connect", 1, 2)), (2,)),), name)


A, B = made("sep_conv_3x3", "a"), made("max_pool_3x3", "b")


def test_json_lines_and_csv_hold_the_same(tmp_path):
    (tmp_path / "t.jsonl").write_text(
        "\n".join(
            json.dumps(row)
            for row in (
                {"genotype": A.to_dict(), "accuracies": [0.9, 0.8]},
                {"genotype": B.to_json(), "seed": 0, "test": 0.5},
                {"genotype": B.to_json(), "seed": 1, "test": 0.6},
            )
        )
    )
    text = ",".join(f'"{cell}"' for cell in (A.to_json().replace('"', '""'), "0.9 0.8"))
    (tmp_path / "t.csv").write_text(f"genotype,accuracies\n{text}\n")
    for name, size in (("t.jsonl", 2), ("t.csv", 1)):
        table = FileTable(tmp_path / name)
        assert len(table) == size
        assert table.lookup(made("sep_conv_3x3", "another name")) == [0.9, 0.8]
    judge = TableJudge(FileTable(tmp_path / "t.jsonl"))
    assert [judge.accuracy(A, seed) for seed in (0, 1, 2)] == [0.9, 0.8, 0.9]
    assert judge.accuracy(B) == pytest.approx(0.55)
    with pytest.raises(RunError, match="c is not in the table"):
        judge.accuracy(made("avg_pool_3x3", "c"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no", "row 1: expected genotype and accuracies, found 'no'"),
        (json.dumps({"genotype": A.to_dict()}), "accuracies = None must be numbers of 0 to 1"),
        (json.dumps({"genotype": A.to_dict(), "accuracies": [0.5, 93.2]}), "must be numbers of 0 to 1"),
        (json.dumps({"genotype": {"format": "x"}, "test": 1}), "row 1"),
    ],
)
def test_a_damaged_row_is_named(tmp_path, text, message):
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(RunError, match=message):
        FileTable(tmp_path / "t.jsonl")
    with pytest.raises(RunError, match="cannot be read"):
        FileTable(tmp_path / "nowhere.csv")
