"""Where things lie: new run folders, the newest run, a model or a genotype that a path may mean."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from ddarts.errors import RunError
from ddarts.runs.folder import RunFolder

#: Folder in the working directory that holds runs for which no place was named.
RUNS = Path("runs")


def new_run_path(data: str) -> Path:
    """Return a path for a new run, named after the data and the time; nothing is there yet."""
    head = data.partition(":")[0]  # of cifar10:DIR
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(head).name if os.sep in head else head).strip("-.") or "run"
    stem = f"{name[:40]}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = RUNS / stem, 2
    while path.exists():
        path, number = RUNS / f"{stem}-{number}", number + 1
    return path


def reserve_run_path(data: str) -> Path:
    """Make an empty folder for a new run, which no other process gets, and return its path."""
    while True:
        path = new_run_path(data)
        try:
            path.mkdir(parents=True)
        except OSError:  # if nothing is there, whoever makes the run says why it cannot be made
            if os.path.lexists(path):  # of another process, in the same second
                continue
        return path


def newest_model() -> Path:
    """Return the model of the run in ``runs`` that was trained last.

    Raises:
        RunError: there is none.
    """
    try:
        models = [p for p in RUNS.iterdir() if (p / "model" / "config.json").is_file()]
        return max(models, key=lambda p: (p / "model" / "config.json").stat().st_mtime) / "model"
    except (OSError, ValueError):
        raise RunError(
            f"no run with a trained model in {RUNS}; name one with --model RUN, or make one: ddarts run"
        ) from None


def onnx_of(path: str | os.PathLike[str]) -> Path | None:
    """Return the ONNX file that `path` means (it, or the one in a folder that holds no other model), or None."""
    path = Path(path)
    if path.suffix.lower() == ".onnx" and not path.is_dir():
        return path
    inside = path / "model.onnx"
    other = any((path / name).is_file() for name in ("config.json", "settings.yaml"))
    return inside if inside.is_file() and not other else None


def model_of(path: str | os.PathLike[str]) -> tuple[Path, RunFolder | None]:
    """Return the model folder that `path` means (a run, or a model folder), and the run that it belongs to.

    Raises:
        RunError: the path holds neither.
    """
    path = Path(path)
    if (path / "settings.yaml").is_file():
        if not (path / "model" / "config.json").is_file():
            raise RunError(f"{path} holds no trained model yet; train it first: ddarts train --genotype {path}")
        return path / "model", RunFolder.open(path)
    if (path / "config.json").is_file():
        parent = path.parent
        is_run = path.name == "model" and (parent / "settings.yaml").is_file()
        return path, RunFolder.open(parent) if is_run else None
    what = "holds no model" if path.exists() else "there is no such model or run"
    raise RunError(f"{path}: {what}; give the folder of a run, or one with config.json and model.safetensors")
