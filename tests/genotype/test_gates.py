import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddarts.errors import GenotypeError
from ddarts.genotype.gates import Gates
from ddarts.space.cell_space import build_space

SPACE = build_space("darts", cells=3, nodes=1)


def filled(value: float = 0.5) -> Gates:
    return Gates.from_space(SPACE, [[[value] * 7] * 2] * 3)


@given(st.lists(st.floats(0, 1), min_size=42, max_size=42))
def test_json_gives_back_every_gate_bit_for_bit(numbers: list[float]) -> None:
    values = [[numbers[i : i + 7] for i in (j, j + 7)] for j in (0, 14, 28)]
    gates = Gates.from_space(SPACE, values)
    assert Gates.from_json(gates.to_json()) == gates
    assert json.loads(gates.to_json()) == gates.to_dict()
    assert gates.space == SPACE


def test_saved_gates_are_read_from_the_file_and_from_the_run_folder(tmp_path: Path) -> None:
    filled().save(tmp_path / "gates.json")
    assert Gates.load(tmp_path / "gates.json") == filled()
    assert Gates.load(tmp_path) == filled()


@pytest.mark.parametrize("gate", [-0.001, 1.001, float("nan"), float("inf"), True, "1", None])
def test_a_gate_that_is_no_number_from_0_to_1_is_refused_with_its_place(gate: object) -> None:
    values = [[[0.5] * 7, [0.5] * 7] for _ in range(3)]
    values[2][1][5] = gate  # type: ignore[call-overload]
    with pytest.raises(GenotypeError, match=r"gates\[2\]\[1\]\[5\]: .* is not a number from 0 to 1"):
        Gates.from_space(SPACE, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[[0.5] * 7] * 2] * 2, "gates: 2 entries, expected 3, the number of searched cells"),
        ([[[0.5] * 7] * 3] * 3, r"gates\[0\]: 3 entries, expected 2, the number of edges of a cell with 1 nodes"),
        ([[[0.5] * 6] * 2] * 3, r"gates\[0\]\[0\]: 6 entries, expected 7, the number of operations"),
    ],
)
def test_gates_of_another_shape_are_refused(values: list, message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        Gates.from_space(SPACE, values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format": "ddarts-genotype"},
            "f: format is 'ddarts-genotype', expected 'ddarts-gates'; is this a gates file?",
        ),
        ({"version": 7}, "f: version 7 cannot be read, this ddarts reads version 1; make the gates again"),
        ({"nodes": "1"}, "f: nodes: '1' must be a whole number"),
        ({"nodes": 99}, "f: nodes = 99 is out of range"),
        ({"operations": "darts"}, "f: operations: expected a list, found str"),
        (
            {"operations": ["sep_conv3x3"]},
            "f: operations: unknown operation 'sep_conv3x3'; did you mean 'sep_conv_3x3'?",
        ),
        ({"sequence": [0, 1, 1]}, "f: gates: 3 entries, expected 2, the number of searched cells"),
        ({"reductions": [0, 9]}, "f: reductions [0, 9] must lie between 0 and 2"),
        ({"gates": [[0.5]]}, "f: gates[0][0]: expected a list, found float"),
        ({"gates": [[[0.5, "x"]]]}, "f: gates[0][0][1]: 'x' is not a number from 0 to 1"),
        ({"more": 1}, "f: unknown key 'more'"),
    ],
)
def test_broken_data_is_refused_with_the_path_into_it(change: dict, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        Gates.from_dict(filled().to_dict() | change, "f")
    assert str(caught.value).startswith(message)


def test_a_missing_key_is_named() -> None:
    data = filled().to_dict()
    del data["sequence"]
    with pytest.raises(GenotypeError, match="gates: 'sequence' is missing"):
        Gates.from_dict(data)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "line 1, column 2: "), ("[" * 200_000, "not a gates file: "), ("3", "expected an object")],
    ids=["syntax", "deep", "number"],
)
def test_a_broken_file_is_refused_with_its_name(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "gates.json"
    path.write_text(content)
    with pytest.raises(GenotypeError) as caught:
        Gates.load(tmp_path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_folder_without_gates_says_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(GenotypeError, match=r"gates\.json: no such gates file; check the path or run `ddarts search`"):
        Gates.load(tmp_path)
