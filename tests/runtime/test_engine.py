import contextlib
import logging

import pytest
import torch

from ddarts.config.schema import EngineOptions
from ddarts.errors import SettingsError
from ddarts.runtime.engine import available_cores, check_engine, launch, resolve_device

no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")


@pytest.fixture(autouse=True)
def _keep_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_launched_engine_computes_on_the_cpu_with_the_threads_asked_for(caplog):
    with caplog.at_level(logging.INFO):
        fabric = launch(EngineOptions(device="cpu", threads=1))
    assert fabric.device == torch.device("cpu")
    assert fabric.world_size == 1
    assert torch.get_num_threads() == 1
    assert caplog.records == []


def test_threads_default_to_the_cores_that_this_process_may_use():
    launch(EngineOptions(device="cpu"))
    assert torch.get_num_threads() == available_cores()


def test_bf16_computes_matrix_products_in_bf16_and_keeps_weights_in_float32():
    fabric = launch(EngineOptions(device="cpu", precision="bf16", threads=1))
    layer = fabric.setup(torch.nn.Linear(4, 4))
    with fabric.autocast():
        inner = torch.nn.functional.linear(torch.ones(1, 4), layer.weight)
    assert inner.dtype == torch.bfloat16
    assert layer.weight.dtype == torch.float32


def test_float32_stays_float32():
    fabric = launch(EngineOptions(device="cpu", threads=1))
    with fabric.autocast():
        assert torch.nn.functional.linear(torch.ones(1, 4), torch.ones(4, 4)).dtype == torch.float32


@no_cuda
def test_auto_is_the_cpu_where_there_is_no_gpu():
    assert resolve_device("auto") == ("cpu", 0)


@no_cuda
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_cuda_where_there_is_none_is_one_line_with_the_way_out(name):
    with pytest.raises(
        SettingsError, match=f"device '{name}' is not available: torch finds no CUDA GPU; use --device cpu"
    ):
        launch(EngineOptions(device=name))


@no_cuda
def test_an_apple_gpu_is_passed_over_by_auto_and_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == ("cpu", 0)
    with pytest.raises(SettingsError, match=r"device 'mps' lacks operations .*; use --device cpu") as caught:
        check_engine(EngineOptions(device="mps"))
    assert "\n" not in str(caught.value)


def test_cuda_computes_in_full_precision_by_deterministic_algorithms(monkeypatch):
    monkeypatch.setattr("ddarts.runtime.engine.resolve_device", lambda name: ("cuda", 0))
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = True, True, True, False
    try:
        with contextlib.suppress(RuntimeError):  # without a GPU, Fabric fails after it
            launch(EngineOptions(device="cuda", threads=1))
        found = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
    assert found == (False, False, False, True)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "", "cpu:0"])
def test_an_unknown_device_is_named_with_the_known_ones(name):
    with pytest.raises(SettingsError, match=r"device = .* is unknown; use auto, cpu, cuda or cuda:N"):
        resolve_device(name)


def test_fp16_on_a_cpu_is_refused_with_what_to_use_instead():
    with pytest.raises(SettingsError, match=r"'fp16' needs a GPU.*--precision bf16 or float32"):
        launch(EngineOptions(device="cpu", precision="fp16"))


def test_several_processes_on_one_named_device_are_refused(monkeypatch):
    monkeypatch.setattr("ddarts.runtime.engine.resolve_device", lambda name: ("cuda", 1))
    with pytest.raises(SettingsError, match="device 'cuda:1' is one device, for 2 processes; use --device cuda"):
        check_engine(EngineOptions(device="cuda:1", devices=2))


def test_a_launch_that_no_process_has_joined_is_refused():
    with pytest.raises(SettingsError, match="2 processes where 1 is expected; several devices serve run, search and"):
        launch(EngineOptions(device="cpu", devices=2))
