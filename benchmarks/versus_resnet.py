"""A whole job of ddarts against a ResNet-14 of the same size that is trained for as long as the job took.

    python benchmarks/versus_resnet.py --out DIR --data digits fashion-mnist FOLDER@10000 [--time 10m]

For each data set (`@N`: at most N training images) `ddarts run` has its way, search included, without a standard
network of its own. Then the widest ResNet-14 with at most as many parameters is trained by the settings of the job, for
as many steps as take the processor time of the whole job. Both are tested once on the same images. One thread. What is
done is kept in DIR; the same command continues after a stop.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import RESULTS, header, save

import ddarts
from ddarts.cost.counting import count_parameters
from ddarts.genotype.starting import original_genotype
from ddarts.nn.choice_network import build_network
from ddarts.runs.folder import RunFolder

NETWORK = "standard:resnet14"


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `work` returns and the seconds of processor time that it took."""
    start = time.process_time()
    found = work()
    return found, time.process_time() - start


def widest(parameters: int, in_channels: int, classes: int) -> int:
    """Return the largest C with which a ResNet-14 has at most so many parameters."""
    genotype, channels = original_genotype(NETWORK), 1
    while True:
        sizes = {"channels": channels + 1, "in_channels": in_channels, "classes": classes}
        if count_parameters(build_network(genotype, **sizes)) > parameters:  # type: ignore[arg-type]
            return channels
        channels += 1


def compare(spec: str, folder: Path, **more: Any) -> dict[str, Any]:
    """Run both on one data set; return their numbers."""
    data, _, limit = spec.partition("@")
    shared = {"data": data, "limit": int(limit) if limit else None, "threads": 1, "quiet": True}
    job = folder / "job"
    record = folder / "job.json"
    if not record.exists():
        found, spent = timed(lambda: ddarts.run(**shared, **more, reference="none", out=job, overwrite=job.exists()))
        record.write_text(json.dumps({"seconds": spent, "test_top1": found.test_top1, "parameters": found.parameters}))
    ours = json.loads(record.read_text())
    settings = RunFolder.open(job).read_settings("run")
    train = settings["train"]
    images = ddarts.load_data(data, limit=shared["limit"], resolution=settings["resolution"])
    channels = widest(ours["parameters"], images.channels, len(images.classes))
    train |= {"channels": channels, "evaluations": 5, "epochs": 1, "steps_per_epoch": None}
    keys = ("resolution", "flip", "validation", "seed")
    how = {**shared, **{key: settings[key] for key in keys}, "genotype": NETWORK, "reference": "none"}

    def resnet(name: str, steps: int) -> Any:
        """Train it for as many epochs as make so many steps."""
        wanted = train | {"min_steps": steps}
        return ddarts.train(**how, **wanted, out=folder / name, overwrite=(folder / name).exists())

    few, many = (timed(lambda steps=steps: resnet("speed", steps))[1] for steps in (50, 250))
    steps = int((ours["seconds"] - few) / ((many - few) / 200)) + 50
    theirs, spent = timed(lambda: resnet("resnet14", steps))
    tests = {name: ddarts.test(folder / name, data=data, quiet=True) for name in ("job", "resnet14")}
    resnet14 = {"seconds": spent, "steps": steps, "channels": channels, "parameters": theirs.parameters}
    return {
        "data": Path(data).name + (f", {limit} images" if limit else ""),
        "tested": tests["job"].count,
        "job": ours | {"test_top1": tests["job"].top1},
        "resnet14": resnet14 | {"test_top1": tests["resnet14"].top1},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="as of ddarts run; NAME@N takes N training images")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--time", help="of a job (see ddarts run); a default job if not given")
    parser.add_argument("--results", type=Path, default=RESULTS / "versus_resnet.json")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for number, spec in enumerate(args.data):
        folder = args.out / f"{number}-{Path(spec).name}"
        folder.mkdir(parents=True, exist_ok=True)
        done = folder / "done.json"
        if not done.exists():
            done.write_text(json.dumps(compare(spec, folder, **({"time": args.time} if args.time else {}))))
        rows.append(json.loads(done.read_text()))
        print(rows[-1], flush=True)
        save(args.results, {**header(), "measurements": rows})


if __name__ == "__main__":
    main()
