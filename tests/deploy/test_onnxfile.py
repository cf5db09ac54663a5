from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

pytest.importorskip("onnx", reason="needs the extra export")
pytest.importorskip("onnxscript", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")

import onnx

from ddarts.deploy.agreement import compare
from ddarts.deploy.onnxfile import INPUT, METADATA_KEY, OUTPUT, load_onnx, onnx_bytes, open_onnx, predict_onnx
from ddarts.errors import SettingsError
from ddarts.genotype.choices import ChoiceGenotype
from ddarts.hub.saved import SavedModel
from ddarts.nn.choice_network import build_network
from ddarts.nn.preprocessing import ModelError, Preprocessing
from ddarts.training.evaluate import predict_images


@pytest.fixture(scope="session")
def exported(saved: SavedModel) -> bytes:
    return onnx_bytes(saved.network, (1, 9, 9), saved.config.preprocessing)


@pytest.fixture
def file(exported: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(exported)
    return path


def test_every_operation_gives_the_same_logits_at_any_batch(saved: SavedModel, exported: bytes) -> None:
    other = open_onnx(exported, "x", threads=1)
    for batch in (1, 2, 5):
        found = compare(saved.network, other.logits, torch.randn(batch, 1, 9, 9))
        assert found.logits < 1e-5 * max(1, found.largest_logit)
        assert found.probabilities < 1e-6


def test_a_network_of_choices_gives_the_same_logits() -> None:
    torch.manual_seed(0)
    genotype = ChoiceGenotype("mobile", ("skip", "mb_e1_k3", "mb_e3_k5_se", *["skip"] * 11))
    network = build_network(genotype, channels=4, in_channels=1, classes=3).eval()
    found = compare(network, open_onnx(onnx_bytes(network, (1, 8, 8)), "x").logits, torch.randn(2, 1, 8, 8))
    assert found.logits < 1e-5 * max(1, found.largest_logit)


def test_the_graph_is_made_of_plain_operations(exported: bytes) -> None:
    proto = onnx.load_from_string(exported)
    onnx.checker.check_model(proto)
    names = {node.op_type for node in proto.graph.node}
    plain = {"Conv", "Relu", "Add", "Concat", "Slice", "Pad", "AveragePool", "MaxPool", "BatchNormalization"}
    assert names <= plain | {"ReduceMean", "Gemm", "Mul"}
    assert {node.domain for node in proto.graph.node} == {""}
    assert not proto.functions
    # One slice pair a factorized reduction: its shifted convolution. Strides are the convolutions' own.
    reductions = sum(e.operation == "skip_connect" for e in proto_edges())
    assert sum(node.op_type == "Slice" for node in proto.graph.node) <= 2 * reductions


def proto_edges() -> list:
    from tests.deploy.conftest import every_operation

    return [e for e in every_operation(2).edges if e.source < 2]


def test_the_file_says_nothing_of_the_machine_that_made_it(exported: bytes) -> None:
    import ddarts

    assert str(Path(ddarts.__file__).parent).encode() not in exported
    assert b"site-packages" not in exported
    assert b".py" not in exported


def test_the_network_is_left_as_it_was(saved: SavedModel, exported: bytes) -> None:
    assert not saved.network.training
    assert all(p.requires_grad for p in saved.network.parameters())


def test_the_file_alone_tells_how_images_are_prepared(file: Path, saved: SavedModel) -> None:
    assert load_onnx(file, threads=1).prepared == saved.config.preprocessing


def _without_metadata(file: Path) -> None:
    proto = onnx.load(str(file))
    del proto.metadata_props[:]
    file.write_bytes(proto.SerializeToString())


def test_the_json_beside_it_tells_it_too(file: Path, saved: SavedModel) -> None:
    _without_metadata(file)
    with pytest.raises(
        ModelError, match=r"neither its metadata .* nor .*preprocessing\.json describe the preparation of images"
    ):
        load_onnx(file, threads=1)
    beside = file.with_name("preprocessing.json")
    beside.write_text(saved.config.preprocessing.to_json())
    assert load_onnx(file, threads=1).prepared == saved.config.preprocessing
    beside.write_text("{")
    with pytest.raises(ModelError, match=r"preprocessing\.json: line 1"):
        load_onnx(file, threads=1)
    beside.write_bytes(b"\xff")
    with pytest.raises(ModelError, match=r"preprocessing\.json: not UTF-8"):
        load_onnx(file, threads=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resolution": (8, 9)}, r"takes images of \[channels, height, width\] \[1, 9, 9\], its description"),
        ({"classes": ("a", "b")}, r"gives 3 logits, its description names 2 classes"),
        ({"in_channels": 3, "mean": (0.1,) * 3, "std": (1.0,) * 3}, r"takes images of"),
    ],
)
def test_a_description_of_another_model_is_refused(
    file: Path, saved: SavedModel, wrong: dict[str, object], message: str
) -> None:
    _without_metadata(file)
    fields = {name: getattr(saved.config.preprocessing, name) for name in Preprocessing.__dataclass_fields__}
    file.with_name("preprocessing.json").write_text(Preprocessing(**{**fields, **wrong}).to_json())
    with pytest.raises(ModelError, match=message):
        load_onnx(file, threads=1)


def test_hostile_metadata_is_one_line(file: Path) -> None:
    proto = onnx.load(str(file))
    proto.metadata_props[0].value = '{"format": "\\n\\n"}'
    assert proto.metadata_props[0].key == METADATA_KEY
    file.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"model\.onnx: metadata ddarts\.preprocessing: ") as caught:
        load_onnx(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entry", [b"\n\x08location", b"\n\x88\x80\x00location", b"\x8a\x00\x08location"])
def test_weights_beside_the_file_are_not_read(
    exported: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save_model(
        onnx.load_from_string(exported), "a.onnx", save_as_external_data=True, location="data", size_threshold=0
    )
    content = Path("a.onnx").read_bytes()
    assert Path("data").stat().st_size > 0
    assert b"\n\x08location" in content
    if entry != b"\n\x08location":
        content = content[:9] + entry  # a reader of protocol buffers takes it for the same key
    with pytest.raises(ModelError, match="weights outside the file are not read"):
        open_onnx(content, "a.onnx")


def _foreign() -> bytes:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, [1, 2])],
        [value("y", TensorProto.FLOAT, [1, 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def test_what_is_no_file_of_ours_is_one_line(tmp_path: Path, exported: bytes) -> None:
    path = tmp_path / "x.onnx"
    for content, message in (
        (b"", "not a usable ONNX file"),
        (b"hello", "not a usable ONNX file"),
        (exported[: len(exported) // 2], "not a usable ONNX file"),
        (_foreign(), "its inputs or outputs are not images"),
    ):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=rf"x\.onnx: {message}") as caught:
            load_onnx(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"none\.onnx: no such file; make it with `ddarts export"):
        load_onnx(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match=r"cannot be read"):
        load_onnx(tmp_path)


def test_a_fault_that_shows_when_it_computes_is_one_line() -> None:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Reshape", [INPUT, "sides"], [OUTPUT])],
        "g",
        [value(INPUT, TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [value(OUTPUT, TensorProto.FLOAT, ["batch", 7])],
        [helper.make_tensor("sides", TensorProto.INT64, [2], [-1, 7])],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    with pytest.raises(ModelError, match=r"a\.onnx: not a usable ONNX file: .*Reshape") as caught:
        open_onnx(data, "a.onnx", threads=1).logits(torch.zeros(1, 1, 8, 8))
    assert "\n" not in str(caught.value)


def test_a_device_that_the_runtime_lacks_is_refused(exported: bytes) -> None:
    with pytest.raises(SettingsError, match=r"device = 'mps': the installed onnxruntime cannot use it"):
        open_onnx(exported, "x", device="mps")


def test_predictions_are_those_of_the_model_folder(file: Path, model: Path, tmp_path: Path) -> None:
    random = numpy.random.default_rng(0)
    paths = []
    for i, size in enumerate([(9, 9), (30, 20), (5, 40)]):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=numpy.uint8)).save(paths[-1])
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    ours, theirs = (f(m, [*paths, bad], top=3) for f, m in ((predict_images, model), (predict_onnx, file)))
    assert theirs.skipped == ours.skipped != ()
    for a, b in zip(ours, theirs, strict=True):
        assert a.image == b.image
        assert dict(a.classes) == pytest.approx(dict(b.classes), abs=1e-5)
