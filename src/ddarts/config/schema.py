"""Settings of each stage, with units and bounds, checked when built.

The classes here are the one place where a setting is defined: the command line's options, the keys of a YAML file and
the keyword arguments of the public functions all come from them. A stage has the shared settings on top, and its own in
groups: ``settings.seed``, ``settings.search.epochs``. Modules of the network take plain keywords instead.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ddarts.config.strategies import (
    COMMON,
    LARGEST,
    STRATEGY_SUMMARIES,
    DDartsOptions,
    Options,
    ParseRule,
    StrategyOptions,
    choose_strategy,
    enumerated,
)

_STEMS = enumerated(
    auto="from the resolution of the images",
    cifar="one convolution, keeps the resolution",
    imagenet="three convolutions, a quarter of the resolution",
)
_OPTIMIZERS = enumerated(sgd="stochastic gradient descent with momentum", adamw="Adam with decoupled weight decay")
_SCHEDULES = enumerated(cosine="along half a cosine", linear="along a straight line")
_POLICIES = enumerated(
    none="crop, flip and cutout only",
    autoaugment="the policies learned on CIFAR-10",
    randaugment="two random operations per image",
    trivialaugment="one random operation of random strength",
    augmix="a mixture of several chains of operations",
)

Policy = Literal["none", "autoaugment", "randaugment", "trivialaugment", "augmix"]


class DataOptions(Options):
    """Which images, and how they are divided."""

    data: str = Field(
        default="digits",
        description="digits | fashion-mnist[:DIR] | cifar10[:DIR] | cifar100[:DIR] | FOLDER",
        json_schema_extra=COMMON,
    )

    @field_validator("data", mode="before")
    @classmethod
    def _path_text(cls, value: Any) -> Any:
        """Let a caller give a `pathlib.Path`; ``./`` keeps it from being taken for the name of a data set."""
        if not isinstance(value, os.PathLike):
            return value
        path = os.fspath(value)
        return path if os.sep in path else os.path.join(".", path)

    labels: str | None = Field(
        default=None,
        description="FILE.csv with labels of the images in a folder: classes, several labels per image, or numbers",
    )
    task: Literal["auto", "classification", "multi-label", "regression"] = Field(
        default="auto",
        description="what a CSV file of labels holds",
        json_schema_extra=enumerated(
            **{
                "auto": "found from its columns",
                "classification": "one class for each image",
                "multi-label": "several labels for each image",
                "regression": "numbers",
            }
        ),
    )
    resolution: int | None = Field(
        default=None,
        ge=2,
        le=4096,
        description="pixels a side; found from the data if not given",
        json_schema_extra=COMMON,
    )
    limit: int | None = Field(default=None, ge=1, description="largest number of training images, drawn class by class")
    validation: float = Field(default=0.1, ge=0, lt=1, description="share of the training images kept for validation")
    flip: bool | None = Field(
        default=None, description="flip training images horizontally at random; found from the data if not given"
    )
    balance: Literal["none", "weights", "sampling"] = Field(
        default="none",
        description="treatment of classes with few images, in search and training",
        json_schema_extra=enumerated(
            none="as they are",
            weights="class weights in the loss: a class counts as much as any other",
            sampling="images of all classes are drawn equally often",
        ),
    )
    strict: bool = Field(default=False, description="stop at the first image that cannot be decoded")
    stream: Literal["auto", "yes", "no"] = Field(
        default="auto",
        description="decode images batch by batch instead of once at the start",
        json_schema_extra=enumerated(auto="if all images would take a quarter of the memory", yes="always", no="never"),
    )
    workers: int | None = Field(
        default=None,
        ge=0,
        le=256,
        description="processes that decode streamed images in advance; found from the number of cores if not given",
    )


class EngineOptions(Options):
    """Where and how exactly to compute."""

    seed: int = Field(default=0, ge=0, lt=2**63, description="seed of everything random", json_schema_extra=COMMON)
    device: str = Field(default="auto", description="auto | cpu | cuda | cuda:N")
    precision: Literal["float32", "bf16", "fp16"] = Field(
        default="float32",
        description="arithmetic of the network",
        json_schema_extra=enumerated(
            float32="full precision",
            bf16="mixed with bfloat16 (CPU and GPU)",
            fp16="mixed with float16 and loss scaling (GPU)",
        ),
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads of a process; all cores if not given")
    devices: int | None = Field(
        default=None, ge=1, le=1024, description="devices of each machine, one process each; 1 if not given"
    )
    machines: int | None = Field(default=None, ge=1, le=4096, description="number of machines; 1 if not given")
    sync_batch_norm: bool = Field(
        default=False,
        description="with several devices, batch statistics of the whole batch instead of each device's share",
    )


#: Epochs of training weights alone before a search from a baseline (specification, section 7).
PRETRAIN_EPOCHS = 5


class BaselineOptions(Options):
    """A search that starts from a hand-made network (DARTOpti; paper, section 5)."""

    baseline: str | None = Field(
        default=None,
        description="network to start from: resnet18 | ... (ddarts baselines) | FILE | RUN | torchvision:NAME",
        json_schema_extra=COMMON,
    )
    baseline_weights: str | None = Field(
        default=None,
        description="FILE or FOLDER with the state dict of a network of torchvision or timm; new weights if not given",
    )
    never_larger: bool = Field(
        default=False,
        description="keep parameters and multiply-adds at or below those of a network of torchvision or timm",
    )
    share_gates: bool = Field(default=True, description="cells that are equal in the baseline share gates, not weights")
    baseline_alpha: float | None = Field(
        default=None,
        ge=-30,
        le=30,
        description="initial alpha of the operations that the baseline has; 10, or 2 of torchvision and timm",
    )
    unused_alpha: float | None = Field(
        default=None,
        ge=-30,
        le=30,
        description="initial alpha of all other operations; 0, or -2 of torchvision and timm",
    )
    pretrain_epochs: int | None = Field(
        default=None,
        ge=0,
        description="epochs of training the weights alone before the search; 5 with a baseline, else 0",
    )
    stop_on_distance: bool = Field(default=True, description="stop when the distance to the baseline is steady")
    distance_tolerance: float = Field(
        default=0.001, ge=0, le=1, description="largest change between two epochs of a steady distance"
    )
    distance_epochs: int = Field(
        default=4, ge=1, description="consecutive epochs without a larger change that make a distance steady"
    )
    operation_weights: str | None = Field(
        default=None, description="FILE written by ddarts measure-operations; the published weights if not given"
    )


class SearchOptions(BaselineOptions):
    """The search (paper, sections 3 and 4)."""

    strategy: Annotated[SerializeAsAny[StrategyOptions], BeforeValidator(choose_strategy)] = Field(
        default_factory=DDartsOptions,
        description="how the architecture is found",
        json_schema_extra=COMMON | enumerated(**STRATEGY_SUMMARIES),
    )
    space: str = Field(
        default="auto",
        description="search space: one of these, or a registered one",
        json_schema_extra=enumerated(
            auto="dartopti with a baseline, else darts",
            darts="separable and dilated convolutions, pools, skip",
            dartopti="these and the blocks of ResNet, Xception and Inception",
            mobile="no cells: an inverted residual block or skip in each of 14 layers",
            residual="no cells: a block of a ResNet or skip in each of 9 layers",
        ),
    )
    cells: int = Field(
        default=8, ge=1, le=100, description="cells of the supernet, each with its own gates", json_schema_extra=COMMON
    )
    nodes: int = Field(default=4, ge=1, le=8, description="intermediate nodes of a cell")
    channels: int = Field(default=16, ge=1, description="channels of the first cell")
    reductions: tuple[int, ...] | None = Field(
        default=None, description="positions of reduction cells; n//3 and 2n//3 of n cells if not given"
    )
    epochs: int = Field(
        default=50, ge=1, description="passes over the training images for weights", json_schema_extra=COMMON
    )
    steps_per_epoch: int | None = Field(default=None, ge=1, description="largest number of steps in an epoch")
    batch: int = Field(default=96, ge=2, description="images per batch, for alphas and for weights")
    weights_share: float | None = Field(
        default=None, gt=0, lt=1, description="share of each class's training images for weights; half if not given"
    )
    alphas_share: float | None = Field(
        default=None, gt=0, lt=1, description="share of each class's training images for alphas; half if not given"
    )
    search_classes: int | None = Field(
        default=None, ge=2, description="number of classes to search on, drawn by the seed; all if not given"
    )
    alpha_lr: float = Field(default=3e-3, gt=0, description="learning rate of alphas (Adam), at the start")
    alpha_lr_min: float = Field(default=1e-3, ge=0, description="learning rate of alphas at the end of the cosine")
    alpha_weight_decay: float = Field(default=1e-3, ge=0, description="weight decay of alphas")
    lr: float = Field(default=0.005, gt=0, description="learning rate of weights (SGD), at the start")
    lr_min: float = Field(default=0.001, ge=0, description="learning rate of weights at the end of the cosine")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum of the weights' SGD")
    weight_decay: float = Field(default=3e-4, ge=0, description="weight decay of weights")
    clip: float = Field(default=5.0, gt=0, description="largest norm of the weights' gradient")
    stop_on_collapse: bool = Field(
        default=True, description="stop when a cell would have parameter-free operations only"
    )
    memory: Literal["normal", "low"] = Field(
        default="normal",
        description="what the forward pass saves for the backward pass; results are the same",
        json_schema_extra=enumerated(
            normal="the intermediate tensors of all cells", low="the outputs of cells; cells are computed twice"
        ),
    )
    backend: Literal["auto", "torch", "cpu", "inductor", "reference"] = Field(
        default="auto",
        description="what computes the supernet",
        json_schema_extra=enumerated(
            auto="the CPU's kernels where they can run, else as torch",
            torch="PyTorch's operations",
            cpu="the kernels, or an error where they cannot run",
            inductor="torch.compile, for GPUs; takes minutes first",
            reference="a plain module for each operation, slow, to compare with",
        ),
    )
    checkpoint_steps: int = Field(
        default=200, ge=1, description="steps between checkpoints, besides the one after each epoch"
    )

    @field_validator("reductions", mode="before")
    @classmethod
    def _split_list(cls, value: Any) -> Any:
        """Let a command line say ``2,5``."""
        return value.replace(",", " ").split() if isinstance(value, str) else value


class DeriveOptions(Options):
    """From gates to a genotype (paper, section 3.4)."""

    method: ParseRule = Field(
        default="threshold_sparse",
        description="rule that picks the operations",
        json_schema_extra=enumerated(
            darts="the best operation of the two best edges of each node",
            threshold_sparse="as darts, but only gates from the threshold on",
            threshold_edge="the two best operations of every edge from the threshold on",
            threshold_complete="every operation from the threshold on",
        ),
    )
    threshold: float = Field(
        default=0.85, ge=0, le=1, description="smallest gate that a threshold rule accepts, 0 to 1"
    )
    layers: int | None = Field(
        default=None, ge=1, description="cells of the derived network; as many as searched if not given"
    )


#: Units of budgets, by what is counted.
_UNITS: dict[str, dict[str, float]] = {
    "count": {"": 1, "k": 1e3, "M": 1e6, "G": 1e9},
    "bytes": {"": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "time": {"": 1, "us": 1e-3, "ms": 1, "s": 1e3},
}


def quantity(value: Any, kind: str) -> float:
    """Return a number with a unit, such as ``80k``, ``256kB`` or ``5ms``, in single units, bytes or milliseconds.

    Raises:
        PydanticCustomError: the unit is unknown, there is no number, or it is not above 0.
    """
    units = _UNITS[kind]
    is_text = isinstance(value, int | float | str) and not isinstance(value, bool)
    match = re.fullmatch(r"([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z]*)", str(value).strip()) if is_text else None
    if match is None:
        raise PydanticCustomError("quantity", "must be a number, with or without a unit")
    number, unit = match.groups()
    if unit not in units:
        known = {"units": ", ".join(filter(None, units)), "unit": unit[:40]}
        raise PydanticCustomError("unit", "has the unknown unit '{unit}'; use {units}", known)
    try:
        found = float(number) * units[unit]
    except ValueError:
        raise PydanticCustomError("quantity", "must be a number, with or without a unit") from None
    if found > LARGEST:
        raise PydanticCustomError("less_than_equal", "", {"le": f"{LARGEST:g}"})
    if found < (0 if kind == "time" else 1) or found == 0:
        raise PydanticCustomError("greater_than", "", {"gt": 0})
    return found


def _whole(kind: str) -> BeforeValidator:
    return BeforeValidator(lambda value: value if value is None else int(quantity(value, kind)))


class BudgetOptions(Options):
    """Upper bounds on what the network costs that is trained and exported."""

    max_parameters: Annotated[int | None, _whole("count")] = Field(
        default=None, description="largest number of parameters, such as 80k"
    )
    max_macs: Annotated[int | None, _whole("count")] = Field(
        default=None,
        description="largest number of multiply-adds for an image, such as 12.5M",
    )
    max_activations: Annotated[int | None, _whole("bytes")] = Field(
        default=None, description="largest memory for activations of an image, such as 256kB"
    )
    max_size: Annotated[int | None, _whole("bytes")] = Field(
        default=None, description="largest file of weights, such as 100kB"
    )
    max_latency: str | None = Field(
        default=None,
        description="longest forward pass of an image, such as 5ms on this machine, or 5ms@DEVICE.json",
    )
    price: float = Field(
        default=1.0, ge=0, description="weight in the loss of the gates of what their operations cost above the budget"
    )

    @field_validator("max_latency", mode="before")
    @classmethod
    def _latency_text(cls, value: Any) -> Any:
        """Check the number; a bare one counts milliseconds."""
        if value is None:
            return None
        number, at, device = str(value).partition("@")
        if at and not device:
            raise PydanticCustomError("device", "names no file after the @")
        return f"{quantity(number if isinstance(value, str) else value, 'time'):g}ms{at}{device}"

    @property
    def limits(self) -> dict[str, float]:
        """The bounds that are set: parameters, macs, activations and size in bytes, latency in milliseconds."""
        named = {
            name.removeprefix("max_"): getattr(self, name) for name in BudgetOptions.model_fields if "max_" in name
        }
        found = {name: value for name, value in named.items() if value is not None}
        if self.max_latency is not None:
            found["latency"] = quantity(self.max_latency.partition("@")[0], "time")
        return found

    @property
    def device(self) -> str | None:
        """The file with latencies of another device."""
        return (self.max_latency or "").partition("@")[2] or None


class TrainOptions(Options):
    """Final training of the discrete network (paper, section 4)."""

    channels: int = Field(default=36, ge=1, description="channels of the first cell", json_schema_extra=COMMON)
    stem: Literal["auto", "cifar", "imagenet"] = Field(
        default="auto", description="layers before the first cell", json_schema_extra=_STEMS
    )
    epochs: int = Field(default=600, ge=1, description="passes over the training images", json_schema_extra=COMMON)
    min_steps: int = Field(
        default=0,
        ge=0,
        le=10_000_000,
        description="smallest number of training steps: epochs grow for few images, unless they are chosen",
    )
    steps_per_epoch: int | None = Field(default=None, ge=1, description="largest number of steps in an epoch")
    batch: int = Field(default=128, ge=2, description="images per batch")
    optimizer: Literal["sgd", "adamw"] = Field(
        default="sgd", description="optimizer of the weights", json_schema_extra=_OPTIMIZERS
    )
    lr: float = Field(default=0.025, gt=0, description="largest learning rate: at the start, or after the warm-up")
    lr_min: float = Field(default=0.0, ge=0, description="learning rate at the end")
    warmup: float = Field(
        default=0.0, ge=0, lt=1, description="share of the steps in which the learning rate rises to its largest value"
    )
    schedule: Literal["cosine", "linear"] = Field(
        default="cosine", description="how the learning rate falls", json_schema_extra=_SCHEDULES
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum of SGD, or the first beta of AdamW")
    nesterov: bool = Field(default=False, description="Nesterov momentum (SGD)")
    weight_decay: float = Field(default=3e-4, ge=0, description="weight decay")
    decay_norms: bool = Field(default=True, description="weight decay for batch norms and biases too")
    clip: float = Field(default=5.0, gt=0, description="largest norm of the gradient")
    drop_path: float = Field(
        default=0.2, ge=0, lt=1, description="drop-path probability at the last epoch; rises linearly from 0"
    )
    auxiliary_weight: float = Field(
        default=0.4, ge=0, description="weight of the auxiliary head's loss; 0 builds no such head"
    )
    cutout: int = Field(default=16, ge=0, description="side in pixels of the square that cutout erases; 0 for none")
    crop: int | None = Field(
        default=None,
        ge=0,
        description="pixels of padding before the random crop; 4, or from 64 pixels on a crop of random size",
    )
    policy: Policy = Field(default="autoaugment", description="augmentation policy", json_schema_extra=_POLICIES)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="label smoothing")
    mixup: float = Field(
        default=0.0, ge=0, le=10, description="alpha of mixup: batches are sums of two images each; 0 for none"
    )
    cutmix: float = Field(
        default=0.0, ge=0, le=10, description="alpha of cutmix: a rectangle comes from another image; 0 for none"
    )
    half_resolution: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the steps, at the start, with images of half the width and height, for validation too",
    )

    @field_validator("nesterov")
    @classmethod
    def _has_momentum(cls, value: bool, info: ValidationInfo) -> bool:
        """Refuse what would have no effect, or what PyTorch refuses when a search may have run for hours."""
        if value and (info.data.get("optimizer") != "sgd" or info.data.get("momentum") == 0):
            raise PydanticCustomError(
                "nesterov", "needs optimizer sgd and a momentum above 0; leave it out, or set both"
            )
        return value

    evaluations: int = Field(
        default=50, ge=1, description="evaluations of the validation images, about; the last epoch is one of them"
    )
    ema: float = Field(default=0.0, ge=0, lt=1, description="decay of the moving average of the weights; 0 for none")
    checkpoint_steps: int = Field(
        default=500, ge=1, description="steps between checkpoints, besides the one after each epoch"
    )


class MeasureOptions(TrainOptions):
    """Short trainings that measure single operations (paper, section 5), and the small network for them."""

    cells: int = Field(default=3, ge=1, le=20, description="cells of the reference network")
    positions: int = Field(default=4, ge=1, le=12, description="edges of each cell on which operations are placed")
    repeats: int = Field(default=1, ge=1, le=100, description="trainings of each operation in each position")
    statistic: Literal["median", "mean"] = Field(
        default="median",
        description="weight of an operation from its accuracies; published weights are means",
        json_schema_extra=enumerated(median="of the accuracies", mean="of the accuracies"),
    )
    # in the published code the rest of the training is as here; it does not state the number of its epochs
    channels: int = Field(default=64, ge=1, description="channels of the first cell")
    epochs: int = Field(default=10, ge=1, description="passes over the training images")
    batch: int = Field(default=96, ge=2, description="images per batch")
    auxiliary_weight: float = Field(
        default=0.0, ge=0, description="weight of the auxiliary head's loss; 0 builds no such head"
    )
    cutout: int = Field(default=0, ge=0, description="side in pixels of the square that cutout erases; 0 for none")
    policy: Policy = Field(default="none", description="augmentation policy", json_schema_extra=_POLICIES)


def seconds_of(value: Any) -> Any:
    """Turn a duration such as ``1h30m``, ``1.5 h`` or ``90s`` into seconds; numbers are returned as they are.

    Raises:
        PydanticCustomError: text that is neither.
    """
    if not isinstance(value, str):
        return value
    amount = r"(?:(\d+(?:\.\d+)?)\s*{})?\s*"
    match = re.fullmatch(r"\s*" + "".join(map(amount.format, ("h", "m(?:in)?", "s"))), value)
    if match is not None and any(match.groups()):
        hours, minutes, seconds = (float(text or 0) for text in match.groups())
        return 3600 * hours + 60 * minutes + seconds
    try:
        return float(value)
    except ValueError:
        raise PydanticCustomError("duration", "must be a duration, such as 90s, 30m or 2h30m") from None


class SharedSettings(DataOptions, EngineOptions):
    """Settings that every stage has."""

    def shared(self, **changes: Any) -> dict[str, Any]:
        """Return the shared settings by name, some of them changed, for another stage."""
        return {name: getattr(self, name) for name in SharedSettings.model_fields} | changes


class SearchSettings(SharedSettings):
    """Settings of `ddarts.search`."""

    search: SearchOptions = Field(default_factory=SearchOptions)
    derive: DeriveOptions = Field(default_factory=DeriveOptions)
    budget: BudgetOptions = Field(default_factory=BudgetOptions)


class DeriveSettings(Options):
    """Settings of `ddarts.derive`."""

    derive: DeriveOptions = Field(default_factory=DeriveOptions)
    budget: BudgetOptions = Field(default_factory=BudgetOptions)


_REFERENCES = enumerated(
    resnet="ResNet-8 or ResNet-14",
    mobilenet="MobileNetV2 with 11 or 17 blocks",
    none="no comparison",
)
Reference = Literal["resnet", "mobilenet", "none"]


class TrainSettings(SharedSettings):
    """Settings of `ddarts.train` besides the genotype."""

    train: TrainOptions = Field(default_factory=TrainOptions)
    reference: Reference = Field(
        default="none",
        description="standard network of the same size to train alike and compare with",
        json_schema_extra=_REFERENCES,
    )


class RunSettings(TrainSettings, SearchSettings):
    """Settings of `ddarts.run`: those of its stages."""

    reference: Reference = Field(
        default="resnet",
        description="standard network of the same size to train alike and compare with",
        json_schema_extra=_REFERENCES,
    )
    time: Annotated[float | None, BeforeValidator(seconds_of)] = Field(
        default=None,
        gt=0,
        le=1e8,
        description="time for the whole job, such as 90s, 30m or 2h30m: resolution, steps and epochs are planned "
        "for it",
        json_schema_extra=COMMON,
    )


class CompareSettings(SharedSettings):
    """Settings of `ddarts.compare` besides the architectures."""

    train: TrainOptions = Field(default_factory=TrainOptions)
    seeds: int = Field(
        default=3,
        ge=1,
        le=100,
        description="trainings of each architecture, with the seeds seed, seed + 1, ...",
        json_schema_extra=COMMON,
    )


class MeasureSettings(SharedSettings):
    """Settings of `ddarts.measure_operations`."""

    validation: float = Field(default=0.3, ge=0, lt=1, description="share of the training images to measure on")
    measure: MeasureOptions = Field(default_factory=MeasureOptions)


class EvaluateSettings(SharedSettings):
    """Settings of `ddarts.test` besides the model."""

    batch: int = Field(default=256, ge=1, description="images per batch")


class ProfileSettings(Options):
    """Settings of `ddarts.profile` besides the architectures."""

    batch: tuple[Annotated[int, Field(ge=1, le=65536)], ...] = Field(
        default=(1,), min_length=1, description="images per forward pass; each of several values is measured"
    )
    threads: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        default=(1,), min_length=1, description="CPU threads; each of several values is measured"
    )
    resolution: int | None = Field(
        default=None, ge=2, le=4096, description="pixels a side; 32, or that of a trained model, if not given"
    )
    channels: int | None = Field(
        default=None, ge=1, le=4096, description="channels of the first cell; 36, or that of a trained model"
    )
    in_channels: int | None = Field(
        default=None, ge=1, le=4096, description="channels of the images; 3, or that of a trained model"
    )
    classes: int | None = Field(
        default=None, ge=1, le=1000000, description="number of classes; 10, or that of a trained model"
    )
    stem: Literal["auto", "cifar", "imagenet"] | None = Field(
        default=None, description="layers before the first cell", json_schema_extra=_STEMS
    )
    by: Literal["cell", "operation"] | None = Field(
        default=None,
        description="measure the parts too, at the first batch size and number of threads",
        json_schema_extra=enumerated(cell="each cell", operation="each kind of operation"),
    )
    onnx: bool | None = Field(
        default=None, description="measure onnxruntime too; only if it is installed, if not given"
    )
    seconds: float = Field(default=2.0, gt=0, le=3600, description="seconds for which each latency is measured, about")
    device: str = Field(default="cpu", description="auto | cpu | cuda | cuda:N, for PyTorch")

    @field_validator("batch", "threads", mode="before")
    @classmethod
    def _split_list(cls, value: Any) -> Any:
        """Let a command line say ``1,32``, and a caller one number."""
        return value.replace(",", " ").split() if isinstance(value, str) else (value,) if type(value) is int else value


class ProbeSettings(Options):
    """Settings of `ddarts.probe` besides the folder."""

    space: str = Field(default="darts", description="search space whose operations are measured")
    resolution: int = Field(default=32, ge=2, le=4096, description="pixels a side of the images")
    channels: tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]] = Field(
        default=(4, 32), description="smallest and largest number of channels of the first cell, such as 4,32"
    )
    cells: tuple[Annotated[int, Field(ge=1, le=100)], Annotated[int, Field(ge=1, le=100)]] = Field(
        default=(3, 8), description="smallest and largest number of cells, such as 3,8"
    )
    nodes: int = Field(default=4, ge=1, le=8, description="intermediate nodes of a cell")
    in_channels: int = Field(default=3, ge=1, le=4096, description="channels of the images")
    classes: int = Field(default=10, ge=1, le=1000000, description="number of classes")
    stem: Literal["auto", "cifar", "imagenet"] = Field(
        default="auto", description="layers before the first cell", json_schema_extra=_STEMS
    )
    networks: int = Field(default=250, ge=1, le=5000, description="random networks that are written")
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="seed of the random networks")

    @field_validator("channels", "cells", mode="before")
    @classmethod
    def _split_bounds(cls, value: Any) -> Any:
        """Let a command line say ``4,32``, or one number for both bounds."""
        found = value.replace(",", " ").split() if isinstance(value, str) else value
        return (found, found) if type(found) is int else list(found) * 2 if len(found) == 1 else found

    @field_validator("channels", "cells")
    @classmethod
    def _bounds_rise(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise PydanticCustomError("bounds", "must name the smaller number first")
        return value
