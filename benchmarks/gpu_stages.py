"""The stages of the package that gpu.py runs: the whole search, the derivation, the start of the final training."""

from __future__ import annotations

import itertools
import json
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measuring import emit

import ddarts
from ddarts.errors import GenotypeError
from ddarts.genotype.gates import Gates

Task = dict[str, Any]
_FALLBACK = "dd-cifar10-sparse"  # trained if there is nothing to train

#: Of the preset paper, so small that it takes seconds.
_SMALL_SEARCH = {"cells": 3, "nodes": 2, "channels": 2, "batch": 16, "epochs": 2, "steps_per_epoch": 2, "threads": 1}
_SMALL_TRAIN = {"channels": 2, "batch": 16, "epochs": 2, "steps_per_epoch": 2, "threads": 1}
_SMALL_TRAIN |= {"policy": "none", "auxiliary_weight": 0.0, "cutout": 0, "crop": 1}


@contextmanager
def _watched(run: Path, stage: str, keep: tuple[str, ...]) -> Iterator[None]:
    """Emit every epoch that the run logs from now on."""
    over = threading.Event()
    seen = len(_epochs(run, stage))

    def look() -> None:
        nonlocal seen
        every = _epochs(run, stage)
        for record in every[seen:]:
            emit(epochs=[{name: record.get(name) for name in ("epoch", "step", "elapsed_s", *keep)}])
        seen = len(every)

    def watch() -> None:
        while not over.wait(1.0):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        look()


def _epochs(run: Path, stage: str) -> list[dict[str, Any]]:
    """The whole lines about epochs of a stage in the run's metrics."""
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [r for r in map(json.loads, lines) if r.get("stage") == stage and r.get("kind") == "epoch"]


def _go_on(run: Path) -> dict[str, Any]:
    """Where a stage works: on in its run if there is one, else in a new one."""
    return {"resume": run} if (run / "settings.yaml").is_file() else {"out": run, "overwrite": True}


def _epoch_seconds(run: Path, stage: str) -> float | None:
    """Median time from one epoch's end to the next one's."""
    ends = [record["elapsed_s"] for record in _epochs(run, stage)]
    lasted = [later - earlier for earlier, later in itertools.pairwise(ends)]
    return statistics.median(lasted) if lasted else None


def search_phase(task: Task) -> None:
    run = Path(task["work"]) / "search"
    settings: Task = {"data": task["data"], "device": task["device"], "precision": task["precision"]}
    settings |= (_SMALL_SEARCH if task["small"] else {}) | task["settings"]
    where = _go_on(run)
    more: Task = settings | {"preset": "paper"} if "out" in where else {"device": task["device"]}
    try:
        with _watched(run, "search", ("search_loss", "search_accuracy", "train_loss", "train_accuracy", "margin")):
            found = ddarts.search(**where, **more, quiet=True)
        emit(search_s=found.search_s, best_epoch=found.best_epoch, stopped_early=found.stopped)
    except GenotypeError as error:  # the search itself is over, and its gates are there
        emit(search_s=_epochs(run, "search")[-1]["elapsed_s"], no_genotype=str(error))
    finally:
        done, seconds = _epochs(run, "search"), _epoch_seconds(run, "search")
        if done and seconds is not None:
            emit(epochs_done=len(done), median_epoch_s=seconds, seconds_for_50_epochs=50 * seconds)


def derive_phase(task: Task) -> None:
    work = Path(task["work"])
    run = work / "search"
    source: Path = run
    if not (run / "gates.json").is_file():
        source = _last_gates(run, work / "last-gates.json")
        emit(of="the gates of the last epoch: the search was stopped")
    for method in ("threshold_sparse", "darts"):
        try:
            found = ddarts.derive(source, out=work / "derived.json", overwrite=True, method=method)
        except GenotypeError as error:
            emit(**{f"not_by_{method}": str(error)})
            continue
        emit(method=found.method, threshold=found.threshold, genotype=found.genotype.to_dict())
        return
    raise GenotypeError("no rule finds a genotype in these gates")


def _last_gates(run: Path, path: Path) -> Path:
    from ddarts.config.schema import SearchOptions
    from ddarts.runs.folder import RunFolder
    from ddarts.searching.start import space_of

    epochs = _epochs(run, "search")
    if not epochs:
        raise GenotypeError("the search has not finished an epoch; give it more time")
    with RunFolder.open(run) as folder:
        options = SearchOptions(**folder.read_settings("search")["search"])
    Gates.from_space(space_of(options, None), epochs[-1]["gates"]).save(path)
    return path


def train_phase(task: Task) -> None:
    work = Path(task["work"])
    run, derived = work / "train", work / "derived.json"
    where = _go_on(run)
    more: Task = {"device": task["device"]}
    if "out" in where:
        genotype = str(derived) if derived.is_file() else _FALLBACK
        emit(genotype="of the search" if derived.is_file() else genotype)
        more |= {"genotype": genotype, "preset": "paper", "data": task["data"], "precision": task["precision"]}
        more |= _SMALL_TRAIN if task["small"] else {"steps_per_epoch": 50}  # short epochs, for figures before the end
    try:
        with _watched(run, "train", ("train_loss", "train_accuracy")):
            found = ddarts.train(**where, **more, quiet=True)
        emit(train_s=found.train_s, parameters=found.parameters, macs=found.macs)
    finally:
        epochs, seconds = _epochs(run, "train"), _epoch_seconds(run, "train")
        if seconds is not None:
            steps = epochs[1]["step"] - epochs[0]["step"]
            batch = 16 if task["small"] else 128
            emit(steps_done=epochs[-1]["step"], step_s=seconds / steps, images_per_s=batch * steps / seconds)
