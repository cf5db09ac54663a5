"""Searches that start from a network of torchvision or timm with its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ddarts
from ddarts.errors import SettingsError
from ddarts.genotype.choices import ChoiceGates, ChoiceGenotype, choice_differences
from ddarts.genotype.genotype import Size
from ddarts.genotype.starting import original_genotype
from ddarts.nn.imported import build_original, exported_network
from ddarts.runs.folder import RunFolder
from ddarts.searching.start import budget_of
from ddarts.space.choice_space import find_choice_space
from tests.searching.small import made_up, settings

NAME = "timm:mobilenetv3_small_050"
SIZES = {"resolution": 16, "limit": 200, "batch": 16, "steps_per_epoch": 2, "epochs": 1, "threads": 1, "quiet": True}


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_original(NAME, classes=10, in_channels=1).eval()


def test_a_search_starts_from_the_weights_and_a_training_continues_from_those_it_left(
    tmp_path: Path, network: torch.nn.Module
) -> None:
    torch.save({"state_dict": network.state_dict()}, tmp_path / "net.pth")
    run = tmp_path / "run"
    found = ddarts.search(
        "digits",
        out=run,
        baseline=NAME,
        baseline_weights=str(tmp_path / "net.pth"),
        pretrain_epochs=0,
        alpha_lr=4.0,
        alpha_lr_min=4.0,
        never_larger=True,
        **SIZES,
    )
    x = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        original = ddarts.load_model(run / "original").network
        torch.testing.assert_close(original(x), network(x), rtol=1e-5, atol=1e-5)
    assert isinstance(found.genotype, ChoiceGenotype)
    changes = choice_differences(original_genotype(NAME), found.genotype)
    told = found.to_dict()
    assert changes
    assert [d["choice"] for d in told["differences"]] == [change.choice for change in changes]
    for kind in ("parameters", "macs"):
        assert told[kind]["after"] <= told[kind]["before"]
    assert f"{len(changes)} of {len(found.genotype)}" in dict(found.rows())["blocks changed"]

    left = ddarts.load_model(run / "found").network
    trained = tmp_path / "trained"
    ddarts.train("digits", genotype=run, out=trained, lr=1e-9, weight_decay=0.0, auxiliary_weight=0.0, **SIZES)
    after = ddarts.load_model(trained).network
    for (name, a), (_, b) in zip(left.named_parameters(), after.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    back = exported_network(after)
    assert type(back) is type(network)
    with torch.no_grad():
        torch.testing.assert_close(back(x), after(x))
    ddarts.report(run)
    assert (run / "report.html").is_file()
    summary = RunFolder.open(run).summary
    assert summary["distance"] == len(changes) / len(found.genotype)
    for kind in ("parameters", "macs"):
        assert summary["against_baseline"][kind] == list(told[kind].values())


def test_the_best_gates_within_the_cost_of_the_original() -> None:
    space, images = find_choice_space(NAME), made_up(height=32, width=32)
    budget = budget_of(settings(baseline=NAME, never_larger=True), images, {}, space)
    assert budget is not None
    original = replace(original_genotype(NAME), size=Size(4, "cifar"))
    assert budget.costs(original) == budget.limits
    wide = [[[0.9 if name == "kernel7" else 0.5 for name in choice.candidates]] for choice in space.choices]
    found = budget.fit(ChoiceGates.from_space(space, wide))
    assert found.use <= 1
    assert isinstance(found.genotype, ChoiceGenotype)
    assert 0 < found.genotype.choices.count("kernel7") < len(space)


def test_settings_that_have_no_effect_are_refused() -> None:
    with pytest.raises(SettingsError, match="baseline_weights has no effect with resnet18, a baseline of cells"):
        ddarts.search("digits", baseline="resnet18", baseline_weights="x")
    with pytest.raises(SettingsError, match="share_gates has no effect with torchvision:resnet18, a network of"):
        ddarts.search("digits", baseline="torchvision:resnet18", share_gates=False)
    with pytest.raises(SettingsError, match="space mobile does not hold the baseline torchvision:resnet18"):
        ddarts.search("digits", baseline="torchvision:resnet18", space="mobile")
