"""`ddarts compare`: train architectures the same way with several seeds each, and judge the differences."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from ddarts.api.signature import names_settings
from ddarts.config.keywords import CompareKeywords
from ddarts.config.loading import stored_settings
from ddarts.config.schema import CompareSettings, TrainSettings
from ddarts.errors import RunError, SettingsError, Stopped
from ddarts.experiments.trials import Board, Trial, boards
from ddarts.genotype.choices import AnyGenotype, load_genotype
from ddarts.genotype.genotype import Genotype, printable_name
from ddarts.genotype.zoo.lookup import find_architecture, short_names
from ddarts.pipeline import Opening, load_images, say, test_stage, train_stage, write_json
from ddarts.reporting.formatting import unread_cells
from ddarts.results import Outcome
from ddarts.runtime.progress import counted, format_seconds, work_after

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ddarts.data import ImageData
    from ddarts.runs.folder import RunFolder

PathLike = str | os.PathLike[str]
Architecture = AnyGenotype | PathLike


@dataclass(frozen=True)
class CompareResult(Outcome):
    """Architectures trained the same way.

    Attributes:
        path: folder of the comparison; each training is a run in it.
        board: the accuracies in the order in which the architectures were given, and the verdict on each against the
            first, which is the reference.
        seeds: of the trainings.
        unread: of each architecture with cells that never reach the output, which these are.
    """

    path: Path
    board: Board
    seeds: tuple[int, ...]
    unread: tuple[str, ...] = ()

    def table(self) -> RenderableType:
        """Return a table with a line for each architecture, the verdicts below."""
        from rich.console import Group

        return Group(self.board.table("architecture"), f"\nreport: {self.path / 'report.html'}")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {"run": str(self.path), "seeds": list(self.seeds), **self.board.to_dict()}

    def write_page(self, target: Path | None = None) -> Path:
        """Write the page, report.html in the folder if no other file is named, and return its path."""
        from ddarts.experiments.page import write_page

        names = [line.name for line in self.board.lines]
        return write_page(
            [self.board],
            self.path / "report.html" if target is None else target,
            title=f"{len(names)} architectures compared",
            what="architecture",
            note=f"Trained alike on {self.board.data}, {counted(len(self.seeds), 'seed')} each; "
            f"{names[0]} is the reference.{''.join(f' {text}.' for text in self.unread)}",
        )


@names_settings(CompareKeywords)
def compare(
    architectures: Sequence[Architecture] = (),
    *,
    out: PathLike | None = None,
    preset: str | None = None,
    config: PathLike | Mapping[str, Any] | None = None,
    resume: PathLike | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    **settings: Unpack[CompareKeywords],
) -> CompareResult:
    """Train architectures the same way, several seeds each, and compare them with the first.

    Each training is a run in the folder ``trainings`` of the comparison, tested once. Seeds count up from `seed`;
    accuracies are paired by seed (`ddarts.experiments.statistics`). Without test images, the validation images count.

    Args:
        architectures: at least two: `Genotype` objects, files, runs, or names of baselines or the zoo.
        out: folder of the comparison; ``runs/DATA-TIME`` if not given.
        preset: as for `train`.
        config: a YAML file, or a mapping, with settings.
        resume: a comparison to resume; it has its architectures.
        overwrite: replace the comparison that is in `out`.
        quiet: show no progress.
        **settings: fields of `ddarts.config.schema.CompareSettings`.

    Raises:
        SettingsError: fewer than two architectures, or a setting is wrong.
        GenotypeError: an architecture does not exist, or its file is broken.
    """
    from ddarts.planning import plan_comparison
    from ddarts.preflight import check_engine_settings, check_train_data
    from ddarts.training.initial import copy_for_training

    if isinstance(architectures, str | os.PathLike | AnyGenotype):
        architectures = [architectures]
    opening = Opening.of("compare", out, preset, config, resume, overwrite, settings)
    wanted: CompareSettings = opening.settings
    if opening.resumed is not None:
        if architectures:
            raise SettingsError(f"{resume} has its architectures; leave them out to resume it")
        named = _kept(opening.path / _FOLDER)
    else:
        if len(architectures) < 2:
            raise SettingsError(f"a comparison needs at least 2 architectures, {len(architectures)} given; name more")
        named = _named(architectures)
    check_engine_settings(wanted)
    images = load_images(wanted, quiet, given=opening.given)
    opening = opening.fitted(images)
    wanted = opening.settings
    for genotype in named.values():
        check_train_data(wanted.train, wanted, images, genotype)
    if not quiet:
        for text in _unread(named):
            say(text)
    part = "test" if images.test is not None else "validation"
    if part == "validation" and wanted.validation == 0:
        raise SettingsError(
            f"{wanted.data} has no test images and validation is 0: nothing is left to compare on; set --validation"
        )
    each, left = [1.0] * len(named), 0.0  # seconds of a training, or only their proportions; seconds of all
    if opening.resumed is None and not quiet:
        lines, each = plan_comparison(wanted, images, list(named.values()), opening.found)
        left = wanted.seeds * sum(each)
        for line in lines:
            say(line)
    with opening.reserved().start(images) as folder:
        if opening.resumed is None:  # all architectures or none, also after a kill
            unfinished = folder.path / f".{_FOLDER}.tmp"
            for source, (place, genotype) in zip(architectures, named.items(), strict=True):
                genotype.save(unfinished / f"{place}.json")
                copy_for_training(source, unfinished / place)
            unfinished.rename(folder.path / _FOLDER)
        seeds = tuple(range(wanted.seed, wanted.seed + wanted.seeds))
        ended: list[tuple[str, int, dict[str, Any]]] = []
        total, start = len(seeds) * len(named), time.monotonic()
        weights = each * len(seeds)
        try:
            for seed in seeds:  # seed by seed: a comparison that is stopped has results of each architecture
                for place, genotype in named.items():
                    number, to_come = len(ended), sum(weights[len(ended) :])
                    if number:
                        left = (time.monotonic() - start) / sum(weights[:number]) * to_come
                    if not quiet:
                        rest = f", {format_seconds(left)} left in all" if left else ""
                        say(f"training {number + 1} of {total}: {genotype.name or place}, seed {seed}{rest}")
                    with work_after(left * (1 - weights[number] / to_come)):
                        summary = _train_and_test(folder, place, genotype, wanted, seed, images, quiet)
                    ended.append((place, seed, summary))
        except Stopped:
            raise Stopped(f"stopped; resume with: ddarts compare --resume {folder.path}") from None
        result = CompareResult(folder.path, _board(wanted.data, named, ended), seeds, _unread(named))
        write_json(folder.path / "compare.json", result.to_dict())
        result.write_page()
        return result


def report_comparison(folder: RunFolder, target: Path | None = None) -> Path:
    """Write the page of a comparison from the trainings that are complete, and return its path.

    Raises:
        RunError: no training is complete, or the folder is damaged.
    """
    from ddarts.runs.folder import RunFolder

    settings = stored_settings(CompareSettings, folder.read_settings("compare"), folder.path)
    named = _kept(folder.path / _FOLDER)
    seeds = tuple(range(settings.seed, settings.seed + settings.seeds))
    paths = [(place, seed, folder.path / "trainings" / f"{place}-seed{seed}") for seed in seeds for place in named]
    ended = [(a, s, RunFolder.open(path).summary) for a, s, path in paths if (path / "settings.yaml").is_file()]
    board = _board(settings.data, named, [one for one in ended if "train_s" in one[2]])
    return CompareResult(folder.path, board, seeds, _unread(named)).write_page(target)


#: Folder of a comparison in which its architectures lie.
_FOLDER = "architectures"


def _named(architectures: Sequence[Architecture]) -> dict[str, AnyGenotype]:
    """Return the architectures by file name, each genotype named as the user called it."""
    named: dict[str, AnyGenotype] = {}
    for i, (source, label) in enumerate(zip(architectures, short_names(architectures, endings=False), strict=True)):
        safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", label).strip("-.")[:60] or "genotype"
        named[f"{i}-{safe}"] = replace(find_architecture(source), name=printable_name(label))
    return named


def _unread(named: Mapping[str, AnyGenotype]) -> tuple[str, ...]:
    """Return a sentence for each architecture with cells that never reach the output."""
    cells = [genotype for genotype in named.values() if isinstance(genotype, Genotype)]
    return tuple(f"{g.name}: {text}; they are not built" for g in cells if (text := unread_cells(g)))


def _kept(folder: Path) -> dict[str, AnyGenotype]:
    """Return the architectures of a comparison that is resumed, in their order."""
    files = sorted(folder.glob("*.json"), key=lambda p: int(re.match(r"\d*", p.name).group() or 0))  # type: ignore[union-attr]
    if len(files) < 2:
        held = counted(len(files), "architecture")
        raise RunError(f"{folder} holds {held}: stopped before it began; start it anew with --overwrite")
    return {path.stem: load_genotype(path) for path in files}


def _train_and_test(
    folder: RunFolder,
    place: str,
    genotype: AnyGenotype,
    settings: CompareSettings,
    seed: int,
    images: ImageData,
    quiet: bool,
) -> dict[str, Any]:
    """Train one architecture with one seed, or resume, and return the summary of the run; it may be there already."""
    from ddarts.runs.folder import RunFolder
    from ddarts.training.initial import copy_for_training

    wanted = TrainSettings(**settings.shared(seed=seed), train=settings.train)
    path = folder.path / "trainings" / f"{place}-seed{seed}"
    resumed = RunFolder.open(path) if (path / "settings.yaml").is_file() else None
    with Opening("train", wanted, path, resumed, overwrite=False).start(images) as run:
        copy_for_training(folder.path / _FOLDER / place, run.path)
        train_stage(genotype, wanted, images, run, quiet)
        test_stage(run, images, wanted)
        return run.summary


def _board(data: str, named: Mapping[str, AnyGenotype], ended: Sequence[tuple[str, int, dict[str, Any]]]) -> Board:
    """Return the board of trainings that are complete, given as (place, seed, summary)."""
    part = "test" if any(summary.get("test_top1") is not None for _, _, summary in ended) else "validation"
    trials = []
    for place, seed, summary in ended:
        known = {key: summary.get(key) for key in ("val_top1", "train_s", "parameters", "macs", "task", "classes")}
        top1 = summary.get("test_top1" if part == "test" else "val_top1")
        if top1 is not None:
            trials.append(Trial(named[place].name or place, data, seed, top1, part=part, **known))
    if not trials:
        raise RunError("no training of the comparison is complete; resume it: ddarts compare --resume RUN")
    return boards(trials, against_first=True)[0]
