"""The zoo: all published architectures are there, sound, and of the size that was published."""

import json
from dataclasses import replace
from importlib import resources

import pytest

from ddarts.api.catalogue import network_size
from ddarts.errors import GenotypeError
from ddarts.genotype.deepen import deepen
from ddarts.genotype.interop.writers import TwoCellGenotype
from ddarts.genotype.zoo.baselines import BASELINES, baseline
from ddarts.genotype.zoo.catalogue import baseline_sizes, published_names, read_entry, zoo_entry, zoo_names
from ddarts.genotype.zoo.lookup import find_genotype
from tests.reference.full_size import full_parameters
from tests.reference.golden import golden_json

ENTRIES = [zoo_entry(name) for name in zoo_names()]
#: Published without a size for CIFAR.
UNSIZED = {"darts-v1", "pc-darts-image"}
#: Published parameters that include the auxiliary head (FairDARTS's own evaluation builds it; fairdarts-c's do not).
WITH_AUXILIARY = {f"fairdarts-{letter}" for letter in "abdefg"}


def edges_of(cell):
    return [[edge.operation, edge.target, edge.source] for edge in cell.edges]


def test_all_published_results_are_there_cell_by_cell():
    for published_name, item in golden_json("published")["ddarts"].items():
        entry = zoo_entry(published_name)
        kept = 12 if entry.name == "do-xception-cifar100-edge" else len(item["genes"])
        genotype = entry.genotype()
        assert [edges_of(cell) for cell in genotype.cells] == item["genes"][:kept]
        assert genotype.reductions == tuple(r for r in item["reductions"] if r < kept)
        concat = tuple(range(2, 8)) if "resnet50" in entry.name else tuple(item["concat"])
        assert {cell.concat for cell in genotype.cells} == {concat}


def test_all_two_cell_genotypes_are_there_edge_by_edge():
    for published_name, item in golden_json("published")["two_cell_genotypes"]["items"].items():
        cells = zoo_entry(published_name).cells
        assert isinstance(cells, TwoCellGenotype)
        for which in ("normal", "reduce"):
            edges = [[e[0], 2 + i // 2, e[1]] if len(e) == 2 else e for i, e in enumerate(item[which])]
            assert [[e.operation, e.target, e.source] for e in getattr(cells, which)] == edges
            assert list(getattr(cells, f"{which}_concat")) == item[f"{which}_concat"]


def test_nothing_else_is_there_and_names_are_files():
    published = golden_json("published")
    assert set(published_names()) == {*published["ddarts"], *published["two_cell_genotypes"]["items"]}
    assert [entry.name for entry in ENTRIES] == list(zoo_names())
    assert not set(zoo_names()) & set(BASELINES)


def test_published_figures_are_the_published_ones():
    for published_name, figures in golden_json("published")["published_cifar10"].items():
        stored = zoo_entry(published_name).published[0]
        assert (stored.data, stored.parameters_m, stored.macs_m) == (
            "CIFAR-10",
            figures["params_M"],
            figures["flops_M"],
        )
        assert figures.get("top1", stored.top1) == stored.top1


def test_every_entry_has_a_source():
    for entry in ENTRIES:
        assert entry.paper
        assert 2018 <= entry.year <= 2021
        assert len(entry.arxiv) == 10


# -- sizes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["snas", "fairdarts-a", "dd-cifar100-sparse", "do-resnet50-cifar10-sparse"])
def test_stored_sizes_are_what_the_package_counts(name):
    entry = zoo_entry(name)
    assert network_size(entry.genotype(), entry.size.channels) == entry.size


@pytest.mark.parametrize("name", ["resnet50", "xception"])
def test_stored_sizes_of_baselines_are_what_the_package_counts(name):
    assert network_size(baseline(name), 64) == baseline_sizes()[name]


def test_two_cell_networks_have_the_published_parameters_within_two_percent():
    two_cells = [entry for entry in ENTRIES if entry.two_cells]
    assert {(e.size.cells, e.size.channels) for e in two_cells} == {(20, 36)}
    assert {entry.name for entry in two_cells if not entry.published or not entry.published[0].parameters_m} == UNSIZED
    for entry in two_cells:
        if entry.name in UNSIZED:
            continue
        published = entry.published[0]
        assert published.auxiliary == (entry.name in WITH_AUXILIARY)
        plain = entry.size.parameters / 1e6
        if published.auxiliary:  # more than 10 % away without the head, within half a percent with it
            assert plain < 0.9 * published.parameters_m
            assert plain + entry.size.auxiliary / 1e6 == pytest.approx(published.parameters_m, rel=0.005)
        else:
            assert plain == pytest.approx(published.parameters_m, rel=0.02)
        assert entry.size.macs / 1e6 == pytest.approx(published.macs_m, rel=0.01)


def test_sizes_of_results_in_the_paper_are_met():
    assert zoo_entry("do-resnet18-cifar10-sparse").size.parameters == pytest.approx(36.3e6, rel=0.002)
    assert zoo_entry("do-resnet50-cifar10-sparse").size.parameters == pytest.approx(71.2e6, rel=0.002)
    entry = zoo_entry("dd-cifar100-edge")  # DD-4: 14 cells, from reductions where the paper puts them
    cells = tuple(replace(cell, reduction=i in (2, 5)) for i, cell in enumerate(entry.genotype().cells))
    size = network_size(deepen(replace(entry.genotype(), cells=cells), 14), 36)
    assert size.parameters == pytest.approx(6.28e6, rel=0.002)
    assert size.macs == pytest.approx(948e6, rel=0.03)


def test_the_full_construction_of_the_reference_is_told_where_it_differs():
    """The formula gives the reference's own counts, and the numbers in docs/zoo.md."""
    for name in ("cifar_dd_sparse", "cifar_resnet18_sparse"):
        about = golden_json(f"derived_{name}")
        genotype = about["genotype"]
        found = full_parameters(genotype["genes"], genotype["reductions"], about["init_channels"], about["num_classes"])
        assert found == about["parameters_without_auxiliary"]
    differ = {}
    for name, item in golden_json("published")["ddarts"].items():
        entry = zoo_entry(name)
        full = full_parameters(item["genes"], item["reductions"], entry.size.channels)
        if full != entry.size.parameters:
            differ[entry.name] = f"{full / 1e6:.2f}"
    assert differ == {
        "dd-cifar100-sparse": "1.31",
        "do-resnet50-cifar100-sparse": "70.17",
        "do-xception-cifar10-edge": "307.11",
        "do-xception-cifar10-sparse": "112.86",
        "do-xception-cifar100-edge": "347.62",
        "do-xception-cifar100-sparse": "119.88",
    }


# -- names and depth -----------------------------------------------------------------------------------------------


def test_an_entry_is_found_by_either_name_in_either_case():
    assert zoo_entry("DARTS-V2") is zoo_entry("darts_v2") is zoo_entry("darts-v2")
    assert find_genotype("PDARTS") == zoo_entry("p-darts").genotype()
    assert len(find_genotype("snas")) == 20


def test_an_unknown_name_tells_the_nearest_of_baselines_and_zoo():
    with pytest.raises(GenotypeError, match="unknown entry of the zoo 'dart-v2'; did you mean 'darts-v2'"):
        zoo_entry("dart-v2")
    with pytest.raises(GenotypeError, match=r"no such genotype file, run, .*; did you mean 'fairdarts-b'"):
        find_genotype("fair-darts-b")


def test_two_cells_take_any_depth_and_whole_networks_at_least_their_own():
    assert len(zoo_entry("snas").genotype(5)) == 5
    assert len(zoo_entry("dd-cifar10-edge").genotype(14)) == 14
    with pytest.raises(GenotypeError, match="layers = 7 is fewer than the 8 searched cells"):
        zoo_entry("dd-cifar10-edge").genotype(7)


# -- the format ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 2}, "version 2 cannot be read"),
        ({"format": "ddarts-genotype"}, "is this a zoo entry file"),
        ({"year": "2019"}, "year: '2019' must be a whole number"),
        ({"note": 1}, "note: 1 must be text"),
        ({"size": {}}, "size: 'cells' is missing"),
        ({"published": [{"label": "x", "data": "CIFAR-10", "top1": -1}]}, r"published\[0\].top1: -1 must be a number"),
        ({"published": [{"label": "x", "data": "CIFAR-10", "auxiliary": 1}]}, "must be true or false"),
        ({"genotype": {}}, "expected either genotype or two_cells"),
        ({"two_cells": {"normal": {}, "reduce": {}}}, "two_cells.normal: 'concat' is missing"),
        ({"more": 1}, "unknown key 'more'"),
    ],
)
def test_a_broken_entry_is_an_error(change, told):
    text = (resources.files("ddarts.genotype.zoo") / "published" / "zoo" / "snas.json").read_text(encoding="utf-8")
    assert read_entry(json.loads(text)) == zoo_entry("snas")
    with pytest.raises(GenotypeError, match=told):
        read_entry(json.loads(text) | change)
