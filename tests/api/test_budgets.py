"""Budgets from the search to the trained network, the front, and the report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import ddarts
from ddarts.cli.main import main
from ddarts.cost.counting import count_macs, count_parameters
from ddarts.cost.device import Device
from ddarts.hub.saved import load_model
from ddarts.reporting.formatting import cost_text

TINY: dict[str, Any] = {"data": "digits", "limit": 200, "threads": 1, "quiet": True}
SEARCH: dict[str, Any] = {"nodes": 1, "epochs": 1, "steps_per_epoch": 2, "batch": 16}
BLACK_BOX: dict[str, Any] = {"trials": 2, "trial_steps": 2, "nodes": 1, "batch": 16}


def test_the_trained_network_keeps_the_budgets_and_the_report_shows_them(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train: dict[str, Any] = {"epochs": 1, "steps_per_epoch": 2, "batch": 16}
    result = ddarts.run(
        **TINY, out=run, max_parameters="4k", max_macs="400k", search={**SEARCH, "cells": 3, "channels": 2}, train=train
    )
    network = load_model(run).network
    assert count_parameters(network) == result.parameters
    assert count_macs(network, (1, 8, 8)) == result.macs
    assert result.parameters <= 4000
    assert result.macs <= 400_000
    assert max(result.parameters / 4000, result.macs / 400_000) >= 0.95
    page = (run / "report.html").read_text()
    assert "Budgets" in page
    assert cost_text("macs", 400_000).replace(" ", "\N{NO-BREAK SPACE}") in page
    summary = json.loads((run / "summary.json").read_text())
    assert summary["budget"]["costs"]["parameters"] == result.parameters

    derived = ddarts.derive(run, out=tmp_path / "small.json", max_parameters=2000, max_macs=None, front=3)
    assert derived.costs["parameters"] <= 2000
    assert 2 <= len(derived.front) <= 3
    assert all(Path(row["file"]).is_file() and row["costs"]["parameters"] <= 2000 for row in derived.front)
    assert derived.genotype.size is not None
    ddarts.derive(run, front=3)
    ddarts.report(run)
    page = (run / "report.html").read_text()
    assert "Front of gates and cost" in page
    unit = r"(Parameters|MACs per image), k|(Activations per image|File of weights), k?B"
    assert re.search(f'data-x-label="({unit})"', page)  # not 75000100000125000
    again = ddarts.train(**TINY, genotype=tmp_path / "small.json", out=tmp_path / "trained", **train)
    assert again.parameters == derived.costs["parameters"]


@pytest.mark.parametrize("strategy", ["darts", "gdas", "pc-darts", "fairdarts", "one-shot"])
def test_every_differentiable_strategy_keeps_a_budget(tmp_path: Path, strategy: str) -> None:
    few = {"shortlist": 6, "shortlist_trials": 2, "shortlist_steps": 2} if strategy == "one-shot" else {}
    found = ddarts.search(
        **TINY, out=tmp_path / "run", max_parameters="3k", strategy=strategy, cells=3, method="darts", **SEARCH, **few
    )
    _check(found)


@pytest.mark.parametrize("strategy", ["random", "evolution"])
def test_every_black_box_strategy_keeps_a_budget(tmp_path: Path, strategy: str) -> None:
    found = ddarts.search(**TINY, out=tmp_path / "run", max_parameters="3k", strategy=strategy, cells=3, **BLACK_BOX)
    _check(found)


def _check(found: Any) -> None:
    from ddarts.nn.choice_network import build_network

    size = found.genotype.size
    assert size is not None
    built = build_network(found.genotype, channels=size.channels, stem=size.stem, in_channels=1, classes=10)
    assert 0.95 * 3000 <= count_parameters(built) <= 3000


@pytest.mark.parametrize("data", ["digits", "nowhere"])
def test_what_is_wrong_without_the_images_is_said_before_they_are_read(
    capsys: pytest.CaptureFixture[str], data: str
) -> None:
    assert main(["search", "--data", data, "--max-latency", "5ms@nowhere.json"]) == 2
    assert capsys.readouterr().err.startswith("ddarts: error: nowhere.json: no such latencies file")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-parameters", "80q"], "unknown unit 'q'; use k, M, G"),
        (["--max-size=-3kB"], "max_size = '-3kB' must be above 0"),
        (["--max-latency", "5ms@nowhere.json"], "nowhere.json: no such latencies file"),
        (["--max-latency", "5ms@PHONE"], "has no latency of max_pool_3x3 and 6 more; make a probe"),
        (["--max-parameters", "100"], "cannot be kept: the smallest network has"),
        (["--max-parameters", "10k", "--channels", "64"], "cannot be kept with channels = 64"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], message: str
) -> None:
    Device.of("phone", ["gated_conv"], [({"relu: calls": 1.0}, 1.0)]).save(tmp_path / "phone.json")
    options = [option.replace("PHONE", str(tmp_path / "phone.json")) for option in options]
    assert main(["search", "--data", "digits", "--out", str(tmp_path / "run"), "--quiet", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
