"""Predicted against measured latencies of 50 networks that the table of a device does not hold.

python benchmarks/latency.py --folder /tmp/latency --threads 1 2 --out latency.json

Writes a probe (`ddarts probe` with its defaults) and other networks, of another seed and of up to 10 cells, where the
probe has at most 8. The script of the probe measures both, as it would on another device. What is done is kept in the
folder; the same command continues after a stop.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from measuring import RESULTS, header, save

from ddarts.config.schema import ProbeSettings
from ddarts.cost.device import Device
from ddarts.deploy.probe import MANIFEST, write_probe
from ddarts.deploy.probe_script import measure, processor

UNSEEN = 50


def table(folder: Path, part: str, settings: ProbeSettings, **how: Any) -> Device:
    """Return the table of a probe, which is written and measured unless that is done."""
    probe, out = folder / part, folder / f"{part}-{how['threads']}.json"
    if not (probe / MANIFEST).exists():
        shutil.rmtree(probe, ignore_errors=True)
        write_probe(probe, settings)
    if not out.exists():
        measure(probe, out, name=processor(), **how)
    return Device.load(out)


def main() -> None:
    """Measure with each number of threads, and write the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the networks and their latencies")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="each is a device")
    parser.add_argument("--clock", default="wall", help="wall or thread; see the script of a probe")
    parser.add_argument("--laps", type=int, default=4, help="of measuring")
    parser.add_argument("--out", type=Path, default=RESULTS / "latency.json", help="file of the results")
    given = parser.parse_args()
    known, unseen = ProbeSettings(), ProbeSettings(cells=(3, 10), networks=UNSEEN, seed=777)
    found = {}
    for threads in given.threads:
        how = {"threads": threads, "clock": given.clock, "laps": given.laps}
        device = table(given.folder, "probe", known, **how)
        others = table(given.folder, "unseen", unseen, **how)
        networks = [
            (ms, device.predict_features({c: v for c, v in zip(others.columns, values, strict=True) if v}))
            for values, ms in others.rows
        ]
        errors = np.array([abs(guess / ms - 1) for ms, guess in networks])
        found[f"{threads} threads"] = {
            "device": device.name,
            "networks": len(device.rows),
            "unseen": len(networks),
            "median": round(float(np.median(errors)), 4),
            "p95": round(float(np.quantile(errors, 0.95)), 4),
            "largest": round(float(errors.max()), 4),
            "measured_predicted_ms": [[round(ms, 4), round(guess, 4)] for ms, guess in networks],
        }
        shown = {key: value for key, value in found[f"{threads} threads"].items() if key != "measured_predicted_ms"}
        print(threads, shown, flush=True)
    save(given.out, {**header(), "clock": given.clock, "devices": found})


if __name__ == "__main__":
    main()
