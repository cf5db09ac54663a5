"""``ddarts study``: methods on data sets with many seeds, against honest opponents, judged by paired statistics."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from ddarts.api.signature import names_settings
from ddarts.api.stages import run, search, test, train
from ddarts.config.keywords import RunKeywords
from ddarts.config.loading import stored_settings
from ddarts.config.schema import RunSettings
from ddarts.errors import DDartsError, RunError, SettingsError, Stopped, whole_number
from ddarts.experiments.judges import FileTable, Table, TableJudge
from ddarts.experiments.opponents import Draw, random_genotypes, same_size, search_at_cost
from ddarts.experiments.page import write_page
from ddarts.experiments.plan import EQUAL_COST, SAME_SIZE, Spec, StudySettings, plan, specs
from ddarts.experiments.trials import Board, Trial, boards
from ddarts.genotype.choices import AnyGenotype
from ddarts.nn.tasks import Task
from ddarts.pipeline import say, write_json
from ddarts.results import Outcome
from ddarts.runs.folder import RunFolder
from ddarts.runs.paths import reserve_run_path
from ddarts.runtime.progress import format_seconds
from ddarts.runtime.signals import StopRequest

if TYPE_CHECKING:
    from rich.console import RenderableType


PathLike = str | os.PathLike[str]
Names = str | list[str] | tuple[str, ...]


@dataclass(frozen=True)
class StudyResult(Outcome):
    """Methods compared.

    Attributes:
        path: folder of the study; each trial is a run in it.
        boards: for each data set the accuracies, costs and verdicts.
    """

    path: Path
    boards: tuple[Board, ...]

    def table(self) -> RenderableType:
        """Return a table for each data set, the verdicts below."""
        from rich.console import Group

        return Group(*(board.table() for board in self.boards), f"\nreport: {self.path / 'report.html'}")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {"study": str(self.path), "data": [board.to_dict() for board in self.boards]}


@names_settings(RunKeywords)
def study(
    strategies: Names | Mapping[str, Any] | None = None,
    *,
    data: Names | None = None,
    seeds: int | None = None,
    out: PathLike | None = None,
    preset: str | None = None,
    config: PathLike | Mapping[str, Any] | None = None,
    resume: PathLike | None = None,
    overwrite: bool = False,
    opponents: bool | None = None,
    draws: int | None = None,
    table: PathLike | Table | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    quiet: bool = False,
    **settings: Unpack[RunKeywords],
) -> StudyResult:
    """Compare search methods on data sets: run each with several seeds, and judge the differences.

    A trial is a run in the folder ``trials`` of the study: search, train, test. It is resumed where it was stopped. A
    trial that fails is recorded with its error and tried again when the study is resumed. Every method meets two
    opponents with the same seeds, trained alike: random networks with as many parameters (within 10 %) as its search
    found, and random search with successive halving for as many seconds as its search took.

    Args:
        strategies: names, or a mapping of names to settings of `run`; d-darts if not given.
        data: data sets.
        seeds: trials of each method on each data set (default: 10), counted up from the setting `seed`.
        out: folder of the study; ``runs/study-TIME`` if not given.
        preset: as for `run`.
        config: a YAML file, or a mapping: strategies, data, seeds, opponents, and settings of `run`.
        resume: a study to resume.
        overwrite: replace the study that is in `out`.
        opponents: whether to add the opponents (default: yes).
        draws: most networks that random search draws for a trial (default: 100), however cheap they are.
        table: accuracies of genotypes: an object with `lookup`, or a file (`ddarts.experiments.judges.FileTable`).
            What the searches find is looked up in it, not trained; there are no opponents then.
        jobs: processes on this machine, one thread each.
        scheduler: address of a Dask scheduler whose workers run the trials; they need the same files and folders.
        quiet: show no progress.
        **settings: fields of `ddarts.config.schema.RunSettings`, for all methods.

    Raises:
        SettingsError: a name or a setting is wrong, or no trial could be judged.
        Stopped: Ctrl-C; the study can be resumed.
    """
    jobs = whole_number("jobs", jobs, 1)
    backend = _backend(scheduler)
    judge = (
        None if table is None else TableJudge(FileTable(Path(table)) if isinstance(table, str | os.PathLike) else table)
    )
    opponents = False if judge else opponents
    folder, wanted = _open(resume, out, overwrite, strategies, data, seeds, preset, config, opponents, draws, settings)
    with folder, backend:
        start = time.monotonic()
        trials: list[Trial] = []
        total = wanted.seeds * len(wanted.data) * len(wanted.methods) * sum(map(len, _phases(wanted)))
        for kinds in _phases(wanted):
            trials += _all(
                list(specs(wanted, folder.path, *kinds)), wanted, judge, jobs, total, len(trials), start, quiet
            )
        return _finish(folder, wanted, trials)


def report_study(folder: RunFolder, target: Path | None = None) -> Path:
    """Write the page of a study from the trials that are complete, and return its path.

    Raises:
        RunError: there are none, or a record is damaged.
    """
    wanted = stored_settings(StudySettings, folder.read_settings("study"), folder.path)
    known = [spec for kinds in _phases(wanted) for spec in specs(wanted, folder.path, *kinds)]
    trials = [trial for spec in known if (trial := Trial.load(spec.record))]
    if not trials:
        raise RunError(f"{folder.path}: no trial is complete; resume with: ddarts study --resume {folder.path}")
    return _page(wanted, boards(trials), folder.path / "report.html" if target is None else target)


def _phases(wanted: StudySettings) -> list[tuple[str, ...]]:
    """Return the kinds of trials; those of a phase need what the phases before have found."""
    return [("",), (SAME_SIZE, EQUAL_COST)] if wanted.opponents else [("",)]


def _open(
    resume: PathLike | None,
    out: PathLike | None,
    overwrite: bool,
    strategies: Names | Mapping[str, Any] | None,
    data: Names | None,
    seeds: int | None,
    preset: str | None,
    config: Any,
    opponents: bool | None,
    draws: int | None,
    settings: Mapping[str, Any],
) -> tuple[RunFolder, StudySettings]:
    """Return the folder of the study, created or opened again, and what it consists of."""
    if resume is not None:
        if any(
            v not in (None, False)
            for v in (out, overwrite, strategies, data, seeds, preset, config, draws, *settings.values())
        ):
            raise SettingsError(
                f"{resume} has its plan; leave out all but --jobs, --scheduler and --quiet to resume it"
            )
        folder = RunFolder.open(resume)
        if "study" not in folder.stages:
            raise RunError(f"{folder.path} holds no study; give a folder made by `ddarts study`")
        folder.claim()
        return folder, stored_settings(StudySettings, folder.read_settings("study"), folder.path)
    wanted = plan(
        strategies=strategies,
        data=data,
        seeds=seeds,
        preset=preset,
        config=config,
        opponents=opponents,
        draws=draws,
        overrides=settings,
    )
    folder = RunFolder.create(reserve_run_path("study") if out is None else out, overwrite=overwrite)
    folder.write_settings("study", wanted)
    return folder, wanted


@contextlib.contextmanager
def _dask(scheduler: str) -> Iterator[None]:
    from distributed import Client  # type: ignore[import-not-found]
    from joblib import parallel_config

    with Client(scheduler), parallel_config(backend="dask"):
        yield


def _backend(scheduler: str | None) -> contextlib.AbstractContextManager[Any]:
    if scheduler is None:
        return contextlib.nullcontext()
    from importlib.util import find_spec

    if find_spec("distributed") is None:
        raise SettingsError(
            f"--scheduler {scheduler} needs dask.distributed; pip install 'ddarts[dask]', or use --jobs"
        )
    return _dask(scheduler)


def _all(
    wanted_specs: Sequence[Spec],
    wanted: StudySettings,
    judge: TableJudge | None,
    jobs: int,
    total: int,
    before: int,
    start: float,
    quiet: bool,
) -> list[Trial]:
    """Run the trials that are not complete, and return the records of all."""
    from joblib import Parallel, delayed

    todo = [spec for spec in wanted_specs if (known := Trial.load(spec.record)) is None or known.error is not None]
    finished = before + len(wanted_specs) - len(todo)
    stopped = False
    with StopRequest() as stop:
        tasks = (delayed(_trial)(spec, wanted, judge) for spec in todo if not (stopped or stop.requested))
        options: dict[str, Any] = {"pre_dispatch": jobs, "batch_size": 1, "return_as": "generator_unordered"}
        parallel: Any = Parallel(n_jobs=jobs, **options)
        for number, trial in enumerate(parallel(tasks), 1):
            stopped = stopped or trial is None or stop.requested
            if stopped or trial is None:
                continue
            if not quiet:
                seconds = (time.monotonic() - start) / (finished + number - before) * (total - finished - number)
                outcome = trial.error or Task.of(asdict(trial)).shown(trial.top1)
                where = f"{trial.method} on {trial.data}, seed {trial.seed}"
                say(f"trial {finished + number} of {total}: {where}: {outcome}; {format_seconds(seconds)} left in all")
    if stopped or stop.requested:
        raise Stopped(f"stopped; resume with: ddarts study --resume {wanted_specs[0].folder}")
    return [record for spec in wanted_specs if (record := Trial.load(spec.record)) is not None]


def _trial(spec: Spec, wanted: StudySettings, judge: TableJudge | None) -> Trial | None:
    """Run one trial, or resume it, and write its record; None if it was asked to stop."""
    work = {"": _method, SAME_SIZE: _same_size, EQUAL_COST: _equal_cost}[spec.kind]
    with StopRequest() as stop:  # for signals that come between the loops of search and training, which have their own
        try:
            trial = work(spec, wanted) if judge is None else _looked_up(spec, wanted, judge)
        except Stopped:
            return None
        except Exception as error:  # whatever it is, the other trials continue
            first = next(iter(str(error).strip().splitlines()), "")
            text = first if isinstance(error, DDartsError) else f"{type(error).__name__}: {first}"
            trial = Trial(spec.name, spec.data, spec.seed, error=text or type(error).__name__)
        trial.save(spec.record)
        return None if stop.requested else trial


def _call(function: Any, path: Path, spec: Spec, wanted: StudySettings, **options: Any) -> Any:
    """Call a public function on the run of a trial, which it creates or resumes."""
    if (path / "settings.yaml").is_file():
        return function(resume=path, quiet=True)
    values = wanted.values(spec.method, spec.data, spec.seed) | options.pop("changes", {})
    return function(out=path, preset=wanted.preset, config=values, quiet=True, **options)


def _method(spec: Spec, wanted: StudySettings) -> Trial:
    done = _call(run, spec.run, spec, wanted)
    return _record(spec, done.test_top1, done.search_s)


def _looked_up(spec: Spec, wanted: StudySettings, judge: TableJudge) -> Trial:
    done = _call(search, spec.run, spec, wanted)
    return _record(spec, None, done.search_s, looked_up=judge.accuracy(done.genotype))


def _record(spec: Spec, test_top1: float | None, search_s: float | None, looked_up: float | None = None) -> Trial:
    """Return the record of a run that is complete."""
    folder = RunFolder.open(spec.run)
    summary = folder.summary
    known: dict[str, Any] = {
        key: summary.get(key) for key in ("val_top1", "train_s", "parameters", "macs", "task", "classes")
    }
    known |= {f"{stage}_steps": _steps(folder, stage) for stage in ("search", "train")}
    part = "table" if looked_up is not None else "validation" if test_top1 is None else "test"
    top1 = looked_up if looked_up is not None else known["val_top1"] if test_top1 is None else test_top1
    if top1 is None:
        raise SettingsError(f"{spec.data} has no test images and validation is 0: nothing is left to compare on")
    return Trial(spec.name, spec.data, spec.seed, top1, part=part, search_s=search_s, **known)


def _steps(folder: RunFolder, stage: str) -> int | None:
    records = folder.metrics(stage, "epoch")
    return records[-1].get("step") if records else None


def _opposed(spec: Spec, wanted: StudySettings) -> tuple[Trial, RunSettings, Iterator[AnyGenotype]]:
    """Return the trial that an opponent is measured against, its settings, and random genotypes of its space."""
    from ddarts.searching.start import StartingPoint, space_of

    method = spec.of_method()
    found = Trial.load(method.record)
    if found is None or found.error is not None:
        raise RunError(f"{spec.method} with seed {spec.seed} failed; there is nothing to oppose")
    settings = wanted.settings(spec.method, spec.data, spec.seed)
    start = StartingPoint.of(settings.search, RunFolder.open(method.run))
    space = space_of(settings.search, start and start.baseline)
    return found, settings, random_genotypes(space, seed=spec.seed, label=spec.kind, layers=settings.derive.layers)


def _train_as(spec: Spec, wanted: StudySettings, found: Trial, genotype: AnyGenotype, search_s: float | None) -> Trial:
    """Train a network as that of the method was trained, test it, and return the record."""
    fresh = not (spec.run / "settings.yaml").is_file()
    _call(train, spec.run, spec, wanted, **({"genotype": genotype} if fresh else {}))
    top1 = RunFolder.open(spec.run).summary.get("test_top1")
    if found.part == "test" and top1 is None:
        top1 = test(spec.run, quiet=True).top1
    return _record(spec, top1, search_s)


def _same_size(spec: Spec, wanted: StudySettings) -> Trial:
    import torch

    from ddarts.cost.counting import count_parameters
    from ddarts.hub.saved import load_model
    from ddarts.nn.choice_network import build_network

    found, _, draws = _opposed(spec, wanted)
    config = load_model(spec.of_method().run / "model").config

    def parameters(genotype: AnyGenotype) -> int:
        with torch.device("meta"):
            network = build_network(
                genotype,
                channels=config.channels,
                in_channels=config.in_channels,
                classes=len(config.classes),
                stem=config.stem,
            )
        return count_parameters(network)

    assert found.parameters is not None
    return _train_as(spec, wanted, found, same_size(draws, found.parameters, parameters), None)


def _equal_cost(spec: Spec, wanted: StudySettings) -> Trial:
    found, settings, draws = _opposed(spec, wanted)
    log = spec.draws / "draws.json"
    rows = json.loads(log.read_text(encoding="utf-8"))["draws"] if log.is_file() else []
    known = [Draw(**row) for row in rows]
    drawn: list[AnyGenotype] = []

    def genotype(index: int) -> AnyGenotype:
        while len(drawn) <= index:
            drawn.append(next(draws))
        return drawn[index]

    def evaluate(index: int, epochs: int) -> Draw:
        for draw in known:
            if (draw.index, draw.epochs) == (index, epochs):
                return draw
        path = spec.draws / f"{index}-{epochs}"
        fresh = not (path / "settings.yaml").is_file()
        options = {"genotype": genotype(index), "changes": {"train.epochs": epochs}} if fresh else {}
        done = _call(train, path, spec, wanted, **options)
        known.append(Draw(index, epochs, done.val_top1, done.train_s))
        write_json(log, {"draws": [asdict(draw) for draw in known]})
        shutil.rmtree(path)
        return known[-1]

    winner, spent = search_at_cost(
        evaluate, budget_s=found.search_s or 0.0, epochs=settings.train.epochs, most=wanted.draws
    )
    return _train_as(spec, wanted, found, genotype(winner), sum(draw.seconds for draw in spent))


def _finish(folder: RunFolder, wanted: StudySettings, trials: Sequence[Trial]) -> StudyResult:
    result = StudyResult(folder.path, boards(trials))
    write_json(folder.path / "study.json", result.to_dict())
    _page(wanted, result.boards, folder.path / "report.html")
    return result


def _page(wanted: StudySettings, found: Sequence[Board], target: Path) -> Path:
    count = len({line.name for board in found for line in board.lines})
    title = f"Study of {count} methods on {', '.join(wanted.data)}"
    shared = ", ".join(f"{key} = {value}" for key, value in wanted.shared.items())
    preset = f", preset {wanted.preset}" if wanted.preset else ""
    note = f"Seeds {wanted.seed} to {wanted.seed + wanted.seeds - 1}{preset}{shared and f'; {shared}'}."
    return write_page(found, target, title=title, what="method", note=note)
