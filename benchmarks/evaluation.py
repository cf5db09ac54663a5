"""Evaluation of discrete networks: modules as trained, batch norms folded, and onnxruntime with float32 and int8 files.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --genotypes runs/mine --channels 16 --resolution 32

One process, one thread; the variants take turns, round by round, and medians of the processor time an image are printed
and written. Weights are new ones, which take the same time as trained ones.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import RESULTS, header, load, save

from ddarts.deploy.int8 import quantised
from ddarts.deploy.onnxfile import onnx_bytes, open_onnx
from ddarts.genotype.choices import random_choices
from ddarts.genotype.zoo.lookup import find_architecture
from ddarts.nn.choice_network import AnyNetwork, build_network
from ddarts.nn.folding import folded
from ddarts.space.mobile import MOBILE


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("dd-cifar10-sparse", "resnet18", "mobile")
    parser.add_argument("--genotypes", nargs="+", default=names, help="names, files or runs; mobile: random choices")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=16)
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 256))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS / "evaluation.json")
    return parser.parse_args()


def variants(network: AnyNetwork, shape: tuple[int, int, int]) -> dict[str, Callable[[torch.Tensor], object]]:
    """What maps images [B, C, H, W] to logits, by name."""
    data = onnx_bytes(network, shape)
    sessions = {"onnxruntime": data, "onnxruntime int8": quantised(data, torch.randn(16, *shape))}
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    lean = folded(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found: dict[str, Callable[[torch.Tensor], object]] = {"modules": network, "folded": lean}
    return found | {name: open_onnx(content, name, threads=1).logits for name, content in sessions.items()}


def main() -> None:
    args = parse()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape, rows = (3, args.resolution, args.resolution), []
    content: dict[str, Any] = header() | {"measurements": rows}
    for name in args.genotypes:
        genotype = random_choices(MOBILE, seed=0) if name == "mobile" else find_architecture(name)
        calls = variants(build_network(genotype, channels=args.channels).eval(), shape)
        for batch in args.batches:
            x = torch.randn(batch, *shape)
            inputs = {
                key: x if key.startswith("onnx") else x.contiguous(memory_format=torch.channels_last) for key in calls
            }
            times: dict[str, list[float]] = {key: [] for key in calls}
            with torch.inference_mode():
                for number in range(args.rounds + 1):
                    for key, call in calls.items():
                        start = time.process_time()
                        call(inputs[key])
                        if number:
                            times[key].append(1000 * (time.process_time() - start) / batch)
            median = {key: statistics.median(values) for key, values in times.items()}
            rows.append({"genotype": Path(name).name, "batch": batch, "ms_per_image": median, "rounds": times} | load())
            save(args.out, content)
            shown = ", ".join(f"{key} {value:.4f}" for key, value in median.items())
            print(f"{Path(name).name}, batch {batch}, ms an image: {shown}", flush=True)


if __name__ == "__main__":
    main()
