"""Train torchvision's RetinaNet on a network of ddarts and see it find shapes: a minute on one CPU core.

python examples/detection.py
python examples/detection.py --genotype runs/my-run --steps 500 --out detection.png
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from shapes import CLASSES, draw, png
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import box_iou, nms

from ddarts.hub.backbones import PyramidBackbone, find_network
from ddarts.runtime.atomic_files import write_bytes

SIDE, BATCH, RATE = 96, 8, 2e-3
TRAINING, HELD_OUT = range(400), range(1000, 1040)  # numbers of images
DARK = "#111827"


def build(genotype: str) -> RetinaNet:
    """Return a RetinaNet that reads the maps of the network's last resolutions."""
    source = find_network(genotype, channels=12)
    backbone = PyramidBackbone(source.network, channels=48)
    sides = [4 * reduction for reduction in (*backbone.reductions, 2 * backbone.reductions[-1])]
    anchors = AnchorGenerator(tuple((side, round(side * 1.4)) for side in sides), ((1.0,),) * len(sides))
    mean, std = (source.config.mean, source.config.std) if source.config else ((0.5,) * 3, (0.25,) * 3)
    norm = partial(torch.nn.GroupNorm, 8)  # without it, heads this narrow take long to start
    head = RetinaNetHead(backbone.out_channels, 2, len(CLASSES), norm_layer=norm)
    return RetinaNet(
        backbone,
        len(CLASSES),
        SIDE,
        SIDE,
        image_mean=mean,
        image_std=std,
        anchor_generator=anchors,
        head=head,
        score_thresh=0.4,
        nms_thresh=0.3,
    )


def train(model: RetinaNet, steps: int) -> list[float]:
    """Train on the made images; return the loss of every step."""
    images = [draw(number, SIDE) for number in TRAINING]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(steps, 2))
    losses = []
    for step in range(steps):
        batch = [images[i] for i in torch.randint(len(images), (BATCH,)).tolist()]
        targets = [{"boxes": boxes, "labels": labels} for _, boxes, labels, _ in batch]
        loss = sum(model([image for image, *_ in batch], targets).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 20 == 0 or step == steps - 1:
            recent = losses[-20:]
            print(f"step {step + 1:4d} of {steps}: loss {sum(recent) / len(recent):.3f}", flush=True)
    return losses


@torch.no_grad()
def find(model: RetinaNet) -> tuple[list[dict[str, torch.Tensor]], float, float]:
    """Return what the model finds in images that it has not seen, the share of shapes that it finds, and the share of
    its findings that are right (same class, overlap of at least a half)."""
    model.eval()
    found, hits, shapes, right, total = [], 0, 0, 0, 0
    for number in HELD_OUT:
        image, boxes, labels, _ = draw(number, SIDE)
        result = model([image])[0]
        best = nms(result["boxes"], result["scores"], 0.4)  # the model keeps overlapping boxes of different classes
        result = {key: values[best] for key, values in result.items()}
        same = (box_iou(boxes, result["boxes"]) >= 0.5) & (labels[:, None] == result["labels"])
        hits += int(same.any(1).sum())
        right += int(same.any(0).sum())
        shapes += len(labels)
        total += len(result["labels"])
        found.append(result)
    return found, hits / shapes, right / max(total, 1)


def picture(losses: list[float], found: list[dict[str, torch.Tensor]], title: str) -> bytes:
    """Draw the loss and eight images with what was found in them."""
    figure = Figure(figsize=(10, 3.8), dpi=80, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.9))
    axes = left.subplots()
    axes.plot(range(1, len(losses) + 1), losses, color="#9aa4b2", linewidth=0.8, label="each step")
    mean = [sum(losses[max(0, i - 19) : i + 1]) / min(i + 1, 20) for i in range(len(losses))]
    axes.plot(range(1, len(losses) + 1), mean, color=DARK, linewidth=2, label="mean of 20")
    axes.set(xlabel="step", ylabel="loss", ylim=(0, None), title="Training loss")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    right.suptitle(title)
    for axes, number, result in zip(right.subplots(2, 4).flat, HELD_OUT, found, strict=False):
        axes.imshow(draw(number, SIDE)[0].permute(1, 2, 0), interpolation="nearest")
        axes.set_axis_off()
        for (x0, y0, x1, y1), label in zip(result["boxes"].tolist(), result["labels"].tolist(), strict=True):
            axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, linewidth=1.5, edgecolor=DARK))
            axes.text(
                x0, max(y0, 9), CLASSES[label], color="white", fontsize=7, va="bottom",
                bbox={"facecolor": DARK, "edgecolor": "none", "pad": 1},
            )  # fmt: skip
    return png(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--genotype", default="dd-cifar10-sparse", help="name, file or run of an architecture, or a trained model"
    )
    parser.add_argument("--steps", type=int, default=200, help="training steps of 8 images")
    parser.add_argument("--out", type=Path, default=Path("detection.png"), help="picture of the result")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = build(options.genotype)
    losses = train(model, options.steps)
    found, recall, precision = find(model)
    told = f"{recall:.0%} of the shapes found, {precision:.0%} of the findings right"
    print(f"on {len(HELD_OUT)} images not seen in training: {told}")
    write_bytes(options.out, picture(losses, found, f"Not seen in training: {told}"))
    print(options.out)


if __name__ == "__main__":
    main()
