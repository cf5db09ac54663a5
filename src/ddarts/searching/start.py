"""What a search starts with: its space, its supernet, and the baseline if there is one."""

from __future__ import annotations

from ddarts.architecture.genotype import Genotype
from ddarts.architecture.lookup import find_genotype
from ddarts.architecture.spaces import SearchSpace
from ddarts.architecture.starting import search_space, starting_alphas
from ddarts.config import SearchOptions, SearchSettings
from ddarts.data import ImageData
from ddarts.models.resolution import check_resolution, choose_stem
from ddarts.models.supernet import Supernet
from ddarts.runs import RunFolder
from ddarts.seeds import seed_everything

#: The file of a run that keeps the baseline: a run goes on from it even if the user's file has changed or gone.
BASELINE_FILE = "baseline.json"

#: Epochs of training weights alone before a search from a baseline (specification, section 7).
PRETRAIN_EPOCHS = 5


def baseline_of(options: SearchOptions, run: RunFolder | None = None) -> Genotype | None:
    """Return the baseline of a search: the copy in the run that goes on, else what the settings name, else None.

    Raises:
        GenotypeError: there is no such baseline, or its file is broken.
    """
    if options.baseline is None:
        return None
    if run is not None and (run.path / BASELINE_FILE).is_file():
        return Genotype.load(run.path / BASELINE_FILE)
    return find_genotype(options.baseline)


def space_of(options: SearchOptions, baseline: Genotype | None) -> SearchSpace:
    """Return the space that the settings and the baseline give.

    Raises:
        SettingsError: see `search_space`.
    """
    return search_space(
        options.space,
        cells=options.cells,
        nodes=options.nodes,
        reductions=options.reductions,
        baseline=baseline,
        share_gates=options.share_gates,
    )


def pretrain_epochs(options: SearchOptions) -> int:
    """Return how many epochs the weights are trained alone."""
    if options.pretrain_epochs is not None:
        return options.pretrain_epochs
    return 0 if options.baseline is None else PRETRAIN_EPOCHS


def build_supernet(settings: SearchSettings, images: ImageData, baseline: Genotype | None) -> Supernet:
    """Build the supernet for the images, its weights drawn from the seed, its alphas at the baseline if there is one.

    Raises:
        SettingsError: the images are too small for its reductions.
    """
    space = space_of(settings, baseline)
    stem = choose_stem("auto", images.height, images.width)
    check_resolution(images.height, images.width, len(space.reductions), stem)
    seed_everything(settings.seed, "search", "weights")
    net = Supernet(
        space, channels=settings.channels, in_channels=images.channels, classes=len(images.classes), stem=stem
    )
    if baseline is not None:
        net.set_alphas(starting_alphas(space, baseline, used=settings.baseline_alpha, unused=settings.unused_alpha))
    return net
