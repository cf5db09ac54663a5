"""Does memory grow with the data? Loads class folders of more and more JPEGs, streamed and in memory; makes batches.

    python benchmarks/streaming.py                              a few minutes
    python benchmarks/streaming.py --counts 2000 8000 --batches 10

The files are hard links of 256 different photographs (noise with some structure, about the size of ImageNet's), decoded
and cropped to `--resolution`. Each measurement is a process of its own; memory is its peak, and that of one of its
decoding workers. Also: images decoded a second by one core, from ImageNet-sized files (500x375) to 224 pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import RESULTS, header, in_own_process, peak_gb, save, say

_DIFFERENT = 256
_CLASSES = 10


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[2000, 8000, 32000, 128000], help="images in all")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--most-in-memory", type=int, default=32000, help="hold no more images than this in memory")
    parser.add_argument("--out", type=Path, default=RESULTS / "streaming.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def draw_photographs(folder: Path) -> list[Path]:
    import numpy as np
    from PIL import Image

    paths = []
    for number in range(_DIFFERENT):
        random = np.random.default_rng(number)
        coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((500, 375))
        pixels = np.asarray(coarse) * 0.8 + random.normal(0, 12, (375, 500, 3)) + 20
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=88)
    return paths


def link(originals: list[Path], root: Path, count: int) -> Path:
    for number in range(count):
        folder = root / "train" / f"class{number % _CLASSES}"
        if number < _CLASSES:
            folder.mkdir(parents=True)
        os.link(originals[number % len(originals)], folder / f"{number:08}.jpg")
    (root / "val" / "class0").mkdir(parents=True)
    os.link(originals[0], root / "val" / "class0" / "0.jpg")
    (root / "test" / "class0").mkdir(parents=True)
    os.link(originals[0], root / "test" / "class0" / "0.jpg")
    return root


def measure(task: dict[str, Any]) -> dict[str, float]:
    from ddarts.data import Augment, Batches, load_data

    start = peak_gb()
    begun = time.perf_counter()
    data = load_data(task["data"], resolution=task["resolution"], stream=task["stream"], quiet=True)
    loaded = time.perf_counter()
    batches = Batches(
        data.train,
        task["batch"],
        seed=0,
        label="train",
        mean=data.mean,
        std=data.std,
        augment=Augment(flip=True, crop=8),
        workers=task["workers"],
    )
    steps = min(task["batches"], batches.per_epoch)
    for step in range(steps):
        batches.batch(1, step)
    spent = time.perf_counter() - loaded
    workers = [peak_gb(pid) for pid in _children()]
    return {
        "imported_gb": start,
        "peak_gb": peak_gb(),
        "worker_peak_gb": max(workers, default=0.0),
        "load_s": loaded - begun,
        "images_per_s": steps * task["batch"] / spent,
    }


def _children() -> list[int]:
    """Processes that this one has started; where the system does not tell, none."""
    tasks = Path("/proc/self/task")
    found = [(task / "children").read_text().split() for task in tasks.iterdir()] if tasks.is_dir() else []
    return [int(pid) for pids in found for pid in pids]


def decode_rate(paths: list[Path], seconds: float = 5.0) -> float:
    """Images a second by this one thread: 500x375 JPEG to 224x224."""
    from ddarts.data.decode import decode

    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        decode(paths[count % len(paths)], 3, 224, 224)
        count += 1
    return count / (time.perf_counter() - begun)


def main() -> None:
    options = parse()
    if options.one:
        print(json.dumps(measure(json.loads(options.one))))
        return
    results: dict[str, Any] = {**header(), "rows": []}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        (place / "originals").mkdir()
        originals = draw_photographs(place / "originals")
        results["file_kb"] = sum(p.stat().st_size for p in originals) / len(originals) / 1e3
        results["decoded_per_core_s"] = decode_rate(originals)
        say(f"one core decodes {results['decoded_per_core_s']:.0f} images/s of {results['file_kb']:.0f} kB")
        for count in options.counts:
            root = link(originals, place / str(count), count)
            for stream in ("yes", "no"):
                if stream == "no" and count > options.most_in_memory:
                    continue
                task = {
                    "data": str(root),
                    "stream": stream,
                    "resolution": options.resolution,
                    "batch": options.batch,
                    "batches": options.batches,
                    "workers": options.workers,
                }
                row = {"images": count, "streamed": stream == "yes", **in_own_process(task)}
                results["rows"].append(row)
                say("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
                save(options.out, results)


if __name__ == "__main__":
    main()
