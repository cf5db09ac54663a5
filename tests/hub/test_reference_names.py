"""Names of published state dicts, written out by hand; tests/hub/test_importing.py compares what is computed."""

from __future__ import annotations

import pytest
import torch

from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.hub.reference_names import OPERATION_PARTS, reference_names, unbuilt_prefixes
from ddarts.nn.network import Network
from ddarts.space.operations import BUILT_IN_OPERATIONS

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _network(*edges: Edge, concat: tuple[int, ...] = (2,), reduction: bool = False, **sizes: object) -> Network:
    with torch.device("meta"):
        return Network(Genotype((CellGenotype(edges, concat, reduction),)), channels=4, **sizes)  # type: ignore[arg-type]


def _part(network: Network, start: str, *, positional: bool = False) -> set[str]:
    names = reference_names(network, positional=positional).values()
    return {name.removeprefix(start) for name in names if name.startswith(start)}


def _layers(convolutions: str, norms: str, head: str = "op.") -> set[str]:
    return {f"{head}{n}.weight" for n in convolutions.split()} | {
        f"{head}{n}.{v}" for n in norms.split() for v in _NORM
    }


@pytest.mark.parametrize(
    ("operation", "names"),
    [
        ("max_pool_3x3", set()),
        ("avg_pool_3x3", set()),
        ("skip_connect", set()),
        ("simple_conv_1x1", _layers("1", "2")),
        ("simple_conv_3x3", _layers("1", "2")),
        ("sep_conv_3x3", _layers("1 2 5 6", "3 7")),
        ("sep_conv_5x5", _layers("1 2 5 6", "3 7")),
        ("dil_conv_3x3", _layers("1 2", "3")),
        ("dil_conv_5x5", _layers("1 2", "3")),
        ("conv_3x1_1x3", _layers("1 2", "3")),
        ("conv_7x1_1x7", _layers("1 2", "3", head="")),
        ("bottleneck_1x3x1", _layers("1 3 5 8", "2 4 6 9")),
    ],
)
def test_each_operation_has_its_published_names(operation: str, names: set[str]) -> None:
    assert _part(_network(Edge(operation, 1, 2)), "cells.0._ops.2.1.0.") == names


def test_no_operation_is_forgotten() -> None:
    assert set(OPERATION_PARTS) == set(BUILT_IN_OPERATIONS)


def test_an_identity_that_halves_and_the_input_after_a_reduction_have_two_convolutions() -> None:
    halved = _layers("conv_1 conv_2", "bn", head="")
    network = _network(Edge("skip_connect", 0, 2), Edge("skip_connect", 1, 2), reduction=True, stem="imagenet")
    assert _part(network, "cells.0._ops.2.0.0.") == halved
    assert _part(network, "cells.0.preprocess0.") == halved
    assert _part(network, "cells.0.preprocess1.") == _layers("1", "2")


def test_operations_are_counted_on_their_edge_or_in_their_cell() -> None:
    edges = (
        Edge("dil_conv_3x3", 0, 2),
        Edge("sep_conv_3x3", 1, 2),
        Edge("skip_connect", 0, 3),
        Edge("sep_conv_5x5", 0, 3),
    )
    network = _network(*edges, concat=(2, 3))
    places = {name.split(".op")[0] for name in _part(network, "cells.0._ops.")}
    assert places == {"2.0.0", "2.1.0", "3.0.1"}
    assert {name.split(".op")[0] for name in _part(network, "cells.0._ops.", positional=True)} == {"0", "1", "3"}


def test_stems_and_heads_have_their_published_names() -> None:
    edge = Edge("max_pool_3x3", 1, 2)
    small, large = _network(edge, auxiliary=True), _network(edge, stem="imagenet")
    assert _part(small, "stem.") == _layers("0", "1", head="")
    assert _part(large, "stem0.") == _layers("0 3", "1 4", head="")
    assert _part(large, "stem1.") == _layers("1", "2", head="")
    assert _part(small, "auxiliary_head.features.") == _layers("2 5", "3 6", head="")
    assert _part(small, "auxiliary_head.classifier.") == _part(small, "classifier.") == {"weight", "bias"}


def test_what_is_not_built_is_told_by_the_start_of_its_names() -> None:
    edges = (Edge("sep_conv_3x3", 0, 2), Edge("sep_conv_3x3", 0, 3))
    cell = CellGenotype(edges, (3,))
    with torch.device("meta"):
        two = Network(Genotype((cell, cell)), channels=4, stem="imagenet")
    assert unbuilt_prefixes(two) == ("cells.0.", "cells.1.preprocess1.", "cells.1._ops.2.0.0.")
    assert unbuilt_prefixes(two, positional=True)[-1] == "cells.1._ops.0."
    assert not any(name.startswith(unbuilt_prefixes(two)) for name in reference_names(two).values())
    one = _network(*edges, concat=(2, 3), stem="imagenet")
    assert unbuilt_prefixes(one) == ("stem1.", "cells.0.preprocess1.")
