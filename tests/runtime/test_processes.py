from __future__ import annotations

import pytest

from ddarts.errors import SettingsError
from ddarts.runtime.processes import Place, find_place, speaks


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)


def set_environment(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))


def test_a_process_is_alone_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_place() == find_place(1, 1) == Place()
    assert speaks()
    set_environment(monkeypatch, LOCAL_RANK=3)  # a stray variable makes nobody silent
    assert find_place() == Place()
    assert speaks()


def test_torchrun_tells_every_process_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, TORCHELASTIC_RUN_ID="x", WORLD_SIZE=16, LOCAL_WORLD_SIZE=8, RANK=11, LOCAL_RANK=3)
    assert find_place() == find_place(8, 2) == Place("torchrun", 11, 3, 8, 2)
    assert find_place().size == 16
    assert not speaks()
    with pytest.raises(SettingsError, match="devices = 4, but torchrun has started 8 processes on each of 2 machines"):
        find_place(4)
    set_environment(monkeypatch, RANK=0)
    assert speaks()


def test_fabric_starts_processes_and_several_machines_need_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_place(4) == Place("launcher", 0, 0, 4, 1)
    set_environment(monkeypatch, LOCAL_RANK=2, WORLD_SIZE=4)
    assert find_place(4) == Place("launcher", 2, 2, 4, 1)
    assert not speaks()
    with pytest.raises(SettingsError, match="machines = 3 needs NODE_RANK \\(0 to 2\\), MASTER_ADDR and MASTER_PORT"):
        find_place(4, 3)
    set_environment(monkeypatch, NODE_RANK=1, MASTER_ADDR="host", MASTER_PORT=1234, WORLD_SIZE=12)
    assert find_place(4, 3) == Place("launcher", 6, 2, 4, 3)
