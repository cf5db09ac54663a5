"""Which build of the kernels is loaded, and that the package does without any."""

from __future__ import annotations

import platform
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ddarts.kernels import library


@pytest.fixture(autouse=True)
def _forget_what_was_loaded() -> Iterator[None]:
    library._find_and_load.cache_clear()
    yield
    library._find_and_load.cache_clear()


@pytest.mark.skipif(
    shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) is None  # the compiler that setuptools calls
    or platform.system() != "Linux"
    or torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="kernels are built by a C compiler, and for processors with AVX2",
)
def test_an_installation_with_a_compiler_has_kernels() -> None:
    found = library.load()
    assert found is not None
    assert found.has_threads
    assert library.describe() == library.builds()[0]


def test_the_environment_can_switch_them_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.SWITCH, "off")
    assert library.load() is None
    assert library.describe() == "none"


def test_a_build_that_cannot_be_loaded_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "_avx512.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(library, "find", lambda build: broken)
    assert library.load() is None


def test_a_processor_without_avx2_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert library.builds() == ()
    assert library.load() is None


def test_other_processors_have_a_build_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert library.builds() == ("any",)


def test_what_has_no_build_has_no_file() -> None:
    assert library.find("z80") is None
