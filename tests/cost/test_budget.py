from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from benchmarks.tables.spaces import MACRO as CHOICES
from ddarts.config.schema import BudgetOptions
from ddarts.cost.activations import peak_activation_bytes
from ddarts.cost.budget import USE, Budget
from ddarts.cost.counting import count_macs, count_parameters, file_bytes
from ddarts.cost.device import Device, operations_of
from ddarts.cost.kernels import NETWORK, features
from ddarts.errors import GenotypeError, SettingsError
from ddarts.genotype.choices import genotype_from_json
from ddarts.genotype.gates import AnyGates, gates_of
from ddarts.genotype.genotype import Size
from ddarts.genotype.random import random_genotype
from ddarts.nn.choice_network import AnyNetwork, build_network
from ddarts.space.cell_space import SearchSpace, build_space
from ddarts.space.choice_space import ChoiceSpace

CELLS = build_space("darts", cells=3, nodes=2)
SHARED = replace(CELLS, sequence=(0, 1, 1))
IMAGES, CLASSES = (3, 16, 16), 10


def gates(space: SearchSpace | ChoiceSpace, seed: int) -> AnyGates:
    draw = random.Random(seed)
    if isinstance(space, ChoiceSpace):
        return gates_of(space, [[[draw.random() for _ in choice.candidates]] for choice in space.choices])
    values = [[[draw.random() for _ in space.operations] for _ in space.edges] for _ in range(space.searched_cells)]
    return gates_of(space, values)


def network(genotype: Any) -> AnyNetwork:
    size = genotype.size
    return build_network(genotype, channels=size.channels, stem=size.stem, in_channels=3, classes=CLASSES)


def really(genotype: Any) -> dict[str, float]:
    built = network(genotype)
    return {
        "parameters": count_parameters(built),
        "macs": count_macs(built, IMAGES),
        "activations": peak_activation_bytes(built, (1, *IMAGES)),
        "size": len(save(built.state_dict(), metadata={"format": "pt"})),
    }


@settings(deadline=None, max_examples=8)
@given(
    st.integers(0, 10**6),
    st.sampled_from([CELLS, SHARED]),
    st.sampled_from(["darts", "threshold_sparse", "threshold_edge", "threshold_complete"]),
    st.dictionaries(st.sampled_from(["parameters", "macs", "size"]), st.floats(3e4, 3e5), min_size=1),
)
def test_the_network_keeps_every_budget(seed: int, space: Any, method: str, limits: dict[str, float]) -> None:
    limits = {kind: limit * (20 if kind == "macs" else 4 if kind == "size" else 1) for kind, limit in limits.items()}
    found = Budget(limits, IMAGES, CLASSES).fit(gates(space, seed), method, 0.6)
    costs = really(found.genotype)
    assert all(costs[kind] <= limit for kind, limit in limits.items())
    assert found.costs == {kind: costs[kind] for kind in limits}
    assert found.use == max(costs[kind] / limit for kind, limit in limits.items())
    assert found.use >= USE
    assert 0.5 < found.worth <= 1


def test_a_choice_space_keeps_every_budget() -> None:
    limits = {"parameters": 60_000.0, "size": 230_000.0}
    found = Budget(limits, IMAGES, CLASSES).fit(gates(CHOICES, 1))
    assert all(really(found.genotype)[kind] <= limit for kind, limit in limits.items())
    assert found.use >= USE


@pytest.mark.parametrize("space", [CELLS, CHOICES], ids=["cells", "choices"])
def test_activations_are_kept(space: Any) -> None:
    found = Budget({"activations": 300_000}, IMAGES, CLASSES).fit(gates(space, 2))
    assert 0.8 * 300_000 <= really(found.genotype)["activations"] <= 300_000


def test_the_other_stem_is_taken_where_the_first_leaves_no_width() -> None:
    found = Budget({"activations": 100_000}, (3, 32, 32), CLASSES).fit(gates(CELLS, 2))
    assert found.genotype.size is not None
    assert found.genotype.size.stem == "imagenet"
    fixed = Budget({"activations": 100_000}, (3, 32, 32), CLASSES, stem="cifar").fit(gates(CELLS, 2))
    assert fixed.genotype.size is not None
    assert fixed.genotype.size.stem == "cifar"


def test_a_fixed_width_is_kept_and_the_best_gates_win() -> None:
    wide = Budget({"parameters": 10**6}, IMAGES, CLASSES, channels=8).fit(gates(CELLS, 3))
    assert wide.genotype.size == Size(8, "cifar")
    assert wide.worth == 1
    limit = 0.9 * wide.costs["parameters"]
    narrow = Budget({"parameters": limit}, IMAGES, CLASSES, channels=8).fit(gates(CELLS, 3))
    assert narrow.genotype.size == Size(8, "cifar")
    assert narrow.worth < 1
    assert narrow.costs["parameters"] <= limit


def test_more_layers_are_counted() -> None:
    found = Budget({"parameters": 50_000}, IMAGES, CLASSES, layers=6).fit(gates(CELLS, 4))
    assert len(found.genotype) == 6
    assert USE * 50_000 <= really(found.genotype)["parameters"] <= 50_000


@pytest.mark.parametrize("space", [CELLS, CHOICES], ids=["cells", "choices"])
@pytest.mark.parametrize("kind", ["parameters", "macs", "size"])
def test_the_smallest_value_can_be_kept_and_none_below(space: Any, kind: str) -> None:
    with pytest.raises(SettingsError, match=f"max_{kind} = 10 .*cannot be kept: the smallest network has") as error:
        Budget({kind: 10}, IMAGES, CLASSES).check(space)
    least = int(str(error.value).partition("network has ")[2].partition(" ")[0].strip(";").replace(",", ""))
    with pytest.raises(SettingsError, match="cannot be kept"):
        Budget({kind: least - 1}, IMAGES, CLASSES).check(space)
    budget = Budget({kind: least}, IMAGES, CLASSES)
    budget.check(space)
    assert budget.fit(gates(space, 5)).costs[kind] <= least


def test_a_budget_that_contradicts_a_width_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"cannot be kept with channels = 64: .* or fewer channels"):
        Budget({"parameters": 10_000}, IMAGES, CLASSES, channels=64).check(CELLS)


def test_the_size_is_that_of_the_file() -> None:
    for seed, space in enumerate((CELLS, CHOICES)):
        built = network(replace(random_genotype(space, seed=seed), size=Size(5, "cifar")))
        assert file_bytes(built) == len(save(built.state_dict(), metadata={"format": "pt"}))


def test_the_peak_of_activations_is_the_same_on_both_devices() -> None:
    built = network(replace(random_genotype(CELLS, seed=1), size=Size(4, "cifar")))
    assert peak_activation_bytes(built, (1, *IMAGES)) == peak_activation_bytes(built, (1, *IMAGES), "cpu")


@pytest.mark.parametrize("space", [CELLS, CHOICES], ids=["cells", "choices"])
def test_the_price_is_zero_for_equal_gates_and_falls_with_cheaper_ones(space: Any) -> None:
    price = Budget({"parameters": 60_000, "macs": 10**9}, IMAGES, CLASSES).price(space)
    assert 0.5 < price.equal <= 1
    equal = [torch.full((len(cell), len(cell[0])), 0.5, requires_grad=True) for cell in price.rates[0]]
    assert price(equal).item() == 0
    dear = [torch.tensor(cell).clamp_min(1e-9).square().requires_grad_() for cell in price.rates[0]]
    value = price(dear)
    assert value.item() > 0
    gradients = torch.autograd.grad(value, dear)
    cheaper = [
        (g - 0.1 * d / d.abs().max().clamp_min(1e-12) * g).clamp_min(0) for g, d in zip(dear, gradients, strict=True)
    ]
    assert price(cheaper).item() < value.item()


def test_the_front_rises_in_gates_and_cost() -> None:
    budget = Budget({"parameters": 60_000}, IMAGES, CLASSES)
    front = budget.front(gates(CELLS, 6), 5)
    costs, worth = [f.costs["parameters"] for f in front], [f.worth for f in front]
    assert 3 <= len(front) <= 5
    assert costs == sorted(set(costs))
    assert worth == sorted(set(worth))
    assert costs[-1] <= 60_000
    assert len({f.genotype.size for f in front}) == 1
    assert all(really(f.genotype) == f.costs for f in front)


def test_a_genotype_keeps_its_size_in_a_file() -> None:
    for space in (CELLS, CHOICES):
        genotype = replace(random_genotype(space, seed=0), size=Size(12, "imagenet"))
        assert genotype_from_json(genotype.to_json()) == genotype


def measured(space: SearchSpace | ChoiceSpace) -> Device:
    """A device that takes a microsecond for every call, and one for a thousand numbers written or multiplied."""
    rows = []
    for seed in range(40):
        channels, stem = 4 + seed % 13, ("cifar", "imagenet")[seed % 2]
        found = features(network(replace(random_genotype(space, seed=seed), size=Size(channels, stem))), IMAGES)
        rates = {"calls": 1e-3, "out": 1e-3, "macs": 1.0}
        ms = sum(rates.get(name.partition(": ")[2], 0.0) * value for name, value in found.items())
        rows.append(({NETWORK: 1.0, **found}, ms))
    return Device.of("phone", operations_of(space), rows)


@pytest.mark.parametrize("space", [CELLS, CHOICES], ids=["cells", "choices"])
def test_a_file_of_latencies_is_kept_and_predicts_networks(space: Any, tmp_path: Path) -> None:
    device = measured(space)
    device.save(tmp_path / "phone.json")
    assert Device.load(tmp_path / "phone.json") == device
    options = BudgetOptions(max_latency=f"2ms@{tmp_path / 'phone.json'}")
    budget = Budget.of(options, space, IMAGES, CLASSES)
    assert budget is not None
    assert budget.clock is not None
    budget.check(space)
    found = budget.fit(gates(space, 1))
    assert USE * 2 <= found.costs["latency"] <= 2
    assert found.genotype.size is not None
    genotype = replace(random_genotype(space, seed=3), size=found.genotype.size)
    table = budget.table(space, found.genotype.size)
    # operations share their first ReLU, and a cell or edge that nothing reads is left out
    assert table.cost(genotype).latency == pytest.approx(budget.clock.whole(network(genotype), IMAGES), rel=0.05)


def test_widths_that_take_less_time_than_narrower_ones_are_found() -> None:
    class Vectors:
        """Channels that fill no vector take ten times as long."""

        def predict(self, module: Any, shape: Any, *, edge: bool = False) -> float:
            return 0.001

        def whole(self, network: AnyNetwork, images: Any) -> float:
            return network.channels * (1.0 if network.channels % 8 == 0 else 10.0)

    found = Budget({"latency": 30}, IMAGES, CLASSES, clock=Vectors()).fit(gates(CELLS, 1))
    assert found.genotype.size == Size(24, "cifar")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"operations": []}, "operations must hold 1 to"),
        ({"operations": ["a", "a"]}, "operations: a name stands twice"),
        ({"operations": ["a\n"]}, "printable"),
        ({"operations": ["a"]}, "has no latency of max_pool_3x3 and 6 more"),
        ({"features": [3]}, r"features\[0\]: 3 must be text"),
        ({"networks": []}, "networks must hold 1 to"),
        ({"networks": [[1.0]]}, "must be milliseconds and 1 numbers"),
        ({"networks": [[0.0, 1.0]]}, "must be milliseconds"),
        ({"networks": [[1.0, -1.0]]}, "none negative"),
        ({"networks": [[1.0, float("nan")]]}, "none negative"),
        ({"networks": [[True, 1.0]]}, "must be milliseconds"),
        ({"version": 1}, "version 1 cannot be read"),
        ({"more": 1}, "unknown key 'more'"),
        ({"features": ["gated: calls"]}, "have no max_pool; make a probe of this space, resolution and stem"),
    ],
)
def test_a_file_of_latencies_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = tmp_path / "phone.json"
    good = {"format": "ddarts-latencies", "version": 2, "device": "x", "operations": list(CELLS.operations)}
    path.write_text(json.dumps(good | {"features": ["relu: calls"], "networks": [[1.0, 2.0]]} | change))

    def used() -> None:
        budget = Budget.of(BudgetOptions(max_latency=f"5ms@{path}"), CELLS, IMAGES, CLASSES)
        assert budget is not None
        budget.check(CELLS)

    with pytest.raises((GenotypeError, SettingsError), match=reason) as error:
        used()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("space", [build_space("darts", cells=2, nodes=1), CHOICES], ids=["cells", "choices"])
def test_operations_are_measured_on_this_machine(space: Any) -> None:
    device = Device.measure(space, 8, 8, seconds=0.0)
    assert set(device.operations) == set(operations_of(space))
    built = build_network(random_genotype(space, seed=5), channels=12, stem="cifar")
    assert 0 < device.whole(built, (3, 8, 8)) < 1000
