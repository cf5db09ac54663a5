"""Two real processes (gloo) that work together, started once for all tests that look at what they left."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddarts.cli.main import main
from ddarts.data import Batches
from ddarts.runs.folder import RunFolder
from ddarts.runtime.distributed import Ranks
from ddarts.searching.alpha_step import AblationPlan
from ddarts.supernet.supernet import Supernet
from tests.processes import Started
from tests.searching.gradients import sigmoid_step

#: A whole run of seconds: two epochs of five steps of search, two of training; batch norm as one machine has it.
RUN = [
    *("run", "--data", "digits", "--limit", "200", "--seed", "5", "--device", "cpu", "--threads", "1", "--quiet"),
    *("--sync-batch-norm", "--derive.method", "darts", "--validation", "0.2"),
    *("--search.cells", "3", "--search.nodes", "1", "--search.channels", "2", "--search.batch", "32"),
    *("--search.epochs", "2", "--search.steps-per-epoch", "2", "--search.no-stop-on-collapse"),
    *("--search.alpha-lr", "0.05", "--search.lr", "0.05"),
    *("--train.channels", "4", "--train.epochs", "2", "--train.steps-per-epoch", "3", "--train.batch", "32"),
    *(
        "--train.lr",
        "0.05",
        "--train.drop-path",
        "0.3",
        "--train.cutout",
        "2",
        "--train.crop",
        "1",
        "--train.ema",
        "0.9",
    ),
    *("--train.policy", "autoaugment", "--train.auxiliary-weight", "0.4"),
]


@contextlib.contextmanager
def interrupted(batch: int) -> Iterator[None]:
    """Ctrl-C in the middle of everything, as this process asks for its n-th batch."""
    original, asked = Batches.batch, 0

    def counting(batches: Batches, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        nonlocal asked
        asked += 1
        if asked == batch:
            signal.raise_signal(signal.SIGINT)
        return original(batches, epoch, step)

    Batches.batch = counting  # type: ignore[method-assign]
    try:
        yield
    finally:
        Batches.batch = original  # type: ignore[method-assign]


def interrupted_main(arguments: list[str], batch: int | None) -> int:
    """Run a command, with Ctrl-C at a batch if one is given."""
    with interrupted(batch) if batch is not None else contextlib.nullcontext():
        return main(arguments)


def float64_alphas(use: str, kind: str, ranks: Ranks) -> list[Tensor]:
    """Gradients of all alphas, losses and contributions on made-up images, in double precision."""
    from ddarts.nn.batch_norm import synchronise
    from ddarts.space.cell_space import build_space

    torch.manual_seed(0)
    space = build_space(cells=3, nodes=2)
    net = Supernet(space, channels=4, in_channels=1, classes=3).double()
    x, y = torch.randn(8, 1, 8, 8, dtype=torch.float64), torch.arange(8) % 3
    chance = [torch.rand(net.alphas[0].shape, dtype=torch.float64) for _ in range(3)]
    plan = AblationPlan(use, kind, [0, 1, 2], chance if kind == "random" else [], 0.7)  # type: ignore[arg-type]
    if ranks.size > 1:
        synchronise(net)
        x, y = x.chunk(ranks.size)[ranks.rank], y.chunk(ranks.size)[ranks.rank]
    found = sigmoid_step(net, x, y, zero_one_weight=2.0, plan=plan, ranks=ranks)
    return [*found.gradients, found.cross_entropy, found.marginal]


def norm_and_gradients(ranks: Ranks) -> dict[str, Tensor]:
    """What batch norm makes of made-up images, in double precision, with all gradients and running statistics."""
    from torch import nn

    from ddarts.nn.batch_norm import synchronise

    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm2d(3)).double()
    x = torch.randn(4, 3, 5, 5, dtype=torch.float64) * 3 + torch.tensor([1.0, 50.0, -4.0])[:, None, None]
    target = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    net[0].weight.data.uniform_(0.5, 2)
    if ranks.size > 1:
        synchronise(net)
        x, target = x.chunk(ranks.size)[ranks.rank], target.chunk(ranks.size)[ranks.rank]
    x = x.clone().requires_grad_()
    y = net(x)
    assert x.grad is None
    ((y - target) ** 2).sum().backward()
    return {"y": y.detach(), "x": x.grad, **{n: p.grad for n, p in net.named_parameters()}, **dict(net.named_buffers())}  # type: ignore[dict-item]


def rated(ranks: Ranks) -> dict[str, list[float]]:
    """Scores of made-up outputs for several labels and for numbers, of which the first process has five of eight."""
    from torch import nn

    from ddarts.nn.tasks import Task
    from ddarts.training.evaluate import evaluate

    random = torch.Generator().manual_seed(0)
    outputs = torch.randn(8, 3, generator=random)
    labels = torch.randint(0, 2, (8, 3), generator=random, dtype=torch.uint8)
    numbers = torch.randn(8, 3, generator=random).double()
    own = slice(None) if ranks.size == 1 else (slice(0, 5), slice(5, 8))[ranks.rank]
    found = {}
    for task, truth in ((Task("multi-label"), labels), (Task("regression", (1.0, 2.0, 3.0), (1.0, 2.0, 3.0)), numbers)):
        rating = evaluate(nn.Identity(), [(outputs[own], truth[own])], classes=3, ranks=ranks, task=task)
        assert None not in rating.per_class
        found[task.kind] = [rating.top1, rating.loss, rating.count, *(v or 0.0 for v in rating.per_class)]
    return found


@functools.cache
def worked_together() -> Path:
    """Let two processes do what tests/together_worker.py says; return the folder that they have filled."""
    folder = Path(tempfile.mkdtemp(prefix="ddarts-together-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    assert interrupted_main([*RUN, "--out", str(folder / "one-two")], batch=5) == 130  # in the search, before step 3
    assert interrupted_main([*RUN, "--out", str(folder / "one-two-train")], batch=8 + 4) == 130  # in the training
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    code = "import sys; from tests.together_worker import main; main(*sys.argv[1:])"
    ranks = [Started(code, folder, rank, port) for rank in range(2)]
    for rank in ranks:
        assert rank.wait() == 0, rank.err[-3000:]
    (folder / "stderr.txt").write_text("".join(rank.err for rank in ranks))
    return folder


@functools.cache
def worked_alone() -> Path:
    """Return the same run of one process, uninterrupted."""
    path = Path(tempfile.mkdtemp(prefix="ddarts-alone-")) / "run"
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    assert main([*RUN, "--out", str(path)]) == 0
    return path


def codes(folder: Path) -> list[dict[str, int]]:
    """Exit statuses of the commands by name, for each rank."""
    return [json.loads((folder / f"codes{rank}.json").read_text()) for rank in range(2)]


def numbers_of(run: Path) -> list[dict[str, Any]]:
    """Metrics without the seconds that they tell."""
    return [{k: v for k, v in r.items() if k != "elapsed_s"} for r in RunFolder.open(run).metrics()]
