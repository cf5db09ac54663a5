"""Search strategies pass the conformance checks, and compute what their papers say."""

from __future__ import annotations

import itertools
import math
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from ddarts.config.loading import load_settings
from ddarts.config.strategies import BUILT_IN, STRATEGIES, BayesOptions, RandomOptions, StrategyOptions, TrialOptions
from ddarts.data import Batches, ImageData, load_data, search_parts, split
from ddarts.errors import SettingsError
from ddarts.genotype.choices import AnyGenotype
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.random import mutate, random_genotype
from ddarts.genotype.starting import search_space
from ddarts.nn.network import Network
from ddarts.runs.folder import RunFolder
from ddarts.runtime.seeds import derive_seed, seed_everything
from ddarts.searching.scores import find_score
from ddarts.searching.strategies.bayes import Posterior
from ddarts.searching.strategy import Differentiable, Trial, implementation_of
from ddarts.space.cell_space import build_space
from ddarts.supernet.supernet import Supernet
from ddarts.testing import build_relaxation, check_strategy
from tests.searching.small import search

DIFFERENTIABLE = [name for name in BUILT_IN if not issubclass(STRATEGIES.get(name), TrialOptions)]


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits", limit=60)


#: Settings of a small search, of strategies whose defaults are not small.
SMALL: dict[str, dict[str, Any]] = {
    "one-shot": {"shortlist": 6, "shortlist_trials": 2, "shortlist_steps": 2},
    "bayes": {"candidates": 40},
}


@pytest.mark.parametrize(
    ("name", "options"), [*((name, SMALL.get(name, {})) for name in BUILT_IN), ("random", {"halving": 2})]
)
def test_a_strategy_passes_the_conformance_checks(name: str, options: dict[str, Any]) -> None:
    check_strategy(name, **options)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gates_keep_their_precision_when_the_network_computes_in_another(
    tmp_path: Path, digits: ImageData, name: str
) -> None:
    options = {"epochs": 1, "steps_per_epoch": 1, "precision": "bf16", **SMALL.get(name, {})}
    found = search(tmp_path / "run", digits, strategy=name, **options)
    assert len(found.genotype) == 3


def make(name: str, **changes: Any) -> tuple[Differentiable[Any], Supernet, list[Tensor]]:
    return build_relaxation(STRATEGIES.get(name).model_validate(changes))


def draw(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_one_shot_trains_a_random_genotype_in_each_step_all_operations_equally_often() -> None:
    strategy, net, alphas = make("one-shot")
    chance = draw()
    drawn = [[g.bool() for g in strategy.relax(alphas, 0.5, chance)] for _ in range(700)]
    for gates in drawn:
        for cell in gates:
            assert [int(cell[:2].sum()), int(cell[2:].sum())] == [
                2,
                2,
            ]  # of each of two nodes, which read 2 and 3 states
            assert int(cell.sum(1).max()) == 1
    share = torch.stack([torch.stack(gates).double() for gates in drawn]).mean(0)
    expected = torch.tensor([1.0, 1.0, 2 / 3, 2 / 3, 2 / 3])[:, None] / len(net.space.operations)
    assert float((share - expected).abs().max()) < 0.06
    (choice,) = strategy.relax([torch.zeros(1, 5)], 0.5, chance)
    assert choice.sum() == 1


def test_darts_shares_two_alphas_and_lets_the_operations_of_an_edge_compete() -> None:
    strategy, net, alphas = make("darts")
    assert net.space.sequence == (0, 1, 1)  # of three cells the second and the third are reductions
    assert search_space("darts", cells=8, shared_cells=True).sequence == (0, 0, 1, 0, 0, 1, 0, 0)
    assert search_space("darts", cells=2, reductions=(), shared_cells=True).sequence == (0, 0)
    for gates, alpha in zip(strategy.gates(alphas), alphas, strict=True):
        assert torch.allclose(gates.sum(1), torch.ones(len(alpha), dtype=torch.float64))
    assert strategy.regulariser(alphas, strategy.gates(alphas), 0.5) == {}


def test_fairdarts_has_sigmoid_gates_and_a_constant_zero_one_weight() -> None:
    strategy, _, alphas = make("fairdarts")
    gates = strategy.gates([a.detach() for a in alphas])
    assert all(torch.equal(g, a.sigmoid()) for g, a in zip(gates, alphas, strict=True))
    for progress in (0.0, 0.9):
        term = strategy.regulariser(alphas, gates, progress)["zero_one"]
        assert term.weight == 10
        assert term.value.item() == pytest.approx(-sum((g - 0.5).square().mean().item() for g in gates))


def test_gdas_draws_one_operation_an_edge_more_firmly_as_the_temperature_falls() -> None:
    strategy, net, alphas = make("gdas", temperature=5.0, temperature_end=0.1)
    for drawn in strategy.relax(alphas, 0.0, draw()):
        gates = drawn.detach()
        assert gates.sum(1).tolist() == [1.0] * len(net.space.edges)
        assert gates.max(1).values.tolist() == [1.0] * len(net.space.edges)
    counts = sum(strategy.relax(alphas, 0.3, draw(i))[0].detach() for i in range(400)) / 400
    assert torch.allclose(counts, strategy.gates(alphas)[0].detach(), atol=0.12)  # the Gumbel-max trick


def test_pc_darts_normalises_over_the_edges_to_a_node() -> None:
    strategy, net, alphas = make("pc-darts")
    for gates in strategy.gates([a.detach() for a in alphas]):
        of_edges = gates.sum(1)
        for node in (2, 3):
            rows = [row for row, (_, to) in enumerate(net.space.edges) if to == node]
            assert of_edges[rows].sum().item() == pytest.approx(1)


def test_drnas_draws_gates_of_the_dirichlet_mean_whose_gradients_are_those_of_the_mean() -> None:
    strategy, net, alphas = make("drnas", divergence_weight=0.5)
    rows = [strategy.relax(alphas, 0.3, draw(i))[0] for i in range(400)]
    assert torch.allclose(rows[0].sum(1), torch.ones(len(net.space.edges), dtype=torch.float64))
    drawn, exact = torch.stack(rows).mean(0), strategy.gates(alphas)[0]
    assert torch.allclose(drawn.detach(), exact.detach(), atol=0.06)
    found, expected = (torch.autograd.grad(gates[0, 0], alphas[0])[0][0] for gates in (drawn, exact))
    assert torch.nn.functional.cosine_similarity(found, expected, 0) > 0.8
    flat = [torch.zeros_like(a) for a in alphas]  # elu(0) + 1 = 1
    assert strategy.regulariser(flat, [], 0.5)["divergence"].value.item() == pytest.approx(0, abs=1e-5)
    assert strategy.regulariser(alphas, [], 0.5)["divergence"].value.item() > 0


def test_sdarts_perturbs_the_gates_of_weight_steps_only_and_more_as_the_search_goes_on() -> None:
    strategy, _, alphas = make("sdarts", radius=0.1, radius_end=0.3)
    exact = strategy.gates(alphas)
    assert all(torch.equal(a, b) for a, b in zip(strategy.relax(alphas, 1.0, draw()), exact, strict=True))
    fixed = [alpha.detach() for alpha in alphas]
    for progress, radius in ((0.0, 0.1), (1.0, 0.3)):
        largest = max(
            (a - b).abs().max().item() for a, b in zip(strategy.relax(fixed, progress, draw()), exact, strict=True)
        )
        assert 0.8 * radius < largest <= radius


# -- black box ---------------------------------------------------------------------------------------------------------


def trials(path: Path) -> list[dict[str, Any]]:
    return list(RunFolder.open(path).metrics("search", "trial"))


def test_one_trial_is_a_draw_without_a_training(tmp_path: Path, digits: ImageData) -> None:
    found = search(tmp_path / "run", digits, strategy="random", trials=1, seed=5)
    assert found.genotype.cells == random_genotype(build_space(cells=3, nodes=1), seed=5).cells
    assert [r["trial_steps"] for r in trials(tmp_path / "run")] == [0]


def test_the_best_trial_wins_and_its_cost_is_known(tmp_path: Path, digits: ImageData) -> None:
    found = search(tmp_path / "run", digits, strategy="random", trials=4, trial_steps=3)
    records = trials(tmp_path / "run")
    best = max(records, key=lambda r: r["score"])
    assert found.genotype.cells == Genotype.from_json(best["genotype"]).cells
    assert len({r["genotype"] for r in records}) == 4
    summary = RunFolder.open(tmp_path / "run").summary
    assert (summary["trials"], summary["search_steps"], summary["search_accuracy"]) == (4, 12, best["score"])
    assert found.search_s == pytest.approx(sum(r["seconds"] for r in records))
    assert not list((tmp_path / "run" / "checkpoints" / "trials").iterdir())


def test_halving_continues_the_best_with_more_steps(tmp_path: Path, digits: ImageData) -> None:
    search(tmp_path / "run", digits, strategy="random", trials=4, trial_steps=2, halving=2)
    rungs = [[r for r in trials(tmp_path / "run") if r["epoch"] == rung] for rung in range(3)]
    assert [[r["trial_steps"] for r in rung] for rung in rungs] == [[2] * 4, [4] * 2, []]
    for before, after in pairwise(rungs[:2]):
        ranked = sorted(before, key=lambda r: -r["score"])
        assert [r["trial"] for r in after] == [r["trial"] for r in ranked[: len(after)]]
    assert RunFolder.open(tmp_path / "run").summary["search_steps"] == 2 + 2 + 4 + 4


def test_a_prior_proposes_the_best_of_many_draws_and_its_time_is_counted(tmp_path: Path, digits: ImageData) -> None:
    wanted: dict[str, Any] = {"strategy": "random", "trials": 2, "trial_steps": 1, "prior_draws": 9}
    search(tmp_path / "run", digits, **wanted, prior="naswot+synflow")
    space = build_space(cells=3, nodes=1)
    drawn = [random_genotype(space, seed=derive_seed(0, "search", "random", i) if i else 0) for i in range(9)]
    half = search_parts(split(digits, validation=0.1, seed=0).train, seed=0)[0]
    x, _ = Batches(half, len(half), seed=0, label="prior", mean=digits.mean, std=digits.std).batch(0, 0)
    scores: dict[str, list[float]] = {name: [] for name in ("naswot", "synflow")}
    for genotype, name in itertools.product(drawn, scores):
        seed_everything(0, "search", "prior")
        net = Network(genotype, channels=2, in_channels=1, classes=10)
        scores[name].append(find_score(name)(net, x))
    sums = [sum(sum(v > values[i] for v in values) for values in scores.values()) for i in range(9)]
    best = sorted(range(9), key=sums.__getitem__)[:2]
    records = trials(tmp_path / "run")
    assert [Genotype.from_json(r["genotype"]).cells for r in records] == [drawn[i].cells for i in best]
    assert records[0]["seconds"] > records[1]["seconds"]


def test_a_mutation_changes_one_edge_of_one_cell() -> None:
    space = search_space("darts", cells=5, nodes=2, shared_cells=True)
    genotype = random_genotype(space, seed=0)
    changed = set()
    for seed in range(200):
        other = mutate(space, genotype, random.Random(seed))
        cells = {s for s, a, b in zip(space.sequence, genotype.cells, other.cells, strict=True) if a != b}
        assert len(cells) == 1
        at = space.sequence.index(cells.pop())
        pairs = [(a, b) for a, b in zip(genotype.cells[at].edges, other.cells[at].edges, strict=True) if a != b]
        assert len(pairs) == 1
        changed |= {"operation" if pairs[0][0].operation != pairs[0][1].operation else "source"}
    assert changed == {"operation", "source"}


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"strategy": "darts", "zero_one_weight": 3},
            "zero_one_weight has no effect with strategy darts; leave it out",
        ),
        ({"strategy": "random", "alpha_lr": 0.1}, "alpha_lr has no effect with strategy random; leave it out"),
        ({"strategy": "fairdarts", "baseline": "resnet18"}, "baseline has no effect with strategy fairdarts"),
        ({"trials": 3}, "trials has no effect with strategy d-darts; leave it out"),
        ({"strategy": "darst"}, "unknown strategy 'darst'; did you mean 'darts'"),
        ({"strategy": "darts", "method": "threshold_edge"}, "does not fit the gates of strategy darts; use darts"),
        ({"strategy": "random", "trials": 0}, "trials = 0 must be at least 1"),
        (
            {"strategy": "random", "prior": "swap+naswt"},
            r"prior = 'swap\+naswt' is neither none nor scores joined by \+; did you mean 'naswot'",
        ),
    ],
)
def test_a_setting_without_effect_is_an_error(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings("search", overrides=given)


def test_what_a_preset_says_for_another_strategy_is_left_out() -> None:
    """The preset `paper` sets the zero-one loss and a rule with a threshold."""
    settings = load_settings("search", preset="paper", overrides={"strategy": "darts"})
    assert (settings.search.strategy.name, settings.derive.method) == ("darts", "darts")
    nested = load_settings("run", preset="paper", overrides={"search": {"strategy": {"name": "random", "trials": 9}}})
    assert nested.search.strategy == RandomOptions(trials=9)


def test_another_package_adds_a_strategy(tmp_path: Path, digits: ImageData) -> None:
    class Constant(Differentiable[StrategyOptions]):
        def gates(self, logits: Any) -> list[Tensor]:
            return [0.5 + 0 * alpha for alpha in logits]

    class ConstantOptions(StrategyOptions):
        """Every gate is 1/2."""

        implementation = Constant
        name: str = "constant"

    STRATEGIES.register("constant", ConstantOptions)
    try:
        found = search(tmp_path / "run", digits, strategy="constant", epochs=1, steps_per_epoch=1)
    finally:
        STRATEGIES.unregister("constant")
    assert {gate for cell in found.gates.values for row in cell for gate in row} == {0.5}


# -- Bayesian optimisation ---------------------------------------------------------------------------------------------


def _quality(genotype: AnyGenotype) -> float:
    """An accuracy that operations add to, each cell's with a weight of its own, and that saturates."""
    assert isinstance(genotype, Genotype)
    weights = {name: i for i, name in enumerate(sorted(build_space(cells=3, nodes=2).operations))}
    total = sum((1 + k) * weights[e.operation] for k, cell in enumerate(genotype.cells) for e in cell.edges)
    return 1 - math.exp(-total / 60)


def _found(name: str, seed: int, trials: int = 30) -> float:
    options = STRATEGIES.get(name)(**({"candidates": 100} if name == "bayes" else {}))
    strategy = implementation_of(options)(options, build_space(cells=3, nodes=2), seed)
    history = []
    for number in range(trials):
        genotype = strategy.propose(number, random.Random(derive_seed(seed, "propose", number)))
        history.append(Trial(number, genotype, _quality(genotype), 1))
        strategy.feedback(history[-1])
    assert len({trial.genotype.canonical().to_json() for trial in history}) == trials, "nothing is tried twice"
    return _quality(max(history, key=strategy.value).genotype)


def test_bayes_finds_better_genotypes_than_random_draws_where_operations_add_up() -> None:
    pairs = [(_found("bayes", seed), _found("random", seed)) for seed in range(4)]
    assert all(ours > chance for ours, chance in pairs), pairs


def test_a_posterior_orders_unseen_genotypes_and_is_surer_of_seen_ones() -> None:
    space = build_space(cells=3, nodes=2)
    seen, unseen = ([random_genotype(space, seed=s) for s in seeds] for seeds in (range(80), range(100, 130)))
    posterior = Posterior(seen, [_quality(g) for g in seen])
    means, deviations = posterior.predict(unseen)
    assert spearmanr(means, [_quality(g) for g in unseen])[0] > 0.8
    assert posterior.predict(seen)[1].mean() < deviations.mean()


def test_a_posterior_of_equal_scores_or_equal_genotypes_is_flat() -> None:
    space = build_space(cells=2, nodes=1)
    genotypes = [random_genotype(space, seed=s) for s in range(4)]
    assert Posterior(genotypes, [0.5] * 4).predict(genotypes)[0].tolist() == pytest.approx([0.0] * 4)
    means, deviations = Posterior(genotypes[:1] * 3, [0.1, 0.2, 0.3]).predict(genotypes)
    assert np.isfinite(means).all()
    assert np.isfinite(deviations).all()


def test_of_noisy_trials_the_one_with_the_best_posterior_mean_wins() -> None:
    space = build_space(cells=3, nodes=2)
    genotypes = [random_genotype(space, seed=s) for s in range(60)]
    gained = 0.0
    for seed in range(6):
        strategy = implementation_of(BayesOptions())(BayesOptions(), space, 0)
        draw = random.Random(seed)
        trials = [Trial(i, g, _quality(g) + draw.gauss(0, 0.2), 1) for i, g in enumerate(genotypes)]
        strategy.recover(trials)
        gained += _quality(max(trials, key=strategy.value).genotype)
        gained -= _quality(max(trials, key=lambda t: t.score or 0).genotype)
    assert gained > 0
