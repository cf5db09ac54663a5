"""Settings as keyword arguments: of the public functions, for type checkers and completion.

Made from `ddarts.config.schema` by ``python docs/make_keywords.py``. Names are those of the command line. A group, such
as `search` of `ddarts.run`, takes the settings of a stage where several stages share a name.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from ddarts.config.strategies import StrategyOptions


class Shared(TypedDict, total=False):
    """Settings that every stage has."""

    seed: int
    device: str
    precision: Literal["float32", "bf16", "fp16"]
    threads: int | None
    devices: int | None
    machines: int | None
    sync_batch_norm: bool
    labels: str | os.PathLike[str] | None
    task: Literal["auto", "classification", "multi-label", "regression"]
    resolution: int | None
    limit: int | None
    validation: float
    flip: bool | None
    balance: Literal["none", "weights", "sampling"]
    strict: bool
    stream: Literal["auto", "yes", "no"]
    workers: int | None


class StepsGroup(TypedDict, total=False):
    """Settings that searches and trainings share."""

    channels: int
    epochs: int
    steps_per_epoch: int | None
    batch: int
    lr: float
    lr_min: float
    momentum: float
    weight_decay: float
    clip: float
    checkpoint_steps: int


class SearchOnly(TypedDict, total=False):
    """Settings of a search alone."""

    baseline: str | os.PathLike[str] | None
    baseline_weights: str | os.PathLike[str] | None
    never_larger: bool
    share_gates: bool
    baseline_alpha: float | None
    unused_alpha: float | None
    pretrain_epochs: int | None
    stop_on_distance: bool
    distance_tolerance: float
    distance_epochs: int
    operation_weights: str | os.PathLike[str] | None
    strategy: str | StrategyOptions | Mapping[str, Any]
    space: str
    cells: int
    nodes: int
    reductions: Sequence[int] | None
    weights_share: float | None
    alphas_share: float | None
    search_classes: int | None
    alpha_lr: float
    alpha_lr_min: float
    alpha_weight_decay: float
    stop_on_collapse: bool
    memory: Literal["normal", "low"]
    backend: Literal["auto", "torch", "cpu", "inductor", "reference"]
    shortlist: int
    shortlist_by: Literal["one-shot", "gates", "effect"]
    shortlist_trials: int
    shortlist_steps: int
    zero_one_weight: float
    zero_one_kind: Literal["l2", "l1"]
    zero_one_schedule: Literal["constant", "linear", "quadratic"]
    zero_one_warmup: float
    ablation: Literal["gradient", "monitor", "off"]
    ablation_kind: Literal["zero", "random"]
    ablation_weight: float
    ablation_sample: int | None
    ablation_floor: float
    temperature: float
    temperature_end: float
    divergence_weight: float
    radius: float
    radius_end: float
    trials: int
    trial_steps: int
    trial_images: int
    prior: str
    prior_draws: int
    halving: int | None
    population: int
    tournament: int
    first: int
    candidates: int
    parents: int


class SearchGroup(SearchOnly, StepsGroup, total=False):
    """Settings of a search."""


class DeriveGroup(TypedDict, total=False):
    """Settings of the derivation of a genotype."""

    method: Literal["darts", "threshold_sparse", "threshold_edge", "threshold_complete"]
    threshold: float
    layers: int | None


class BudgetGroup(TypedDict, total=False):
    """Upper bounds of a network's costs."""

    max_parameters: int | None
    max_macs: int | None
    max_activations: int | None
    max_size: int | None
    max_latency: str | None
    price: float


class TrainOnly(TypedDict, total=False):
    """Settings of a training alone."""

    stem: Literal["auto", "cifar", "imagenet"]
    min_steps: int
    optimizer: Literal["sgd", "adamw"]
    warmup: float
    schedule: Literal["cosine", "linear"]
    nesterov: bool
    decay_norms: bool
    drop_path: float
    auxiliary_weight: float
    cutout: int
    crop: int | None
    policy: Literal["none", "autoaugment", "randaugment", "trivialaugment", "augmix"]
    label_smoothing: float
    mixup: float
    cutmix: float
    half_resolution: float
    evaluations: int
    ema: float


class TrainGroup(TrainOnly, StepsGroup, total=False):
    """Settings of a training."""


class SearchKeywords(Shared, SearchGroup, DeriveGroup, BudgetGroup, total=False):
    """Settings of `ddarts.search`."""

    search: SearchGroup
    derive: DeriveGroup
    budget: BudgetGroup


class DeriveKeywords(DeriveGroup, BudgetGroup, total=False):
    """Settings of `ddarts.derive`."""

    derive: DeriveGroup
    budget: BudgetGroup


class TrainKeywords(Shared, TrainGroup, total=False):
    """Settings of `ddarts.train`."""

    reference: Literal["resnet", "mobilenet", "none"]
    train: TrainGroup


class RunKeywords(Shared, SearchOnly, DeriveGroup, BudgetGroup, TrainOnly, total=False):
    """Settings of `ddarts.run`."""

    time: str | float | None
    reference: Literal["resnet", "mobilenet", "none"]
    search: SearchGroup
    derive: DeriveGroup
    budget: BudgetGroup
    train: TrainGroup


class CompareKeywords(Shared, TrainGroup, total=False):
    """Settings of `ddarts.compare`."""

    seeds: int
    data: Any
    train: TrainGroup


class MeasureKeywords(Shared, TrainGroup, total=False):
    """Settings of `ddarts.measure_operations`."""

    cells: int
    positions: int
    repeats: int
    statistic: Literal["median", "mean"]
    data: Any
    measure: Mapping[str, Any]


class EvaluateKeywords(Shared, total=False):
    """Settings of `ddarts.test`."""

    batch: int
    data: Any


class ProfileKeywords(TypedDict, total=False):
    """Settings of `ddarts.profile`."""

    batch: int | Sequence[int]
    threads: int | Sequence[int]
    resolution: int | None
    channels: int | None
    in_channels: int | None
    classes: int | None
    stem: Literal["auto", "cifar", "imagenet"] | None
    by: Literal["cell", "operation"] | None
    onnx: bool | None
    seconds: float
    device: str


class ProbeKeywords(TypedDict, total=False):
    """Settings of `ddarts.probe`."""

    space: str
    resolution: int
    channels: int | Sequence[int]
    cells: int | Sequence[int]
    nodes: int
    in_channels: int
    classes: int
    stem: Literal["auto", "cifar", "imagenet"]
    networks: int
    seed: int
