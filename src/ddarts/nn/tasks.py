"""What a network learns, in one place: its loss, what counts as right, its metric, and what its outputs mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

Kind = Literal["classification", "multi-label", "regression"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Task:
    """A kind of task, and what its answers need besides the outputs of a network.

    Labels of a batch are int64 [B] for one class an image, uint8 [B, classes] of 0 and 1 for several labels an image,
    and float64 [B, columns] for numbers. A network has one output for each class or column.

    Attributes:
        kind: "classification" (softmax), "multi-label" (a sigmoid for each class) or "regression".
        mean, std: of each column of the training images, for regression; outputs are (value - mean) / std.
    """

    kind: Kind = "classification"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def named(cls, kind: object) -> Task:
        """Return the task of a run's or a test's record, for its words; a record without one is of a classification."""
        return cls(next((known for known in KINDS if known == kind), "classification"))

    @property
    def metric(self) -> str:
        """Name of the score, of which larger is better."""
        return {"classification": "top-1", "multi-label": "mean average precision", "regression": "R2"}[self.kind]

    def shown(self, score: float | None) -> str:
        """Return a score as text: in percent, or R2 as it is."""
        if score is None:
            return "-"
        return f"{score:.4f}" if self.kind == "regression" else f"{100 * score:.2f} %"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data: nothing for a classification, which files of older versions do not name either."""
        kind: dict[str, Any] = {} if self.kind == "classification" else {"task": self.kind}
        return kind if self.kind != "regression" else {**kind, "target_mean": [*self.mean], "target_std": [*self.std]}

    def outputs(self, count: int) -> str:
        """Return in words what a network has so many of."""
        name = {"classification": "class", "multi-label": "label", "regression": "number"}[self.kind]
        return f"{count} {name}{'es' if name == 'class' else 's'}" if count != 1 else f"1 {name}"

    def answers(self, outputs: Tensor) -> Tensor:
        """Return probabilities or, for regression, values in the unit of the labels: float32 [B, outputs]."""
        outputs = outputs.float()
        if self.kind == "classification":
            return outputs.softmax(1)
        if self.kind == "multi-label":
            return outputs.sigmoid()
        mean, std = (torch.tensor(v, dtype=torch.float64, device=outputs.device) for v in (self.mean, self.std))
        return (outputs.double() * std + mean).float()

    def standardised(self, labels: Tensor) -> Tensor:
        """Return (labels - mean) / std of numbers, in the precision of `labels`."""
        return (labels - labels.new_tensor(self.mean)) / labels.new_tensor(self.std)

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the sum over the images of a batch of what counts as right, a scalar tensor.

        1 for the right class, the share of right labels, or 1 - squared standardised error, whose mean is about R2.
        """
        outputs = outputs.detach()
        if self.kind == "classification":
            return (outputs.argmax(1) == labels).sum()
        if self.kind == "multi-label":
            return ((outputs > 0) == (labels > 0)).float().mean(1).sum()
        return (1 - (outputs - self.standardised(labels)).square().mean(1)).sum()


CLASSIFICATION = Task()


def average_precision(scores: Tensor, labels: Tensor) -> list[float | None]:
    """Return the average precision of each class, the sum of (R_k - R_{k-1}) P_k over the thresholds k.

    P_k and R_k are precision and recall of the images with at least the k-th largest score. The same as
    `sklearn.metrics.average_precision_score`.

    Args:
        scores: [N, classes].
        labels: 0 and 1, [N, classes].

    Returns:
        0 to 1; None for a class without positive images.
    """
    found: list[float | None] = []
    for score, label in zip(scores.double().T, labels.double().T, strict=True):
        order = score.argsort(descending=True)
        hits = label[order].cumsum(0)
        last = torch.ones_like(order, dtype=torch.bool)  # of equal scores
        last[:-1] = score[order].diff() != 0
        rank = torch.arange(1, len(order) + 1, device=order.device)[last]
        hits = hits[last]
        positives = float(hits[-1]) if len(hits) else 0.0
        steps = torch.diff(hits, prepend=hits.new_zeros(1))
        found.append(float((steps * hits / rank).sum()) / positives if positives else None)
    return found


@dataclass(frozen=True, eq=False)
class Objective:
    """The loss of a task.

    Attributes:
        task: the task.
        weights: of each class in the cross-entropy, or of the positive labels of each class, on the network's device;
            None for 1.
        smoothing: share of a label that is spread over all classes; without effect on regression.
    """

    task: Task = CLASSIFICATION
    weights: Tensor | None = None
    smoothing: float = 0.0

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar, in float32 at least.

        Cross-entropy, binary cross-entropy over all classes, or squared error of standardised values. Weighted losses
        are divided by the number of images, not by the sum of their weights, so that parts of a batch average.

        Args:
            outputs: [B, classes or columns].
            labels: as `Task` describes them, or probabilities [B, classes].
        """
        wide = outputs if outputs.dtype in (torch.float32, torch.float64) else outputs.float()
        weights = None if self.weights is None else self.weights.to(wide.dtype)
        if self.task.kind == "regression":
            return F.mse_loss(wide, self.task.standardised(labels).to(wide.dtype))
        if self.task.kind == "multi-label":
            targets = labels.to(wide.dtype) * (1 - self.smoothing) + self.smoothing / 2
            return F.binary_cross_entropy_with_logits(wide, targets, pos_weight=weights)
        if weights is None:
            return F.cross_entropy(wide, labels, label_smoothing=self.smoothing)
        whole = F.cross_entropy(wide, labels, weights, label_smoothing=self.smoothing, reduction="sum")
        return whole / len(labels)
