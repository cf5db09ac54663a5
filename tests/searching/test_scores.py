"""Training-free scores: their formulas on networks small enough to compute by hand, and what they leave behind."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ddarts.config import strategies
from ddarts.errors import SettingsError
from ddarts.genotype.random import random_genotype
from ddarts.nn.network import Network
from ddarts.searching.scores import SCORES, find_score, naswot, rank_by_scores, swap, synflow
from ddarts.space.cell_space import build_space


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network(random_genotype(build_space(cells=3, nodes=2), seed=0), channels=4)


def test_naswot_is_the_log_determinant_of_the_units_that_agree():
    # two images and three units: the patterns 100 and 110 agree in two of three units
    x = torch.tensor([[1.0, -1.0, -1.0], [1.0, 1.0, -1.0]])
    assert naswot(nn.ReLU(), x) == pytest.approx(math.log(3 * 3 - 2 * 2))


def test_swap_counts_the_distinct_patterns_of_units_over_the_images():
    x = torch.tensor([[1.0, -1.0, -1.0, 2.0], [1.0, 1.0, -1.0, 3.0]])  # units: 11, 01, 00, 11
    assert swap(nn.ReLU(), x) == 3


def test_swap_refuses_more_images_than_a_word_has_bits():
    with pytest.raises(SettingsError, match="at most 62 images, not 63"):
        swap(nn.ReLU(), torch.ones(63, 2))


def test_synflow_is_the_log_of_the_flow_through_absolute_weights():
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 4.0]]))
        net[3].weight.copy_(torch.tensor([[-5.0, 6.0]]))
    # R = 5 * (1 + 2) + 6 * (3 + 4) = 57; each of the two layers carries all of it
    assert synflow(net, torch.zeros(7, 1, 1, 2)) == pytest.approx(math.log(2 * 57))


@pytest.mark.parametrize("name", SCORES)
def test_a_score_leaves_the_network_as_it_was(name: str, network: Network):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    first, second = find_score(name)(network, x), find_score(name)(network, x)
    assert first == second
    assert math.isfinite(first)
    assert network.training
    for key, value in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, before[key], rtol=0, atol=0)


@pytest.mark.parametrize("name", SCORES)
def test_a_score_prefers_a_network_with_convolutions_to_one_of_pools(name: str):
    def score(operation: str) -> float:
        genotype = random_genotype(build_space(cells=3, nodes=2), seed=0)
        cells = tuple(
            type(c)(tuple(type(e)(operation, e.source, e.target) for e in c.edges), c.concat, c.reduction)
            for c in genotype.cells
        )
        torch.manual_seed(0)
        x = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        return find_score(name)(Network(type(genotype)(cells), channels=4), x)

    assert score("sep_conv_3x3") > score("avg_pool_3x3")


def test_an_unknown_score_is_an_error_that_names_the_nearest():
    with pytest.raises(SettingsError, match=r"unknown score 'naswt'.*naswot"):
        find_score("naswt")


def test_networks_are_ranked_by_the_sum_of_their_ranks_and_what_is_not_finite_comes_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = {"a": [3.0, 2.0, 1.0, math.nan], "b": [10.0, 5.0, 40.0, 30.0]}
    for name, values in table.items():
        score = iter(values)
        monkeypatch.setitem(SCORES, name, lambda net, x, score=score: next(score))
    # ranks by a: 0 1 2 3, by b: 2 3 0 1; sums 2 4 2 4
    assert rank_by_scores(["a", "b"], [nn.Identity()] * 4, torch.zeros(1)) == [0, 2, 1, 3]


def test_the_settings_know_every_score():
    assert tuple(SCORES) == strategies.SCORES
