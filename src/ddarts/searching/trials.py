"""The search by trials: a black-box strategy proposes genotypes, each is trained shortly and scored.

Weights are trained on one half of the training images and scored on the other, as in a search in a supernet; test
images are not used. Every trial is a record in the run's metrics, from which the strategy's state is rebuilt, and the
training under way keeps its own checkpoints: a search that was killed continues with the same numbers.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import torch

from ddarts.config.schema import SearchSettings, TrainOptions, TrainSettings
from ddarts.cost.budget import LEAST, Budget
from ddarts.data import Batches, ImageData, search_parts, split, with_classes
from ddarts.errors import DDartsError, DivergedError, RunError, SettingsError, Stopped
from ddarts.genotype.choices import AnyGenotype, genotype_from_json
from ddarts.genotype.deepen import laid_out
from ddarts.genotype.derive import derive_genotype
from ddarts.genotype.gates import discrete_gates
from ddarts.genotype.genotype import printable_name
from ddarts.nn.choice_network import AnyNetwork, build_network
from ddarts.nn.resolution import choose_stem
from ddarts.runs.folder import RunFolder
from ddarts.runtime.distributed import current
from ddarts.runtime.progress import Progress
from ddarts.runtime.seeds import derive_seed, seed_everything
from ddarts.runtime.signals import StopRequest
from ddarts.searching.scores import rank_by_scores
from ddarts.searching.start import budget_of, space_of
from ddarts.searching.strategy import BlackBox, SearchOutcome, Trial, implementation_of
from ddarts.space.cell_space import SearchSpace
from ddarts.training.loop import train_network

#: Images of which training-free scores are taken.
_PRIOR_BATCH = 48


def search_by_trials(
    settings: SearchSettings, images: ImageData, run: RunFolder, *, quiet: bool = False
) -> SearchOutcome:
    """Search with a black-box strategy, or continue from the trials that the run has recorded.

    Writes gates.json, genotype.json and a record of every trial into the run.

    Raises:
        SettingsError, DataError: the settings do not fit the images.
        DivergedError: the loss of a trial is not finite.
        Stopped: Ctrl-C or SIGTERM; a checkpoint is written first.
        RunError: the run cannot be written, or its records are damaged.
    """
    if current().size > 1:
        raise SettingsError(
            f"strategy {settings.search.strategy.name} runs in one process; leave out --devices and --machines"
        )
    options = settings.search.strategy
    space = space_of(settings.search, None)
    strategy = implementation_of(options)(options, space, settings.seed)
    budget = budget_of(settings, images, run.summary.get("fixed", {}), space, run.path)
    trials = Trials(settings, strategy, images, run, budget=budget)
    best = trials.run_to_the_end(quiet)
    genotype = replace(best.genotype, name=printable_name(f"{run.path.name}-{options.name}"))
    gates = discrete_gates(space, genotype)
    steps, seconds = trials.cost()
    run.update_summary(search_steps=sum(steps.values()), trials=len(steps), search_accuracy=best.score)
    gates.save(run.path / "gates.json")
    genotype.save(run.path / "genotype.json")
    costs = {} if trials.budget is None else trials.budget.costs(laid_out(genotype, trials.budget.layers))
    return SearchOutcome(gates, genotype, best.number, seconds, None, costs)


class Trials:
    """Trials of what a strategy proposes, on the halves of the training images that a search uses.

    Args:
        settings: of the search.
        strategy: proposes genotypes.
        images: all training images.
        run: its metrics hold a record of every trial that is done.
        stage: of these records.
        budget: every proposal is replaced by the nearest genotype that keeps it, and trained at the width that it gets.
        method: rule that says which genotypes there are.
    """

    def __init__(
        self,
        settings: SearchSettings,
        strategy: BlackBox[Any],
        images: ImageData,
        run: RunFolder,
        stage: str = "search",
        budget: Budget | None = None,
        method: str = "darts",
    ) -> None:
        search = settings.search
        if budget is not None and budget.layers is None and isinstance(strategy.space, SearchSpace):
            budget = replace(budget, layers=strategy.space.cells)  # proposals have as many as the space
        self.budget, self.method = budget, method
        self.settings, self.strategy, self.options, self.run = settings, strategy, strategy.options, run
        self.stage = stage
        if search.search_classes is not None:
            images = with_classes(images, search.search_classes, seed=settings.seed)
        train = split(images, validation=settings.validation, seed=settings.seed).train
        weight_half, alpha_half = search_parts(
            train, seed=settings.seed, weights=search.weights_share, alphas=search.alphas_share
        )
        chosen = torch.arange(min(self.options.trial_images, len(alpha_half)))
        self.images = replace(images, train=weight_half, validation=alpha_half.select(chosen), test=None)
        if budget is not None:
            self.strategy.fitted = self._fitted
        if self.options.prior != "none":
            self.strategy.rank = self._rank
        self.folder = run.path / "checkpoints" / "trials"

    def run_to_the_end(self, quiet: bool) -> Trial:
        """Do the trials that are not recorded yet, rung by rung, and return the best of the last."""
        rungs = self.strategy.rungs()
        known = self._recorded()
        self.strategy.recover([trial for (rung, _), trial in known.items() if rung == 0])
        total = sum(count for count, _ in rungs)
        best: list[Trial] = []
        tried: list[Trial] = []
        done = 0
        with StopRequest() as stop, Progress(self.stage, total, "trial", quiet=quiet) as progress:
            for rung, (count, steps) in enumerate(rungs):
                entrants, best = (best[:count], []) if rung else ([None] * count, [])
                survivors = rungs[rung + 1][0] if rung + 1 < len(rungs) else 1
                tried = []
                for place, entrant in enumerate(entrants):
                    trial = known.get((rung, place))
                    if trial is None:
                        trial = self._try(rung, place, entrant, steps, train=total > 1)
                        self._record(rung, place, trial)
                    done += 1
                    tried.append(trial)
                    best = sorted([*best, trial], key=lambda t: -(t.score or 0.0))[:survivors]  # the first of equals
                    self._keep(best, entrants[place + 1 :])
                    progress.update(done, trial=trial.number, accuracy=trial.score or 0.0, best=best[0].score or 0.0)
                    if done < total and stop.requested:
                        raise Stopped(
                            f"stopped after {done} of {total} trials; "
                            f"resume with: ddarts search --resume {self.run.path}"
                        )
        self._keep([], [])
        return max(tried, key=self.strategy.value)  # the first of equals

    def cost(self) -> tuple[dict[int, int], float]:
        """Return the training steps of every trial by its number, and the seconds of all."""
        records = self.run.metrics(self.stage, "trial")
        steps: dict[int, int] = {}
        for record in records:
            steps[record["trial"]] = max(steps.get(record["trial"], 0), record["trial_steps"])
        return steps, sum(record["seconds"] for record in records)

    def _rank(self, genotypes: list[AnyGenotype]) -> list[AnyGenotype]:
        """Order genotypes by the prior's scores of their untrained networks, which all start from the same seed."""
        settings, images = self.settings, self.images
        sizes: dict[str, Any] = {"channels": settings.search.channels, "in_channels": images.channels}
        sizes |= {"classes": len(images.classes), "stem": choose_stem("auto", images.height, images.width)}
        count = min(_PRIOR_BATCH, len(images.train))
        normalised: dict[str, Any] = {"seed": settings.seed, "mean": images.mean, "std": images.std}
        x, _ = Batches(images.train, count, label="prior", **normalised).batch(0, 0)

        def networks() -> Iterator[AnyNetwork]:
            for genotype in genotypes:
                seed_everything(settings.seed, "search", "prior")
                yield build_network(genotype, **sizes)

        return [genotypes[i] for i in rank_by_scores(self.options.prior.split("+"), networks(), x)]

    def _try(self, rung: int, place: int, entrant: Trial | None, steps: int, *, train: bool) -> Trial:
        """Propose and train a genotype, or continue the training of one that has come so far."""
        begun = time.perf_counter()
        self.seconds = 0.0
        if entrant is None:
            draw = Random(derive_seed(self.settings.seed, "search", "propose", place))
            entrant = Trial(place, self._fitted(self.strategy.propose(place, draw)), None, 0)
        trial = entrant
        if train:
            trial = replace(entrant, score=self._score(entrant, steps), steps=steps)
        if rung == 0:
            self.strategy.feedback(trial)
        self.seconds = time.perf_counter() - begun
        return trial

    def _fitted(self, genotype: AnyGenotype) -> AnyGenotype:
        """Return the genotype that keeps the budget and has most operations of another one in common."""
        if self.budget is None:
            return genotype
        chosen = self.budget.fit(discrete_gates(self.strategy.space, genotype), self.method, 0.0)
        fitted = derive_genotype(chosen.gates, self.method, LEAST)
        return replace(fitted, name=genotype.name, size=chosen.genotype.size)

    def _score(self, trial: Trial, steps: int) -> float:
        """Return the accuracy on the alpha half after a training of so many steps, of which some may be done."""
        settings, images = self.settings, self.images
        per_epoch = min(self.options.trial_steps, len(images.train) // settings.search.batch)
        search = settings.search
        options = {name: getattr(search, name) for name in TrainOptions.model_fields if hasattr(search, name)} | {
            "epochs": max(round(steps / per_epoch), 1),
            "steps_per_epoch": per_epoch,
            **{"drop_path": 0.0, "auxiliary_weight": 0.0, "cutout": 0, "policy": "none", "evaluations": 1},
            "crop": min(images.height, images.width) // 8,
        }
        if trial.genotype.size is not None:
            options |= trial.genotype.size._asdict()
        seed = derive_seed(settings.seed, "search", "trial", trial.number)
        wanted = TrainSettings(**settings.shared(seed=seed), train=TrainOptions(**options))
        path = self.folder / str(trial.number)
        exists = (path / "settings.yaml").is_file()
        if not exists:
            shutil.rmtree(path, ignore_errors=True)
        try:
            with RunFolder.open(path) if exists else RunFolder.create(path) as training:
                if not exists:
                    training.write_settings("train", wanted)
                found = train_network(trial.genotype, wanted, images, training, quiet=True)
        except Stopped:
            raise Stopped(
                f"stopped in trial {trial.number}; resume with: ddarts search --resume {self.run.path}"
            ) from None
        except DivergedError as error:
            raise DivergedError(
                f"trial {trial.number}: {str(error).partition('; ')[0]}; lower --lr or --clip"
            ) from None
        assert found.val_top1 is not None
        return found.val_top1

    def _record(self, rung: int, place: int, trial: Trial) -> None:
        """Append a trial to the run's metrics."""
        self.run.log(
            self.stage,
            "trial",
            epoch=rung,
            step=place,
            trial=trial.number,
            score=trial.score,
            trial_steps=trial.steps,
            genotype=trial.genotype.to_json(),
            seconds=self.seconds,
        )

    def _recorded(self) -> dict[tuple[int, int], Trial]:
        """Return the trials in the run's metrics by rung and place, in the order in which they were done."""
        found = {}
        for record in self.run.metrics(self.stage, "trial"):
            try:
                score = None if record["score"] is None else float(record["score"])
                genotype = genotype_from_json(record["genotype"])
                found[record["epoch"], record["step"]] = Trial(
                    int(record["trial"]), genotype, score, int(record["trial_steps"])
                )
            except (LookupError, TypeError, ValueError, DDartsError):
                raise RunError(
                    f"{self.run.path / 'metrics.jsonl'}: a line of the search holds no trial; start a new run"
                ) from None
        return found

    def _keep(self, best: list[Trial], waiting: list[Any]) -> None:
        """Delete the trainings of trials that cannot be continued any more."""
        wanted = {str(trial.number) for trial in (*best, *waiting) if trial is not None}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name not in wanted:
                shutil.rmtree(path, ignore_errors=True)
