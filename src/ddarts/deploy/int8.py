"""Networks as ONNX files of 8-bit integers: static quantisation with onnxruntime, calibrated on images.

Activations are unsigned 8-bit integers with a scale and a zero point for each tensor, weights signed integers with a
scale for each output channel. Weights use 7 of the 8 bits: processors without VNNI instructions add pairs of products
in 16 bits, which the products of 8-bit weights overflow (a network for CIFAR-10 lost 6 points of accuracy by that).
In the file each operation stands between DequantizeLinear and QuantizeLinear nodes, which runtimes make integer
operations of.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddarts.deploy.extras import require
from ddarts.deploy.onnxfile import INPUT, OnnxModel, check_finite
from ddarts.nn.preprocessing import ModelError
from ddarts.nn.tasks import CLASSIFICATION, Task, scorer

#: Images that the ranges of activations are taken from.
CALIBRATION_IMAGES = 512

#: What the scale after an average pool is multiplied by, see `_without_ties`.
_OFF_TIES = 1 + 2**-11


@dataclass(frozen=True)
class Accuracies:
    """How a network and its quantised form do on the same images.

    Attributes:
        images: which images: "test" or "validation".
        count: their number.
        float32: share of images whose class the network finds, 0 to 1; mean average precision; or mean absolute error.
        int8: the same of the quantised network.
        equal: share of images for which both answer the same class or labels; None for numbers.
        metric: what `float32` and `int8` are.
    """

    images: str
    count: int
    float32: float
    int8: float
    equal: float | None
    metric: str = "top-1"


def quantised(data: bytes, images: Tensor, batch: int = 32) -> bytes:
    """Return an ONNX file of `ddarts.deploy.onnxfile.onnx_bytes` with weights and activations of 8 bits.

    Inputs, outputs and metadata stay what they are.

    Args:
        data: the file.
        images: normalised images [N, C, H, W] for the ranges of activations.
        batch: images at a time.

    Raises:
        MissingPackageError: onnx or onnxruntime is not installed.
        ModelError: onnxruntime cannot quantise the network, or a scale is not finite.
    """
    onnx = require("onnx", "export", "the export to ONNX")
    tool = require("onnxruntime.quantization", "export", "quantisation")

    class Reader(tool.CalibrationDataReader):
        parts: Iterator[Tensor] = iter(images.split(batch))

        def get_next(self) -> dict[str, Any] | None:
            return next(({INPUT: part.numpy()} for part in self.parts), None)

    with tempfile.TemporaryDirectory() as folder, _quiet():
        target = Path(folder) / "quantised.onnx"
        try:
            tool.quantize_static(
                onnx.load_from_string(data),
                target,
                Reader(),
                quant_format=tool.QuantFormat.QDQ,
                activation_type=tool.QuantType.QUInt8,
                weight_type=tool.QuantType.QInt8,
                per_channel=True,
                reduce_range=True,
            )
            found = onnx.load(str(target))
        except Exception as error:  # onnxruntime has a dozen exceptions, without a base of their own
            raise ModelError(
                f"onnxruntime cannot quantise the network: {' '.join(str(error).split())[:300]}"
            ) from error
    del found.metadata_props[:]
    found.metadata_props.extend(onnx.load_from_string(data).metadata_props)
    _without_ties(found.graph, onnx.numpy_helper)
    _shrink(found.graph, onnx.numpy_helper)
    check_finite(found.graph)
    return found.SerializeToString()


def accuracies(
    float32: OnnxModel,
    int8: OnnxModel,
    batches: Iterable[tuple[Tensor, Tensor]],
    images: str,
    task: Task = CLASSIFICATION,
) -> Accuracies:
    """Rate a network and its quantised form on the same images.

    Args:
        float32: the network.
        int8: its quantised form.
        batches: (normalised images [B, C, H, W], labels as `ddarts.nn.tasks.Task` has them) on the CPU.
        images: which images these are: "test" or "validation".
        task: what the labels are.
    """
    found = [(float32.logits(x), int8.logits(x), labels) for x, labels in batches]
    outputs, outputs8, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    if task.kind == "classification":
        answers, answers8 = outputs.argmax(1), outputs8.argmax(1)
        first, second, same = (
            float((a == b).double().mean()) for a, b in ((answers, labels), (answers8, labels), (answers, answers8))
        )
        return Accuracies(images, len(labels), first, second, same)
    every = torch.ones(len(labels))
    first, second = (task.sign * scorer(task.evidence(o, labels))(every) for o in (outputs, outputs8))
    same = None if task.kind == "regression" else float(((outputs > 0) == (outputs8 > 0)).all(1).double().mean())
    return Accuracies(images, len(labels), first, second, same, task.metric)


def _without_ties(graph: Any, numpy_helper: Any) -> None:
    """Change the scale after each average pool a little.

    onnxruntime's quantiser gives it the scale of the input, so that the mean of 4 integers often lies exactly between
    two, and its integer operation rounds these another way than its float operation and other runtimes: 1 % of the
    answers of a network depended on the level of optimisation.
    """
    values = {tensor.name: tensor for tensor in graph.initializer}
    for pool in [node for node in graph.node if node.op_type == "AveragePool"]:
        for quantise in [node for node in graph.node if pool.output[0] in node.input]:
            readers = [node for node in graph.node if quantise.output[0] in node.input]
            scale = numpy_helper.to_array(values[quantise.input[1]])
            name = f"{pool.output[0]}_scale"
            graph.initializer.append(numpy_helper.from_array((scale * _OFF_TIES).astype(scale.dtype), name))
            for node in (quantise, *readers):
                node.input[1] = name


def _shrink(graph: Any, numpy_helper: Any) -> None:
    """Remove shapes, zero points that are 0, and long names: of a small network they are most of the file."""
    del graph.value_info[:]
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        node.ClearField("name")
        weight = weights.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        # onnxruntime's product of integer matrices wants the zero points of its weights
        if weight is not None and weight.ndim != 2 and not weights[node.input[2]].any():
            del node.input[2]
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    short = {value.name: value.name for value in (*graph.input, *graph.output)}
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [short.setdefault(name, f"{len(short):x}") if name else name for name in names]
    for tensor in graph.initializer:
        tensor.name = short[tensor.name]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what onnxruntime's quantiser prints and warns about from the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
