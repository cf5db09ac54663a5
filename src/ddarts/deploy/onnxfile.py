"""Networks as ONNX: written with torch's exporter, read and run with onnxruntime.

A file is complete in itself: the weights are inside, and the metadata hold the preprocessing as JSON under the key
`METADATA_KEY`. The input ``images`` is float32 [batch, channels, height, width], normalised; the output ``logits`` is
[batch, classes]. The batch is dynamic.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddarts.deploy.extras import require
from ddarts.errors import GenotypeError, SettingsError
from ddarts.nn.folding import folded
from ddarts.nn.preprocessing import FILE_NAME, ModelError, Preprocessing
from ddarts.runtime import json_input as checks
from ddarts.runtime.seeds import streams_restored
from ddarts.training.evaluate import Predictions, classify_files

METADATA_KEY = "ddarts.preprocessing"
INPUT, OUTPUT = "images", "logits"
SUFFIX = ".onnx"

#: The key "location" of weights in another file, in any encoding that protocol buffers allow. (onnxruntime would look
#: for that file in the current directory.)
_ELSEWHERE = re.compile(rb"(?:\n|\x8a\x80*\x00)(?:\x08|\x88\x80*\x00)location")

#: Protocol buffers cannot be larger, and our files hold their weights.
_MOST_BYTES = 2**31 - 1


def require_exporter() -> None:
    """Raise `MissingPackageError` unless everything is there to write and check an ONNX file."""
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, "export", "the export to ONNX")


def onnx_bytes(network: nn.Module, shape: Sequence[int], prepared: Preprocessing | None = None) -> bytes:
    """Return a network as an ONNX file.

    Args:
        network: in evaluation mode, on the CPU. It is not changed.
        shape: [channels, height, width] of an image.
        prepared: written into the metadata.

    Raises:
        MissingPackageError: onnx or onnxscript is not installed.
        ModelError: torch cannot export the network.
    """
    for module in ("onnx", "onnxscript"):
        require(module, "export", "the export to ONNX")
    # Two images: a dimension of one would be taken for a constant.
    example = torch.zeros(2, *shape)
    try:
        with torch.no_grad(), quiet_export(), streams_restored():  # the exporter draws random numbers
            program = torch.onnx.export(
                folded(network),
                (example,),
                dynamo=True,
                external_data=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except Exception as error:
        raise ModelError(f"torch cannot export the network to ONNX: {' '.join(str(error).split())[:300]}") from error
    assert program is not None
    proto = program.model_proto
    _without_traces(proto.graph)
    check_finite(proto.graph)
    if prepared is not None:
        entry = proto.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, prepared.to_json()
    return proto.SerializeToString()


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """An ONNX file that is ready to run.

    Attributes:
        session: onnxruntime's.
        prepared: how images are prepared, and the names of the classes; None if the file does not say.
        where: names the file in messages.
    """

    session: Any
    prepared: Preprocessing | None
    where: str

    def logits(self, x: Tensor) -> Tensor:
        """Map normalised images [B, C, H, W] on the CPU to logits [B, classes].

        Raises:
            ModelError: the file cannot be run: onnxruntime finds many faults when it computes, not before.
        """
        try:
            (found,) = self.session.run([OUTPUT], {INPUT: x.contiguous().numpy()})
            return torch.from_numpy(found)
        except Exception as error:
            raise _unusable(self.where, error) from None


def open_onnx(data: bytes, where: str, *, device: str = "cpu", threads: int | None = None) -> OnnxModel:
    """Prepare the bytes of an ONNX file for running.

    Args:
        data: the file. Weights outside it are not read.
        where: names the file in messages.
        device: auto and cpu use the CPU; cuda needs an onnxruntime that was built for it.
        threads: CPU threads; onnxruntime's choice if None.

    Raises:
        MissingPackageError: onnxruntime is not installed.
        SettingsError: onnxruntime has no such device.
        ModelError: it is no ONNX file, or not of the form that this module writes.
    """
    if _ELSEWHERE.search(data):
        raise ModelError(f"{where}: weights outside the file are not read; make the file with `ddarts export`")
    runtime = require("onnxruntime", "export", "running an ONNX file")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what is wrong comes as an exception
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    providers = _providers(device, runtime.get_available_providers())
    try:
        session = runtime.InferenceSession(data, options, providers=providers)
        custom = dict(session.get_modelmeta().custom_metadata_map)
    except Exception as error:  # onnxruntime has a dozen exceptions, without a base of their own
        raise _unusable(where, error) from None
    text = custom.get(METADATA_KEY)
    prepared = None if text is None else Preprocessing.from_json(text, f"{where}: metadata {METADATA_KEY}")
    _check_form(session, where)
    return OnnxModel(session, prepared, where)


def _unusable(where: str, error: Exception) -> ModelError:
    return ModelError(f"{where}: not a usable ONNX file: {' '.join(str(error).split())[:200]}")


def load_onnx(path: str | os.PathLike[str], *, device: str = "cpu", threads: int | None = None) -> OnnxModel:
    """Read an ONNX file that `ddarts export` wrote; its metadata, else preprocessing.json beside it, names the classes.

    Raises:
        MissingPackageError, SettingsError: as `open_onnx`.
        ModelError: the file is missing, broken or of another form, or nothing describes the preparation of images.
    """
    path = Path(path)
    model = open_onnx(_read(path), str(path), device=device, threads=threads)
    prepared = model.prepared
    if prepared is None:
        beside = path.with_name(FILE_NAME)
        if not beside.exists():
            raise ModelError(
                f"{path}: neither its metadata ({METADATA_KEY}) nor {beside} describe the preparation of images; "
                "make the file with `ddarts export`"
            )
        try:
            text, where = checks.read_text(beside, what="preprocessing", inside=FILE_NAME, way_out="ddarts export")
        except GenotypeError as error:
            raise ModelError(str(error)) from None
        prepared = Preprocessing.from_json(text, where)
    _check_sizes(model.session, prepared, str(path))
    return OnnxModel(model.session, prepared, model.where)


def predict_onnx(
    model: str | os.PathLike[str],
    paths: Sequence[str | os.PathLike[str]],
    *,
    top: int = 5,
    strict: bool = False,
    device: str = "auto",
    threads: int | None = None,
) -> Predictions:
    """Classify image files with an ONNX file of `ddarts export`; images are prepared as for a model folder.

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


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """Keep to ourselves what torch prints and warns about while it traces a network."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise ModelError(f"{path}: {size} bytes are more than an ONNX file can have")
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; make it with `ddarts export MODEL --format onnx`") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ModelError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _providers(device: str, available: Sequence[str]) -> list[str]:
    kind = device.partition(":")[0]
    if kind in ("auto", "cpu"):
        return ["CPUExecutionProvider"]
    if kind == "cuda" and "CUDAExecutionProvider" in available:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    raise SettingsError(
        f"device = {device!r}: the installed onnxruntime cannot use it; use --device cpu or another onnxruntime"
    )


def _check_form(session: Any, where: str) -> None:
    """Raise `ModelError` unless the file takes and gives what `onnx_bytes` writes."""
    inputs = [(i.name, i.type, len(i.shape)) for i in session.get_inputs()]
    outputs = [(o.name, o.type, len(o.shape)) for o in session.get_outputs()]
    if inputs != [(INPUT, "tensor(float)", 4)] or outputs != [(OUTPUT, "tensor(float)", 2)]:
        raise ModelError(
            f"{where}: its inputs or outputs are not {INPUT} [batch, channels, height, width] and "
            f"{OUTPUT} [batch, classes] of float32; make the file with `ddarts export`"
        )


def _check_sizes(session: Any, prepared: Preprocessing, where: str) -> None:
    expected = [prepared.in_channels, *prepared.resolution]
    found = list(session.get_inputs()[0].shape[1:])
    if found != expected:
        raise ModelError(f"{where}: takes images of [channels, height, width] {found}, its description says {expected}")
    classes = session.get_outputs()[0].shape[1]
    if classes != len(prepared.classes):
        raise ModelError(f"{where}: gives {classes} logits, its description names {len(prepared.classes)} classes")


def check_finite(graph: Any) -> None:
    """Raise `ModelError` if a weight of a graph is not finite."""
    from onnx.numpy_helper import to_array

    for tensor in graph.initializer:
        values = torch.from_numpy(to_array(tensor).copy())
        if not values.isfinite().all():
            raise ModelError("a weight of the exported network is not finite; train the network again")


def _without_traces(graph: Any) -> None:
    """Remove what the exporter notes about the source code: it is long, and contains paths of this machine."""
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        if part.HasField("doc_string"):
            part.ClearField("doc_string")
