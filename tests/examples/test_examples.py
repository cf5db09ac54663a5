"""The examples run, and write what they say; a few steps only."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddarts.genotype.random import random_genotype
from ddarts.hub.saved import save_model
from ddarts.nn.network import Network
from ddarts.space.cell_space import build_space
from tests.processes import finished

EXAMPLES = Path(__file__).parents[2] / "examples"


def _run(name: str, folder: Path, *options: str) -> str:
    script = str(EXAMPLES / name)
    code = f"""
import runpy, sys
sys.argv[0] = {script!r}
sys.path.insert(0, {str(EXAMPLES)!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    done = finished(code, *options, folder=folder)
    assert (done.status, done.err) == (0, "")
    return done.out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a trained model for small images."""
    torch.manual_seed(0)
    genotype = random_genotype(build_space("darts", cells=4, nodes=2), seed=1)
    network = Network(genotype, channels=4, classes=2, stem="imagenet")
    run = tmp_path_factory.mktemp("run")
    about = {"classes": ["a", "b"], "resolution": (32, 32), "mean": [0.5] * 3, "std": [0.2] * 3}
    save_model(run / "model", network, **about)
    genotype.save(run / "genotype.json")
    return run


@pytest.mark.parametrize("name", ["detection", "segmentation"])
def test_an_example_trains_a_trained_network_on_and_draws_its_picture(name: str, tmp_path: Path, trained: Path) -> None:
    printed = _run(f"{name}.py", tmp_path, "--steps", "3", "--genotype", str(trained), "--out", "result.png")
    lines = printed.splitlines()
    assert [line[:14] for line in lines[:2]] == ["step    1 of 3", "step    3 of 3"]
    assert re.search(r"on 40 images not seen in training.* \d+%", lines[-2])
    assert lines[-1] == "result.png"
    with Image.open(tmp_path / "result.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape == ({"detection": 304, "segmentation": 368}[name], 800, 3)
    assert pixels.std() > 20, "an empty picture"
    assert [path.name for path in tmp_path.iterdir()] == ["result.png"]


def test_an_example_takes_an_architecture_by_name(tmp_path: Path) -> None:
    assert "step    1 of 1" in _run("segmentation.py", tmp_path, "--steps", "1", "--genotype", "resnet18")


def test_made_images_are_the_same_in_every_run_and_agree_with_their_labels() -> None:
    code = """
import sys, hashlib
sys.path.insert(0, sys.argv[1])
from shapes import draw
digest = hashlib.sha256()
for number in range(20):
    image, boxes, labels, mask = draw(number, 96)
    assert image.shape == (3, 96, 96) and 0 <= image.min() and image.max() <= 1
    assert 1 <= len(boxes) == len(labels) <= 4
    assert set(mask.unique().tolist()) == {0, *labels.tolist()}
    for (x0, y0, x1, y1), label in zip(boxes.tolist(), labels.tolist()):
        assert 0 <= x0 < x1 <= 96 and 0 <= y0 < y1 <= 96
        assert mask[round((y0 + y1) / 2), round((x0 + x1) / 2)] == label
    digest.update(mask.numpy().tobytes())
print(digest.hexdigest())
"""
    first, second = (finished(code, EXAMPLES) for _ in range(2))
    assert (first.status, first.err) == (0, "")
    assert first.out == second.out
