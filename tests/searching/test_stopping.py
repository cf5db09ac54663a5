"""The early stop of a search from a baseline."""

import math

import pytest

from ddarts.config.schema import SearchOptions
from ddarts.errors import GenotypeError
from ddarts.genotype.gates import Gates
from ddarts.genotype.starting import search_space, starting_alphas
from ddarts.genotype.zoo.baselines import baseline
from ddarts.searching.start import StartingPoint
from ddarts.searching.stopping import DistanceWatch


def watch(**options):
    wanted = SearchOptions(baseline="resnet18", **options)
    start = StartingPoint.of(wanted)
    assert start is not None
    return DistanceWatch.of(wanted, start, 0.85)


def gates(**start):
    genotype = baseline("resnet18")
    space = search_space("auto", baseline=genotype)
    alphas = starting_alphas(space, genotype, **start)
    return Gates.from_space(space, [[[1 / (1 + math.exp(-a)) for a in row] for row in cell] for cell in alphas])


def test_the_distance_is_zero_at_the_baseline_and_grows_away_from_it():
    assert watch().measure(gates()) == (0, 0)
    distance, edits = watch().measure(gates(unused=4.0))
    assert distance is not None
    assert edits is not None
    assert distance > 0.1
    assert edits > 0.1


def test_there_is_no_distance_while_a_cell_would_be_empty():
    assert watch().measure(gates(used=0.0)) == (None, None)


@pytest.mark.parametrize(
    ("distances", "steady"),
    [
        ([0.2, 0.2005, 0.2, 0.2, 0.2], True),
        ([0.3, 0.2, 0.2, 0.2, 0.2], False),  # three steady changes only
        ([0.1, 0.2, 0.2, 0.2, 0.2, 0.2], True),
        ([0.2, 0.2, 0.2, 0.2], False),
        ([0.2, 0.2011, 0.2022, 0.2033, 0.2044], False),
        ([0.2, 0.2009, 0.2018, 0.2027, 0.2036], True),  # each change counts, not their sum
        ([0.0, 0.0, 0.0, 0.0, 0.0], False),  # not started yet
        ([0.2, None, 0.2, 0.2, 0.2], False),
        ([], False),
    ],
)
def test_steady_means_so_many_small_changes_in_a_row_after_the_start(distances, steady):
    assert watch().steady(distances) is steady


def test_tolerance_and_epochs_are_settings():
    assert watch(distance_epochs=1, distance_tolerance=0.1).steady([0.1, 0.19])
    assert not watch(distance_epochs=2, distance_tolerance=0.1).steady([0.1, 0.19])


def test_a_missing_file_of_operation_weights_is_an_error():
    with pytest.raises(GenotypeError, match=r"nowhere\.json"):
        watch(operation_weights="nowhere.json")
