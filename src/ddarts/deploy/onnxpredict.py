"""Asking an ONNX file about image files."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ddarts.deploy.onnxfile import load_onnx
from ddarts.training.evaluate import Predictions, classify_files


def predict_onnx(
    model: str | os.PathLike[str],
    paths: Sequence[str | os.PathLike[str]],
    *,
    top: int = 5,
    strict: bool = False,
    device: str = "auto",
    threads: int | None = None,
) -> Predictions:
    """Tell what an ONNX file of `ddarts export` sees in image files; images are prepared as for a model folder.

    Args:
        model: the file.
        paths: image files.
        top: classes to name for each image (all of them if there are fewer).
        strict: raise at the first image that cannot be decoded, instead of skipping it.
        device: auto, cpu or cuda.
        threads: CPU threads; onnxruntime's choice if None.

    Raises:
        DataError: no image can be decoded, or under `strict` the first that cannot.
        MissingPackageError: onnxruntime is not installed.
        ModelError: the file cannot be used.
        SettingsError: onnxruntime has no such device.
    """
    loaded = load_onnx(model, device=device, threads=threads)
    assert loaded.prepared is not None
    return classify_files(loaded.logits, loaded.prepared, paths, top=top, strict=strict)
