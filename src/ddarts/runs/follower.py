"""The run folder as the processes other than rank 0 see it: one process writes, the others only compute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddarts.runs.folder import RunFolder

if TYPE_CHECKING:
    from pydantic import BaseModel


class FollowedRun(RunFolder):
    """A run that rank 0 writes: here nothing is read and nothing is written.

    What is in the folder comes from rank 0 by `ddarts.runtime.distributed.Ranks.share`, so that other machines need not
    see it.
    """

    writes = False

    def __init__(self, path: Path) -> None:
        super().__init__(path)

    @property
    def stages(self) -> tuple[str, ...]:
        """Empty."""
        return ()

    @property
    def summary(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def write_settings(self, stage: str, settings: BaseModel) -> None:
        """Do nothing."""

    def update_summary(self, **values: Any) -> None:
        """Do nothing."""

    def log(self, stage: str, kind: str, *, epoch: int, step: int, **values: Any) -> None:
        """Do nothing."""

    def rewind(self, stage: str, step: int, epoch: int | None = None) -> None:
        """Do nothing."""

    def save_checkpoint(self, stage: str, state: dict[str, Any]) -> None:
        """Do nothing."""

    def load_checkpoint(self, stage: str) -> dict[str, Any] | None:
        """Return None: the checkpoint comes from rank 0, see `ddarts.runs.checkpoints.shared`."""
        return None

    def claim(self) -> None:
        """Do nothing."""
