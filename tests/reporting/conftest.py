import json
import math
import random
import shutil
from pathlib import Path

import pytest
import torch

from ddarts.config.schema import RunSettings, SearchOptions
from ddarts.genotype.derive import derive_genotype, margins, parameter_free_share
from ddarts.genotype.gates import Gates
from ddarts.reporting.thumbnails import thumbnail, write_thumbnails
from ddarts.runs.folder import RunFolder
from ddarts.space.cell_space import build_space

CELLS, EPOCHS = 5, 6
CLASSES = ("cat", "dog <b>", "bird")


def gates_at(epoch: int, cells: int = CELLS) -> Gates:
    """Gates that part from 0.5 as a search goes on, the same at every call."""
    source = random.Random(3)
    space = build_space("darts", cells=cells, nodes=3)
    progress = 4.0 * epoch / EPOCHS
    values = [
        [[1 / (1 + math.exp(-progress * source.gauss(0.2, 0.9))) for _ in space.operations] for _ in space.edges]
        for _ in range(cells)
    ]
    return Gates.from_space(space, values)


def write_search(run: RunFolder, cells: int = CELLS) -> None:
    for epoch in range(1, EPOCHS + 1):
        gates = gates_at(epoch, cells)
        run.log("search", "step", epoch=epoch, step=10 * epoch - 5, ce=1.0, lr=0.005)
        run.log(
            "search",
            "epoch",
            epoch=epoch,
            step=10 * epoch,
            search_loss=2.3 / epoch,
            search_accuracy=1 - 0.9 / epoch,
            train_loss=2.2 / epoch,
            train_accuracy=1 - 0.8 / epoch,
            gates=gates.values,
            marginal=[-0.1 * cell * epoch / EPOCHS for cell in range(cells)],
            parameter_free=parameter_free_share(gates),
            margin=[m.smallest for m in margins(gates)],
            elapsed_s=12.5 * epoch,
        )
    final = gates_at(EPOCHS, cells)
    final.save(run.path / "gates.json")
    derive_genotype(final, name='made up <script>alert("x")</script>').save(run.path / "genotype.json")


def write_training(run: RunFolder) -> None:
    for epoch in range(1, EPOCHS + 1):
        run.log(
            "train",
            "epoch",
            epoch=epoch,
            step=20 * epoch,
            train_loss=1.5 / epoch,
            train_accuracy=1 - 0.7 / epoch,
            val_loss=1.6 / epoch,
            val_accuracy=1 - 0.75 / epoch,
            lr=0.025 * (1 - epoch / EPOCHS),
            elapsed_s=30.0 * epoch,
        )


def write_test(run: RunFolder) -> None:
    test = {
        "top1": 0.95,
        "loss": 0.1234,
        "count": 60,
        "classes": list(CLASSES),
        "confusion": [[20, 0, 0], [2, 17, 1], [0, 0, 20]],
        "per_class": {"cat": 1.0, "dog <b>": 0.85, "bird": 1.0},
        "mistakes": [
            {"file": "pets/x.png", "image": 7, "truth": 1, "taken": 2, "confidence": 0.99, "chance": 0.005},
            {"image": 3, "truth": 1, "taken": 0, "confidence": 0.7, "chance": 0.25},
        ],
    }
    write_thumbnails(run.path, (thumbnail(torch.full((3, 5, 5), 200, dtype=torch.uint8)),))
    (run.path / "test.json").write_text(json.dumps(test))


def fill(run: RunFolder) -> None:
    write_search(run)
    write_training(run)
    write_test(run)
    run.update_summary(
        test_top1=0.95,
        val_top1=0.9612,
        parameters=1_680_000,
        macs=259_000_000,
        search_s=75.25,
        train_s=3840.0,
        latency_ms=3.2149,
        latency_p95_ms=4.0,
        latency_on="a CPU, 1 thread",
        data="digits",
        seed=7,
        best_epoch=6,
        versions={"ddarts": "0.1.0", "torch": "2.6"},
    )


def begin(folder: Path) -> RunFolder:
    run = RunFolder.create(folder / "my run & co")
    run.write_settings("run", RunSettings(search=SearchOptions(cells=CELLS, nodes=3, epochs=EPOCHS)))
    run.close()
    return run


@pytest.fixture
def bare_run(tmp_path: Path) -> RunFolder:
    """A run that holds its settings and nothing else."""
    return begin(tmp_path)


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that holds everything, for tests that change nothing in it."""
    with begin(tmp_path_factory.mktemp("shared")) as run:
        fill(run)
    return run


@pytest.fixture
def whole_run(shared_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the run that holds everything, for tests that damage it."""
    shutil.copytree(shared_run.path, tmp_path / shared_run.path.name, ignore=shutil.ignore_patterns("report.html"))
    return RunFolder.open(tmp_path / shared_run.path.name)
