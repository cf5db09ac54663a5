"""`ddarts compare`: train architectures the same way, several seeds each, and tell whether one is better."""

from __future__ import annotations

import math
import os
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddarts.config.schema import CompareSettings, TrainSettings
from ddarts.errors import SettingsError, Stopped
from ddarts.genotype.genotype import Genotype, printable_name
from ddarts.genotype.zoo.lookup import find_genotype, short_names
from ddarts.pipeline import Opening, load_images, say, test_stage, train_stage, write_json
from ddarts.reporting.formatting import count, percent
from ddarts.results import Outcome, TrainResult

if TYPE_CHECKING:
    from rich.table import Table

    from ddarts.data import ImageData
    from ddarts.runs.folder import RunFolder

PathLike = str | os.PathLike[str]
Architecture = Genotype | PathLike


@dataclass(frozen=True)
class Contestant:
    """One architecture of a comparison, and how its trainings ended.

    Attributes:
        name: what the user called it.
        parameters: trainable parameters, the auxiliary head not counted.
        macs: multiply-accumulates an image.
        top1: accuracy of each training, 0 to 1, in the order of the seeds.
        train_s: mean seconds of a training.
    """

    name: str
    parameters: int
    macs: int
    top1: tuple[float, ...]
    train_s: float

    @property
    def mean(self) -> float:
        """Mean accuracy, 0 to 1."""
        return statistics.fmean(self.top1)

    @property
    def spread(self) -> float | None:
        """Sample standard deviation of the accuracy; None with one seed."""
        return statistics.stdev(self.top1) if len(self.top1) > 1 else None


@dataclass(frozen=True)
class CompareResult(Outcome):
    """Architectures trained the same way.

    Attributes:
        path: folder of the comparison; each training is a run in it.
        contestants: in the order in which they were given; the first is what the others are measured against.
        part: the images that the accuracy is of, "test" or "validation".
        seeds: of the trainings.
    """

    path: Path
    contestants: tuple[Contestant, ...]
    part: str
    seeds: tuple[int, ...]

    title = "comparison"

    def difference(self, index: int) -> tuple[float, float | None]:
        """Return by how much a contestant is better than the first, and the spread of that difference.

        The spread is sqrt(s_a^2 + s_b^2) of the two sample standard deviations, None with one seed.
        """
        first, other = self.contestants[0], self.contestants[index]
        spreads = first.spread, other.spread
        spread = None if None in spreads else math.hypot(*(s for s in spreads if s is not None))
        return other.mean - first.mean, spread

    def verdict(self, index: int) -> str:
        """Say in words whether a contestant differs from the first by more than the spread."""
        (difference, spread), first = self.difference(index), self.contestants[0].name
        points = f"{100 * abs(difference):.2f} points {'better' if difference >= 0 else 'worse'} than {first}"
        if spread is None:
            return f"{points}; one seed tells no spread"
        relation = "more than" if abs(difference) > spread else "within"
        return f"{points}, {relation} the spread of {100 * spread:.2f}"

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return the verdicts."""
        for index in range(1, len(self.contestants)):
            yield self.contestants[index].name, self.verdict(index)
        yield "trainings", str(self.path)

    def table(self) -> Table:
        """Return a table with a line for each architecture, the verdicts below."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self.title, title_justify="left", box=box.SIMPLE, pad_edge=False)
        heads = ("architecture", f"top-1 ({self.part})", "spread", "each seed", "parameters", "MACs", "training")
        for head in heads:
            table.add_column(head, justify="left" if head == "architecture" else "right", overflow="fold")
        for one in self.contestants:
            each = " ".join(f"{100 * value:.2f}" for value in one.top1)
            spread = "-" if one.spread is None else f"{100 * one.spread:.2f}"
            cells = (one.name, percent(one.mean), spread, each, count(one.parameters), count(one.macs))
            table.add_row(*(Text(cell) for cell in (*cells, f"{one.train_s:.0f} s")))
        table.caption = "\n".join(": ".join(row) for row in self.rows())
        table.caption_justify = "left"
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        rows = []
        for index, one in enumerate(self.contestants):
            row = {
                "name": one.name,
                "parameters": one.parameters,
                "macs": one.macs,
                "top1": list(one.top1),
                "mean": one.mean,
                "spread": one.spread,
                "train_s": one.train_s,
            }
            if index:
                difference, spread = self.difference(index)
                clear = None if spread is None else abs(difference) > spread
                row |= {"difference": difference, "difference_spread": spread, "more_than_spread": clear}
            rows.append(row)
        return {"run": str(self.path), "part": self.part, "seeds": list(self.seeds), "architectures": rows}


def compare(
    architectures: Sequence[Architecture] = (),
    *,
    out: PathLike | None = None,
    preset: str | None = None,
    config: PathLike | Mapping[str, Any] | None = None,
    resume: PathLike | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> CompareResult:
    """Train architectures the same way, several seeds each, and compare them with the first.

    Each training is a run of its own in the folder ``trainings`` of the comparison, tested once. Seeds count up from
    `seed`. Without test images the validation images are compared.

    Args:
        architectures: at least two: `Genotype` objects, files, runs, or names of baselines or the zoo.
        out: folder of the comparison; ``runs/DATA-TIME`` if not given.
        preset: as for `train`.
        config: a YAML file, or a mapping, with settings.
        resume: a comparison to go on with; it has its architectures.
        overwrite: replace the comparison that is in `out`.
        quiet: show no progress.
        **settings: fields of `ddarts.config.schema.CompareSettings`.

    Raises:
        SettingsError: fewer than two architectures, or a setting is wrong.
        GenotypeError: an architecture is not there, or its file is broken.
    """
    from ddarts.preflight import check_engine_settings, check_train_data

    if isinstance(architectures, str | os.PathLike | Genotype):
        architectures = [architectures]
    opening = Opening.of("compare", out, preset, config, resume, overwrite, settings)
    wanted: CompareSettings = opening.settings
    if opening.resumed is not None:
        if architectures:
            raise SettingsError(f"{resume} has its architectures; leave them out to go on with it")
        named = _kept(opening.path / _FOLDER)
    else:
        if len(architectures) < 2:
            raise SettingsError(f"{len(architectures)} architectures are named, a comparison needs at least 2")
        named = _named(architectures)
    check_engine_settings(wanted)
    images = load_images(wanted, quiet)
    for genotype in named.values():
        check_train_data(wanted, images, wanted.validation, wanted.seed, len(genotype.reductions))
    part = "test" if images.test is not None else "validation"
    if part == "validation" and wanted.validation == 0:
        raise SettingsError(f"{wanted.data} has no test images and validation is 0: nothing is left to compare on")
    with opening.start(images) as folder:
        for place, genotype in named.items():
            genotype.save(folder.path / _FOLDER / f"{place}.json")
        seeds = tuple(range(wanted.seed, wanted.seed + wanted.seeds))
        ended: dict[str, list[tuple[TrainResult, float]]] = {place: [] for place in named}
        try:
            for seed in seeds:  # seed by seed, so that a comparison that is stopped has something to say of each
                for place, genotype in named.items():
                    if not quiet:
                        say(f"{genotype.name or place}, seed {seed}")
                    ended[place].append(_train_and_test(folder, place, genotype, wanted, seed, images, quiet))
        except Stopped:
            raise Stopped(f"stopped; go on with: ddarts compare --resume {folder.path}") from None
        contestants = [_contestant(named[place].name or place, results) for place, results in ended.items()]
        result = CompareResult(folder.path, tuple(contestants), part, seeds)
        write_json(folder.path / "compare.json", result.to_dict())
        return result


#: Folder of a comparison in which its architectures lie.
_FOLDER = "architectures"


def _named(architectures: Sequence[Architecture]) -> dict[str, Genotype]:
    """Return the architectures by file name, each genotype named as the user called it."""
    named = {}
    for i, (source, label) in enumerate(zip(architectures, short_names(architectures, endings=False), strict=True)):
        safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", label).strip("-.")[:60] or "genotype"
        named[f"{i}-{safe}"] = replace(find_genotype(source), name=printable_name(label))
    return named


def _kept(folder: Path) -> dict[str, Genotype]:
    """Return the architectures of a comparison that goes on, in their order."""
    files = sorted(folder.glob("*.json"), key=lambda p: int(re.match(r"\d*", p.name).group() or 0))  # type: ignore[union-attr]
    if len(files) < 2:
        raise SettingsError(f"{folder} holds {len(files)} architectures; start the comparison anew")
    return {path.stem: Genotype.load(path) for path in files}


def _train_and_test(
    folder: RunFolder,
    place: str,
    genotype: Genotype,
    settings: CompareSettings,
    seed: int,
    images: ImageData,
    quiet: bool,
) -> tuple[TrainResult, float]:
    """Train one architecture with one seed, or go on, or return what is there."""
    from ddarts.runs.folder import RunFolder

    fields = {name: getattr(settings, name) for name in TrainSettings.model_fields}
    wanted = TrainSettings(**{**fields, "seed": seed})
    path = folder.path / "trainings" / f"{place}-seed{seed}"
    resumed = RunFolder.open(path) if (path / "settings.yaml").is_file() else None
    with Opening("train", wanted, path, resumed, overwrite=False).start(images) as run:
        trained = train_stage(genotype, wanted, images, run, quiet)
        tested = test_stage(run, images, wanted)
        top1 = trained.val_top1 if tested is None else tested
        assert top1 is not None  # there are test or validation images
        return trained, top1


def _contestant(name: str, results: Sequence[tuple[TrainResult, float]]) -> Contestant:
    first = results[0][0]
    return Contestant(
        name,
        first.parameters,
        first.macs,
        tuple(top1 for _, top1 in results),
        statistics.fmean(trained.train_s for trained, _ in results),
    )
