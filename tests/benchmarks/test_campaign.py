"""A seeded cut of the campaign (`make campaign`): its damage, its verdicts, and the readers without a process each."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddarts.config.yaml_file import read_yaml
from ddarts.errors import DDartsError
from ddarts.genotype.gates import Gates
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.random import random_genotype
from ddarts.hub.saved import load_model, save_model
from ddarts.nn.network import Network
from ddarts.runs import checkpoints
from ddarts.space.cell_space import build_space

_PATH = Path(__file__).parents[2] / "benchmarks" / "campaign.py"


@pytest.fixture(scope="module")
def campaign() -> Any:
    spec = importlib.util.spec_from_file_location("campaign", _PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, tuple[Callable[[Path], Any], bool]]:
    """Every kind of file with its reader, and whether any damage must be noticed."""
    folder = tmp_path_factory.mktemp("files")
    space = build_space(cells=2, nodes=1)
    genotype = random_genotype(space, seed=0)
    genotype.save(folder / "genotype.json")
    Gates.from_space(space, [[[0.5] * len(space.operations)] * len(space.edges)] * 2).save(folder / "gates.json")
    (folder / "settings.yaml").write_text(
        "format: ddarts-run\nversion: 2\nsearch: {search: {lr: 0.1, reductions: [0, 1]}}\n"
    )
    network = Network(genotype, channels=2, in_channels=1, classes=2)
    save_model(folder / "model", network, classes="ab", resolution=(8, 8), mean=[0.5], std=[0.5])
    checkpoints.save({"step": 1, "network": network.state_dict()}, folder / "train.pt", folder / "previous.pt")
    return {
        folder / "genotype.json": (Genotype.load, False),
        folder / "gates.json": (Gates.load, False),
        folder / "settings.yaml": (lambda path: read_yaml(path, typed=True), False),
        folder / "model" / "config.json": (lambda path: load_model(path.parent), False),
        folder / "model" / "model.safetensors": (lambda path: load_model(path.parent), True),
        folder / "train.pt": (checkpoints.load, True),
    }


@pytest.mark.parametrize("seed", range(25))
def test_a_damaged_file_is_read_or_refused_in_one_line(campaign: Any, files: Any, seed: int) -> None:
    for path, (read, must_notice) in files.items():
        content = path.read_bytes()
        path.write_bytes(campaign.damage(content, random.Random(seed)))
        message = None
        try:
            read(path)
        except DDartsError as error:
            message = str(error)
        path.write_bytes(content)
        assert "\n" not in (message or ("\n" if must_notice else "")), path
        read(path)


def test_only_a_result_or_one_line_of_status_2_passes(campaign: Any) -> None:
    assert campaign.one_line(0, "") is None
    assert campaign.one_line(2, "ddarts: error: x\n") is None
    for status, said in ((1, "ddarts: error: x"), (2, ""), (2, "ddarts: error: x\nddarts: error: y"), (124, "")):
        assert campaign.one_line(status, said)
    assert campaign.one_line(2, "Traceback\nddarts: error: x")


def test_a_command_that_is_killed_reports_its_signal(campaign: Any) -> None:
    assert campaign.ddarts("--version")[0] == 0
    assert campaign.ddarts("show", "nowhere")[0] == 2
    assert campaign.ddarts("zoo", kill_after=0.0)[0] == -9
