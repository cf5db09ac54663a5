"""The search strategies by name, and the settings of each. Nothing here imports torch.

A strategy consists of two classes: its settings, registered here under its name, and its implementation
(``ddarts.searching.strategy``), which is imported when a search starts. Another package adds one by an entry point of
the group ``ddarts.strategies`` that names its class of settings, or by `register_strategy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from ddarts.errors import nearest
from ddarts.runtime.registry import Registry

ParseRule = Literal["darts", "threshold_sparse", "threshold_edge", "threshold_complete"]

#: Settings of a search that starts from a baseline: shared cells cannot hold one.
BASELINE_ONLY = frozenset(
    {
        *("baseline", "share_gates", "baseline_alpha", "unused_alpha", "stop_on_distance", "distance_tolerance"),
        *("distance_epochs", "operation_weights", "baseline_weights", "never_larger"),
    }
)
#: Settings that only a supernet uses.
SUPERNET_ONLY = BASELINE_ONLY | {
    *("epochs", "steps_per_epoch", "pretrain_epochs", "alpha_lr", "alpha_lr_min", "alpha_weight_decay"),
    *("stop_on_collapse", "memory", "backend", "method", "threshold"),
}


#: The largest number that a setting may have.
LARGEST = 1e30

#: Names of the training-free scores (``ddarts.searching.scores``).
SCORES = ("naswot", "swap", "synflow")

#: Marks a setting that people change often: ``--help`` shows it, ``--help-all`` the others too.
COMMON: dict[str, Any] = {"common": True}


def enumerated(**values: str) -> dict[str, Any]:
    """Return what each value of an enumeration does, for help texts."""
    return {"values": dict(values)}


class Options(BaseModel):
    """Base of all settings: frozen, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _bounded(cls, value: Any) -> Any:
        """Refuse numbers with which float32 overflows, such as a learning rate of 1e38."""
        if isinstance(value, float) and value > LARGEST:
            raise PydanticCustomError("less_than_equal", "", {"le": f"{LARGEST:g}"})
        return value


class StrategyOptions(Options):
    """Base of the settings of a strategy.

    Attributes:
        implementation: the strategy's class, or a reference to it, ``"package.module:Class"``.
        shared_cells: all normal cells share one alpha and all reduction cells another, as in DARTS.
        rule: the only rule of derivation that fits the strategy's gates; None if all do.
        ignores: names of settings of the search that have no effect with the strategy.
    """

    implementation: ClassVar[Any]
    shared_cells: ClassVar[bool] = False
    rule: ClassVar[ParseRule | None] = None
    ignores: ClassVar[frozenset[str]] = frozenset()

    name: str = Field(description="name of the strategy")


class ShortlistOptions(StrategyOptions):
    """What follows a search in a supernet: candidates near its gates are ranked, and the best trained shortly."""

    shortlist: int = Field(
        default=0, ge=0, le=100_000, description="candidates after the search, from its gates; 0 for none"
    )
    shortlist_by: Literal["one-shot", "gates", "effect"] = Field(
        default="one-shot",
        description="what ranks the candidates",
        json_schema_extra=enumerated(
            **{"one-shot": "the loss on the alpha half with the supernet's weights"},
            gates="the product of the gates",
            effect="the sum of the losses that their operations and edges save in the supernet",
        ),
    )
    shortlist_trials: int = Field(
        default=4, ge=2, le=100_000, description="genotypes to train: the derived one and the best candidates"
    )
    shortlist_steps: int = Field(
        default=100, ge=1, description="training steps of each; the better half goes twice as far, and so on"
    )

    def effort(self) -> TrialOptions:
        """Return the trainings of the shortlist."""
        trials = min(self.shortlist_trials, self.shortlist + 1)
        return RandomOptions(trials=trials, trial_steps=self.shortlist_steps, halving=2)


class ZeroOneOptions(ShortlistOptions):
    """The zero-one loss, which drives gates to 0 or 1 (FairDARTS, arXiv 1911.12126)."""

    zero_one_weight: float = Field(default=9.0, ge=0, description="w_01, weight of the zero-one loss")
    zero_one_kind: Literal["l2", "l1"] = Field(
        default="l2",
        description="distance of gates from 1/2 in the zero-one loss",
        json_schema_extra=enumerated(l2="squared", l1="absolute"),
    )
    zero_one_schedule: Literal["constant", "linear", "quadratic"] = Field(
        default="quadratic",
        description="w_01 during the warm-up",
        json_schema_extra=enumerated(
            constant="no warm-up", linear="rises linearly with the steps", quadratic="with their square"
        ),
    )
    zero_one_warmup: float = Field(default=0.8, ge=0, le=1, description="share of the search over which w_01 rises")


class DDartsOptions(ZeroOneOptions):
    """D-DARTS: sigmoid gates for every cell, with the ablation loss (arXiv 2108.09306)."""

    implementation = "ddarts.searching.strategies.d_darts:DDarts"
    name: str = Field(default="d-darts", description="name of the strategy")
    ablation: Literal["gradient", "monitor", "off"] = Field(
        default="gradient",
        description="use of the ablation loss",
        json_schema_extra=enumerated(
            gradient="part of the loss of the gates", monitor="measured, without a gradient", off="not computed"
        ),
    )
    ablation_kind: Literal["zero", "random"] = Field(
        default="zero",
        description="gates of an ablated cell",
        json_schema_extra=enumerated(zero="all 0", random="drawn uniformly from 0 to 1"),
    )
    ablation_weight: float = Field(default=0.7, ge=0, description="w_AB, weight of the ablation loss")
    ablation_sample: int | None = Field(
        default=None, ge=1, description="cells ablated per step, drawn at random; all if not given"
    )
    ablation_floor: float = Field(default=0.1, gt=0, description="lower bound of nu, as a share of the cross-entropy")


class FairDartsOptions(ZeroOneOptions):
    """FairDARTS: sigmoid gates and the zero-one loss, two shared cells (arXiv 1911.12126)."""

    implementation = "ddarts.searching.strategies.fairdarts:FairDarts"
    shared_cells = True
    ignores = BASELINE_ONLY
    name: str = Field(default="fairdarts", description="name of the strategy")
    zero_one_weight: float = Field(default=10.0, ge=0, description="w_01, weight of the zero-one loss")
    zero_one_schedule: Literal["constant", "linear", "quadratic"] = Field(
        default="constant", description="how w_01 rises from 0 during the warm-up"
    )


class CompetingOptions(ShortlistOptions):
    """Settings of strategies whose operations compete for an edge, in two shared cells."""

    shared_cells = True
    rule = "darts"
    ignores = BASELINE_ONLY


class DartsOptions(CompetingOptions):
    """DARTS, first order: softmax over the operations of an edge, two shared cells (arXiv 1806.09055)."""

    implementation = "ddarts.searching.strategies.darts:Darts"
    name: str = Field(default="darts", description="name of the strategy")


class GdasOptions(CompetingOptions):
    """GDAS: one operation an edge and step, drawn by the Gumbel-softmax trick; two shared cells (arXiv 1910.04465)."""

    implementation = "ddarts.searching.strategies.gdas:Gdas"
    name: str = Field(default="gdas", description="name of the strategy")
    temperature: float = Field(default=10.0, gt=0, description="temperature of the Gumbel-softmax at the start")
    temperature_end: float = Field(default=0.1, gt=0, description="temperature at the end of a linear decay")


class PcDartsOptions(CompetingOptions):
    """PC-DARTS: darts with edge normalisation, without partial channels; two shared cells (arXiv 1907.05737)."""

    implementation = "ddarts.searching.strategies.pc_darts:PcDarts"
    name: str = Field(default="pc-darts", description="name of the strategy")


class DrNasOptions(CompetingOptions):
    """DrNAS: weights of operations drawn from Dirichlet distributions; two shared cells (arXiv 2006.10355)."""

    implementation = "ddarts.searching.strategies.drnas:DrNas"
    name: str = Field(default="drnas", description="name of the strategy")
    divergence_weight: float = Field(
        default=1e-3, ge=0, description="weight of the divergence from equal chances, which keeps the search exploring"
    )


class SDartsOptions(CompetingOptions):
    """SDARTS: darts whose weights are trained under random noise on the gates; two shared cells (arXiv 2002.05283)."""

    implementation = "ddarts.searching.strategies.sdarts:SDarts"
    name: str = Field(default="sdarts", description="name of the strategy")
    radius: float = Field(default=0.03, ge=0, le=1, description="largest noise on a gate at the start")
    radius_end: float = Field(default=0.3, ge=0, le=1, description="and at the end of a linear rise")


class OneShotOptions(ShortlistOptions):
    """One-shot: a supernet trained on random genotypes (arXiv 1904.00420) says with which ones `bayes` begins."""

    implementation = "ddarts.searching.strategies.one_shot:OneShot"
    rule = "darts"
    ignores = BASELINE_ONLY | {
        *("alpha_lr", "alpha_lr_min", "alpha_weight_decay", "pretrain_epochs", "stop_on_collapse", "threshold"),
    }
    name: str = Field(default="one-shot", description="name of the strategy")
    shortlist: int = Field(
        default=500, ge=2, le=100_000, description="genotypes that the supernet's weights rank, half of them random"
    )
    shortlist_trials: int = Field(
        default=8, ge=2, le=2000, description="genotypes to train: the best ranked, then as many that `bayes` chooses"
    )
    shortlist_steps: int = Field(default=100, ge=1, description="training steps of each")

    def effort(self) -> TrialOptions:
        """Return the trainings of the shortlist."""
        trials = min(self.shortlist_trials, self.shortlist)
        return BayesOptions(trials=trials, trial_steps=self.shortlist_steps, first=max(-(-trials // 2), 2))


class TrialOptions(StrategyOptions):
    """Budget of a black-box strategy, which trains its proposals."""

    ignores = SUPERNET_ONLY

    trials: int = Field(
        default=6,
        ge=1,
        le=100_000,
        description="genotypes to propose; 1 is taken without a training",
        json_schema_extra=COMMON,
    )
    trial_steps: int = Field(default=200, ge=1, description="training steps of a trial", json_schema_extra=COMMON)
    trial_images: int = Field(default=5000, ge=1, description="images of the alpha half that score a trial, at most")
    prior: str = Field(
        default="none",
        description="training-free scores that choose the first proposals from many draws; none | naswot | swap | "
        "synflow, or several joined by +, such as naswot+swap",
    )
    prior_draws: int = Field(
        default=100, ge=1, le=100_000, description="random genotypes that the prior ranks; not fewer than the trials"
    )

    def rungs(self) -> list[tuple[int, int]]:
        """Return the budget as (trials, training steps in all of each of them), each rung continuing the best so far.

        The trials of the first rung are proposals; each later rung continues the best trials of the one before.
        """
        return [(self.trials, self.trial_steps)]

    def steps(self) -> int:
        """Return the training steps of all trials together; a single one is not trained."""
        if self.trials == 1:
            return 0
        rungs = [(0, 0), *self.rungs()]
        return sum(count * (steps - before) for (_, before), (count, steps) in pairwise(rungs))

    @field_validator("prior")
    @classmethod
    def _known_scores(cls, value: str) -> str:
        unknown = [name for name in value.split("+") if name not in SCORES]
        if value != "none" and unknown:
            near = nearest(unknown[0], SCORES)
            raise PydanticCustomError("score", "is neither none nor scores joined by +{near}", {"near": near})
        return value


class RandomOptions(TrialOptions):
    """Random search: draw genotypes, train them shortly, keep the best (arXiv 1902.07638)."""

    implementation = "ddarts.searching.strategies.random:RandomSearch"
    name: str = Field(default="random", description="name of the strategy")
    halving: int | None = Field(
        default=None,
        ge=2,
        le=100,
        description="successive halving: train the best 1/N of the trials N times as long, and so on down to two",
    )

    def rungs(self) -> list[tuple[int, int]]:
        """See `TrialOptions.rungs`; with halving each rung has 1/N of the trials and N times the steps, down to two."""
        rungs, share = super().rungs(), self.halving or self.trials
        while rungs[-1][0] // share > 1:
            trials, steps = rungs[-1]
            rungs.append((trials // share, steps * share))
        return rungs


class EvolutionOptions(TrialOptions):
    """Regularised evolution: mutate the best of a sample of the youngest trials (arXiv 1802.01548)."""

    implementation = "ddarts.searching.strategies.evolution:Evolution"
    name: str = Field(default="evolution", description="name of the strategy")
    trials: int = Field(
        default=60, ge=1, le=100_000, description="genotypes to propose and train", json_schema_extra=COMMON
    )
    population: int = Field(default=20, ge=2, description="trials that may become parents: the youngest")
    tournament: int = Field(default=5, ge=1, description="members drawn from the population; the best is mutated")


class BayesOptions(TrialOptions):
    """Bayesian optimisation: a Gaussian process over operations chooses what to train (expected improvement)."""

    implementation = "ddarts.searching.strategies.bayes:Bayes"
    name: str = Field(default="bayes", description="name of the strategy")
    trials: int = Field(
        default=30, ge=1, le=2000, description="genotypes to propose and train", json_schema_extra=COMMON
    )
    first: int = Field(default=10, ge=2, description="trials that are drawn before the first is chosen")
    candidates: int = Field(default=400, ge=4, le=100_000, description="genotypes among which each trial is chosen")
    parents: int = Field(default=5, ge=1, description="best trials whose neighbours are candidates")


_BUILT_IN: dict[str, type[StrategyOptions]] = {
    "d-darts": DDartsOptions,
    "darts": DartsOptions,
    "fairdarts": FairDartsOptions,
    "gdas": GdasOptions,
    "pc-darts": PcDartsOptions,
    "drnas": DrNasOptions,
    "sdarts": SDartsOptions,
    "one-shot": OneShotOptions,
    "random": RandomOptions,
    "evolution": EvolutionOptions,
    "bayes": BayesOptions,
}
STRATEGIES: Registry[type[StrategyOptions]] = Registry("strategy", "ddarts.strategies", _BUILT_IN)
#: Names of the strategies of this package.
BUILT_IN = tuple(_BUILT_IN)


#: What each of them does, for help texts.
STRATEGY_SUMMARIES = {
    name: str(options.__doc__).partition(": ")[2].removesuffix(".") for name, options in _BUILT_IN.items()
}


def register_strategy(name: str, options: type[StrategyOptions]) -> None:
    """Add a strategy to those that ``--strategy`` accepts.

    Args:
        name: its name; the default of the field `name` of `options`.
        options: its class of settings.

    Raises:
        SettingsError: the name is registered already, or not a plain word.
    """
    STRATEGIES.register(name, options)


def choose_strategy(value: Any) -> StrategyOptions:
    """Return the settings of a strategy from its name, a mapping with a `name`, or such an object.

    Raises:
        SettingsError: the strategy is unknown.
        pydantic.ValidationError: one of its settings is.
    """
    if isinstance(value, StrategyOptions):
        return value
    values = dict(value) if isinstance(value, Mapping) else {"name": str(value)}
    return STRATEGIES.get(str(values.get("name", "d-darts"))).model_validate(values)


def strategy_fields(name: str) -> dict[str, FieldInfo]:
    """Return the settings of a strategy by name, without `name` itself."""
    return {key: field for key, field in STRATEGIES.get(name).model_fields.items() if key != "name"}


def known_fields(name: str) -> dict[str, FieldInfo]:
    """Return the settings of a strategy and of all built-in ones: names whose errors should say more than unknown."""
    merged: dict[str, FieldInfo] = {}
    for other in (*BUILT_IN, name):
        merged |= strategy_fields(other)
    return merged
