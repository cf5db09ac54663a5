"""What a search starts with: its space, its supernet, and the baseline if there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddarts.config.schema import PRETRAIN_EPOCHS, RunSettings, SearchOptions, SearchSettings
from ddarts.cost.budget import Budget
from ddarts.data import ImageData
from ddarts.errors import SettingsError
from ddarts.genotype.distance import architecture_distance
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.operation_weights import FILE_NAME as WEIGHTS_FILE
from ddarts.genotype.operation_weights import OperationWeights
from ddarts.genotype.starting import search_space, starting_alphas
from ddarts.genotype.zoo.lookup import find_genotype
from ddarts.nn.resolution import check_resolution, choose_stem
from ddarts.runs.folder import RunFolder
from ddarts.runtime.seeds import seed_everything
from ddarts.space.cell_space import SearchSpace
from ddarts.space.choice_space import ChoiceSpace
from ddarts.space.spaces import SPACES
from ddarts.supernet.choice_supernet import ChoiceSupernet
from ddarts.supernet.supernet import Supernet

_BASELINE_FILE = "baseline.json"


@dataclass(frozen=True)
class StartingPoint:
    """A hand-made network from which a search starts, and what its operations count for in the distance to it.

    A run keeps a copy of both and resumes with it, even if the user's files have changed or gone.
    """

    baseline: Genotype
    weights: OperationWeights

    @classmethod
    def of(cls, options: SearchOptions, run: RunFolder | None = None) -> StartingPoint | None:
        """Return where a search starts: the copy in the run that is resumed, else what the settings name, if anything.

        Raises:
            GenotypeError: there is no such baseline, or its file or that of the operation weights is broken.
        """
        if options.baseline is None:
            return None
        if run is not None and (run.path / _BASELINE_FILE).is_file() and (run.path / WEIGHTS_FILE).is_file():
            return cls(Genotype.load(run.path / _BASELINE_FILE), OperationWeights.load(run.path / WEIGHTS_FILE))
        return cls(find_genotype(options.baseline), OperationWeights.of(options.operation_weights))

    def save(self, folder: Path) -> None:
        """Write the copy into a run's folder."""
        self.baseline.save(folder / _BASELINE_FILE)
        self.weights.save(folder / WEIGHTS_FILE)

    def distance(self, genotype: Genotype) -> float:
        """Return how far an architecture is from the baseline, 0 to 1."""
        return architecture_distance(self.baseline, genotype, self.weights)


def space_of(options: SearchOptions, baseline: Genotype | None) -> SearchSpace | ChoiceSpace:
    """Return the space that the settings and the baseline give.

    Raises:
        SettingsError: see `search_space`; or there is a baseline, which consists of cells, for a choice space.
    """
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
    return Budget.of(
        settings.budget,
        space,
        (images.channels, images.height, images.width),
        len(images.classes),
        channels=fixed.get("channels"),
        layers=settings.derive.layers or fixed.get("layers"),
        stem=settings.train.stem if isinstance(settings, RunSettings) else "auto",
        folder=folder,
    )


def pretrain_epochs(options: SearchOptions) -> int:
    """Return how many epochs the weights are trained alone."""
    if options.pretrain_epochs is not None:
        return options.pretrain_epochs
    return 0 if options.baseline is None else PRETRAIN_EPOCHS


def build_supernet(
    settings: SearchSettings, images: ImageData, baseline: Genotype | None, extra_logits: int = 0
) -> Supernet | ChoiceSupernet:
    """Build the supernet for the images, its weights drawn from the seed, its alphas at the baseline if there is one.

    With `extra_logits`, alphas have so many columns more than there are operations.

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
    net = ChoiceSupernet(space, **sizes) if isinstance(space, ChoiceSpace) else Supernet(space, **sizes)
    if extra_logits:
        net.add_alphas([(edges, operations + extra_logits) for edges, operations in (a.shape for a in net.alphas)])
    if baseline is not None and isinstance(space, SearchSpace):
        net.set_alphas(starting_alphas(space, baseline, used=options.baseline_alpha, unused=options.unused_alpha))
    return net
