"""The search in a supernet: first-order bilevel optimisation of alphas and weights (specification, section 4).

The strategy (``ddarts.searching.strategy``) computes the gates from the alphas and adds its terms to their loss.

Every step moves the alphas on a batch of one half of the training images, then the weights on a batch of the other
half. The alpha step leaves weights, their gradients and the running statistics alone; the weight step leaves the
alphas alone.

Several processes share every batch. The weight step goes through PyTorch's DistributedDataParallel; the alpha step
works on the bare supernet and averages its own gradients, which are few. Every process then moves the same alphas.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import torch
from lightning_fabric import Fabric

from ddarts.config.schema import SearchSettings
from ddarts.config.strategies import TrialOptions
from ddarts.cost.budget import Budget, Price
from ddarts.data import Augment, Batches, ImageData, search_parts, split, with_classes, workers_each
from ddarts.errors import RunError, SettingsError
from ddarts.genotype.choices import AnyGenotype, ChoiceGenotype, genotype_from_dict
from ddarts.genotype.deepen import laid_out
from ddarts.genotype.gates import AnyGates, discrete_gates
from ddarts.genotype.genotype import printable_name
from ddarts.kernels import library
from ddarts.runs.folder import RunFolder
from ddarts.runtime.distributed import current
from ddarts.runtime.engine import launch
from ddarts.runtime.progress import Progress, counted
from ddarts.runtime.seeds import generator, streams_restored
from ddarts.runtime.signals import StopRequest
from ddarts.searching.alpha_step import alpha_gradients
from ddarts.searching.collapse import check_health
from ddarts.searching.losses import Term
from ddarts.searching.shortlist import verified
from ddarts.searching.start import StartingPoint, budget_of, build_supernet, pretrain_epochs
from ddarts.searching.state import SearchState
from ddarts.searching.stopping import DistanceWatch
from ddarts.searching.strategy import Differentiable, SearchOutcome, implementation_of
from ddarts.searching.trials import search_by_trials
from ddarts.supernet.backends.inductor import compiler_errors_explained
from ddarts.supernet.backends.selection import on_backend
from ddarts.supernet.choice_supernet import ChoiceSupernet
from ddarts.training.initial import FOLDER, save_for_training
from ddarts.training.resumable import ResumableLoop, objective_of, reads_every
from ddarts.training.schedule import cosine

_STAGE = "search"
_PRETRAINING = "pretrain"  # stage of the metrics of epochs in which weights are trained alone

#: Steps between two lines of losses in the metrics.
_LOG_STEPS = 20


@streams_restored()
def search_architecture(
    settings: SearchSettings,
    images: ImageData,
    run: RunFolder,
    *,
    start: StartingPoint | None = None,
    quiet: bool = False,
) -> SearchOutcome:
    """Search an architecture for the images, or resume from the run's checkpoint if it has one.

    From a starting point the alphas start at its baseline, the weights are trained alone first, and the distance to the
    baseline is watched; the search itself is the same (DARTOpti; paper, section 5).

    Of several processes that search together (`ddarts.runtime.engine.join`) one writes; all get the same outcome.

    Writes gates.json, genotype.json, metrics and checkpoints into the run. A resumed search ends with the very gates of
    an uninterrupted one (same machine, same settings). Test images are not looked at.

    Raises:
        SettingsError, DataError: the settings do not fit the images.
        GenotypeError: the rule finds nothing in a cell at the end; gates.json is there, for another rule.
        DivergedError: the loss is not finite; the last good checkpoint is kept.
        Stopped: Ctrl-C or SIGTERM; a checkpoint is written first.
        RunError: the run cannot be written, its checkpoint is of another search, or another process has ended.
    """
    if isinstance(settings.search.strategy, TrialOptions):
        return search_by_trials(settings, images, run, quiet=quiet)
    fabric = launch(settings)
    if getattr(settings.search.strategy, "shortlist", 0) and current().size > 1:
        raise SettingsError("a shortlist is trained in one process; leave out --shortlist, or --devices and --machines")
    with current().watched(f"ddarts search --resume {run.path}"), library.allowed(settings.search.backend != "torch"):
        return _Search(settings, images, run, fabric, start).run_to_the_end(quiet)


class _Search(ResumableLoop):
    """One search: what does not change while it runs, and its state."""

    stage = _STAGE

    def __init__(
        self,
        settings: SearchSettings,
        images: ImageData,
        run: RunFolder,
        fabric: Fabric,
        start: StartingPoint | None = None,
    ) -> None:
        options = settings.search
        self.settings, self.options, self.run, self.images = settings, options, run, images
        self.fabric, self.ranks = fabric, current()
        if options.search_classes is not None:
            images = with_classes(images, options.search_classes, seed=settings.seed)
        self.strategy: Differentiable[Any] = implementation_of(options.strategy)(options.strategy)
        baseline = None if start is None else start.baseline
        self.start = start
        net = build_supernet(settings, images, baseline, self.strategy.extra_logits, start and start.original)
        self.budget = budget_of(settings, self.images, run.summary.get("fixed", {}), net.space, run.path)
        if self.budget is not None and settings.budget.price > 0:
            # of several processes one counts: predicted latencies may differ
            price = self.budget.price(net.space) if self.ranks.leads else None
            found = Price(**self.ranks.share(None if price is None else asdict(price)))
            self.strategy.price = lambda gates: Term(settings.budget.price, found(gates))
        self.pretraining = pretrain_epochs(options)
        self.last_epoch = self.pretraining + options.epochs
        self.watch = None if start is None else DistanceWatch.of(options, start, settings.derive.threshold)

        train = split(images, validation=settings.validation, seed=settings.seed).train
        weight_half, alpha_half = search_parts(
            train, seed=settings.seed, weights=options.weights_share, alphas=options.alphas_share
        )
        shared: dict[str, Any] = {
            "seed": settings.seed,
            "mean": images.mean,
            "std": images.std,
            "device": fabric.device,
            "ranks": self.ranks,
            "workers": workers_each(settings.workers),
            "balance": settings.balance == "sampling",
            "augment": Augment.at(
                images.height, images.width, shift=min(images.height, images.width) // 8, flip=images.flip
            ),
        }
        self.objective = objective_of(settings, images, train.labels, fabric.device)
        steps = options.steps_per_epoch
        self.weight_batches = Batches(weight_half, options.batch, label="search weights", steps=steps, **shared)
        self.alpha_batches = Batches(alpha_half, options.batch, label="search alphas", **shared)
        self.steps = min(self.weight_batches.per_epoch, options.steps_per_epoch or self.weight_batches.per_epoch)
        self.about = {"images": len(train), "steps_per_epoch": self.steps, "classes": len(images.classes)}

        net.to(fabric.device).to(memory_format=torch.channels_last)
        synchronised = settings.sync_batch_norm and self.ranks.size > 1
        net = on_backend(net, options.backend, fabric.device, synchronised=synchronised)
        net.recompute = options.memory == "low"
        self.state = SearchState(net, self.strategy, options, fabric)
        # DistributedDataParallel takes charge of the parameters that want gradients now: all but the alphas, which no
        # weight step reaches, so that it need not look for unused parameters
        net.alphas.requires_grad_(False)
        self.module, self.weight_optimizer = fabric.setup(net, self.state.weight_optimizer)
        net.alphas.requires_grad_(True)

    # -- the whole search ------------------------------------------------------------------------------------------

    def run_to_the_end(self, quiet: bool) -> SearchOutcome:
        """Search from where the state is to the last epoch or an early stop, and derive."""
        if self.restore():
            self.run.rewind(_PRETRAINING, self.steps_done, self.state.epoch)
            self.run.rewind(_STAGE, self.steps_done, self.state.epoch - self.pretraining)
        state, rule = self.state, self.settings.derive
        with self.stop_request() as stop, Progress(_STAGE, self.last_epoch * self.steps, quiet=quiet) as progress:
            if self.options.backend == "inductor":
                progress.note("the first steps take minutes: PyTorch's compiler makes their kernels")
            while state.epoch <= self.last_epoch and state.stopped is None:
                with compiler_errors_explained():
                    self.search_epoch(stop, progress)
                self.end_epoch(progress)
        if state.stopped is not None and state.best is not None:
            best_epoch, _, gates = state.best
        else:
            best_epoch, gates = self.search_epoch_number - 1, state.gates()
        if self.run.writes:
            gates.save(self.run.path / "gates.json")
        name = printable_name(f"{self.run.path.name}-{rule.method}")
        genotype = self.strategy.derive(gates, rule.method, rule.threshold, name)
        genotype, seconds = verified(
            self.settings,
            self.images,
            self.run,
            state.net,
            gates,
            genotype,
            self.alpha_batches,
            self.objective,
            self.budget,
            quiet=quiet,
        )
        if not self.strategy.trains_alphas:
            gates = discrete_gates(state.net.space, genotype)
            if self.run.writes:
                gates.save(self.run.path / "gates.json")
        costs: dict[str, float] = {}
        if self.budget is not None and genotype.size is None:
            genotype, costs = self.fitted(self.budget, gates, name)
        elif self.budget is not None:
            costs = self.budget.costs(laid_out(genotype, self.budget.layers))
        if self.run.writes:
            genotype.save(self.run.path / "genotype.json")
            self.keep_weights(genotype)
        return SearchOutcome(gates, genotype, best_epoch, state.elapsed_s + seconds, state.stopped, costs)

    def fitted(self, budget: Budget, gates: AnyGates, name: str) -> tuple[AnyGenotype, dict[str, float]]:
        """Return the genotype of the best gates that keep the budget, and its costs; of several processes, rank 0's."""
        found: list[Any] | None = None
        if self.ranks.leads:
            rule = self.settings.derive
            fitted = budget.fit(gates, rule.method, rule.threshold, name, derive=self.strategy.derive)
            found = [fitted.genotype.to_dict(), fitted.costs]
        data, costs = self.ranks.share(found)
        return genotype_from_dict(data), costs

    def keep_weights(self, genotype: AnyGenotype) -> None:
        """Write the networks of torchvision or timm before and after the search, for trainings to start with."""
        net = self.state.net
        if self.start is None or not isinstance(genotype, ChoiceGenotype) or not isinstance(net, ChoiceSupernet):
            return
        save_for_training(self.run.path / FOLDER, self.images, net.discrete(genotype))
        before = self.start.network(len(self.images.classes))
        if before is not None:
            save_for_training(self.run.path / "original", self.images, before)

    def search_epoch(self, stop: StopRequest, progress: Progress) -> None:
        """Do the steps of the epoch that are left, with a checkpoint now and then.

        In an epoch of pre-training the alphas stay where they are.
        """
        state = self.state
        moves = self.moves_alphas
        read_every = reads_every(self.fabric.device, _LOG_STEPS)
        self.module.train()
        while state.step < self.steps:
            terms = self.alpha_step() if moves else None
            self.weight_step()
            state.step += 1
            done = self.steps_done
            looks = done % read_every == 0 or state.step == self.steps
            if looks:
                self.read_losses()
                self.show(progress)
            if terms is not None and done % _LOG_STEPS == 0:
                self.log_step(terms)
            self.after_step(stop, looks)

    # -- one step --------------------------------------------------------------------------------------------------

    def alpha_step(self) -> dict[str, Any]:
        """Move the alphas on a batch of the alpha half; return the loss's terms, unread."""
        state, options, seed = self.state, self.options, self.settings.seed
        step = self.search_step
        x, y = self.alpha_batches.batch(*divmod(step, self.alpha_batches.per_epoch))
        plan = self.strategy.plan(state.contributions, state.net, seed, step)
        logits, progress = state.net.architecture_parameters(), self.progress
        gates = self.strategy.relax(logits, progress, generator(seed, "search", "alpha gates", step))

        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        outcome = alpha_gradients(
            state.net,
            x,
            y,
            gates,
            regulariser=lambda: self.strategy.terms(logits, gates, progress),
            plan=plan,
            autocast=self.fabric.autocast,
            loss_scale=1.0 if scaler is None else scaler.get_scale(),
            ranks=self.ranks,
            objective=self.objective,
        )
        self.set_rate(state.alpha_optimizer, options.alpha_lr, options.alpha_lr_min)
        for alpha, gradient in zip(state.net.architecture_parameters(), outcome.gradients, strict=True):
            alpha.grad = gradient
        # fp16 gradients overflow now and then, until the weight step has lowered the scale: such a step is left out
        if scaler is None or all(bool(g.isfinite().all()) for g in outcome.gradients):
            state.alpha_optimizer.step()
        state.alpha_optimizer.zero_grad()
        state.contributions.add(plan, outcome.marginal)
        state.on_alphas.add(outcome.cross_entropy, outcome.correct, len(y))  # of this process's part of the batch
        return {
            "ce": outcome.cross_entropy,
            **{name: term.value for name, term in outcome.terms.items()},
            **{f"{name}_weight": term.weight for name, term in outcome.terms.items()},
            **({"marginal_mean": outcome.marginal.mean()} if len(outcome.marginal) else {}),
        }

    def weight_step(self) -> None:
        """Move the weights on a batch of the weight half, the gates held fixed."""
        state, options = self.state, self.options
        x, y = self.weight_batches.batch(state.epoch, state.step)
        self.set_rate(self.weight_optimizer, options.lr, options.lr_min)
        alphas = [alpha.detach() for alpha in state.net.alphas]
        draw = generator(self.settings.seed, "search", "weight gates", self.steps_done)
        gates = self.strategy.relax(alphas, self.progress, draw)
        logits = self.module(x, lambda: gates)
        loss = self.objective.loss(logits, y)
        self.weight_optimizer.zero_grad()
        self.fabric.backward(loss)
        # a gradient that is not finite shows in the next loss; under fp16 it is common, and the step is left out
        self.fabric.clip_gradients(self.module, self.weight_optimizer, max_norm=options.clip, error_if_nonfinite=False)
        self.weight_optimizer.step()
        state.on_weights.add(loss, self.objective.task.hits(logits, y), len(y))

    def set_rate(self, optimizer: Any, start: float, end: float) -> None:
        """Set the learning rate of this step; pre-training keeps the first."""
        for group in optimizer.param_groups:
            group["lr"] = cosine(start, end, max(self.search_step, 0), self.options.epochs * self.steps)

    # -- between steps ---------------------------------------------------------------------------------------------

    def end_epoch(self, progress: Progress) -> None:
        """Log, judge the gates, and checkpoint the start of the next epoch."""
        state = self.state
        self.check_finite()
        self.check_alike()
        if self.moves_alphas:
            self.judge_epoch(progress)
        else:
            alone = state.epoch <= self.pretraining
            self.run.log(
                _PRETRAINING if alone else _STAGE,
                "epoch",
                epoch=state.epoch if alone else self.search_epoch_number,
                step=self.steps_done,
                train_loss=state.on_weights.loss,
                train_accuracy=state.on_weights.accuracy,
                elapsed_s=time.perf_counter() - self.started,
            )
        state.epoch, state.step = state.epoch + 1, 0
        state.on_alphas, state.on_weights = type(state.on_alphas)(), type(state.on_weights)()
        state.contributions.new_epoch()
        self.save_checkpoint()

    def judge_epoch(self, progress: Progress) -> None:
        """Log an epoch of the search; stop if a cell has collapsed or the distance to the baseline is steady.

        A search stops early only if it has gates to fall back on: of an epoch from which a genotype can be derived.
        """
        state, options, rule = self.state, self.options, self.settings.derive
        finished = self.search_epoch_number
        gates = state.gates()
        health = check_health(gates, rule.method, rule.threshold, last=finished == options.epochs)
        accuracy = state.on_alphas.accuracy
        distances: dict[str, float | None] = {}
        if self.watch is not None:
            distance, edits = self.watch.measure(gates)
            state.distances.append(distance)
            distances = {"distance": distance} | ({} if edits is None else {"edit_distance": edits})
        self.run.log(
            _STAGE,
            "epoch",
            epoch=finished,
            step=self.steps_done,
            search_loss=state.on_alphas.loss,
            search_accuracy=accuracy,
            train_loss=state.on_weights.loss,
            train_accuracy=state.on_weights.accuracy,
            gates=gates.values,
            marginal=state.contributions.epoch_means(),
            ablation=state.contributions.epoch_losses(state.on_alphas.loss, self.strategy.ablation_floor),
            parameter_free=health.parameter_free,
            margin=health.margin,
            **distances,
            elapsed_s=time.perf_counter() - self.started,
        )
        if not health.collapsed:
            good = health.complete and max(health.parameter_free) < 1
            if good and (state.best is None or accuracy >= state.best[1]):
                state.best = (finished, accuracy, gates)
        elif options.stop_on_collapse and state.best is not None:
            cells = ", ".join(str(c) for c in health.collapsed)
            state.stopped = (
                f"epoch {finished}: cell {cells} would be made of pools and identities only; "
                f"the gates of epoch {state.best[0]} are kept (stop_on_collapse)"
            )
            progress.note(state.stopped)
        watch = self.watch if options.stop_on_distance and finished < options.epochs else None
        if watch is not None and state.stopped is None and health.complete and watch.steady(state.distances):
            state.best = (finished, accuracy, gates)
            edits = distances.get("edit_distance")
            beside = "" if edits is None else f" (edit distance {edits:.4f})"
            state.stopped = (
                f"epoch {finished}: the distance to the baseline, {state.distances[-1]:.4f}{beside}, has changed by at "
                f"most {options.distance_tolerance:g} over {counted(options.distance_epochs, 'epoch')} in a row "
                "(stop_on_distance)"
            )
            progress.note(state.stopped)

    def show(self, progress: Progress) -> None:
        """Show where the search is."""
        state = self.state
        if state.epoch > self.pretraining:
            where = f"{self.search_epoch_number}/{self.options.epochs}"
        else:
            where = f"weights alone {state.epoch}/{self.pretraining}"
        more = {"accuracy": state.on_weights.accuracy}
        if self.moves_alphas:
            more = {"alpha_loss": state.on_alphas.loss, "accuracy": state.on_alphas.accuracy}
        progress.update(self.steps_done, epoch=where, loss=state.on_weights.loss, **more)

    @property
    def moves_alphas(self) -> bool:
        """Whether the steps of this epoch move alphas, too: none of the pre-training do, nor any of some strategies."""
        return self.state.epoch > self.pretraining and self.strategy.trains_alphas

    @property
    def progress(self) -> float:
        """Position in the search proper, from 0 to 1; 0 during the pre-training."""
        return max(self.search_step, 0) / (self.options.epochs * self.steps)

    @property
    def search_step(self) -> int:
        """Steps done since the start of the search proper; negative during the pre-training."""
        return self.steps_done - self.pretraining * self.steps

    @property
    def search_epoch_number(self) -> int:
        """The epoch of the search proper that is under way, from 1."""
        return self.state.epoch - self.pretraining

    def log_step(self, terms: dict[str, Any]) -> None:
        """Write a line of losses."""
        state = self.state
        self.run.log(
            _STAGE,
            "step",
            epoch=self.search_epoch_number,
            step=self.steps_done,
            **{name: float(value) for name, value in terms.items()},
            train_loss=state.on_weights.last_loss,
            lr=self.weight_optimizer.param_groups[0]["lr"],
            alpha_lr=state.alpha_optimizer.param_groups[0]["lr"],
        )

    def read_losses(self) -> None:
        """Look at the losses since the last look; raise `DivergedError` if one is not finite."""
        state = self.state
        for meter, half in ((state.on_alphas, "alpha"), (state.on_weights, "weight")):
            ago = meter.flush(self.ranks)
            if ago is not None:
                self.diverged(f"the loss on the {half} half is {meter.last_loss}", self.steps_done - ago)

    def check_alike(self) -> None:
        """Raise `RunError` unless all processes hold the same alphas, to the bit."""
        if not self.ranks.same(self.state.net.architecture_parameters()):
            raise RunError(
                f"the alphas of the {self.ranks.size} processes have drifted apart in epoch {self.state.epoch} (are "
                "the devices of different kinds?); use fewer processes, or devices of one kind: "
                f"ddarts search --resume {self.run.path}"
            )
