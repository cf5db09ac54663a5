"""A step of the final training: the package's network against the same one from plain modules; and data loading alone.

    python benchmarks/network_step.py                                   about four minutes
    python benchmarks/network_step.py --genotypes runs/mine --channels 36 --rounds 5

A step is forward, loss, backward, clipping and SGD, in float32. The plain network has one module for each operation,
contiguous memory and PyTorch's own convolutions, clipping and SGD (tests/reference/plain_network.py); that outputs and
gradients are the same is tested in tests/nn/test_network_plain.py. The name of a choice space, such as `residual`,
stands for its hand-made network or a random one; plain, it has convolutions and batch norms of PyTorch alone. Data
loading prepares batches of 32x32 colour images from memory as the search and the trainings of the presets do: order,
crop, mirror, policy, normalisation, cutout. With one thread, steps are processor time. Every measurement runs in a
process of its own; they take turns, round by round, and medians are printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from measuring import RESULTS, ROOT, header, in_own_process, load, medians, peak_gb, save, say

BUILDS = ("plain", "package")
LOADING = ("search", "train small", "train paper")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--genotypes", nargs="*", default=("dd-cifar10-sparse", "darts-v2"), help="names, files or runs; may be none"
    )
    parser.add_argument("--loading", nargs="*", choices=LOADING, default=LOADING)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="timed steps a measurement, after one unmeasured")
    parser.add_argument("--seconds", type=float, default=5.0, help="about how long loading is measured at a time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "network_step.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(task: dict[str, Any]) -> dict[str, float]:
    """What the process of one measurement does."""
    import torch

    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    if "loading" in task:
        return measure_loading(task)
    from ddarts.kernels import library

    with library.allowed(task["build"] == "package"):
        return measure_network(task)


def measure_network(task: dict[str, Any]) -> dict[str, float]:
    """Seconds of one step (mean of `steps`, after one unmeasured) and its parts, and peak memory."""
    import torch
    from torch.nn import functional as F

    from ddarts.genotype.random import first_genotype
    from ddarts.genotype.zoo.lookup import find_genotype
    from ddarts.nn.choice_network import build_network
    from ddarts.space.choice_space import ChoiceSpace
    from ddarts.space.spaces import SPACES

    sys.path.insert(0, str(ROOT))
    from tests.reference.network_mapping import build_plain

    space = SPACES.get(task["genotype"]) if task["genotype"] in SPACES.names() else None
    chain, package = isinstance(space, ChoiceSpace), task["build"] == "package"
    genotype = first_genotype(space, seed=0) if space else find_genotype(task["genotype"])
    x = torch.randn(task["batch"], 3, task["resolution"], task["resolution"])
    y = torch.randint(0, 10, (task["batch"],))
    if package:
        network: Any = build_network(genotype, channels=task["channels"]).to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    elif chain:
        network = with_plain_convolutions(build_network(genotype, channels=task["channels"]))
    else:
        network = build_plain(genotype, channels=task["channels"])
    weights = list(network.parameters())
    optimizer = torch.optim.SGD(weights, lr=0.025, momentum=0.9, weight_decay=3e-4, fused=True if package else None)
    network.train()
    parts = dict.fromkeys(("forward_s", "backward_s", "update_s"), 0.0)
    clock = time.process_time if task["threads"] == 1 else time.perf_counter
    for number in range(task["steps"] + 1):
        times = [clock()]
        loss = F.cross_entropy(network(x), y)
        times.append(clock())
        optimizer.zero_grad()
        loss.backward()
        times.append(clock())
        torch.nn.utils.clip_grad_norm_(weights, 5.0, foreach=True if package else None)
        optimizer.step()
        times.append(clock())
        if number > 0:
            for place, name in enumerate(parts):
                parts[name] += (times[place + 1] - times[place]) / task["steps"]
    return {"step_s": sum(parts.values()), **parts, "peak_gb": peak_gb()}


def with_plain_convolutions(network: Any) -> Any:
    """Return a network whose convolutions are all PyTorch's own."""
    from torch import nn

    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d) and type(module) is not nn.Conv2d:
            options = {key: getattr(module, key) for key in names}
            network.set_submodule(name, nn.Conv2d(**options, bias=module.bias is not None))
    return network


def measure_loading(task: dict[str, Any]) -> dict[str, float]:
    """Images a second, at the preset's batch."""
    import torch

    from ddarts.config.loading import load_settings
    from ddarts.data import Augment, Batches
    from ddarts.data.images import Images

    stage, _, preset = task["loading"].partition(" ")
    side = task["resolution"]
    settings: Any = getattr(load_settings(stage, preset=preset or "paper"), stage)
    augment = Augment(flip=True, crop=side // 8)
    if stage == "train":
        augment = Augment.at(side, side, crop=settings.crop, flip=True, cutout=settings.cutout, policy=settings.policy)
    images = Images(torch.randint(0, 256, (20000, 3, side, side), dtype=torch.uint8), torch.randint(0, 10, (20000,)))
    mean = std = (0.5, 0.5, 0.5)
    batches = Batches(images, settings.batch, seed=0, label=stage, mean=mean, std=std, augment=augment)
    batches.batch(0, 0)
    seen, started = 0, time.perf_counter()
    while time.perf_counter() - started < task["seconds"]:
        seen += len(batches.batch(1, seen // settings.batch % batches.per_epoch)[1])
    return {"images_per_s": seen / (time.perf_counter() - started), "batch": settings.batch}


def main() -> None:
    args = parse()
    if args.one:
        print(json.dumps(measure(json.loads(args.one))))
        return
    shared = {name: getattr(args, name) for name in ("channels", "batch", "resolution", "threads", "steps", "seconds")}
    tasks = [{"genotype": genotype, "build": build} for genotype in args.genotypes for build in BUILDS]
    tasks += [{"loading": name} for name in args.loading]
    rows: list[dict[str, Any]] = [{**task, "median": None, "rounds": []} for task in tasks]
    content = header() | {"sizes": shared, "measurements": rows}
    for number in range(args.rounds):
        for task, row in zip(tasks, rows, strict=True):
            say(f"round {number + 1}/{args.rounds}: {' '.join(map(str, task.values()))}")
            row["rounds"].append(in_own_process(task | shared) | load())
            row["median"] = medians(row["rounds"])
            save(args.out, content)
    table(rows)
    print(f"written to {args.out}")


def table(rows: list[dict[str, Any]]) -> None:
    names = ("step s", "forward s", "backward s", "update s", "peak GB", "faster", "memory")
    plain = {row["genotype"]: row["median"] for row in rows if row.get("build") == "plain"}
    if plain:
        print(f"{'network':30}" + "".join(f"{name:>12}" for name in names))
    for row in (r for r in rows if "build" in r):
        figures, other = row["median"], plain[row["genotype"]]
        keys = ("step_s", "forward_s", "backward_s", "update_s", "peak_gb")
        cells = [f"{figures[key]:.3f}" for key in keys]
        cells += [f"{other['step_s'] / figures['step_s']:.2f}", f"{figures['peak_gb'] / other['peak_gb']:.2f}"]
        print(f"{Path(row['genotype']).name + ' ' + row['build']:30}" + "".join(f"{cell:>12}" for cell in cells))
    for row in (r for r in rows if "loading" in r):
        print(f"loading for {row['loading']:18} {row['median']['images_per_s']:10.0f} images a second")


if __name__ == "__main__":
    main()
