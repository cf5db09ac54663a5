"""The discrete network gives the reference's numbers when it holds the reference's weights."""

from __future__ import annotations

import pytest
import torch

from ddarts.cost.counting import count_parameters
from ddarts.hub.reference_names import reference_names
from ddarts.nn.network import Network
from tests.reference.golden import golden_json, golden_tensors, relative_error
from tests.reference.mapping import genotype_from_reference

_TOLERANCE = 1e-4


@pytest.mark.parametrize("name", ["cifar_dd_sparse", "cifar_resnet18_sparse", "imagenet_resnet18_sparse"])
def test_the_reference_weights_give_the_reference_logits(name: str) -> None:
    about, tensors = golden_json(f"derived_{name}"), golden_tensors(f"derived_{name}")
    genotype = genotype_from_reference(about["genotype"])
    network = Network(
        genotype,
        channels=about["init_channels"],
        classes=about["num_classes"],
        stem=about["stem"],
        auxiliary=about["auxiliary"],
    )
    reference = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    names = reference_names(network)
    assert set(names.values()) == set(reference)
    network.load_state_dict({ours: reference[theirs] for ours, theirs in names.items()}, strict=True)

    network.eval()
    assert relative_error(network(tensors["input"]), tensors["logits_eval"]) < _TOLERANCE
    network.train()
    outputs = network(tensors["input"])
    logits = outputs[0] if about["auxiliary"] else outputs
    assert relative_error(logits, tensors["logits_train"]) < _TOLERANCE
    if about["auxiliary"]:
        assert relative_error(outputs[1], tensors["logits_aux_train"]) < _TOLERANCE
    assert count_parameters(network, auxiliary=True) == about["parameters_total"]
    assert count_parameters(network) == about["parameters_without_auxiliary"]


def test_a_published_architecture_has_its_published_size() -> None:
    genotype = genotype_from_reference(golden_json("published")["ddarts"]["ResNet18_cifar10_threshold_sparse_0.85"])
    with torch.device("meta"):
        network = Network(genotype, channels=64)
    assert round(count_parameters(network) / 1e6, 1) == 36.3  # DO-ResNet18, specification, section 11
