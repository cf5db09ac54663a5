"""A tiny model, and a run around one, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.hub.saved import SavedModel, load_model, save_model
from ddarts.nn.network import Network


def every_operation(stride: int) -> CellGenotype:
    """Return a cell with every operation once, and identities."""
    from ddarts.space.operations import BUILT_IN_OPERATIONS

    edges = [Edge(name, i % 2, 2 + i % 3) for i, name in enumerate(BUILT_IN_OPERATIONS)]
    return CellGenotype((*edges, Edge("skip_connect", 2, 4)), (2, 3, 4), reduction=stride == 2)


def make_network(**settings: object) -> Network:
    """Return a network of all operations, with batch statistics that are not those of a new one."""
    torch.manual_seed(0)
    genotype = Genotype((every_operation(1), every_operation(2)), "all operations")
    network = Network(genotype, **{"channels": 3, "in_channels": 1, "classes": 3, **settings})
    for _ in range(30):
        network(torch.randn(16, 1, 9, 9))
    return network.eval()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder without a run; the sides of its images are odd."""
    folder = tmp_path_factory.mktemp("deploy") / "model"
    save_model(folder, make_network(), classes=("a", "b", "c"), resolution=(9, 9), mean=(0.4,), std=(0.2,))
    return folder


@pytest.fixture(scope="session")
def saved(model: Path) -> SavedModel:
    return load_model(model)
