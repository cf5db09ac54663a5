"""Train torchvision's DeepLabV3 on a network of ddarts and see it outline shapes: a minute on one CPU core.

python examples/segmentation.py
python examples/segmentation.py --genotype runs/my-run --steps 400 --out segmentation.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from shapes import CLASSES, draw, png
from torch import Tensor
from torchvision.models.segmentation import DeepLabV3
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from ddarts.hub.backbones import FeatureBackbone, find_network
from ddarts.runtime.atomic_files import write_bytes

SIDE, BATCH, RATE = 64, 8, 4e-3
TRAINING, HELD_OUT = range(400), range(1000, 1040)  # numbers of images
COLOURS = ListedColormap(["#e5e7eb", "#d92d20", "#16a34a", "#1d4ed8"])


class Segmenter(torch.nn.Module):
    """Normalisation - network - DeepLabV3's head: images [B, 3, H, W] in 0..1 to logits [B, classes, H, W]."""

    def __init__(self, genotype: str) -> None:
        super().__init__()
        source = find_network(genotype, channels=8, stem="cifar")
        mean, std = (source.config.mean, source.config.std) if source.config else ((0.5,) * 3, (0.25,) * 3)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        # The last map of reduction 8 or less: outlines get lost in smaller ones.
        level = max(i for i, info in enumerate(source.network.feature_info) if info["reduction"] <= 8)
        backbone = FeatureBackbone(source.network, [level], names=["out"])
        self.model = DeepLabV3(backbone, DeepLabHead(backbone.out_channels, len(CLASSES), (2, 4, 6)))

    def forward(self, x: Tensor) -> Tensor:
        return self.model((x - self.mean) / self.std)["out"]


def train(model: Segmenter, steps: int) -> list[float]:
    """Train on the made images; return the loss of every step."""
    drawn = [draw(number, SIDE) for number in TRAINING]
    images, masks = torch.stack([image for image, *_ in drawn]), torch.stack([mask for *_, mask in drawn])
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(steps, 2))
    losses = []
    for step in range(steps):
        chosen = torch.randint(len(images), (BATCH,))
        loss = F.cross_entropy(model(images[chosen]), masks[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 20 == 0 or step == steps - 1:
            recent = losses[-20:]
            print(f"step {step + 1:4d} of {steps}: loss {sum(recent) / len(recent):.3f}", flush=True)
    return losses


@torch.no_grad()
def segment(model: Segmenter) -> tuple[Tensor, list[float]]:
    """Return the classes [n, SIDE, SIDE] of the pixels of images that the model has not seen, and for each class the
    intersection of found and true pixels over their union."""
    model.eval()
    drawn = [draw(number, SIDE) for number in HELD_OUT]
    found = torch.cat([model(image[None]).argmax(1) for image, *_ in drawn])
    true = torch.stack([mask for *_, mask in drawn])
    overlaps = []
    for label in range(len(CLASSES)):
        both = ((found == label) & (true == label)).sum()
        either = ((found == label) | (true == label)).sum()
        overlaps.append(float(both / either))
    return found, overlaps


def picture(losses: list[float], found: Tensor, title: str) -> bytes:
    """Draw the loss, and five images with their true and their found classes."""
    figure = Figure(figsize=(10, 4.6), dpi=80, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.9))
    axes = left.subplots()
    steps = range(1, len(losses) + 1)
    axes.plot(steps, losses, color="#9aa4b2", linewidth=0.8, label="each step")
    axes.plot(steps, [sum(losses[max(0, i - 20) : i]) / min(i, 20) for i in steps], color="#111827", label="mean of 20")
    axes.set(xlabel="step", ylabel="cross-entropy", ylim=(0, None), title="Training loss")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    right.suptitle(title)
    rows = right.subplots(3, 5)
    for number, result, (top, middle, bottom) in zip(HELD_OUT, found, rows.T, strict=False):
        image, _, _, true = draw(number, SIDE)
        top.imshow(image.permute(1, 2, 0), interpolation="nearest")
        for axes, classes in ((middle, true), (bottom, result)):
            axes.imshow(classes, cmap=COLOURS, vmin=-0.5, vmax=len(CLASSES) - 0.5, interpolation="nearest")
    for axes, name in zip(rows[:, 0], ("image", "true", "found"), strict=True):
        axes.set_ylabel(name)
    for axes in rows.flat:
        axes.set(xticks=[], yticks=[])
    return png(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--genotype", default="dd-cifar10-sparse", help="name, file or run of an architecture, or a trained model"
    )
    parser.add_argument("--steps", type=int, default=120, help="training steps of 8 images")
    parser.add_argument("--out", type=Path, default=Path("segmentation.png"), help="picture of the result")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Segmenter(options.genotype)
    losses = train(model, options.steps)
    found, overlaps = segment(model)
    told = ", ".join(f"{name} {overlap:.0%}" for name, overlap in zip(CLASSES, overlaps, strict=True))
    print(f"on {len(HELD_OUT)} images not seen in training, intersection over union: {told}")
    write_bytes(options.out, picture(losses, found, f"Not seen in training, intersection over union:\n{told}"))
    print(options.out)


if __name__ == "__main__":
    main()
