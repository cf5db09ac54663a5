"""Checkpoints of the published code become networks with the same logits, or one line that says why not."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ddarts.errors import DDartsError
from ddarts.genotype.deepen import deepen
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.hub.importing import ImportedNetwork, import_network
from ddarts.nn.network import Network
from tests.reference.golden import golden_json, golden_tensors, relative_error
from tests.reference.mapping import genotype_from_reference
from tests.reference.plain_network import PlainEdge, PlainNetwork

_TOLERANCE = 1e-4

_WIDE: list[PlainEdge] = [
    ("simple_conv_3x3", 2, 0),
    ("skip_connect", 2, 1),
    ("max_pool_3x3", 3, 0),
    ("simple_conv_1x1", 3, 0),
    ("conv_7x1_1x7", 3, 2),
]
_OTHER: list[PlainEdge] = [("simple_conv_1x1", 2, 1), ("skip_connect", 3, 0), ("simple_conv_3x3", 3, 2)]


def _genotype(
    cells: list[list[PlainEdge]], reductions: tuple[int, ...] = (), concat: tuple[int, ...] = (2, 3)
) -> Genotype:
    return Genotype(
        tuple(
            CellGenotype(tuple(Edge(o, source, target) for o, target, source in edges), concat, i in reductions)
            for i, edges in enumerate(cells)
        ),
        "tiny",
    )


def _plain(cells: list[list[PlainEdge]], reductions: tuple[int, ...] = (), **sizes: Any) -> PlainNetwork:
    torch.manual_seed(0)
    return PlainNetwork(cells, reductions, **sizes).eval()


def _write(path: Path, state: Any) -> Path:
    torch.save(state, path)
    return path


def _import(
    tmp_path: Path, plain: nn.Module, genotype: Genotype, *, size: int = 12, channels: int = 3
) -> ImportedNetwork:
    """Import a plain network's weights, and compare the logits in both modes."""
    found = import_network(_write(tmp_path / "plain.pth", plain.state_dict()), genotype)
    x = torch.randn(4, channels, size, size)
    assert not found.network.training
    for training in (False, True):
        torch.testing.assert_close(
            found.network.train(training)(x), plain.train(training)(x), rtol=_TOLERANCE, atol=_TOLERANCE
        )
    return found


@pytest.fixture
def state() -> dict[str, Tensor]:
    return dict(_plain([_WIDE, _OTHER], (1,)).state_dict())


GENOTYPE = _genotype([_WIDE, _OTHER], (1,))


def _refusal(path: Path, genotype: Genotype = GENOTYPE) -> str:
    with pytest.raises(DDartsError) as caught:
        import_network(path, genotype)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 1200
    return message


# -- the authors' own numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["state dict", "training checkpoint", "safetensors"])
@pytest.mark.parametrize("name", ["cifar_dd_sparse", "cifar_resnet18_sparse", "imagenet_resnet18_sparse"])
def test_the_authors_checkpoints_give_their_logits(tmp_path: Path, name: str, form: str) -> None:
    about, tensors = golden_json(f"derived_{name}"), golden_tensors(f"derived_{name}")
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "model_best.pth.tar")
    if form == "safetensors":
        save_file(state, path)
    elif form == "state dict":
        torch.save(OrderedDict(state), path)
    else:
        wrapped = {f"module.{k}": v for k, v in state.items()}
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(2))], 0.1).state_dict()
        torch.save({"epoch": 600, "state_dict": wrapped, "best_acc_top1": 97.3, "optimizer": optimizer}, path)

    found = import_network(path, genotype_from_reference(about["genotype"]))
    network = found.network
    assert (network.channels, network.classes, network.stem_name) == (4, about["num_classes"], about["stem"])
    assert (network.auxiliary is not None) == about["auxiliary"]
    assert (found.tensors + found.left_out, found.notes) == (len(state), ())
    assert relative_error(network(tensors["input"]), tensors["logits_eval"]) < _TOLERANCE
    outputs = network.train()(tensors["input"])
    logits = outputs[0] if about["auxiliary"] else outputs
    assert relative_error(logits, tensors["logits_train"]) < _TOLERANCE
    if about["auxiliary"]:
        assert relative_error(outputs[1], tensors["logits_aux_train"]) < _TOLERANCE


# -- what the published code builds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize(("in_channels", "classes"), [(1, 2), (3, 5)])
def test_sizes_are_read_off_the_tensors(tmp_path: Path, stem: str, in_channels: int, classes: int) -> None:
    plain = _plain([_WIDE, _OTHER], (1,), channels=6, in_channels=in_channels, classes=classes, stem=stem)
    found = _import(tmp_path, plain, GENOTYPE, size=24, channels=in_channels)
    network = found.network
    assert (network.channels, network.in_channels, network.classes) == (6, in_channels, classes)
    assert (network.stem_name, network.auxiliary, found.notes, found.left_out) == (stem, None, (), 0)
    assert found.tensors == len(plain.state_dict())


def test_cells_concatenate_all_their_nodes_whatever_the_genotype_says(tmp_path: Path) -> None:
    genotype = _genotype([_WIDE, _WIDE], (1,), concat=(3,))
    found = _import(tmp_path, _plain([_WIDE, _WIDE], (1,)), genotype)
    assert [cell.concat for cell in found.network.genotype.cells] == [(2, 3), (2, 3)]
    assert found.notes == (
        "the reference concatenates every node of a cell, whatever the genotype says: cells 0 and 1",
    )


def test_a_checkpoint_that_kept_to_the_genotype_is_taken_as_it_is(tmp_path: Path) -> None:
    edges: list[PlainEdge] = [("simple_conv_3x3", 2, 0), ("simple_conv_1x1", 3, 1)]
    state = _plain([edges[1:]]).state_dict()  # as if node 2 were there, and in nobody's way
    state["cells.0._ops.2.0.0.op.1.weight"] = torch.zeros(4, 4, 3, 3)
    found = import_network(_write(tmp_path / "a.pth", state), _genotype([edges], concat=(3,)))
    assert found.network.genotype.cells[0].concat == (3,)
    assert found.left_out == 1 + len([n for n in state if "preprocess0" in n])


def test_parts_that_reach_no_output_are_left_out_and_counted(tmp_path: Path) -> None:
    last: list[PlainEdge] = [("simple_conv_1x1", 2, 0), ("max_pool_3x3", 3, 2)]
    plain = _plain([_WIDE, _OTHER, last])
    found = _import(tmp_path, plain, _genotype([_WIDE, _OTHER, last]))
    unread = [n for n in plain.state_dict() if n.startswith(("cells.1.", "cells.2.preprocess1."))]
    assert found.left_out == len(unread) > 20
    assert found.tensors == len(plain.state_dict()) - len(unread)


def test_more_cells_than_the_genotype_has_are_laid_out_as_published(tmp_path: Path) -> None:
    kinds = ("simple_conv_1x1", "simple_conv_3x3", "conv_7x1_1x7")
    cells: list[list[PlainEdge]] = [[(kinds[i % 3], 2, 0), (kinds[i // 3], 3, 1)] for i in range(8)]
    layout = [0, 0, 0, 1, 2, 4, 3, 4, 3, 5, 6, 7, 6, 7]
    genotype = _genotype(cells, (2, 6))
    found = _import(tmp_path, _plain([cells[i] for i in layout], (2, 6)), genotype)
    assert found.notes == ("the 8 cells of the genotype are laid out over 14 as the reference does",)
    assert found.network.genotype.reductions == (2, 6)

    deeper = deepen(genotype, 14)
    mended = [[(e.operation, e.target, e.source) for e in cell.edges] for cell in deeper.cells]
    found = _import(tmp_path, _plain(mended, deeper.reductions), genotype)
    assert found.notes == ("the 8 cells of the genotype are laid out over 14 as ddarts does",)
    assert found.network.genotype.cells == deeper.cells


def test_operations_that_are_numbered_in_their_cell_are_found(tmp_path: Path) -> None:
    cells: list[list[PlainEdge]] = [
        [("simple_conv_3x3", 2, 0), ("skip_connect", 2, 1), ("conv_7x1_1x7", 3, 2), ("simple_conv_1x1", 3, 0)],
        [("simple_conv_3x3", 2, 1), ("simple_conv_3x3", 2, 0), ("max_pool_3x3", 3, 1), ("skip_connect", 3, 0)],
    ]
    plain = _plain(cells, (1,))
    state = {}
    for name, tensor in plain.state_dict().items():
        if match := re.match(r"cells\.(\d)\._ops\.(\d)\.(\d)\.0\.(.*)", name):
            edges = [(target, source) for _, target, source in cells[int(match[1])]]
            name = f"cells.{match[1]}._ops.{edges.index((int(match[2]), int(match[3])))}.{match[4]}"
        state[name] = tensor
    found = import_network(_write(tmp_path / "a.pth", state), _genotype(cells, (1,)))
    x = torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(found.network(x), plain(x), rtol=_TOLERANCE, atol=_TOLERANCE)
    assert "does not list two edges for each node" in _refusal(tmp_path / "a.pth", _genotype([_WIDE, _WIDE], (1,)))

    large = _plain(cells, (1,), stem="imagenet").state_dict()
    kept = {n: t for n, t in large.items() if "_ops" not in n} | {n: t for n, t in state.items() if "_ops" in n}
    assert "whose ImageNet stem divides images by 8" in _refusal(
        _write(tmp_path / "b.pth", kept), _genotype(cells, (1,))
    )


def _with_head(state: dict[str, Tensor], channels: int) -> dict[str, Tensor]:
    layers = {
        "features.2": nn.Conv2d(channels, 128, 1, bias=False),
        "features.3": nn.BatchNorm2d(128),
        "features.5": nn.Conv2d(128, 768, 2, bias=False),
        "features.6": nn.BatchNorm2d(768),
        "classifier": nn.Linear(768, 3),
    }
    head = {f"auxiliary_head.{n}.{v}": t for n, layer in layers.items() for v, t in layer.state_dict().items()}
    return state | head


def test_an_auxiliary_head_is_kept_where_it_can_stand(tmp_path: Path, state: dict[str, Tensor]) -> None:
    found = import_network(_write(tmp_path / "a.pth", _with_head(state, 16)), GENOTYPE)
    head = found.network.auxiliary
    assert head is not None
    assert head.conv1.weight.shape == (128, 16, 1, 1)
    logits, auxiliary = found.network.train()(torch.randn(2, 3, 16, 16))
    assert logits.shape == auxiliary.shape == (2, 3)

    last: list[PlainEdge] = [("simple_conv_1x1", 2, 0)]
    cells = [_WIDE, _WIDE, last]
    unread = _with_head(dict(_plain(cells, (1,)).state_dict()), 16)
    found = import_network(_write(tmp_path / "b.pth", unread), _genotype(cells, (1,)))
    assert found.network.auxiliary is None
    assert found.notes == ("the auxiliary head was left out: it stands after a cell that does not reach the output",)


# -- what the file may look like ---------------------------------------------------------------------------------------


def _same(found: ImportedNetwork, state: dict[str, Tensor]) -> bool:
    return torch.equal(found.network.classifier.weight, state["classifier.weight"])


@pytest.mark.parametrize("key", ["state_dict", "network", "model", "model_state_dict", "net", "network_state_dict"])
def test_the_state_dict_may_stand_under_many_names(tmp_path: Path, state: dict[str, Tensor], key: str) -> None:
    assert _same(import_network(_write(tmp_path / "a.pth", {"epoch": 3, key: state}), GENOTYPE), state)
    nested = {"model": {"state_dict": state}, "args": {"lr": 0.1}}
    assert _same(import_network(_write(tmp_path / "b.pth", nested), GENOTYPE), state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_removed(tmp_path: Path, state: dict[str, Tensor], prefix: str) -> None:
    wrapped = {prefix + name: tensor for name, tensor in state.items()}
    assert _same(import_network(_write(tmp_path / "a.pth", wrapped), GENOTYPE), state)


def test_the_old_format_of_pytorch_is_read(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert _same(import_network(tmp_path / "a.pth", GENOTYPE), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(tmp_path: Path, state: dict[str, Tensor], dtype: torch.dtype) -> None:
    changed = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}
    found = import_network(_write(tmp_path / "a.pth", changed), GENOTYPE)
    kinds = {t.dtype for n, t in found.network.state_dict().items() if "num_batches" not in n}
    assert kinds == {torch.float32}
    assert found.notes == (f"{str(dtype).removeprefix('torch.')} weights became float32",)
    assert torch.equal(found.network.classifier.weight, changed["classifier.weight"].float())


def test_counters_of_batches_may_be_missing_and_those_of_a_profiler_there(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    old = {name: tensor for name, tensor in state.items() if "num_batches_tracked" not in name}
    counters = {"total_ops": torch.zeros(1), "cells.0.preprocess0.op.1.total_params": torch.zeros(1)}
    found = import_network(_write(tmp_path / "a.pth", {**old, **counters}), GENOTYPE)
    assert found.notes == ("2 counters of a profiler (total_ops, total_params) were left out",)
    assert int(found.network.state_dict()["stem.norm.num_batches_tracked"]) == 0


def test_weights_that_share_memory_come_apart(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["cells.0.preprocess0.op.1.weight"] = state["cells.0.preprocess1.op.1.weight"]
    path = _write(tmp_path / "a.pth", {"state_dict": state, "best_acc": torch.zeros(4096)})
    network = import_network(path, GENOTYPE).network
    first, second = network.cells["0"].preprocess0.conv.weight, network.cells["0"].preprocess1.conv.weight
    assert torch.equal(first, second)
    assert first.data_ptr() != second.data_ptr()


# -- what does not fit -------------------------------------------------------------------------------------------------


def test_missing_extra_and_misshapen_tensors_are_listed_by_cell(tmp_path: Path, state: dict[str, Tensor]) -> None:
    del state["cells.0._ops.2.0.0.op.2.bias"]
    state["cells.1._ops.2.1.1.op.1.weight"] = torch.zeros(8, 8, 1, 1)
    state["head.weight"] = torch.zeros(3)
    state["cells.0.preprocess0.op.1.weight"] = torch.zeros(4, 13, 1, 1)
    assert _refusal(_write(tmp_path / "a.pth", state)).endswith(
        "does not fit the genotype tiny of 2 cells: differences in cells 0 and 1 and head: "
        "1 tensor missing (cells.0._ops.2.0.0.op.2.bias), "
        "2 tensors without a place (cells.1._ops.2.1.1.op.1.weight, head.weight), "
        "1 tensor of another shape (cells.0.preprocess0.op.1.weight is [4, 13, 1, 1], expected [4, 12, 1, 1]); "
        "give the genotype that it was trained with"
    )


def test_the_cells_that_a_wrong_genotype_has_are_named_and_long_lists_cut(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.pth", _plain([_WIDE, _OTHER, _WIDE]).state_dict())
    message = _refusal(path, _genotype([_WIDE, _WIDE, _WIDE]))
    assert "differences in cell 1: " in message
    many = _write(tmp_path / "b.pth", _plain([_WIDE] * 12).state_dict())
    assert "differences in cells 0, 1, 2, 3, 4, 5, 6, 7 and 4 more: " in _refusal(many, _genotype([_OTHER] * 12))
    assert re.search(
        r"tensors missing \(cells\.\S+, cells\.\S+ and \d+ more\)", _refusal(many, _genotype([_OTHER] * 12))
    )


def test_fewer_cells_than_the_genotype_has_are_another_architecture(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = _write(tmp_path / "a.pth", state)
    assert "has 2 cells, the genotype 3; give the genotype" in _refusal(path, _genotype([_WIDE, _OTHER, _WIDE], (1,)))


def _changed(name: str, tensor: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {**state, name: tensor}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_changed("stem.1.bias", 3.0), r": stem\.1\.bias is a float, expected a tensor"),
        (_changed("stem.1.bias", ["x"] * 10**5), r": stem\.1\.bias is a list, expected a tensor"),
        (lambda s: {**s, 7: torch.zeros(1)}, r"its state dict has the key 7, expected names of tensors"),
        (_changed("x\n\x1b[2J", torch.zeros(1)), r"has the key 'x\\n\\x1b\[2J', expected names of tensors"),
        (_changed("x" * 10**5, torch.zeros(1)), r"1 tensor without a place \(x{120}\)"),
        (_changed("stem.1.bias", torch.zeros(12).int()), r": stem\.1\.bias is int32, expected float32"),
        (_changed("stem.1.bias", torch.zeros(12).bool()), r": stem\.1\.bias is bool, expected float32"),
        (_changed("stem.1.bias", torch.zeros(12) + 0j), r": stem\.1\.bias is a strided complex64 tensor"),
        (_changed("stem.1.bias", torch.zeros(12).to_sparse()), r": stem\.1\.bias is a sparse_coo float32 tensor"),
        (_changed("stem.1.bias", torch.empty(12, device="meta")), r": stem\.1\.bias is a strided .* on meta"),
        (
            _changed("stem.1.bias", torch.full((12,), torch.nan)),
            r"1 tensor with values that are not finite \(stem\.1\.b",
        ),
        (
            _changed("stem.1.bias", torch.full((12,), 1e300, dtype=torch.float64)),
            r"values that are not finite .* diverged; take an",
        ),
        (_changed("x", torch.zeros(1).expand(10**7, 10**5)), r"claim \d+ bytes, more than the whole file has"),
        (_changed("classifier.weight", torch.zeros(())), r"classifier\.weight has the shape \[\], expected 2 dim"),
        (_changed("classifier.weight", torch.zeros(0, 8)), r"its stem or its classifier is empty"),
        (_changed("stem.0.weight", torch.zeros(13, 3, 3, 3)), r"stem\.0\.weight has 13 outputs, expected 3C"),
        (_changed("cells.99999999.x", torch.zeros(1)), r"has a cell 99999999; expected 1 to 1000 cells"),
        (lambda s: {n: t for n, t in s.items() if "cells" not in n}, r"has no cells; expected 1 to 1000"),
        (lambda s: {n.replace("stem.", "conv."): t for n, t in s.items()}, r"lacks stem\.0\.weight and holds conv"),
        (
            lambda s: {"cells.0._ops.0._ops.3.op.1.weight": torch.zeros(1), **s},
            r"holds a supernet, the network of a se",
        ),
        (lambda s: Network(GENOTYPE).state_dict(), r"holds a model of ddarts; use its folder as it is"),
        (lambda s: {"network_states": {"alphas": torch.zeros(1)}}, r"is a checkpoint of a search"),
        (lambda s: {"epoch": 3, "weights": s}, r"holds no state dict: its keys are 'epoch', 'weights'; expected"),
        (lambda s: {}, r"holds no state dict: its keys are none"),
        (lambda s: [s], r"holds a list and no state dict; save its state dict alone"),
        (lambda s: torch.zeros(3), r"holds a Tensor and no state dict"),
    ],
)
def test_what_a_checkpoint_should_not_hold_is_named(
    tmp_path: Path, state: dict[str, Any], change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    assert re.search(message, _refusal(_write(tmp_path / "a.pth", change(state))))


class Trap:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("new", [True, False])
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, state: dict[str, Tensor], new: bool) -> None:
    trap = tmp_path / "trap"
    torch.save({"state_dict": state, "x": Trap(trap)}, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    told = r"a\.pth asks for (posix|nt)\.system to be run, which is refused; save its state dict alone"
    assert re.search(told, _refusal(tmp_path / "a.pth"))
    assert not trap.exists()


def test_what_a_pickle_asks_for_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    payload = b"\x80\x02c\x1b[31mos\nsystem\n."
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        for name, data in (("data.pkl", payload), ("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(f"a/{name}", data)
    message = _refusal(tmp_path / "a.pth")
    assert message.isprintable()
    assert "asks for ?[31mos.system to be run, which is refused" in message


@pytest.mark.parametrize("form", ["zip", "old", "safetensors"])
def test_a_file_with_changed_bytes_is_a_network_or_one_line(
    tmp_path: Path, state: dict[str, Tensor], form: str
) -> None:
    path, lot = tmp_path / ("a.safetensors" if form == "safetensors" else "a.pth"), random.Random(0)
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(lot.choice((1, 1, 3))):
            data[lot.randrange(lot.choice((12_000, len(data))))] = lot.randrange(256)
        path.write_bytes(data)
        with contextlib.suppress(DDartsError):
            import_network(path, GENOTYPE)


def test_a_whole_search_is_refused_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = types.ModuleType("separate_loss")
    loss = type("ConvSeparateLoss", (), {"__module__": "separate_loss"})
    losses.ConvSeparateLoss = loss  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "separate_loss", losses)
    path = _write(tmp_path / "a.pth", {"network_states": {"criterion": loss()}})
    assert "holds a whole search of the reference (it asks for separate_loss.ConvSeparateLoss to be" in _refusal(path)


def test_a_checkpoint_that_holds_itself_ends(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["model"] = endless
    assert "holds no state dict: its keys are 'model'" in _refusal(_write(tmp_path / "a.pth", endless))


@pytest.mark.parametrize("keep", [0, 1, 3, 40, 0.5, 0.99])
@pytest.mark.parametrize("form", ["zip", "old", "safetensors"])
def test_a_file_that_is_cut_short_is_told(tmp_path: Path, state: dict[str, Tensor], form: str, keep: float) -> None:
    path = tmp_path / ("a.safetensors" if form == "safetensors" else "a.pth")
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else int(keep)])
    assert re.search(r"a\.\w+(:| is broken| holds| asks)", _refusal(path))


def test_a_safetensors_file_with_a_huge_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + b"{" * 100)
    assert "is broken or cut short" in _refusal(path)
    header = json.dumps({"stem.0.weight": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert "is broken or cut short" in _refusal(path)


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    with (
        zipfile.ZipFile(_write(tmp_path / "a.pth", state)) as old,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))
    assert "b.pth: a compressed archive" in _refusal(tmp_path / "b.pth")


def test_other_files_are_told_apart(tmp_path: Path) -> None:
    assert "is a folder; name the checkpoint file in it" in _refusal(tmp_path)
    assert "nowhere.pth: no such checkpoint file" in _refusal(tmp_path / "nowhere.pth")
    pointer = tmp_path / "model_best.pth.tar"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 428057894\n")
    assert "only points to a checkpoint in Git LFS; fetch the file itself: git lfs pull" in _refusal(pointer)
    pointer.write_text("epoch,loss\n1,2.3\n")
    assert "is broken, or in no format that holds tensors" in _refusal(pointer)
