"""Time and memory of one search step: the package against a supernet built in the plainest way, in one run.

    python benchmarks/search_step.py                 8 cells, 4 nodes, C = 16, batch 32, 32x32, float32
    python benchmarks/search_step.py --cells 4 --rounds 1 --no-plain

Each variant runs in a process of its own, so that its peak memory is its own, and the variants take turns, round by
round. Printed are medians; the file in benchmarks/results holds every round, the machine, the versions and the command.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = ("plain", "monitor-random", "monitor-zero", "gradient-zero", "gradient-zero-2", "off")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("cells", 8), ("nodes", 4), ("channels", 16), ("batch", 32), ("resolution", 32)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rounds", type=int, default=3, help="rounds, the variants in turn (plain: at most 2)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--no-plain", action="store_true", help="leave out the plain supernet, which is slow")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "search_step.json")
    parser.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def machine() -> dict[str, str]:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    import torch

    return {"cpu": cpu, "system": platform.platform(), "python": platform.python_version(), "torch": torch.__version__}


def measure(args: argparse.Namespace) -> dict[str, float]:
    """One warm-up step and one timed step of one variant, in this process."""
    import torch
    from torch.nn import functional as F

    from ddarts.architecture.spaces import build_space

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    space = build_space(cells=args.cells, nodes=args.nodes)
    x = torch.randn(args.batch, 3, args.resolution, args.resolution)
    y = torch.randint(0, 10, (args.batch,))

    if args.one == "plain":
        sys.path.insert(0, str(ROOT))
        from tests.reference.plain_search import PlainSearch

        search = PlainSearch(space, args.channels)
        alpha_step, weight_step = (lambda: search.alpha_step(x, y)), (lambda: search.weight_step(x, y))
    else:
        from ddarts.models.supernet import Supernet
        from ddarts.searching.alpha_step import AblationPlan, alpha_gradients

        net = Supernet(space, channels=args.channels).to(memory_format=torch.channels_last)
        weights = torch.optim.SGD(net.weight_parameters(), lr=0.005, momentum=0.9, weight_decay=3e-4, fused=True)
        alphas = torch.optim.Adam(net.architecture_parameters(), lr=3e-3, weight_decay=1e-3)
        use, _, rest = args.one.partition("-")
        kind, _, sample = rest.partition("-")
        cells = list(range(args.cells))
        if sample:  # evenly spread, the mean cost of a draw
            cells = [args.cells // 3, 2 * args.cells // 3][: int(sample)]
        shape = (len(space.edges), len(space.operations))

        def autocast() -> torch.autocast:
            return torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bf16")

        def alpha_step() -> None:
            plan = AblationPlan()
            if use != "off":
                plan = AblationPlan(use, kind, cells, [torch.rand(shape) for _ in cells], 0.7)  # type: ignore[arg-type]
            found = alpha_gradients(net, x, y, zero_one_weight=9, plan=plan, autocast=autocast)
            for alpha, gradient in zip(net.architecture_parameters(), found.gradients, strict=True):
                alpha.grad = gradient
            alphas.step()
            alphas.zero_grad()

        def weight_step() -> None:
            weights.zero_grad()
            with autocast():
                logits = net(x, [gate.detach() for gate in net.gates()])
            F.cross_entropy(logits.float(), y).backward()
            torch.nn.utils.clip_grad_norm_(net.weight_parameters(), 5.0, foreach=True)
            weights.step()

    times: dict[str, float] = {}
    for _ in range(2):
        started = time.perf_counter()
        alpha_step()
        middle = time.perf_counter()
        weight_step()
        times = {"alpha_s": middle - started, "weight_s": time.perf_counter() - middle}
    times["step_s"] = times["alpha_s"] + times["weight_s"]
    times["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return times


def main() -> None:
    args = parse()
    if args.one:
        print(json.dumps(measure(args)))
        return
    variants = [v for v in args.variants if not (args.no_plain and v == "plain")]
    rounds: dict[str, list[dict[str, float]]] = {v: [] for v in variants}
    for number in range(args.rounds):
        for variant in variants:
            if variant == "plain" and number >= 2:
                continue
            print(f"round {number + 1}/{args.rounds}: {variant}", file=sys.stderr, flush=True)
            command = [sys.executable, __file__, *sys.argv[1:], "--one", variant]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rounds[variant].append(json.loads(done.stdout))
    middle = {
        variant: {key: statistics.median(r[key] for r in found) for key in found[0]}
        for variant, found in rounds.items()
    }
    plain = middle.get("plain")
    print(f"{'variant':18} {'alpha s':>8} {'weight s':>8} {'step s':>8} {'peak GB':>8} {'times faster':>13}")
    for variant, row in middle.items():
        ratio = f"{plain['step_s'] / row['step_s']:13.1f}" if plain else ""
        numbers = " ".join(f"{row[key]:8.2f}" for key in ("alpha_s", "weight_s", "step_s", "peak_gb"))
        print(f"{variant:18} {numbers} {ratio}")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()
    sizes = {k: getattr(args, k) for k in ("cells", "nodes", "channels", "batch", "resolution", "threads", "precision")}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(
        json.dumps(
            {
                "command": "python benchmarks/search_step.py " + " ".join(sys.argv[1:]),
                "commit": commit,
                "date": time.strftime("%Y-%m-%d"),
                "machine": machine(),
                "sizes": sizes,
                "median": middle,
                "rounds": rounds,
            },
            indent=1,
        )
        + "\n"
    )
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
