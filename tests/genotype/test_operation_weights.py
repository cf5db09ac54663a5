"""Weights of operations: what they may be, and their file."""

import json

import pytest

from ddarts.errors import GenotypeError
from ddarts.genotype.operation_weights import FILE_NAME, OperationWeights
from ddarts.space.operations import BUILT_IN_OPERATIONS

EQUAL = dict.fromkeys(BUILT_IN_OPERATIONS, 80.0)


def test_a_saved_file_is_read_again_from_the_file_and_from_its_folder(tmp_path):
    weights = OperationWeights({**EQUAL, "sep_conv_5x5": 84.5}, "measured on digits")
    weights.save(tmp_path / FILE_NAME)
    assert OperationWeights.load(tmp_path / FILE_NAME) == OperationWeights.load(tmp_path) == weights
    assert OperationWeights.load(tmp_path).source == "measured on digits"


def test_weights_cannot_be_changed_and_keep_the_order_of_the_space():
    weights = OperationWeights(dict(reversed(EQUAL.items())))
    assert list(weights.weights) == list(BUILT_IN_OPERATIONS)
    assert weights == OperationWeights(EQUAL)
    assert hash(weights) == hash(OperationWeights(EQUAL))
    with pytest.raises(TypeError):
        weights.weights["skip_connect"] = 1.0  # type: ignore[index]


def test_the_published_weights_are_positive_and_near_each_other():
    published = OperationWeights.published()
    assert min(published.weights.values()) > 81
    assert max(published.weights.values()) < 85


def without(name):
    return {k: v for k, v in EQUAL.items() if k != name}


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (without("skip_connect"), r"w\.json: weights: 'skip_connect' is missing"),
        ({**EQUAL, "sep_conv_4x4": 1}, r"w\.json: weights: unknown key 'sep_conv_4x4'; did you mean 'sep_conv_"),
        ({**EQUAL, "skip_connect": -1}, r"w\.json: weights\.skip_connect: -1 must be a finite number above 0"),
        ({**EQUAL, "skip_connect": 0}, r"weights\.skip_connect: 0 must be a finite number above 0"),
        ({**EQUAL, "skip_connect": float("nan")}, r"weights\.skip_connect: nan must be a finite number above 0"),
        ({**EQUAL, "skip_connect": float("inf")}, r"weights\.skip_connect: inf must be a finite number above 0"),
        ({**EQUAL, "skip_connect": 10**400}, r"weights\.skip_connect: 1000.*0000 must be a finite number above 0"),
        ({**EQUAL, "skip_connect": True}, r"weights\.skip_connect: True must be a number above 0"),
        ({**EQUAL, "skip_connect": "80"}, r"weights\.skip_connect: '80' must be a number above 0"),
        ({**EQUAL, "skip_connect": None}, r"weights\.skip_connect: None must be a number above 0"),
        ({**EQUAL, "skip_connect": 1e-300}, r"weights: 1e-300 and 80 are too far apart"),
        (dict.fromkeys(EQUAL, 1e308), r"weights: 1e\+308 and 1e\+308 are too far apart"),
        ([80.0] * 12, r"w\.json: weights: expected an object"),
    ],
)
def test_wrong_weights_are_told_with_the_path_into_the_file(tmp_path, weights, told):
    path = tmp_path / "w.json"
    path.write_text(json.dumps({"format": "ddarts-operation-weights", "version": 1, "weights": weights}))
    with pytest.raises(GenotypeError, match=told) as caught:
        OperationWeights.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "line 1, column 2"),
        ("[]", "expected an object"),
        ('{"format": "ddarts-genotype", "version": 1}', "format is 'ddarts-genotype'"),
        ('{"format": "ddarts-operation-weights", "version": 2}', "version 2 cannot be read"),
        ('{"format": "ddarts-operation-weights", "version": 1}', "'weights' is missing"),
        ('{"format": "ddarts-operation-weights", "version": 1, "weights": {}, "source": 3}', "source: 3 must be text"),
        ('{"format": "ddarts-operation-weights", "version": 1, "weights": {}, "wights": 3}', "did you mean 'weights'"),
    ],
)
def test_a_broken_file_is_told_in_one_line(tmp_path, text, told):
    path = tmp_path / "w.json"
    path.write_text(text)
    with pytest.raises(GenotypeError, match=told):
        OperationWeights.load(path)


def test_a_missing_file_is_told_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(GenotypeError, match=r"no such operation weights file.*ddarts measure-operations"):
        OperationWeights.load(tmp_path / "none.json")


def test_a_source_must_be_a_printable_line():
    with pytest.raises(GenotypeError, match=r"source: .* must be one line"):
        OperationWeights(EQUAL, "two\nlines")
