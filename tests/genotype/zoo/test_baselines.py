"""The hand-made networks, and what a path or name may mean."""

import pytest

from ddarts.errors import GenotypeError
from ddarts.genotype.zoo.baselines import BASELINES, baseline, shared_sequence
from ddarts.genotype.zoo.lookup import find_genotype, short_names

# golden/published.json: sequence, reductions and concatenated states
PUBLISHED = {
    "resnet18": ((0, 0, 0, 0), (1, 2, 3), (2, 3, 4, 5)),
    "resnet50": ((0, 1, 2, 0), (1, 2, 3), (2, 3, 4, 5, 6, 7)),
    "xception": ((0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 2), (1, 2, 11, 12), (2, 3, 4, 5)),
    "inceptionv4": ((0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 2, 3, 4, 4, 4), (4, 12), (2, 3, 4, 5, 6)),
}


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_have_the_published_sequence_reductions_and_concatenation(name):
    genotype = baseline(name)
    sequence, reductions, concat = PUBLISHED[name]
    assert shared_sequence(genotype) == sequence
    assert genotype.reductions == reductions
    assert {cell.concat for cell in genotype.cells} == {concat}


def test_a_name_is_found_in_either_case():
    assert baseline("ResNet50") == find_genotype("resnet50") == find_genotype(baseline("resnet50"))


def test_a_file_wins_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    baseline("xception").save("resnet18")
    assert find_genotype("resnet18").name == "Xception"


@pytest.mark.parametrize(("given", "told"), [("resnt18", "'resnet18'"), ("no/such.json", "no such genotype file")])
def test_an_unknown_name_tells_the_nearest(given, told):
    with pytest.raises(GenotypeError, match=told):
        find_genotype(given)


def test_an_unknown_baseline_tells_the_nearest():
    with pytest.raises(GenotypeError, match="unknown baseline 'exception'; did you mean 'xception'"):
        baseline("exception")


def test_short_names_tell_architectures_apart(tmp_path):
    given = [
        tmp_path / "a.json",
        "resnet18",
        tmp_path / "run" / "genotype.json",
        "other/a.json",
        baseline("resnet50"),
        "a",
    ]
    assert short_names(given) == ["a.json", "resnet18", "run/genotype.json", "a.json #2", "ResNet50", "a"]
    assert short_names(given, endings=False) == ["a", "resnet18", "run/genotype", "a #2", "ResNet50", "a #3"]


def test_short_names_are_printable():
    assert short_names(["two\nlines"]) == ["two?lines"]
