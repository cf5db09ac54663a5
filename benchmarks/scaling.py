"""Figures for docs/scaling.md: steps of ImageNet's size on this machine, what processes exchange, and two of them.

    python benchmarks/scaling.py                         some minutes
    python benchmarks/scaling.py --search-batch 4 8 --train-batch 8 16

Times are of this machine and say nothing of a GPU; bytes exchanged and memory an image are properties of the networks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from measuring import RESULTS, ROOT, MeasurementError, header, in_own_process, load, peak_gb, save, say


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search-batch", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--train-batch", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "scaling.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def _supernet(classes: int) -> Any:
    import torch

    from ddarts.space.cell_space import build_space
    from ddarts.supernet.supernet import Supernet

    net = Supernet(build_space(cells=8, nodes=4), channels=16, classes=classes, stem="imagenet")
    return net.to(memory_format=torch.channels_last)


def _network() -> Any:
    import torch

    from ddarts.genotype.zoo.catalogue import zoo_entry
    from ddarts.nn.network import Network

    network = Network(zoo_entry("darts-v2").genotype(14), channels=48, classes=1000, stem="imagenet", auxiliary=True)
    return network.to(memory_format=torch.channels_last)


def measure_search(task: dict[str, Any]) -> dict[str, float]:
    """Alpha step (two sampled ablations with gradients) and weight step, 224x224, 1000 classes."""
    import torch
    from torch.nn import functional

    from ddarts.config.strategies import DDartsOptions
    from ddarts.searching.alpha_step import AblationPlan, alpha_gradients
    from ddarts.searching.strategies.d_darts import DDarts

    strategy = DDarts(DDartsOptions())
    torch.set_num_threads(1)
    net = _supernet(1000)
    x = torch.randn(task["batch"], 3, 224, 224).contiguous(memory_format=torch.channels_last)
    y = torch.arange(task["batch"])
    plan = AblationPlan("gradient", "zero", [2, 5], [], 0.7)
    idle, alpha_s, weight_s = peak_gb(), [], []
    for _ in range(task["rounds"]):
        begun = time.perf_counter()
        gates = strategy.gates(net.architecture_parameters())
        alpha_gradients(net, x, y, gates, regulariser=partial(strategy.regulariser, (), gates, 1.0), plan=plan)
        middle = time.perf_counter()
        constant = [gate.detach() for gate in gates]
        functional.cross_entropy(net(x, constant), y).backward()
        alpha_s.append(middle - begun)
        weight_s.append(time.perf_counter() - middle)
        net.zero_grad()
    return {"alpha_s": min(alpha_s), "weight_s": min(weight_s), "peak_gb": peak_gb(), "idle_gb": idle}


def measure_train(task: dict[str, Any]) -> dict[str, float]:
    """Forward and backward of the final network, 224x224, 1000 classes."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    network = _network()
    x = torch.randn(task["batch"], 3, 224, 224).contiguous(memory_format=torch.channels_last)
    y = torch.arange(task["batch"])
    idle, spent = peak_gb(), []
    for _ in range(task["rounds"]):
        begun = time.perf_counter()
        logits, auxiliary = network(x)
        (functional.cross_entropy(logits, y) + 0.4 * functional.cross_entropy(auxiliary, y)).backward()
        spent.append(time.perf_counter() - begun)
        network.zero_grad()
    return {"step_s": min(spent), "peak_gb": peak_gb(), "idle_gb": idle}


def count_bytes() -> dict[str, dict[str, float]]:
    """What a process sends and gets in a step, as tensors (an all-reduce moves each about twice)."""
    from ddarts.nn.batch_norm import BatchStatistics, SyncBatchNorm2d, synchronise

    found = {}
    for name, net in (("search", _supernet(1000)), ("train", _network())):
        synchronise(net)
        norms = [m for m in net.modules() if isinstance(m, BatchStatistics | SyncBatchNorm2d)]
        channels = sum(len(m.running_mean) for m in norms if m.running_mean is not None)
        alphas = sum(a.numel() for a in net.alphas) if name == "search" else 0
        weights = sum(p.numel() for p in net.parameters()) - alphas
        found[name] = {
            "weight_gradient_mb": 4 * weights / 1e6,
            "alpha_gradient_kb": 4 * alphas / 1e3,
            "batch_norms": len(norms),
            "batch_norm_kb_each_way": 4 * 2 * channels / 1e3,
        }
    return found


def two_processes() -> dict[str, float]:
    """Seconds of one small search by one process and by two, of one thread each; and with synchronised batch norm."""
    common = [*("search", "--data", "digits", "--device", "cpu", "--threads", "1", "--quiet", "--json")]
    common += ["--resolution", "32", "--cells", "4", "--nodes", "2", "--channels", "16", "--batch", "64"]
    common += ["--epochs", "1", "--steps-per-epoch", "8", "--method", "darts", "--no-stop-on-collapse"]
    found = {}
    for name, more in (
        ("one", []),
        ("two", ["--devices", "2"]),
        ("two_sync_batch_norm", ["--devices", "2", "--sync-batch-norm"]),
    ):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "ddarts", *common, *more, "--out", f"{folder}/run"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=_environment())
            if done.returncode != 0:
                raise MeasurementError(done.stderr.strip()[-300:])
            found[f"{name}_s"] = json.loads(done.stdout)["search_s"]
    return found


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def main() -> None:
    options = parse()
    if options.one:
        task = json.loads(options.one)
        print(json.dumps({"search": measure_search, "train": measure_train}[task["what"]](task)))
        return
    results: dict[str, Any] = {**header(), "exchanged": count_bytes(), "rows": []}
    say(json.dumps(results["exchanged"]))
    for what, sizes in (("search", options.search_batch), ("train", options.train_batch)):
        for batch in sizes:
            row = {"what": what, "batch": batch}
            found = in_own_process({**row, "rounds": options.rounds})
            results["rows"].append({**row, **found, **load()})
            say(json.dumps(results["rows"][-1]))
            save(options.out, results)
    results["digits"] = {**two_processes(), **load()}
    say(json.dumps(results["digits"]))
    save(options.out, results)


if __name__ == "__main__":
    main()
