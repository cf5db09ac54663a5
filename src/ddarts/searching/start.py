"""What a search starts with: its space, its supernet, and the baseline if there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from ddarts.config.schema import PRETRAIN_EPOCHS, RunSettings, SearchOptions, SearchSettings
from ddarts.cost.budget import Budget
from ddarts.cost.counting import count_macs, count_parameters
from ddarts.data import ImageData
from ddarts.errors import SettingsError
from ddarts.genotype.choices import AnyGenotype, ChoiceGenotype, choice_distance, load_genotype
from ddarts.genotype.distance import architecture_distance
from ddarts.genotype.genotype import Genotype, Size
from ddarts.genotype.operation_weights import FILE_NAME as WEIGHTS_FILE
from ddarts.genotype.operation_weights import OperationWeights
from ddarts.genotype.starting import original_genotype, search_space, starting_alphas
from ddarts.genotype.zoo.lookup import find_genotype
from ddarts.hub.foreign import read_state
from ddarts.nn.choice_network import ChoiceNetwork, build_network
from ddarts.nn.imported import Imported, imported_network, load_original, original_classifier
from ddarts.nn.resolution import check_resolution, choose_stem
from ddarts.runs.folder import RunFolder
from ddarts.runtime.atomic_files import write_bytes
from ddarts.runtime.seeds import seed_everything
from ddarts.space.cell_space import SearchSpace
from ddarts.space.choice_space import ChoiceSpace
from ddarts.space.imported import is_imported
from ddarts.space.spaces import SPACES
from ddarts.supernet.choice_supernet import ChoiceSupernet
from ddarts.supernet.supernet import Supernet

_BASELINE_FILE = "baseline.json"
_STATE_FILE = "baseline.safetensors"
#: Files with weights in folders of the Hugging Face hub and of ddarts.
_WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class StartingPoint:
    """A hand-made network from which a search starts, and what its operations count for in the distance to it.

    A run keeps a copy of all and resumes with it, even if the user's files have changed or gone.

    Attributes:
        baseline: its architecture.
        weights: of operations, for distances between networks of cells.
        original: a network of torchvision or timm with its weights, if they were given.
    """

    baseline: AnyGenotype
    weights: OperationWeights
    original: nn.Module | None = None

    @classmethod
    def of(cls, options: SearchOptions, run: RunFolder | None = None) -> StartingPoint | None:
        """Return where a search starts: the copy in the run that is resumed, else what the settings name, if anything.

        Raises:
            GenotypeError: there is no such baseline, or its file or that of the operation weights is broken.
            ModelError: the file of the baseline's weights is broken, or of another network.
        """
        if options.baseline is None:
            return None
        if run is not None and (run.path / _BASELINE_FILE).is_file() and (run.path / WEIGHTS_FILE).is_file():
            baseline, weights = load_genotype(run.path / _BASELINE_FILE), OperationWeights.load(run.path / WEIGHTS_FILE)
            state = run.path / _STATE_FILE
            return cls(baseline, weights, _read_original(baseline.name, state) if state.is_file() else None)
        if not is_imported(options.baseline):
            return cls(find_genotype(options.baseline), OperationWeights.of(options.operation_weights))
        weights = OperationWeights.of(options.operation_weights)
        state = options.baseline_weights
        original = None if state is None else _read_original(options.baseline, Path(state).expanduser())
        return cls(original_genotype(options.baseline), weights, original)

    def save(self, folder: Path) -> None:
        """Write the copy into a run's folder."""
        self.baseline.save(folder / _BASELINE_FILE)
        self.weights.save(folder / WEIGHTS_FILE)
        if self.original is not None:
            state = {name: tensor.contiguous() for name, tensor in self.original.state_dict().items()}
            write_bytes(folder / _STATE_FILE, save(state))

    def distance(self, genotype: AnyGenotype) -> float:
        """Return how far an architecture is from the baseline, 0 to 1."""
        return distance_between(self.baseline, genotype, self.weights)

    def network(self, classes: int) -> ChoiceNetwork | None:
        """Return the network of torchvision or timm with its weights, a new classifier if it had other classes."""
        if self.original is None:
            return None
        found = imported_network(self.baseline.name, self.original)
        if found.classes != classes:
            found.classes, found.classifier = classes, nn.Linear(found.outputs, classes)
        return found

    def costs(self, genotype: AnyGenotype, images: ImageData) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Return parameters and multiply-adds, each before and after; None of networks of cells."""
        if not isinstance(genotype, ChoiceGenotype):
            return None
        shape = (images.channels, images.height, images.width)
        found = []
        for each in (self.baseline, genotype):
            with torch.device("meta"):
                network = build_network(each, in_channels=images.channels, classes=len(images.classes))
            found.append((count_parameters(network), count_macs(network, shape)))
        (before, macs_before), (after, macs_after) = found
        return (before, after), (macs_before, macs_after)


def _read_original(name: str, path: Path) -> nn.Module:
    """Return a network of torchvision or timm with the weights in a file, or in a folder that has one."""
    if path.is_dir():
        path = next((path / file for file in _WEIGHTS_FILES if (path / file).is_file()), path)
    return load_original(name, read_state(path).tensors, str(path))


def distance_between(baseline: AnyGenotype, genotype: AnyGenotype, weights: OperationWeights) -> float:
    """Return the distance of two architectures of cells, or the share of choices in which two others differ."""
    if isinstance(baseline, Genotype) and isinstance(genotype, Genotype):
        return architecture_distance(baseline, genotype, weights)
    assert isinstance(baseline, ChoiceGenotype)
    assert isinstance(genotype, ChoiceGenotype)
    return choice_distance(baseline, genotype)


def space_of(options: SearchOptions, baseline: AnyGenotype | None) -> SearchSpace | ChoiceSpace:
    """Return the space that the settings and the baseline give.

    Raises:
        SettingsError: see `search_space`; or there is a baseline, which consists of cells, for a choice space.
    """
    if isinstance(baseline, ChoiceGenotype):
        if options.space not in ("auto", baseline.space):
            raise SettingsError(f"space {options.space} does not hold the baseline {baseline.space}; leave space out")
        return baseline.facts
    space = SPACES.get(options.space) if options.space != "auto" else None
    if isinstance(space, ChoiceSpace):
        if baseline is not None:
            raise SettingsError(
                f"space {options.space} has no cells and cannot start from the baseline {options.baseline}; "
                "leave the baseline out, or choose space dartopti"
            )
        return space
    return search_space(
        options.space,
        cells=options.cells,
        nodes=options.nodes,
        reductions=options.reductions,
        baseline=baseline,
        share_gates=options.share_gates,
        shared_cells=options.strategy.shared_cells,
    )


def budget_of(
    settings: SearchSettings,
    images: ImageData,
    fixed: Mapping[str, Any],
    space: SearchSpace | ChoiceSpace,
    folder: Path | None = None,
) -> Budget | None:
    """Return the budget of a search; None if there is none.

    Args:
        settings: of the search, or of a whole run.
        images: all images.
        fixed: channels and layers of the network that the user has fixed.
        space: of the search.
        folder: of the run, which may hold a copy of the file of latencies.

    Raises:
        GenotypeError, SettingsError: the file of latencies is not valid, or of other operations.
    """
    shape, classes = (images.channels, images.height, images.width), len(images.classes)
    options, wanted = settings.search, settings.budget
    fixed = {
        "channels": fixed.get("channels"),
        "layers": settings.derive.layers or fixed.get("layers"),
        "stem": settings.train.stem if isinstance(settings, RunSettings) else "auto",
    }
    if options.never_larger and is_imported(options.baseline or ""):
        size = Size(options.channels, choose_stem("auto", images.height, images.width))  # no effect on these networks
        original = replace(original_genotype(options.baseline or ""), size=size)
        costs = Budget({"parameters": 1, "macs": 1}, shape, classes).costs(original)
        limits = {f"max_{kind}": min(int(cost), wanted.limits.get(kind, int(cost))) for kind, cost in costs.items()}
        wanted = wanted.model_copy(update=limits)
        fixed = {**size._asdict(), "least_use": 0.0}
    return Budget.of(wanted, space, shape, classes, folder=folder, **fixed)


def pretrain_epochs(options: SearchOptions) -> int:
    """Return how many epochs the weights are trained alone."""
    if options.pretrain_epochs is not None:
        return options.pretrain_epochs
    return 0 if options.baseline is None else PRETRAIN_EPOCHS


def build_supernet(
    settings: SearchSettings,
    images: ImageData,
    baseline: AnyGenotype | None,
    extra_logits: int = 0,
    original: nn.Module | None = None,
) -> Supernet | ChoiceSupernet:
    """Build the supernet for the images, its weights drawn from the seed, its alphas at the baseline if there is one.

    With `extra_logits`, alphas have so many columns more than there are operations. With `original`, the weights of a
    network of torchvision or timm, every block starts from them; so does the classifier if it has as many classes.

    Raises:
        SettingsError: the images are too small for its reductions.
    """
    options = settings.search
    space = space_of(options, baseline)
    stem = choose_stem("auto", images.height, images.width)
    check_resolution(images.height, images.width, len(space.reductions), stem)
    seed_everything(settings.seed, "search", "weights")
    sizes: dict[str, Any] = {"channels": options.channels, "in_channels": images.channels, "stem": stem}
    sizes["classes"] = len(images.classes)
    if isinstance(space, ChoiceSpace):
        skeleton = None if original is None else Imported(space, original)
        net = ChoiceSupernet(space, skeleton=skeleton, **sizes)
        if original is not None:
            classifier = original_classifier(space.name, original)
            if classifier.out_features == len(images.classes):
                net.classifier.load_state_dict(classifier.state_dict())
    else:
        net = Supernet(space, **sizes)
    if extra_logits:
        net.add_alphas([(edges, operations + extra_logits) for edges, operations in (a.shape for a in net.alphas)])
    if baseline is not None:
        net.set_alphas(starting_alphas(space, baseline, used=options.baseline_alpha, unused=options.unused_alpha))
    return net
