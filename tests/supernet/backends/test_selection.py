"""The setting `backend`."""

from __future__ import annotations

import pytest
import torch

from ddarts.errors import SettingsError
from ddarts.kernels import library
from ddarts.space.cell_space import build_space
from ddarts.supernet.backends.selection import on_backend
from ddarts.supernet.reference import ReferenceSupernet
from ddarts.supernet.supernet import Supernet

CPU = torch.device("cpu")


def net() -> Supernet:
    return Supernet(build_space(cells=2, nodes=1, reductions=(1,)), channels=2)


def test_kernels_are_left_out_for_as_long_as_a_search_lasts() -> None:
    built = library.load()
    with library.allowed(False):
        assert library.load() is None
    assert library.load() is built


def test_cpu_is_an_error_where_the_kernels_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"backend cpu is not available: the device is cuda; choose auto or torch"):
        on_backend(net(), "cpu", torch.device("cuda"))
    monkeypatch.setattr(library, "_find_and_load", lambda: None)
    with pytest.raises(SettingsError, match=r"no build of the kernels runs here; choose auto or torch"):
        on_backend(net(), "cpu", CPU)


def test_the_reference_starts_where_the_supernet_is_and_draws_nothing() -> None:
    supernet = net().eval()
    state = torch.get_rng_state()
    reference = on_backend(supernet, "reference", CPU)
    assert isinstance(reference, ReferenceSupernet)
    assert not reference.training
    assert torch.equal(torch.get_rng_state(), state)
    x, gates = torch.randn(2, 3, 8, 8), [torch.rand(2, 7) for _ in range(2)]
    torch.testing.assert_close(reference(x, gates), supernet(x, gates))
    assert all(torch.equal(a, b) for a, b in zip(reference.alphas, supernet.alphas, strict=True))


@pytest.mark.parametrize("backend", ["inductor", "reference"])
def test_other_supernets_have_no_form_for_the_compiler_or_the_reference(backend: str) -> None:
    reference = ReferenceSupernet.like(net())
    with pytest.raises(SettingsError, match=f"backend {backend} knows no supernet but that of cells"):
        on_backend(reference, backend, CPU)
