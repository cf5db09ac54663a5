"""Search NAS-Bench-Macro under budgets of multiply-adds with a one-shot supernet, and let the table judge.

    python -m benchmarks.tables.macro_search --data cifar10:DIR --tables DIR --out DIR --seed 0

1. A supernet of reduced width is trained on CIFAR-10 at reduced resolution. Each step trains one path for every
   candidate, drawn so that each candidate of each layer is trained equally often (strict fairness; FairNAS, arXiv
   1907.01845). A gate of 0 is not computed, so that a path costs as much as its discrete network.
2. All 6,561 paths are evaluated with inherited weights on validation images (of the training set), each prefix of
   layers once.
3. Under each of 20 budgets from 20 to 90 M multiply-adds (of the network at full size) the path of the lowest
   validation cross-entropy is chosen. This is exact, since every path has been evaluated.
4. The table gives the regret: the accuracy of its best network under the budget minus that of the chosen one. Nothing
   before this step reads accuracies of the table.
5. The same if k paths are trained and the best is kept, k queries of the table: the k best by the supernet, or as the
   strategy `one-shot` has it the k/2 best, and k/2 that `bayes` chooses by their accuracies.

Run it again to continue after a stop: checkpoints and scores are in the folder OUT.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F
from scipy.stats import kendalltau, spearmanr
from torch import Tensor

from benchmarks.tables.queries import search
from benchmarks.tables.spaces import MACRO, Table
from ddarts.data import Augment, Batches, ImageData, load_data, split
from ddarts.data.batches import Normalise
from ddarts.genotype.choices import ChoiceGenotype
from ddarts.runtime.seeds import derive_seed
from ddarts.supernet.choice_supernet import ChoiceSupernet
from ddarts.training.schedule import cosine

BUDGETS = [20e6 + 70e6 * i / 19 for i in range(20)]
VERIFIED = (5, 10, 20, 50)
CANDIDATES = len(MACRO.choices[0].candidates)


def train(net: ChoiceSupernet, images: ImageData, args: argparse.Namespace) -> float:
    """Train the supernet, or continue from the checkpoint; return the seconds of training."""
    file: Path = args.out / "supernet.pt"
    optimizer = torch.optim.SGD(net.weight_parameters(), lr=args.lr, momentum=0.9, weight_decay=args.weight_decay)
    batches = Batches(
        images.train,
        args.batch,
        seed=args.seed,
        label="one-shot",
        mean=images.mean,
        std=images.std,
        augment=Augment(flip=images.flip, crop=args.resolution // 8),
    )
    first, seconds = 0, 0.0
    if file.exists():
        stored = torch.load(file, weights_only=True)
        net.load_state_dict(stored["net"])
        optimizer.load_state_dict(stored["optimizer"])
        first, seconds = stored["step"], stored["seconds"]
    net.train()
    loss = torch.zeros(())
    for step in range(first, args.steps):
        start = time.perf_counter()
        x, y = batches.batch(*divmod(step, batches.per_epoch))
        draw = random.Random(derive_seed(args.seed, "paths", step))
        orders = [draw.sample(range(CANDIDATES), CANDIDATES) for _ in MACRO.choices]
        optimizer.zero_grad()
        for path in zip(*orders, strict=True):
            loss = F.cross_entropy(net(x, net.path(ChoiceGenotype.from_indices(MACRO, path))), y)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(net.weight_parameters(), 5.0)
        for group in optimizer.param_groups:
            group["lr"] = cosine(args.lr, 0.0, step, args.steps)
        optimizer.step()
        seconds += time.perf_counter() - start
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            print(f"step {step + 1}/{args.steps}, loss {loss.item():.3f}, {seconds:.0f} s", flush=True)
            stored = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save({**stored, "seconds": seconds}, file.with_suffix(".new"))
            file.with_suffix(".new").replace(file)
    return seconds


@torch.no_grad()
def evaluate_all(net: ChoiceSupernet, x: Tensor, y: Tensor, prefix: str = "") -> dict[str, tuple[float, float]]:
    """Return cross-entropy and accuracy of every path that begins with `prefix`; statistics are those of the batch."""
    stem, *layers, head = net.train().blocks
    ones = [F.one_hot(torch.tensor([i]), CANDIDATES).float() for i in range(CANDIDATES)]

    def paths(digits: str, state: Tensor) -> Iterator[tuple[str, Tensor]]:
        if len(digits) == len(layers):
            yield digits, state
            return
        for i, gate in enumerate(ones):
            if not f"{digits}{i}".startswith(prefix[: len(digits) + 1]):
                continue
            gates = {len(digits): gate}
            values = {len(digits): gate.flatten().tolist()}
            yield from paths(f"{digits}{i}", layers[len(digits)](state, gates, values, False))

    scores = {}
    for digits, state in paths("", stem(x.contiguous(memory_format=torch.channels_last), (), (), False)):
        logits = net.classifier(head(state, (), (), False).mean((2, 3)))
        accuracy = (logits.argmax(1) == y).double().mean()
        scores[digits] = (float(F.cross_entropy(logits, y)), float(accuracy))
    return scores


def judge(
    table: Table, scores: dict[str, tuple[float, float]], seed: int, verified: int = 1, *, bayes: bool = False
) -> dict[str, object]:
    """Choose under every budget by the scores, and compare with the table's best and with the best of 50 random.

    With `verified` above 1, the choice is the table's best of so many paths of the best scores; with `bayes` half of
    these are chosen by the accuracies of the others.
    """
    draw = random.Random(derive_seed(seed, "opponents"))
    rows = []
    for budget in BUDGETS:
        possible = sorted(d for d in scores if table.rows[d].macs <= budget)
        shortlist = sorted(possible, key=lambda d: scores[d][0])[:verified]
        chosen = max(shortlist, key=lambda d: table.rows[d].accuracy)
        if bayes:
            ranked = [table.genotype(digits) for digits in shortlist]
            chosen = "".join(map(str, search("bayes", table, seed, verified, budget, ranked).indices))
        best = table.lookup(table.best(budget)).accuracy
        opponents = [max(table.rows[d].accuracy for d in draw.choices(possible, k=50)) for _ in range(200)]
        found = table.rows[chosen]
        rows.append(
            {
                "budget": budget,
                "chosen": chosen,
                "macs": found.macs,
                "accuracy": found.accuracy,
                "best": best,
                "regret": best - found.accuracy,
                "best_of_50": mean(opponents),
            }
        )
    order = sorted(scores)
    truth = [table.rows[d].accuracy for d in order]
    believed = [-scores[d][0] for d in order]
    return {
        "mean_regret": mean(row["regret"] for row in rows),
        "above_best_of_50": sum(row["accuracy"] > row["best_of_50"] for row in rows),
        "kendall": float(kendalltau(believed, truth)[0]),
        "spearman": float(spearmanr(believed, truth)[0]),
        "rank_without_budget": table.rank(table.genotype(min(scores, key=lambda d: scores[d][0]))),
        "budgets": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="cifar10:DIR, or another data set (then the table says nothing)")
    parser.add_argument("--tables", type=Path, required=True, help="folder of nasbench_macro_cifar10.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and the results")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--channels", type=int, default=8, help="width of the stem; 32 in the table")
    parser.add_argument("--resolution", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--validation", type=int, default=2000, help="images of which paths are scored")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    images = load_data(args.data, resolution=args.resolution)
    parts = split(images, validation=0.1, seed=args.seed)
    assert parts.validation is not None
    images = ImageData(**{**vars(images), "train": parts.train})
    torch.manual_seed(derive_seed(args.seed, "weights"))
    net = ChoiceSupernet(MACRO, channels=args.channels, in_channels=images.channels, classes=len(images.classes))
    seconds = train(net, images, args)
    start = time.perf_counter()
    chosen = torch.arange(min(args.validation, len(parts.validation)))
    x = Normalise(images.mean, images.std)(parts.validation.pixels[chosen])
    scores = evaluate_all(net, x, parts.validation.labels[chosen])
    table = Table.load(MACRO, args.tables)
    result = judge(table, scores, args.seed)
    for name, bayes in (("verified", False), ("with_bayes", True)):
        judged = {k: judge(table, scores, args.seed, k, bayes=bayes) for k in VERIFIED}
        result[name] = {k: {n: found[n] for n in ("mean_regret", "above_best_of_50")} for k, found in judged.items()}
    result |= {"train_s": seconds, "evaluate_s": time.perf_counter() - start, "settings": {**vars(args)}}
    (args.out / "result.json").write_text(json.dumps(result, indent=1, default=str))
    (args.out / "scores.json").write_text(json.dumps(scores))
    print(json.dumps({name: value for name, value in result.items() if name not in ("budgets", "settings")}, indent=1))


if __name__ == "__main__":
    main()
