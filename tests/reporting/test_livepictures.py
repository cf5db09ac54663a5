from collections.abc import Iterator

import pytest

from ddarts.reporting import livepictures
from ddarts.reporting.livepictures import CellPictures
from ddarts.space.cell_space import build_space

SPACE = build_space("darts", cells=2, nodes=1)


class Clock:
    """Time that passes only when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    ours = Clock()
    monkeypatch.setattr(livepictures.time, "perf_counter", ours)
    return ours


def record(epoch: int, **values: object) -> dict:
    gates = [[[0.1 * o for o in range(7)] for _ in SPACE.edges] for _ in range(2)]
    return {"stage": "search", "kind": "epoch", "epoch": epoch, "gates": gates, **values}


def test_every_searched_cell_is_drawn_at_the_last_epoch(clock: Clock) -> None:
    pictures = CellPictures(SPACE, 3)(record(3))
    assert list(pictures) == ["cell 0", "cell 1"]
    assert all(data.startswith(b"\x89PNG") for data in pictures.values())


def test_pictures_wait_until_they_cost_less_than_their_share(clock: Clock) -> None:
    pictures = CellPictures(SPACE, 100, share=0.01)
    clock.now = 59.0  # two cells are taken to need 0.6 s
    assert not pictures(record(1))
    clock.now = 61.0
    assert pictures(record(2))
    assert pictures(record(3))  # by this clock drawing takes no time at all


def test_other_records_get_no_pictures() -> None:
    pictures = CellPictures(SPACE, 1)
    assert not pictures(record(1, kind="step"))
    assert not pictures(record(1, stage="train"))
    assert not pictures(record(1, gates=None))


def test_gates_that_are_not_finite_do_not_matter() -> None:
    gates = [[[None] * 7 for _ in SPACE.edges]] * 2
    assert list(CellPictures(SPACE, 1)(record(1, gates=gates))) == ["cell 0", "cell 1"]
