"""`ddarts probe`: a folder to measure latencies on another device."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from ddarts.api.signature import names_settings
from ddarts.config.keywords import ProbeKeywords
from ddarts.config.loading import load_settings
from ddarts.config.schema import ProbeSettings
from ddarts.results import Outcome
from ddarts.runtime.progress import Progress


@dataclass(frozen=True)
class ProbeResult(Outcome):
    """The folder that `ddarts.probe` wrote.

    Attributes:
        folder: networks, and the script that measures them.
        networks: their number.
        bytes: size of the folder.
    """

    folder: Path
    networks: int
    bytes: int

    title = "probe"
    conclusion = (
        "On the device: python measure.py --out device.json in this folder. Here: --max-latency 5ms@device.json."
    )

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return what the table shows."""
        yield "folder", str(self.folder)
        yield "networks", str(self.networks)
        yield "size", f"{self.bytes / 2**20:.1f} MiB"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {"folder": str(self.folder), "networks": self.networks, "bytes": self.bytes}


@names_settings(ProbeKeywords)
def probe(
    out: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    quiet: bool = False,
    **settings: Unpack[ProbeKeywords],
) -> ProbeResult:
    """Write a folder with which latencies are measured on a device that has Python, NumPy and onnxruntime.

    It holds random networks of a search space as ONNX files, and the script ``measure.py``. The table that the script
    writes there is what ``max_latency="5ms@device.json"`` predicts latencies from.

    Args:
        out: the folder, new or empty.
        config: a YAML file, or a mapping, with settings.
        quiet: show no progress.
        **settings: fields of `ddarts.config.schema.ProbeSettings`.

    Raises:
        MissingPackageError: onnx is not installed.
        SettingsError: a setting is wrong, the images are too small for the space, or the folder holds files.
    """
    wanted: ProbeSettings = load_settings("probe", config=config, overrides=settings)
    from ddarts.deploy.probe import write_probe

    folder = Path(out).expanduser()
    with Progress("probe", wanted.networks, "network", quiet=quiet) as progress:
        step = 0

        def done() -> None:
            nonlocal step
            step += 1
            progress.update(step)

        size = write_probe(folder, wanted, done)
    return ProbeResult(folder, wanted.networks, size)
