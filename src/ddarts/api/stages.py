"""The public functions, one for each command: settings in, files in a folder and a small record out.

Every function takes the settings of its stage as keyword arguments under the names in `ddarts.config.schema`, for
example ``ddarts.search("digits", epochs=3)``. Where groups of a stage share a name, the group names it:
``ddarts.run("digits", cells=5, search={"epochs": 3})``. All of them raise subclasses of `ddarts.errors.DDartsError`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from ddarts.api.signature import names_settings
from ddarts.config.keywords import DeriveKeywords, EvaluateKeywords, RunKeywords, SearchKeywords, TrainKeywords
from ddarts.config.loading import load_settings
from ddarts.config.schema import DataOptions, DeriveSettings, RunSettings, SearchSettings, TrainSettings
from ddarts.errors import RunError, SettingsError, whole_number
from ddarts.genotype.choices import AnyGenotype
from ddarts.genotype.deepen import laid_out
from ddarts.genotype.derive import derive_genotype
from ddarts.genotype.gates import Gates, load_gates
from ddarts.genotype.genotype import printable_name
from ddarts.genotype.zoo.lookup import find_architecture
from ddarts.pipeline import (
    Opening,
    budget_of_run,
    draw_cells,
    evaluate_model,
    keep_test,
    load_images,
    read_given,
    reference_stage,
    resumable_by,
    say,
    search_stage,
    test_stage,
    train_stage,
    write_json,
    write_report_of,
)
from ddarts.reporting.reference import REFERENCE, conclusion, keep_reference
from ddarts.results import (
    DeriveResult,
    PredictResult,
    RunResult,
    SearchResult,
    TestResult,
    TrainResult,
)
from ddarts.runs import paths as places
from ddarts.runs.folder import PRODUCTS, Hooks, RunFolder, group_of
from ddarts.runtime.atomic_files import write_text
from ddarts.runtime.progress import counted, work_after

if TYPE_CHECKING:
    from ddarts.cost.budget import Fitted
    from ddarts.data import ImageData

PathLike = str | os.PathLike[str]
Config = PathLike | Mapping[str, Any]
Hook = Callable[[dict[str, Any]], object]


@names_settings(RunKeywords)
def run(
    data: Any = None,
    *,
    out: PathLike | None = None,
    preset: str | None = None,
    config: Config | None = None,
    resume: PathLike | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    loss: Callable[[Any, Any], Any] | None = None,
    on_step: Hook | None = None,
    on_epoch: Hook | None = None,
    **settings: Unpack[RunKeywords],
) -> RunResult:
    """Search, derive, train, test and report in one job.

    Args:
        data: the data set, as ``--data``, or data from Python; the embedded digits if not given.
        out: folder of the run; ``runs/NAME-TIME`` if not given.
        preset: "demo", "small" or "paper"; "demo" for the digits and "small" for other data if not given.
        config: a YAML file, or a mapping, with settings.
        resume: a run to resume, in whichever stage it stopped.
        overwrite: replace the run in `out`.
        quiet: show no progress.
        loss: (logits, labels) -> scalar tensor, minimised by the final training instead of the cross-entropy.
        on_step, on_epoch: called after each step with its stage, epoch and step, and after each epoch with its record
            as in metrics.jsonl. Like `loss`, they are not stored: give them again with `resume`.
        **settings: fields of `ddarts.config.schema.RunSettings`.
    """
    from ddarts.planning import Plan, plan_job, sized, training_steps
    from ddarts.preflight import (
        check_baseline_options,
        check_device_file,
        check_engine_settings,
        check_search_data,
        check_search_settings,
        check_train_data,
        settle_time,
    )
    from ddarts.runtime.engine import join
    from ddarts.searching.start import StartingPoint
    from ddarts.time_budget import TimeBudget

    began = time.perf_counter()
    opening = Opening.of("run", out, preset, config, resume, overwrite, {**settings, "data": data})
    wanted: RunSettings = opening.settings
    check_engine_settings(wanted, search=wanted.search.batch, train=wanted.train.batch)
    check_baseline_options("run", wanted, settings)
    wanted = settle_time(wanted, opening.chosen)
    opening = replace(opening, settings=wanted)
    start = StartingPoint.of(wanted.search, opening.resumed)
    space = check_search_settings(wanted, start and start.baseline)
    if opening.resumed is None:
        check_device_file(wanted.budget, space)
    alone, quiet = join(wanted).size == 1, not join(wanted).leads or quiet
    images = load_images(wanted, quiet, given=opening.given)
    opening = opening.fitted(images)
    check_search_data(opening.settings, space, images)
    check_train_data(opening.settings.train, opening.settings, images, space)
    opening = opening.budgeted(images, space)
    wanted = opening.settings
    plan, speeds = Plan.of(opening.resumed), None
    if opening.resumed is None and wanted.time is not None:

        def reload(side: int) -> ImageData:
            return load_images(wanted.model_copy(update={"resolution": side}), True, given=opening.given)

        budget = TimeBudget(wanted.time, began)
        if not quiet:
            say("measuring how long training steps take here")
        wanted, images, speeds = budget.before_the_search(wanted, images, start, opening.chosen, reload)
        opening = replace(opening, settings=wanted)
        check_search_data(wanted, space, images)
        check_train_data(wanted.train, wanted, images, space)
    if opening.resumed is None and alone and (speeds or not quiet):
        plan = plan_job(wanted, images, start=start, found=opening.found, speeds=speeds)
        if not quiet:
            _say_plan(plan.lines)
    with opening.begin(images, Hooks(loss, on_step, on_epoch)) as folder, resumable_by("run"):
        if opening.resumed is None:
            plan = replace(plan, setup_s=time.perf_counter() - began)
            plan.keep(folder)
        with work_after(plan.train_s + plan.reference_s + plan.rest_s):
            searched = search_stage(wanted, images, folder, start, quiet)
        if searched.genotype.size is not None:
            wanted = sized(wanted, searched.genotype)
            folder.write_settings("run", wanted)
        if wanted.time is not None and not plan.final:
            used = plan.setup_s + searched.search_s
            budget = TimeBudget(wanted.time, time.perf_counter() - used)
            wanted = budget.before_the_training(searched.genotype, wanted, images)
            folder.write_settings("run", wanted)
            plan = replace(plan, final=True)
            plan.keep(folder)
            if not quiet:
                steps = training_steps(wanted, images)
                epochs = counted(wanted.train.epochs, "epoch")
                say(f"training: {epochs} of {counted(steps, 'step')} fit into the time that is left")
        with work_after(plan.reference_s + plan.rest_s):
            trained = train_stage(searched.genotype, wanted, images, folder, quiet)
        with work_after(plan.rest_s):
            reference_stage(trained, wanted, images, folder, quiet)
        tested = None
        if folder.writes:
            tested = test_stage(folder, images, wanted)
            write_report_of(folder)
        return RunResult(
            path=folder.path,
            test_top1=tested,
            val_top1=trained.val_top1,
            parameters=trained.parameters,
            macs=trained.macs,
            search_s=searched.search_s,
            train_s=trained.train_s,
            stopped=searched.stopped,
            files=tuple(name for name in PRODUCTS if (folder.path / name).exists()),
            longer=trained.longer,
            reference=folder.summary.get("reference"),
            conclusion=conclusion(folder.summary, folder.path),
            task=trained.task,
        )


@names_settings(SearchKeywords)
def search(
    data: Any = None,
    *,
    out: PathLike | None = None,
    preset: str | None = None,
    config: Config | None = None,
    resume: PathLike | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    on_step: Hook | None = None,
    on_epoch: Hook | None = None,
    **settings: Unpack[SearchKeywords],
) -> SearchResult:
    """Search an architecture (paper, sections 3 and 4) and derive its genotype.

    Args:
        data: the data set, as ``--data``, or data from Python; the embedded digits if not given.
        out: folder of the run; ``runs/NAME-TIME`` if not given.
        preset: as for `run`.
        config: a YAML file, or a mapping, with settings.
        resume: a run whose search is to be resumed.
        overwrite: replace the run in `out`.
        quiet: show no progress.
        on_step, on_epoch: called after each step with its stage, epoch and step, and after each epoch with its record
            as in metrics.jsonl. They are not stored: give them again with `resume`.
        **settings: fields of `ddarts.config.schema.SearchSettings`.
    """
    from ddarts.planning import plan_job
    from ddarts.preflight import (
        check_baseline_options,
        check_device_file,
        check_engine_settings,
        check_search_data,
        check_search_settings,
    )
    from ddarts.runtime.engine import join
    from ddarts.searching.start import StartingPoint

    opening = Opening.of("search", out, preset, config, resume, overwrite, {**settings, "data": data})
    wanted: SearchSettings = opening.settings
    check_engine_settings(wanted, search=wanted.search.batch)
    check_baseline_options("search", wanted, settings)
    start = StartingPoint.of(wanted.search, opening.resumed)
    space = check_search_settings(wanted, start and start.baseline)
    if opening.resumed is None:
        check_device_file(wanted.budget, space)
    quiet = not join(wanted).leads or quiet
    images = load_images(wanted, quiet, given=opening.given)
    opening = opening.fitted(images)
    check_search_data(opening.settings, space, images)
    opening = opening.budgeted(images, space)
    wanted = opening.settings
    if opening.resumed is None and not quiet and join(wanted).size == 1:
        _say_plan(plan_job(wanted, images, start=start, found=opening.found).lines)
    with opening.begin(images, Hooks(None, on_step, on_epoch)) as folder:
        return search_stage(wanted, images, folder, start, quiet)


@names_settings(DeriveKeywords)
def derive(
    source: PathLike,
    *,
    out: PathLike | None = None,
    config: Config | None = None,
    overwrite: bool = False,
    front: int | None = None,
    **settings: Unpack[DeriveKeywords],
) -> DeriveResult:
    """Turn the gates of a search into a genotype (paper, section 3.4), repeated over more cells with `layers`.

    Args:
        source: a run, or a gates file.
        out: file for the genotype; ``genotype.json`` beside the gates if not given.
        config: a YAML file, or a mapping, with settings.
        overwrite: replace a file that holds another genotype.
        front: also derive so many networks along the front of gates and cost, into ``front/`` beside the genotype.
        **settings: fields of `ddarts.config.schema.DeriveOptions` and `BudgetOptions`; those of a run are its own
            unless given.
    """
    front = None if front is None else whole_number("front", front, 2, 1000)
    source = Path(source)
    base: dict[str, Any] = {}
    folder: RunFolder | None = None
    if (source / "settings.yaml").is_file():
        folder = RunFolder.open(source)
        base = {group: group_of(folder.settings, group) for group in ("derive", "budget")}
    options: DeriveSettings = load_settings("derive", config=config, overrides=settings, base=base)
    wanted = options.derive
    gates_file = source / "gates.json" if source.is_dir() else source
    gates = load_gates(gates_file)
    if wanted.layers is not None and not isinstance(gates, Gates):
        raise SettingsError(f"layers = {wanted.layers} has no effect in the space {gates.space_name}; leave it out")
    rule: tuple[str, float, str] = (wanted.method, wanted.threshold, _name_of(source, wanted.method))
    costs: dict[str, float] = {}
    networks: list[Fitted] = []
    genotype: AnyGenotype | None = None
    if options.budget.limits or front is not None:
        if folder is None:
            raise SettingsError(f"{source} is no run; a budget needs one, which knows the size of the images")
        budget = budget_of_run(folder, options, gates.space)
        networks = [] if front is None else budget.front(gates, front, *rule)
        if options.budget.limits:
            fitted = budget.fit(gates, *rule)
            genotype, costs = fitted.genotype, fitted.costs
    if genotype is None:
        genotype = laid_out(derive_genotype(gates, *rule), wanted.layers)
    target = gates_file.with_name("genotype.json") if out is None else Path(out)
    if target.is_dir():
        raise RunError(f"{target} is a folder; name a file for the genotype with --out")
    text = genotype.to_json()
    if target.exists() and not overwrite and target.read_bytes() != text.encode():
        raise RunError(f"{target} holds another genotype; name another file with --out, or replace it with --overwrite")
    write_text(target, text)
    rows = [
        {"file": str(target.parent / "front" / f"{i}.json"), "gates": one.worth, "costs": one.costs}
        for i, one in enumerate(networks, 1)
    ]
    if folder is not None:
        for row, one in zip(rows, networks, strict=True):
            one.genotype.save(Path(row["file"]))
        if rows:
            write_json(target.parent / "front" / "front.json", {"networks": rows})
        if out is None:
            draw_cells(folder, genotype, gates, wanted)
            if costs or "budget" in folder.summary:
                with folder:
                    folder.update_summary(budget={"limits": options.budget.limits, "costs": costs})
    return DeriveResult(genotype, target, wanted.method, wanted.threshold, costs, tuple(rows))


@names_settings(TrainKeywords)
def train(
    data: Any = None,
    *,
    genotype: AnyGenotype | PathLike | None = None,
    out: PathLike | None = None,
    preset: str | None = None,
    config: Config | None = None,
    resume: PathLike | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    loss: Callable[[Any, Any], Any] | None = None,
    on_step: Hook | None = None,
    on_epoch: Hook | None = None,
    **settings: Unpack[TrainKeywords],
) -> TrainResult:
    """Train the network of a genotype (paper, section 4).

    From new weights, or from those that a search from a network of torchvision or timm left in the run `genotype`.

    Args:
        data: the data set, as ``--data``, or data from Python; the embedded digits if not given.
        genotype: a `Genotype`, its file, or a run that has one.
        out: folder of the run; ``runs/NAME-TIME`` if not given.
        preset: as for `run`.
        config: a YAML file, or a mapping, with settings.
        resume: a run whose training is to be resumed.
        overwrite: replace the run in `out`.
        quiet: show no progress.
        loss: (logits, labels) -> scalar tensor, minimised by the final training instead of the cross-entropy.
        on_step, on_epoch: called after each step with its stage, epoch and step, and after each epoch with its record
            as in metrics.jsonl. Like `loss`, they are not stored: give them again with `resume`.
        **settings: fields of `ddarts.config.schema.TrainSettings`.
    """
    from ddarts.planning import plan_job, sized
    from ddarts.preflight import check_engine_settings, check_train_data
    from ddarts.runtime.engine import join
    from ddarts.training.initial import copy_for_training

    opening = Opening.of("train", out, preset, config, resume, overwrite, {**settings, "data": data})
    wanted: TrainSettings = opening.settings
    if resume is not None:
        if genotype is not None:
            raise SettingsError(f"{resume} has its genotype; leave out --genotype to resume it")
        genotype = opening.path
    if genotype is None:
        raise SettingsError("no genotype to train; name its file, or a run that has one, with --genotype")
    architecture = find_architecture(genotype)
    if architecture.size is not None and resume is None and not opening.chosen & {"train.channels", "train.stem"}:
        opening = replace(opening, settings=sized(wanted, architecture))
        wanted = opening.settings
    check_engine_settings(wanted, train=wanted.train.batch)
    quiet = not join(wanted).leads or quiet
    images = load_images(wanted, quiet, given=opening.given)
    opening = opening.fitted(images)
    wanted = opening.settings
    check_train_data(wanted.train, wanted, images, architecture)
    if opening.resumed is None and not quiet and join(wanted).size == 1:
        _say_plan(plan_job(wanted, images, genotype=architecture, found=opening.found).lines)
    with opening.begin(images, Hooks(loss, on_step, on_epoch)) as folder:
        if folder.writes:
            copy_for_training(genotype, folder.path)
        trained = train_stage(architecture, wanted, images, folder, quiet)
        reference_stage(trained, wanted, images, folder, quiet)
        return replace(trained, reference=folder.summary.get("reference"))


@names_settings(EvaluateKeywords)
def test(
    model: PathLike,
    *,
    config: Config | None = None,  # noqa: PT028 (not a test of pytest)
    quiet: bool = False,  # noqa: PT028
    **settings: Unpack[EvaluateKeywords],
) -> TestResult:
    """Evaluate a trained model on the test images of a data set.

    Args:
        model: a run, or the folder of a model.
        config: a YAML file, or a mapping, with settings.
        quiet: show no progress.
        **settings: fields of `ddarts.config.schema.EvaluateSettings`; data and resolution are the run's unless given.
    """
    folder, owner = places.model_of(model)
    base: dict[str, Any] = {}
    if owner is not None:
        stored = owner.settings.values()
        base = {k: v for s in stored for k, v in s.items() if k in DataOptions.model_fields or k == "seed"}
    overrides, given = read_given(settings)
    wanted = load_settings("test", config=config, overrides=overrides, base=base)
    if owner is None and "data" not in wanted.model_fields_set:
        raise SettingsError(f"{model} does not say what data it is for; name them with --data")
    result = evaluate_model(folder, wanted, quiet, given)
    if owner is not None and wanted.data == base.get("data"):
        with owner:
            result = keep_test(owner, result)
            other = owner.path / REFERENCE
            if (other / "model" / "config.json").is_file():
                with RunFolder.open(other) as reference:
                    keep_test(reference, evaluate_model(other / "model", wanted, True, given))
                keep_reference(owner)
    return result


def predict(
    images: Sequence[PathLike] | PathLike,
    *,
    model: PathLike | None = None,
    top: int = 5,
    strict: bool = False,
    device: str = "auto",
) -> PredictResult:
    """Classify image files with a trained model.

    Args:
        images: files; one or many.
        model: a run, the folder of a model, or an ONNX file of ``ddarts export``; the newest trained run in ``runs``
            if not given. The result names it.
        top: classes to report for each image, the most probable first; of several labels all above 0.5 are reported.
        strict: stop at the first image that cannot be decoded, instead of skipping it.
        device: auto, cpu, cuda or cuda:N.
    """
    from ddarts.training.evaluate import predict_images

    top = whole_number("top", top, 1)
    named = [images] if isinstance(images, str | os.PathLike) else list(images)
    if any(not isinstance(one, str | os.PathLike) for one in named):
        raise SettingsError("images must be names of files; call what load_model returns on arrays and tensors")
    paths = list(map(Path, named))
    if not paths:
        raise SettingsError("no image is named; give at least one file")
    for path in paths:
        if path.is_dir():
            is_model = any((path / name).is_file() for name in ("settings.yaml", "config.json"))
            what, way_out = ("run", f"name it with --model {path}") if is_model else ("folder", "name the files in it")
            raise SettingsError(f"{path} is a {what}, not an image; {way_out}")
    onnx = None if model is None else places.onnx_of(model)
    if onnx is not None:
        from ddarts.deploy.onnxfile import predict_onnx

        found = predict_onnx(onnx, paths, top=top, strict=strict, device=device)
        return PredictResult(onnx, tuple(found), found.skipped, found.task.kind)
    folder = places.newest_model() if model is None else places.model_of(model)[0]
    found = predict_images(folder, paths, top=top, strict=strict, device=device)
    return PredictResult(folder, tuple(found), found.skipped, found.task.kind)


def _say_plan(lines: Sequence[str]) -> None:
    """Print a plan on stderr."""
    for line in lines:
        say(line)


def _name_of(source: Path, method: str) -> str:
    """Return the name that a search gives to its genotype, so that deriving again gives the same file."""
    return printable_name(f"{source.name}-{method}" if source.is_dir() else source.stem)
