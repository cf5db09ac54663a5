"""Files from strangers run no code: the published ones went through `eval` and pickle."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from ddarts.cli.main import main

SEARCH = [
    *("search", "--data", "digits", "--limit", "60", "--device", "cpu", "--threads", "1", "--quiet"),
    *("--cells", "2", "--nodes", "1", "--channels", "2", "--epochs", "1", "--batch", "8", "--method", "darts"),
]


def touch(trap: Path) -> str:
    """Python text that makes the file `trap` if it is evaluated."""
    return f"__import__('pathlib').Path({str(trap)!r}).touch()"


class Trap:
    """An object that makes a file when it is unpickled."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.trap}",)


def test_the_traps_work(tmp_path: Path) -> None:
    eval(touch(tmp_path / "a"))  # noqa: S307
    pickle.loads(pickle.dumps(Trap(tmp_path / "b")))  # noqa: S301
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b"}


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err


@pytest.mark.parametrize("form", ["python", "value", "key", "operation", "yaml"])
@pytest.mark.parametrize("command", ["show", "derive", "train"])
def test_a_genotype_or_gates_file_is_never_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, form: str
) -> None:
    trap, path = tmp_path / "trap", tmp_path / "given.json"
    code = touch(trap)
    kind = "ddarts-gates" if command == "derive" else "ddarts-genotype"
    cell = {"reduction": False, "concat": [2], "edges": [[code, 0, 2]]}
    text = {
        "python": f"Genotype(genes=[[('sep_conv_3x3', 2, 0), {code}]], concat=[2], reductions=[2, 5])",
        "value": json.dumps({"format": kind, "version": 1, "cells": code, "operations": code}),
        "key": json.dumps({"format": kind, "version": 1, code: []}),
        "operation": json.dumps({"format": kind, "version": 1, "cells": [cell], "operations": [code]}),
        "yaml": f"!!python/object/apply:os.system ['touch {trap}']",
    }[form]
    path.write_text(text)
    options = ["--genotype", path, "--data", "digits", "--out", tmp_path / "run"] if command == "train" else [path]
    assert str(path) in refused(capsys, command, *options)
    assert not trap.exists()
    assert not (tmp_path / "run").exists()


def test_a_settings_file_is_never_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trap, path = tmp_path / "trap", tmp_path / "given.yaml"
    path.write_text(f"seed: !!python/object/apply:os.system ['touch {trap}']\n")
    assert "given.yaml" in refused(capsys, "search", "--config", path, "--out", tmp_path / "run")
    assert not trap.exists()


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_checkpoint_is_never_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    trap, run = tmp_path / "trap", tmp_path / "run"
    assert main([*SEARCH, "--out", str(run)]) == 0
    for path in (run / "gates.json", run / "genotype.json", run / "summary.json"):
        path.unlink()  # as if the search had been stopped
    for path in (run / "checkpoints").iterdir():
        if form == "pickle":
            path.write_bytes(pickle.dumps({"epoch": Trap(trap)}))
        else:
            torch.save({"epoch": Trap(trap)}, path)
    said = refused(capsys, "search", "--resume", run, "--quiet")
    assert "search.pt" in said
    assert "delete" in said
    assert "start a new run" in said
    assert not trap.exists()


def test_a_model_is_never_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trap, model = tmp_path / "trap", tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"format": "ddarts-model", "version": 1, "genotype": touch(trap)}))
    (model / "model.safetensors").write_bytes(pickle.dumps(Trap(trap)))
    image = tmp_path / "image.png"
    image.write_bytes(pickle.dumps(Trap(trap)))
    refused(capsys, "predict", image, "--model", model)
    refused(capsys, "test", model, "--data", "digits")
    assert not trap.exists()
