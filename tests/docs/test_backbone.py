"""What docs/backbone.md tells people to run does run."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import torch

from ddarts.genotype.random import random_genotype
from ddarts.hub.saved import save_model
from ddarts.nn.network import Network
from ddarts.space.cell_space import build_space
from tests.processes import finished

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "backbone.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Run the snippets in order, in a folder with a run that has a trained model; return what each prints."""
    pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("snippets")
    torch.manual_seed(0)
    network = Network(random_genotype(build_space("darts", cells=4, nodes=2), seed=1), channels=4, classes=2)
    about = {"classes": ["a", "b"], "resolution": (32, 32), "mean": [0.5] * 3, "std": [0.2] * 3}
    save_model(folder / "runs" / "my-run" / "model", network, **about)
    between = "=== next ==="
    script = f"\nprint({between!r})\n".join(_blocks("python"))
    done = finished(script, folder=folder)
    assert done.status == 0, done.err
    return done.out.split(between + "\n")


def test_the_snippets_run_and_print_what_the_page_says(outputs: list[str]) -> None:
    assert len(outputs) == len(_blocks("python")) == 6
    assert outputs[0] == _blocks("text")[0]
    assert "ddarts_dd_cifar10_sparse" in outputs[1]
    assert outputs[4] == "(4, 8, 16)\n"


def test_the_commands_are_those_of_the_examples_and_of_an_extra_that_is_there() -> None:
    commands = [shlex.split(line) for block in _blocks("sh") for line in block.splitlines()]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert commands[0] == ["pip", "install", "ddarts[timm]"]
    assert "timm" in extras
    examples = [command[1] for command in commands[1:]]
    assert examples == ["examples/detection.py"] * 2 + ["examples/segmentation.py"] * 2


def test_pictures_and_pages_that_are_linked_are_there_and_small() -> None:
    linked = [target for target in re.findall(r"\]\(([^)]+)\)", PAGE) if "://" not in target]
    assert len(linked) == 4
    for target in linked:
        path = ROOT / "docs" / target.partition("#")[0]
        assert path.is_file(), target
        assert path.stat().st_size < 150_000 or path.suffix == ".md"
