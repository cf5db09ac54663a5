"""One of two processes that `tests.together` starts, with what torchrun would put into the environment."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from ddarts.config.schema import EngineOptions
from ddarts.runtime.engine import join
from tests.together import RUN, float64_alphas, interrupted_main, norm_and_gradients, rated


def work(folder: Path) -> None:
    ranks = join(EngineOptions(device="cpu", threads=1))
    codes = {
        "two": interrupted_main([*RUN, "--out", str(folder / "two")], None),
        "one-two": interrupted_main(["run", "--resume", str(folder / "one-two"), "--quiet"], None),
        "one-two-train": interrupted_main(["run", "--resume", str(folder / "one-two-train"), "--quiet"], None),
        # Ctrl-C reaches rank 1 only
        "two-one": interrupted_main([*RUN, "--out", str(folder / "two-one")], 5 if ranks.rank == 1 else None),
        "two-one-train": interrupted_main(
            [*RUN, "--out", str(folder / "two-one-train")], 8 + 4 if ranks.rank == 1 else None
        ),
    }
    (folder / f"codes{ranks.rank}.json").write_text(json.dumps(codes))
    alphas = {
        f"{use} {kind}": float64_alphas(use, kind, ranks)
        for use in ("gradient", "monitor")
        for kind in ("zero", "random")
    }
    told = {"same": ranks.same([torch.ones(2)]), "other": ranks.same([torch.full((2,), float(ranks.rank))])}
    numbers = {"alphas": alphas, "norm": norm_and_gradients(ranks), "told": told, "rated": rated(ranks)}
    torch.save(numbers, folder / f"numbers{ranks.rank}.pt")


def main(folder: str, rank: str, port: str) -> None:
    os.environ |= {"TORCHELASTIC_RUN_ID": "tests", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    work(Path(folder))
