"""The work behind the public functions: opening run folders, and the stages on images already loaded."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddarts.config.checks import build
from ddarts.config.layers import STAGES
from ddarts.config.loading import read_layer, resume_settings
from ddarts.config.schema import (
    DataOptions,
    DeriveOptions,
    DeriveSettings,
    EvaluateSettings,
    SearchSettings,
    TrainSettings,
)
from ddarts.errors import DataError, DDartsError, GenotypeError, RunError, SettingsError, printable
from ddarts.genotype.choices import AnyGenotype, ChoiceGenotype, genotype_from_json, load_genotype
from ddarts.genotype.deepen import deepen, laid_out
from ddarts.genotype.gates import AnyGates, Gates, gates_from_dict, load_gates
from ddarts.genotype.genotype import Genotype
from ddarts.kernels.library import describe
from ddarts.reporting.reference import ANSWERS, REFERENCE, keep_reference, title_of
from ddarts.results import KEPT_MISTAKES, SearchResult, TestResult, TrainResult
from ddarts.runs import paths as places
from ddarts.runs.folder import Hooks, RunFolder, group_of
from ddarts.runs.follower import FollowedRun
from ddarts.runtime.atomic_files import write_bytes, write_text
from ddarts.runtime.distributed import current
from ddarts.runtime.processes import find_place, speaks
from ddarts.space.cell_space import SearchSpace
from ddarts.space.choice_space import ChoiceSpace

if TYPE_CHECKING:
    from ddarts.cost.budget import Budget
    from ddarts.data import GivenData, ImageData
    from ddarts.searching.start import StartingPoint


@dataclass(frozen=True)
class Opening:
    """A run that is about to start or to be resumed: settings are checked, nothing is written yet."""

    stage: str
    settings: Any
    path: Path
    resumed: RunFolder | None
    overwrite: bool
    given: GivenData | None = None
    chosen: frozenset[str] = frozenset()  # dotted names of the settings that the caller chose, not a preset
    found: tuple[str, ...] = ()  # names of the settings that were found from the images and the machine
    named: bool = True  # whether the caller chose the path

    @classmethod
    def of(
        cls,
        stage: str,
        out: str | os.PathLike[str] | None,
        preset: str | None,
        config: Any,
        resume: str | os.PathLike[str] | None,
        overwrite: bool,
        overrides: Mapping[str, Any],
    ) -> Opening:
        """Load the settings, and check that the folder can be used; data from Python are read here.

        Raises:
            SettingsError: a setting is wrong, or disagrees with the run to resume.
            RunError: `resume` holds no run or none of this stage, or `out` cannot be used.
        """
        overrides, given = read_given(overrides)
        if resume is not None:
            resume = os.path.expanduser(resume)
            if out is not None or overwrite:
                raise SettingsError(
                    f"--resume {resume} continues in the folder of the run; leave out --out and --overwrite"
                )
            run = RunFolder.open(resume)
            held = "run" if "run" in run.stages and stage in ("search", "train") else stage
            if held not in run.stages:
                others = " or ".join(f"ddarts {other} --resume {run.path}" for other in run.stages)
                raise RunError(f"{run.path} was not made by `ddarts {stage}`; resume it with {others or 'another run'}")
            foreign = STAGES[held].model_fields.keys() - STAGES[stage].model_fields.keys()  # groups of other stages
            stored = {name: value for name, value in run.read_settings(held).items() if name not in foreign}
            settings = resume_settings(stage, stored, run.path, preset=preset, config=config, overrides=overrides)
            return cls(stage, settings, run.path, run, False, given)
        layer = read_layer(stage, preset=preset, config=config, overrides=overrides)
        settings = build(stage, layer)
        path = places.new_run_path(settings.data) if out is None else Path(os.path.expanduser(out))
        if find_place(settings.devices, settings.machines).rank == 0:
            RunFolder.check_free(path, overwrite=overwrite)
        chosen = frozenset(".".join(key) for key, value in layer.items() if value.asked)
        return cls(stage, settings, path, None, overwrite, given, chosen, named=out is not None)

    @property
    def fixed(self) -> dict[str, int]:
        """Width and number of cells of the network, if the user fixed them; a budget leaves them open otherwise."""
        if self.resumed is not None:
            return self.resumed.summary.get("fixed", {})
        owner = "train" if self.stage == "run" else "search"
        channels = {"channels": getattr(self.settings, owner).channels} if f"{owner}.channels" in self.chosen else {}
        options = getattr(self.settings, "search", None)
        free = "search.cells" not in self.chosen and "search.reductions" not in self.chosen
        layers = {} if options is None or free or options.baseline else {"layers": options.cells}
        return channels | layers

    def budgeted(self, images: ImageData, space: SearchSpace | ChoiceSpace) -> Opening:
        """Return the opening with as many cells as the budget has room for.

        Raises:
            SettingsError: no network keeps the budget.
        """
        from ddarts.preflight import fit_cells

        if self.resumed is not None or not self.settings.budget.limits:
            return self
        options = self.settings.search
        cells = current().share(fit_cells(self.settings, images, space, self.fixed))
        if cells == options.cells:
            return self
        say(f"search.cells = {cells} instead of {options.cells}: the budget has no room for more")
        search = options.model_copy(update={"cells": cells})
        return replace(self, settings=self.settings.model_copy(update={"search": search}))

    def fitted(self, images: ImageData) -> Opening:
        """Return the opening with what was left open settled by the images and the machine, as it will be recorded.

        Batches shrink and epochs grow for few images, unless somebody chose them.
        """
        if self.resumed is not None:
            return self
        from ddarts.data.batches import default_workers
        from ddarts.data.streamed import StreamedPixels
        from ddarts.preflight import fit_batch, fit_epochs
        from ddarts.runtime.engine import threads_of

        settings = self.settings
        streams = isinstance(images.train.pixels, StreamedPixels)  # images in memory need no processes to decode them
        found: dict[str, Any] = {
            "flip": images.flip,
            "threads": threads_of(settings),
            "workers": default_workers() if streams else 0,
        }
        if images.height == images.width:
            found["resolution"] = images.height
        found = {name: value for name, value in found.items() if getattr(settings, name) is None}
        settings = settings.model_copy(update=found)
        for stage in ("search", "train"):
            options, key = getattr(settings, stage, None), f"{stage}.batch"
            if options is None or key in self.chosen:
                continue
            batch = fit_batch(stage, settings, images)
            if batch != options.batch:
                say(f"{key} = {batch} instead of {options.batch}: there are few training images")
                settings = settings.model_copy(update={stage: options.model_copy(update={"batch": batch})})
        for stage in ("train", "measure"):
            options = getattr(settings, stage, None)
            if options is None or (f"{stage}.epochs" in self.chosen and f"{stage}.min_steps" not in self.chosen):
                continue
            update = {"epochs": fit_epochs(options, settings, images)}
            settings = settings.model_copy(update={stage: options.model_copy(update=update)})
        return replace(self, settings=settings, found=tuple(sorted(found)))

    def reserved(self) -> Opening:
        """Return the opening with a folder that no other run has, the same one in all processes of this run."""
        if self.named or self.resumed is not None:
            return self
        ranks = current()
        path = ranks.share(str(places.reserve_run_path(self.settings.data)) if ranks.leads else None)
        return replace(self, path=Path(path), named=True)

    @contextlib.contextmanager
    def begin(self, images: ImageData, hooks: Hooks | None = None) -> Iterator[RunFolder]:
        """Open the run folder as `start` does, close it at the end, and say so if another process is lost meanwhile.

        Raises:
            SettingsError: the run to resume was started with a loss of the caller's, and `hooks` has none, or reversed.
        """
        opening = self.reserved()
        command = f"ddarts {self.stage} --resume {opening.path}"
        try:
            with current().watched(command), opening.start(images) as run:
                run.hooks = hooks or Hooks()
                self._check_loss(run)
                yield run
        except RunError as error:
            if not isinstance(error.__cause__, OSError) or "--resume" in str(error):
                raise
            raise RunError(f"{error}; then continue with: {command}") from error.__cause__
        except KeyboardInterrupt as error:  # outside the loops, or the second one inside
            raise KeyboardInterrupt(f"{str(error) or 'interrupted'}; resume with: {command}") from None

    def _check_loss(self, run: RunFolder) -> None:
        """Record the name of a loss of the caller's; refuse to resume a run with another loss."""
        loss = run.hooks.loss
        name = None if loss is None else str(getattr(loss, "__name__", type(loss).__name__))
        stored = run.summary.get("loss")
        if self.resumed is not None and run.writes and stored != name:
            way_out = "resume it without loss=" if stored is None else f"resume it from Python with loss={stored}"
            raise SettingsError(
                f"{run.path} trains with {f'the loss {stored}' if stored else 'the cross-entropy'}; {way_out} "
                "(a run does not store functions)"
            )
        if name is not None and stored is None:
            run.update_summary(loss=name)

    def start(self, images: ImageData) -> RunFolder:
        """Create the run folder, or open it again; with several processes, rank 0 does."""
        ranks = current()
        if not ranks.leads:
            return FollowedRun(Path(ranks.share(None)))
        run = self._start(images)
        ranks.share(str(run.path))
        return run

    def _start(self, images: ImageData) -> RunFolder:
        if self.resumed is not None:
            self.resumed.claim()
            return self.resumed
        run = RunFolder.create(self.path, overwrite=self.overwrite)
        run.write_settings(self.stage, self.settings)
        budget = getattr(self.settings, "budget", None)
        if budget is not None and budget.device is not None:
            from ddarts.cost.device import FILE_NAME, Device

            Device.load(budget.device).save(run.path / FILE_NAME)
        run.update_summary(
            data=self.settings.data,
            seed=self.settings.seed,
            **({} if images.task.kind == "classification" else {"task": images.task.kind}),
            classes=len(images.classes),
            train_images=len(images.train),
            image_shape=[images.channels, images.height, images.width],
            **({"fixed": self.fixed} if self.stage in ("run", "search") and self.fixed else {}),
            found=list(self.found),
            skipped=len(images.skipped),
            versions=versions(),
        )
        if images.skipped:
            write_text(run.path / "skipped.txt", "\n".join(images.skipped) + "\n")
        return run


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, and which build of the kernels is used (`ddarts.kernels`)."""
    return {name: metadata.version(name) for name in ("ddarts", "torch", "torchvision")} | {
        "python": platform.python_version(),
        "kernels": describe(),
    }


@contextlib.contextmanager
def resumable_by(command: str) -> Iterator[None]:
    """Let messages of single stages ("resume with: ddarts search --resume") name the command that was given."""
    try:
        yield
    except DDartsError as error:
        text = str(error)
        for stage in ("search", "train"):
            text = text.replace(f"ddarts {stage} --resume", f"ddarts {command} --resume")
        if text == str(error):
            raise
        raise type(error)(text) from error.__cause__


def read_given(settings: Mapping[str, Any]) -> tuple[Mapping[str, Any], GivenData | None]:
    """Return settings in which data given from Python are replaced by their description; and the data, if there are."""
    data = settings.get("data")
    if data is None or isinstance(data, str | os.PathLike):
        return settings, None
    from ddarts.data import given_data

    given = given_data(data)
    return {**settings, "data": given.description}, given


def load_images(
    settings: DataOptions, quiet: bool, *, given: GivenData | None = None, resolution: int | None = None
) -> ImageData:
    """Load the data that the settings name or that were given, and say on stderr what was found and skipped."""
    from ddarts.data import load_data, uneven_classes

    images = load_data(
        settings.data if given is None else given,
        resolution=resolution if settings.resolution is None else settings.resolution,
        strict=settings.strict,
        limit=settings.limit,
        flip=settings.flip,
        quiet=quiet,
        stream=settings.stream,
        labels=settings.labels,
        task=settings.task,
    )
    if not quiet:
        if images.labelled:
            say(images.labelled)
        parts = ((images.train, "training"), (images.validation, "validation"), (images.test, "test"))
        counts = ", ".join(f"{len(part)} {name}" for part, name in parts if part is not None)
        kind = {1: "grey", 3: "colour"}.get(images.channels, f"{images.channels}-channel")
        learned = images.task.outputs(len(images.classes))
        say(f"{images.name}: {counts} images, {learned}, {images.height}x{images.width} {kind}")
        for remark in uneven_classes(images):
            say(remark)
    for reason in images.skipped[:5]:
        say(f"skipped {reason}")
    if len(images.skipped) > 5:
        say(f"skipped {len(images.skipped)} files in all; --strict stops at the first")
    return images


def search_stage(
    settings: SearchSettings, images: ImageData, run: RunFolder, start: StartingPoint | None, quiet: bool
) -> SearchResult:
    """Search in `run`, or resume, or return the result if the search is over. Test images are not used."""
    genotype_file = run.path / "genotype.json"
    over = current().share(_searched_before(run))
    if over is not None:
        summary = over["summary"]
        genotype = genotype_from_json(over["genotype"])
        return SearchResult(
            run.path,
            gates_from_dict(over["gates"], str(run.path)),
            genotype,
            summary.get("best_epoch") or 0,
            summary["search_s"] or 0.0,
            summary.get("stopped"),
            summary.get("distance"),
            *_against_baseline(start, genotype, settings, images),
        )
    from ddarts.reporting.livepictures import CellPictures
    from ddarts.searching.loop import search_architecture
    from ddarts.searching.start import space_of

    if start is not None and run.writes:
        start.save(run.path)
    space = space_of(settings.search, start and start.baseline)
    run.pictures = CellPictures(space, settings.search.epochs) if isinstance(space, SearchSpace) else None
    try:
        outcome = search_architecture(settings, replace(images, test=None), run, start=start, quiet=quiet)
    except GenotypeError as error:  # the gates are there, but the rule finds nothing in one of them
        epochs = run.metrics("search", "epoch")
        run.update_summary(search_s=epochs[-1].get("elapsed_s") if epochs else None)
        raise GenotypeError(
            f"{error} (the gates are kept: ddarts derive {run.path} --threshold ... makes a genotype of them, "
            f"then --resume {run.path} continues)"
        ) from None
    genotype = outcome.genotype
    genotype = laid_out(genotype, settings.derive.layers)
    if run.writes:
        genotype.save(genotype_file)
        draw_cells(run, genotype, outcome.gates, settings.derive)
    distance = start.distance(outcome.genotype) if start else None
    told: dict[str, Any] = {} if distance is None else {"distance": distance}
    if outcome.costs:
        told["budget"] = {"limits": settings.budget.limits, "costs": outcome.costs}
    baseline, *costs = _against_baseline(start, genotype, settings, images)
    if start is not None:
        pairs = zip(("parameters", "macs"), costs, strict=True)
        told["against_baseline"] = {kind: list(pair) for kind, pair in pairs if pair is not None}
    run.update_summary(best_epoch=outcome.best_epoch, stopped=outcome.stopped, search_s=outcome.search_s, **told)
    return SearchResult(
        run.path,
        outcome.gates,
        genotype,
        outcome.best_epoch,
        outcome.search_s,
        outcome.stopped,
        distance,
        baseline,
        *costs,
    )


def _against_baseline(
    start: StartingPoint | None, genotype: AnyGenotype, settings: SearchSettings, images: ImageData
) -> tuple[AnyGenotype | None, tuple[int, int] | None, tuple[int, int] | None]:
    """Return the baseline with as many cells as the genotype, and the costs of both at the width of the search.

    Parameters of all networks; multiply-adds of those of torchvision and timm.
    """
    if start is None:
        return None, None, None
    costs = start.costs(genotype, images)
    if costs is not None or not (isinstance(start.baseline, Genotype) and isinstance(genotype, Genotype)):
        parameters, macs = costs or (None, None)
        return start.baseline, parameters, macs
    import torch

    from ddarts.cost.counting import count_parameters
    from ddarts.nn.network import Network

    baseline = deepen(start.baseline, max(len(genotype), len(start.baseline)))
    with torch.device("meta"):
        sizes = [
            count_parameters(
                Network(g, channels=settings.search.channels, classes=len(images.classes), in_channels=images.channels)
            )
            for g in (baseline, genotype)
        ]
    return baseline, (sizes[0], sizes[1]), None


def _searched_before(run: RunFolder) -> dict[str, Any] | None:
    """Return what a search that is over has left in its run, as plain data; None if it is not over."""
    summary, genotype_file = run.summary, run.path / "genotype.json"
    if "search_s" not in summary or not genotype_file.is_file():
        return None
    gates, genotype = load_gates(run.path / "gates.json"), load_genotype(genotype_file)
    return {"summary": summary, "gates": gates.to_dict(), "genotype": genotype.to_json()}


def budget_of_run(run: RunFolder, options: DeriveSettings, space: SearchSpace | ChoiceSpace) -> Budget:
    """Return the budget of settings for the images of a run; without limits, of its search's width.

    Raises:
        RunError: the run does not say what images it is of.
    """
    from ddarts.cost.budget import Budget

    summary = run.summary
    shape, classes, fixed = (summary.get(key) for key in ("image_shape", "classes", "fixed"))
    if not isinstance(shape, list) or len(shape) != 3 or any(type(n) is not int for n in (*shape, classes)):
        raise RunError(f"{run.path}: summary.json does not say what images the search saw; search again")
    fixed = fixed if isinstance(fixed, dict) else {}
    channels = fixed.get("channels")
    if not options.budget.limits:
        channels = (group_of(run.settings, "train") or group_of(run.settings, "search")).get("channels", 16)
    layers = options.derive.layers or fixed.get("layers")
    images = (shape[0], shape[1], shape[2])
    about: dict[str, Any] = {"channels": channels, "layers": layers}
    found = Budget.of(options.budget, space, images, classes or 2, folder=run.path, **about)
    return found or Budget({}, images, classes or 2, **about)


def train_stage(
    genotype: AnyGenotype, settings: TrainSettings, images: ImageData, run: RunFolder, quiet: bool
) -> TrainResult:
    """Train in `run`, or resume, or return the result if the training is over. Test images are not used."""
    summary = run.summary
    over = "train_s" in summary and (run.path / "model" / "config.json").is_file()
    summary = current().share(summary if over else None)
    if summary is not None:
        keep_costs(run)  # a kill may have come before
        figures = summary["parameters"], summary["macs"], summary["train_s"], summary.get("val_top1")
        return TrainResult(run.path, *figures, _longer(run), task=images.task.kind)
    from ddarts.training.loop import train_network

    if run.writes and not (run.path / "genotype.json").is_file():
        genotype.save(run.path / "genotype.json")
        draw_cells(run, genotype)
    outcome = train_network(genotype, settings, replace(images, test=None), run, quiet=quiet)
    run.update_summary(
        parameters=outcome.parameters, macs=outcome.macs, val_top1=outcome.val_top1, train_s=outcome.train_s
    )
    keep_costs(run)
    figures = outcome.parameters, outcome.macs, outcome.train_s, outcome.val_top1
    return TrainResult(run.path, *figures, _longer(run), task=images.task.kind)


def _longer(run: RunFolder) -> str | None:
    """Return the command for a longer training if the validation accuracy was still rising at the end."""
    from ddarts.reporting.results import longer_training, still_rising

    if not run.writes or not still_rising(run.metrics("train", "epoch")):
        return None
    return longer_training(run.settings, str(run.path), run.summary.get("found", ()))


def keep_costs(run: RunFolder) -> None:
    """Write the size of the run's network into the summary, and its latency, which is measured unless it is known.

    ``latency_ms`` is that of the exported file under onnxruntime, else of PyTorch (``latency_runtime``).
    """
    if not run.writes or "latency_ms" in run.summary or not (run.path / "model" / "config.json").is_file():
        return
    import torch

    from ddarts.cost.latency import machine, measure_latency
    from ddarts.deploy.profiling import onnx_latency
    from ddarts.hub.saved import WEIGHTS_NAME, load_model

    run.update_summary(size_bytes=(run.path / "model" / WEIGHTS_NAME).stat().st_size)
    saved = load_model(run.path / "model")
    saved.network.to(memory_format=torch.channels_last)
    shape = (saved.config.in_channels, *saved.config.resolution)
    latency = measure_latency(saved.network, shape)
    median, p95, runtime = latency.median_ms, latency.p95_ms, "pytorch"
    with contextlib.suppress(DDartsError):  # without onnxruntime, or a network that cannot be exported
        shipped = onnx_latency(saved.network.to(memory_format=torch.contiguous_format), shape)
        median, p95, runtime = shipped.median_ms, shipped.p95_ms, shipped.runtime
    run.update_summary(
        latency_ms=round(median, 3),
        latency_p95_ms=round(p95, 3),
        latency_on=machine(next(saved.network.parameters()).device),
        latency_runtime=runtime,
        latency_pytorch_ms=round(latency.median_ms, 3),
    )


def reference_stage(
    found: TrainResult, settings: TrainSettings, images: ImageData, run: RunFolder, quiet: bool
) -> None:
    """Train the standard network of the size of the run's network in the same way, or resume. No test images are used.

    It starts from new weights, with the same settings, seed and steps, in a run inside the run (`REFERENCE`).
    """
    from ddarts.planning import reference_of, sized

    genotype = reference_of(settings, images, found.parameters, found.macs)
    if genotype is None:
        if settings.reference != "none" and not quiet:
            say(f"no comparison: each {settings.reference} is larger than the network, or too deep for these images")
        return
    assert genotype.size is not None
    title = title_of(genotype.name)
    if not quiet:
        say(f"reference: {title}, C = {genotype.size.channels}, trained alike to compare with")
    wanted = TrainSettings(**settings.shared(), train=sized(settings, genotype).train)
    path = run.path / REFERENCE
    resumed = RunFolder.open(path) if run.writes and (path / "settings.yaml").is_file() else None
    if resumed is not None and "train" not in resumed.stages:
        resumed = None  # killed while it was created

    def named(hook: Callable[[dict[str, Any]], object] | None) -> Callable[[dict[str, Any]], object] | None:
        return None if hook is None else lambda record: hook({**record, "stage": REFERENCE})

    hooks = Hooks(run.hooks.loss, named(run.hooks.on_step), named(run.hooks.on_epoch))
    try:
        with Opening("train", wanted, path, resumed, overwrite=True).start(images) as own:
            own.hooks = hooks
            train_stage(genotype, wanted, images, own, quiet)
    except DDartsError as error:  # the way to resume it is to resume the whole run
        raise type(error)(str(error).replace(f"--resume {path}", f"--resume {run.path}")) from error.__cause__
    if run.writes:
        keep_reference(run)


def draw_cells(
    run: RunFolder,
    genotype: AnyGenotype,
    gates: AnyGates | None = None,
    rule: DeriveOptions | None = None,
) -> None:
    """Draw every cell into ``cells/``, with its gates if they are known; of a choice space nothing but the report."""
    if isinstance(genotype, ChoiceGenotype):
        return
    from ddarts.reporting.chosen import evidence
    from ddarts.reporting.drawing import write_drawings

    shown = None
    if isinstance(gates, Gates) and rule is not None:
        shown = evidence(genotype, gates, rule.method, rule.threshold) or None
    write_drawings(genotype, run.path / "cells", shown)


def test_stage(run: RunFolder, images: ImageData, settings: TrainSettings) -> float | None:
    """Test the run's model, once; return top-1 (0 to 1), or None if the data has no test images."""
    if images.test is None:
        return None
    if run.summary.get("test_top1") is None:
        result = _evaluate(run.path / "model", images, settings.data, settings.device, EvaluateSettings().batch)
        keep_test(run, result)
    if (run.path / REFERENCE / "model" / "config.json").is_file():
        with RunFolder.open(run.path / REFERENCE) as other:
            test_stage(other, images, settings)
        keep_reference(run)
    return run.summary["test_top1"]


def evaluate_model(model: Path, settings: EvaluateSettings, quiet: bool, given: GivenData | None = None) -> TestResult:
    """Load the test images at the model's resolution and evaluate the model on them.

    Raises:
        DataError: the data has no test images.
    """
    from ddarts.hub.saved import load_model
    from ddarts.runtime.engine import check_engine

    check_engine(settings)
    height, width = load_model(model).config.resolution
    images = load_images(settings, quiet, given=given, resolution=height if height == width else None)
    if images.test is None:
        raise DataError(f"{settings.data} has no test images; put them into a folder test/ beside train/")
    return _evaluate(model, images, settings.data, settings.device, settings.batch)


def _evaluate(model: Path, images: ImageData, data: str, device: str, batch: int) -> TestResult:
    from ddarts.reporting.thumbnails import thumbnail
    from ddarts.training.evaluate import test_model

    assert images.test is not None
    found = test_model(model, images, device=device, batch=batch, worst=len(images.test))
    confusion = tuple(tuple(int(n) for n in row) for row in found.confusion)
    names = images.test.names
    return TestResult(
        model,
        data,
        found.top1,
        found.loss,
        found.count,
        confusion,
        images.classes,
        images.skipped,
        tuple({"file": names[m.image] if names else f"test image {m.image}", **m._asdict()} for m in found.worst),
        tuple(thumbnail(images.test.pixels[mistake.image]) for mistake in found.worst[:KEPT_MISTAKES]),
        task=images.task.kind,
        each=() if images.task.kind == "classification" else found.per_class,
        exact=found.exact,
        r2=found.r2,
        evidence=found.evidence,
    )


def keep_test(run: RunFolder, result: TestResult) -> TestResult:
    """Write what a test showed into its run, and return it with the list of its mistakes, if images have one class."""
    from ddarts.reporting.thumbnails import write_thumbnails

    if result.task != "classification":
        from safetensors.torch import save

        assert result.evidence is not None
        write_bytes(run.path / ANSWERS, save(dict(result.evidence)))
        write_json(run.path / "test.json", {**result.to_dict(), "top1": result.top1})
        run.update_summary(test_top1=result.top1, test_images=result.count)
        return result
    result = replace(result, listing=run.path / "mistakes.csv")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("file", "class", "predicted class", "its probability", "probability of the class"))
    for m in result.mistakes:
        truth, taken = result.classes[m["truth"]], result.classes[m["taken"]]
        table.writerow((m["file"], truth, taken, f"{m['confidence']:.4f}", f"{m['chance']:.4f}"))
    write_json(run.path / "test.json", {**result.to_dict(), "wrong": sorted(m["image"] for m in result.mistakes)})
    write_text(run.path / "mistakes.csv", text.getvalue())
    write_thumbnails(run.path, result.thumbnails)
    run.update_summary(test_top1=result.top1, test_images=result.count)
    return result


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a JSON file in one step."""
    write_text(path, json.dumps(data, indent=1) + "\n")


def write_report_of(run: RunFolder) -> None:
    """Write the report of a run."""
    from ddarts.reporting.page import write_report

    write_report(run.path)


def say(text: str) -> None:
    """Print a line to stderr; of several processes, one does."""
    if speaks():
        with contextlib.suppress(OSError):  # a full disk or a closed terminal does not end the work
            print(printable(text), file=sys.stderr, flush=True)
