"""Settings: what each stage may be told, with units and bounds, checked when built.

The classes here are the one place where a setting is defined: the command line's options, the keys of a YAML file and
the keyword arguments of the public functions all come from them. Modules of the network take plain keywords instead.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

#: The largest number that a setting may have.
_LARGEST = 1e30

ParseRule = Literal["darts", "threshold_sparse", "threshold_edge", "threshold_complete"]


class Options(BaseModel):
    """Base of all settings: frozen, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _bounded(cls, value: Any) -> Any:
        """Refuse numbers with which float32 overflows, such as a learning rate of 1e38."""
        if isinstance(value, float) and value > _LARGEST:
            raise PydanticCustomError("less_than_equal", "", {"le": f"{_LARGEST:g}"})
        return value


class DataOptions(Options):
    """Which images, and how they are divided."""

    data: str = Field(
        default="digits", description="digits | fashion-mnist[:DIR] | cifar10[:DIR] | cifar100[:DIR] | FOLDER"
    )
    resolution: int | None = Field(
        default=None, ge=2, le=4096, description="pixels a side; found from the data if not given"
    )
    limit: int | None = Field(
        default=None, ge=1, description="use at most so many training images, drawn class by class"
    )
    validation: float = Field(default=0.1, ge=0, lt=1, description="share of the training images kept for validation")
    flip: bool | None = Field(
        default=None, description="mirror training images left-right; found from the data if not given"
    )
    strict: bool = Field(default=False, description="stop at the first image that cannot be decoded")
    stream: Literal["auto", "yes", "no"] = Field(
        default="auto", description="decode images batch by batch; auto: when all would take a quarter of the memory"
    )
    workers: int | None = Field(
        default=None, ge=0, le=256, description="processes that decode streamed images ahead; found from the cores"
    )


class EngineOptions(Options):
    """Where and how exactly to compute."""

    seed: int = Field(default=0, ge=0, lt=2**63, description="seed of everything random")
    device: str = Field(default="auto", description="auto | cpu | cuda | cuda:N | mps")
    precision: Literal["float32", "bf16", "fp16"] = Field(default="float32", description="arithmetic of the network")
    threads: int | None = Field(default=None, ge=1, description="CPU threads of a process; all cores if not given")
    devices: int | None = Field(
        default=None, ge=1, le=1024, description="devices of each machine to compute on, a process for each; 1"
    )
    machines: int | None = Field(default=None, ge=1, le=4096, description="machines to compute on; 1")
    sync_batch_norm: bool = Field(
        default=False, description="with several devices, batch statistics of the whole batch, not of each part"
    )


#: Epochs of training weights alone before a search from a baseline (specification, section 7).
PRETRAIN_EPOCHS = 5


class BaselineOptions(Options):
    """A search that starts from a hand-made network (DARTOpti; paper, section 5)."""

    baseline: str | None = Field(
        default=None, description="network to start from: resnet18 | resnet50 | ... (ddarts baselines) | FILE | RUN"
    )
    share_gates: bool = Field(default=True, description="cells that are equal in the baseline share gates, not weights")
    baseline_alpha: float = Field(
        default=10.0, ge=-30, le=30, description="initial alpha of the operations that the baseline has"
    )
    unused_alpha: float = Field(default=0.0, ge=-30, le=30, description="initial alpha of all other operations")
    pretrain_epochs: int | None = Field(
        default=None, ge=0, description="epochs of training weights alone first; 5 with a baseline, else 0"
    )
    stop_on_distance: bool = Field(default=True, description="stop when the distance to the baseline has become steady")
    distance_tolerance: float = Field(
        default=0.001, ge=0, le=1, description="largest change of a steady distance from epoch to epoch"
    )
    distance_epochs: int = Field(default=4, ge=1, description="epochs in a row that make a distance steady")
    operation_weights: str | None = Field(
        default=None, description="FILE of ddarts measure-operations; the published weights if not given"
    )


class SearchOptions(BaselineOptions):
    """The search (paper, sections 3 and 4)."""

    space: Literal["auto", "darts", "dartopti"] = Field(
        default="auto", description="which operations may be chosen; auto: dartopti with a baseline, else darts"
    )
    cells: int = Field(default=8, ge=1, le=100, description="cells of the supernet, each with gates of its own")
    nodes: int = Field(default=4, ge=1, le=8, description="intermediate nodes of a cell")
    channels: int = Field(default=16, ge=1, description="channels of the first cell")
    reductions: tuple[int, ...] | None = Field(default=None, description="positions of reduction cells; n//3 and 2n//3")
    epochs: int = Field(default=50, ge=1, description="passes over the training images for weights")
    steps_per_epoch: int | None = Field(default=None, ge=1, description="end an epoch after so many steps")
    batch: int = Field(default=96, ge=2, description="images a batch, for alphas and for weights")
    weights_share: float | None = Field(
        default=None, gt=0, lt=1, description="share of each class's training images for weights; half if not given"
    )
    alphas_share: float | None = Field(
        default=None, gt=0, lt=1, description="share of each class's training images for alphas; half if not given"
    )
    search_classes: int | None = Field(
        default=None, ge=2, description="search on so many of the classes, drawn by the seed; all if not given"
    )
    alpha_lr: float = Field(default=3e-3, gt=0, description="learning rate of alphas (Adam), at the start")
    alpha_lr_min: float = Field(default=1e-3, ge=0, description="learning rate of alphas at the end of the cosine")
    alpha_weight_decay: float = Field(default=1e-3, ge=0, description="weight decay of alphas")
    lr: float = Field(default=0.005, gt=0, description="learning rate of weights (SGD), at the start")
    lr_min: float = Field(default=0.001, ge=0, description="learning rate of weights at the end of the cosine")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum of the weights' SGD")
    weight_decay: float = Field(default=3e-4, ge=0, description="weight decay of weights")
    clip: float = Field(default=5.0, gt=0, description="largest norm of the weights' gradient")
    zero_one_weight: float = Field(default=9.0, ge=0, description="w_01, weight of the zero-one loss")
    zero_one_kind: Literal["l2", "l1"] = Field(
        default="l2", description="square or absolute distance of gates from 1/2"
    )
    zero_one_schedule: Literal["constant", "linear", "quadratic"] = Field(
        default="quadratic", description="how w_01 rises from 0 during the warm-up"
    )
    zero_one_warmup: float = Field(default=0.8, ge=0, le=1, description="share of the search over which w_01 rises")
    ablation: Literal["gradient", "monitor", "off"] = Field(default="gradient", description="use of the ablation loss")
    ablation_kind: Literal["zero", "random"] = Field(
        default="zero", description="gates of an ablated cell: 0, or U(0,1)"
    )
    ablation_weight: float = Field(default=0.7, ge=0, description="w_AB, weight of the ablation loss")
    ablation_sample: int | None = Field(
        default=None, ge=1, description="cells ablated a step, drawn anew; all if not given"
    )
    ablation_floor: float = Field(default=0.1, gt=0, description="floor of nu, as a share of the cross-entropy")
    stop_on_collapse: bool = Field(
        default=True, description="stop when a cell would be made of parameter-free operations only"
    )
    memory: Literal["normal", "low"] = Field(
        default="normal", description="low: keep the outputs of cells only and compute cells twice; same numbers"
    )
    compile: bool = Field(
        default=False, description="compile the supernet's operations by torch.compile, for GPUs; takes minutes first"
    )
    checkpoint_steps: int = Field(
        default=200, ge=1, description="steps between checkpoints (one is written every epoch too)"
    )

    @field_validator("reductions", mode="before")
    @classmethod
    def _split_list(cls, value: Any) -> Any:
        """Let a command line say ``2,5``."""
        return value.replace(",", " ").split() if isinstance(value, str) else value


class DeriveOptions(Options):
    """From gates to a genotype (paper, section 3.4)."""

    method: ParseRule = Field(default="threshold_sparse", description="rule that picks the operations")
    threshold: float = Field(
        default=0.85, ge=0, le=1, description="smallest gate that a threshold rule accepts, 0 to 1"
    )
    layers: int | None = Field(
        default=None, ge=1, description="cells of the derived network; as many as searched if not given"
    )


class TrainOptions(Options):
    """Final training of the discrete network (paper, section 4)."""

    channels: int = Field(default=36, ge=1, description="channels of the first cell")
    stem: Literal["auto", "cifar", "imagenet"] = Field(
        default="auto", description="cifar keeps the resolution, imagenet / 4"
    )
    epochs: int = Field(default=600, ge=1, description="passes over the training images")
    steps_per_epoch: int | None = Field(default=None, ge=1, description="end an epoch after so many steps")
    batch: int = Field(default=128, ge=2, description="images a batch")
    lr: float = Field(default=0.025, gt=0, description="learning rate (SGD), at the start")
    lr_min: float = Field(default=0.0, ge=0, description="learning rate at the end of the cosine")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(default=3e-4, ge=0, description="weight decay")
    clip: float = Field(default=5.0, gt=0, description="largest norm of the gradient")
    drop_path: float = Field(
        default=0.2, ge=0, lt=1, description="drop-path probability at the last epoch, rising linearly"
    )
    auxiliary_weight: float = Field(
        default=0.4, ge=0, description="weight of the auxiliary head's loss; 0 builds no such head"
    )
    cutout: int = Field(default=16, ge=0, description="side in pixels of the square that cutout erases; 0 for none")
    crop: int = Field(default=4, ge=0, description="pixels of padding before the random crop; 0 for none")
    policy: Literal["none", "autoaugment", "randaugment", "trivialaugment", "augmix"] = Field(
        default="autoaugment", description="torchvision augmentation policy"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="label smoothing")
    ema: float = Field(default=0.0, ge=0, lt=1, description="decay of the moving average of the weights; 0 for none")
    checkpoint_steps: int = Field(
        default=500, ge=1, description="steps between checkpoints (one is written every epoch too)"
    )


class MeasureOptions(TrainOptions):
    """Short trainings that measure single operations (paper, section 5), and the small network for them."""

    cells: int = Field(default=3, ge=1, le=20, description="cells of the reference network")
    positions: int = Field(default=4, ge=1, le=12, description="edges of each cell on which operations are placed")
    repeats: int = Field(default=1, ge=1, le=100, description="trainings of each operation in each position")
    statistic: Literal["median", "mean"] = Field(
        default="median", description="weight of an operation from its accuracies; published weights are means"
    )
    # in the published code the rest of the training is as here; the number of its epochs is not told
    channels: int = Field(default=64, ge=1, description="channels of the first cell")
    epochs: int = Field(default=10, ge=1, description="passes over the training images")
    batch: int = Field(default=96, ge=2, description="images a batch")
    auxiliary_weight: float = Field(
        default=0.0, ge=0, description="weight of the auxiliary head's loss; 0 builds no such head"
    )
    cutout: int = Field(default=0, ge=0, description="side in pixels of the square that cutout erases; 0 for none")
    policy: Literal["none", "autoaugment", "randaugment", "trivialaugment", "augmix"] = Field(
        default="none", description="torchvision augmentation policy"
    )


class SearchSettings(DataOptions, EngineOptions, SearchOptions, DeriveOptions):
    """Everything that `ddarts.search` may be told."""


class TrainSettings(DataOptions, EngineOptions, TrainOptions):
    """Everything that `ddarts.train` may be told besides the genotype."""


class CompareSettings(TrainSettings):
    """Everything that `ddarts.compare` may be told besides the architectures."""

    seeds: int = Field(default=3, ge=1, le=100, description="trainings of each architecture, from seed on")


class MeasureSettings(DataOptions, EngineOptions, MeasureOptions):
    """Everything that `ddarts.measure_operations` may be told."""

    validation: float = Field(default=0.3, ge=0, lt=1, description="share of the training images to measure on")


class EvaluateSettings(DataOptions, EngineOptions):
    """Everything that `ddarts.test` may be told besides the model."""

    batch: int = Field(default=256, ge=1, description="images a batch")


class RunSettings(DataOptions, EngineOptions):
    """Everything that `ddarts.run` may be told: shared settings, then one group for each stage."""

    search: SearchOptions = Field(default_factory=SearchOptions)
    derive: DeriveOptions = Field(default_factory=DeriveOptions)
    train: TrainOptions = Field(default_factory=TrainOptions)


class ProfileSettings(Options):
    """Everything that `ddarts.profile` may be told besides the architectures."""

    batch: tuple[Annotated[int, Field(ge=1, le=65536)], ...] = Field(
        default=(1,), min_length=1, description="images a forward pass; each of several is measured"
    )
    threads: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        default=(1,), min_length=1, description="CPU threads; each of several is measured"
    )
    resolution: int | None = Field(
        default=None, ge=2, le=4096, description="pixels a side; 32, or a trained model's own, if not given"
    )
    channels: int | None = Field(
        default=None, ge=1, le=4096, description="channels of the first cell; 36, or a trained model's own"
    )
    in_channels: int | None = Field(
        default=None, ge=1, le=4096, description="channels of the images; 3, or a trained model's own"
    )
    classes: int | None = Field(
        default=None, ge=1, le=1000000, description="number of classes; 10, or a trained model's own"
    )
    stem: Literal["auto", "cifar", "imagenet"] | None = Field(
        default=None, description="cifar keeps the resolution, imagenet / 4; as the resolution asks for"
    )
    by: Literal["cell", "operation"] | None = Field(
        default=None, description="show the parts too, at the first batch and number of threads"
    )
    onnx: bool | None = Field(default=None, description="measure onnxruntime too; if it is installed, when not given")
    seconds: float = Field(default=2.0, gt=0, le=3600, description="about how long each latency is measured")
    device: str = Field(default="cpu", description="auto | cpu | cuda | cuda:N | mps, for PyTorch")

    @field_validator("batch", "threads", mode="before")
    @classmethod
    def _split_list(cls, value: Any) -> Any:
        """Let a command line say ``1,32``, and a caller one number."""
        return value.replace(",", " ").split() if isinstance(value, str) else (value,) if type(value) is int else value
