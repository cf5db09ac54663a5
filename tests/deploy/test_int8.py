"""Quantised files: small, close to the network, the same answers however they are run."""

from __future__ import annotations

import numpy
import pytest
import torch

pytest.importorskip("onnx", reason="needs the extra export")
pytest.importorskip("onnxscript", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")

import onnx
import onnxruntime

from ddarts.deploy.int8 import accuracies, quantised
from ddarts.deploy.onnxfile import onnx_bytes, open_onnx
from ddarts.hub.saved import SavedModel
from ddarts.nn.preprocessing import ModelError

Levels = onnxruntime.GraphOptimizationLevel


def images(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 1, 9, 9, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="session")
def float32(saved: SavedModel) -> bytes:
    return onnx_bytes(saved.network, (1, 9, 9), saved.config.preprocessing)


@pytest.fixture(scope="session")
def int8(float32: bytes) -> bytes:
    return quantised(float32, images(64, 1))


def run(data: bytes, x: torch.Tensor, level: Levels = Levels.ORT_ENABLE_ALL) -> numpy.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": x.numpy()})[0]


def test_every_operation_is_quantised_and_the_answers_are_near(float32: bytes, int8: bytes, saved: SavedModel) -> None:
    x = images(200, 2)
    near, exact = run(int8, x), saved.network(x).detach().numpy()
    assert numpy.corrcoef(near.ravel(), exact.ravel())[0, 1] > 0.99
    assert numpy.abs(near - exact).max() < 0.2 * numpy.abs(exact).max()
    assert len(int8) < len(float32)
    onnx.checker.check_model(onnx.load_from_string(int8))


def test_weights_are_small_enough_for_sums_of_16_bits(int8: bytes) -> None:
    weights = [t for t in onnx.load_from_string(int8).graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert len(weights) > 10
    assert max(int(numpy.abs(onnx.numpy_helper.to_array(t)).max()) for t in weights) <= 64


def test_inputs_outputs_and_metadata_are_those_of_the_float_file(int8: bytes, saved: SavedModel) -> None:
    model = open_onnx(int8, "x", threads=1)
    assert model.prepared == saved.config.preprocessing
    assert model.logits(images(5, 3)).shape == (5, 3)


def test_integer_operations_give_the_answers_of_float_operations(int8: bytes) -> None:
    x = images(300, 4)
    fast, plain = run(int8, x), run(int8, x, Levels.ORT_DISABLE_ALL)
    assert (fast.argmax(1) == plain.argmax(1)).mean() >= 0.995
    assert numpy.abs(fast - plain).mean() < 0.01 * numpy.abs(plain).mean()


def test_average_pools_round_no_ties(int8: bytes) -> None:
    graph = onnx.load_from_string(int8).graph
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    pools = [node for node in graph.node if node.op_type == "AveragePool"]
    assert pools
    for pool in pools:
        before = next(node for node in graph.node if pool.input[0] in node.output)
        after = next(node for node in graph.node if pool.output[0] in node.input)
        assert 1 < values[after.input[1]] / values[before.input[1]] < 1.001


def test_accuracies_count_right_and_equal_answers(float32: bytes, int8: bytes) -> None:
    x = images(20, 5)
    answers = torch.from_numpy(run(float32, x).argmax(1))
    labels = torch.where(torch.arange(20) < 15, answers, (answers + 1) % 3)
    models = [open_onnx(data, "x", threads=1) for data in (float32, int8)]
    found = accuracies(models[0], models[1], zip(x.split(8), labels.split(8), strict=True), "test")
    assert (found.count, found.float32) == (20, 0.75)
    assert found.equal == pytest.approx((run(int8, x).argmax(1) == answers.numpy()).mean())
    assert abs(found.int8 - found.float32) <= 1 - found.equal + 1e-9


def test_what_cannot_be_quantised_is_one_line(float32: bytes) -> None:
    with pytest.raises(ModelError, match=r"^onnxruntime cannot quantise the network: ") as caught:
        quantised(float32, torch.zeros(4, 2, 9, 9))
    assert "\n" not in str(caught.value)
