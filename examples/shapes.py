"""A made data set: discs in shades of red, green squares and blue triangles on noise, with their boxes and masks.

Every image is drawn from its number, so that all runs see the same.
"""

from __future__ import annotations

import io
from colorsys import hsv_to_rgb

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

#: Class 0 is the background.
CLASSES = ("background", "disc", "square", "triangle")


def draw(number: int, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw image `number`.

    Returns:
        image [3, side, side] in 0..1; boxes [n, 4] as x0, y0, x1, y1 in pixels; labels [n] (1 to 3); the class of each
        pixel [side, side], later shapes lying on top of earlier ones.
    """
    random = np.random.default_rng([2108, 9306, number])
    tint = random.uniform(0.3, 0.7) + random.normal(0, 0.04, (3, 1, 1))
    image = tint + random.normal(0, 0.1, (3, side, side))
    pixels = np.zeros((side, side), np.int64)
    rows, columns = np.mgrid[:side, :side] + 0.5
    boxes: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    for _ in range(random.integers(1, 5) * 4):  # several tries for 1 to 4 shapes
        label, radius = int(random.integers(1, 4)), random.uniform(0.11, 0.21) * side
        x, y = random.uniform(radius, side - radius, 2)
        box = (x - radius, y - radius, x + radius, y + radius)
        if any(_overlap(box, other) for other in boxes):
            continue
        across, down = columns - x, rows - y
        if label == 1:
            inside = across**2 + down**2 <= radius**2
        elif label == 2:
            inside = np.maximum(abs(across), abs(down)) <= radius
        else:  # the point of the triangle is above, its base below
            inside = (abs(across) <= (down + radius) / 2) & (down <= radius)
        colour = hsv_to_rgb(
            ((label - 1) / 3 + random.normal(0, 0.04)) % 1, random.uniform(0.5, 1), random.uniform(0.5, 1)
        )
        image[:, inside] = np.array(colour)[:, None] + random.normal(0, 0.05, (3, int(inside.sum())))
        pixels[inside] = label
        boxes.append(box)
        labels.append(label)
        if len(boxes) == 4:
            break
    return (
        torch.from_numpy(image.clip(0, 1)).float(),
        torch.tensor(boxes, dtype=torch.float32),
        torch.tensor(labels),
        torch.from_numpy(pixels),
    )


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file of 256 colours, since noise makes large files."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    small = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    return small.getvalue()


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Tell whether two boxes share more than a sixth of the smaller one."""
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared > min((a[2] - a[0]) ** 2, (b[2] - b[0]) ** 2) / 6
