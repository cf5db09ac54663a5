from __future__ import annotations

import io
from pathlib import Path

import torch

import ddarts
from ddarts.deploy.agreement import compare
from ddarts.deploy.onnxfile import quiet_export
from ddarts.deploy.program import load_program, program_bytes
from ddarts.hub.saved import SavedModel
from ddarts.nn.preprocessing import Preprocessing


def test_every_operation_gives_the_same_logits_at_any_batch(saved: SavedModel) -> None:
    prepared = saved.config.preprocessing
    data = program_bytes(saved.network, (1, 9, 9), prepared)
    for batch in (1, 4):
        found = compare(saved.network, load_program(data), torch.randn(batch, 1, 9, 9))
        assert found.logits < 1e-5 * max(1, found.largest_logit)
    inside = {"preprocessing.json": ""}
    with quiet_export():
        program = torch.export.load(io.BytesIO(data), extra_files=inside)
    assert Preprocessing.from_json(inside["preprocessing.json"], "x") == prepared
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert all(target.startswith("aten.") for target in targets)
    assert str(Path(ddarts.__file__).parent).encode() not in data
