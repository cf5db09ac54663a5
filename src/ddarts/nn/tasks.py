"""What a network learns, in one place: its loss, what counts as right, its metric, and what its outputs mean.

PyTorch is imported where it computes: commands that only show results name tasks, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["classification", "multi-label", "regression"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Task:
    """A kind of task, and what its answers need besides the outputs of a network.

    Labels of a batch are int64 [B] for one class per image, uint8 [B, classes] of 0 and 1 for several labels per image,
    and float64 [B, columns] for numbers. A network has one output for each class or column.

    Attributes:
        kind: "classification" (softmax), "multi-label" (a sigmoid for each class) or "regression".
        mean, std: of each column of the training images, for regression; outputs are (value - mean) / std.
    """

    kind: Kind = "classification"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Task:
        """Return the task of a run's or a test's record, for its words; a record without one is of a classification."""
        given = record.get("task")
        kind: Kind = KINDS[KINDS.index(given)] if given in KINDS else "classification"
        classes = record.get("classes")
        count = classes if isinstance(classes, int) else len(classes) if isinstance(classes, list | tuple) else 1
        return cls(kind, (0.0,) * min(count, 2), (1.0,) * min(count, 2)) if kind == "regression" else cls(kind)

    @property
    def metric(self) -> str:
        """Name of the score."""
        if self.kind == "regression":
            return "mean absolute error" + " in standard deviations" * (len(self.std) > 1)
        return "mean average precision" if self.kind == "multi-label" else "top-1"

    def shown(self, score: float | None) -> str:
        """Return a score as text: in percent, or the error in its unit.

        Scores are larger the better: shares from 0 to 1, or minus the mean absolute error. Several numbers per image
        may have units of their own: their errors are divided by the standard deviations of the training images.
        """
        if score is None:
            return "-"
        return self.number(score) if self.kind == "regression" else f"{self.number(score)} %"

    @property
    def sign(self) -> int:
        """What a score is multiplied by to be shown: -1 for errors."""
        return -1 if self.kind == "regression" else 1

    def number(self, score: float) -> str:
        """Return a score as text without a sign of percent."""
        return f"{0.0 - score:.4g}" if self.kind == "regression" else f"{100 * score:.2f}"

    def named(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return a result's data with its scores (``test_top1``) named after what they are, and errors above 0."""
        if self.kind == "classification":
            return dict(data)
        name = "mean_absolute_error" if self.kind == "regression" else "mean_average_precision"
        found: dict[str, Any] = {}
        for key, value in data.items():
            if key in ("top1", "test_top1", "val_top1"):
                found[key.replace("top1", name)] = None if value is None else self.sign * value
            else:
                found[key] = self.named(value) if key == "reference" and value is not None else value
        return found

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
        wide = outputs.double()
        return (wide * wide.new_tensor(self.std) + wide.new_tensor(self.mean)).float()

    def standardised(self, labels: Tensor) -> Tensor:
        """Return (labels - mean) / std of numbers, in the precision of `labels`."""
        return (labels - labels.new_tensor(self.mean)) / labels.new_tensor(self.std)

    def errors(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean absolute error of each image in a regression, [B], as `shown` describes it."""
        errors = (outputs.to(labels.dtype) - self.standardised(labels)).abs()
        return errors[:, 0] * self.std[0] if len(self.std) == 1 else errors.mean(1)

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the sum over the images of a batch of what counts as right, a scalar tensor.

        1 for the right class, the share of right labels, or minus the mean absolute error.
        """
        outputs = outputs.detach()
        if self.kind == "classification":
            return (outputs.argmax(1) == labels).sum()
        if self.kind == "multi-label":
            return ((outputs > 0) == (labels > 0)).float().mean(1).sum()
        return -self.errors(outputs, labels).sum()

    def evidence(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return what `scorer` needs of a test with several labels per image or numbers."""
        found = {"labels": labels.contiguous()}
        if self.kind == "multi-label":
            return found | {"outputs": outputs.contiguous()}
        return found | {"errors": self.errors(outputs, labels)}


CLASSIFICATION = Task()


def average_precision(scores: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function of how often each image counts, [N], that gives the average precision of each class, [classes].

    It is the sum of (R_k - R_{k-1}) P_k over the thresholds k, where P_k and R_k are precision and recall of the images
    with at least the k-th largest score: the same as `sklearn.metrics.average_precision_score`, from 0 to 1, and NaN
    for a class without positive images.

    Args:
        scores: [N, classes].
        labels: 0 and 1, [N, classes].
    """
    import torch

    order = scores.argsort(0, descending=True)
    ranked, right = scores.gather(0, order), labels.gather(0, order).double()
    place = torch.arange(len(order), device=order.device)[:, None].expand_as(order)
    ends = torch.ones_like(order, dtype=torch.bool)
    ends[:-1] = ranked[1:] != ranked[:-1]
    last = torch.where(ends, place, len(order) - 1).flip(0).cummin(0).values.flip(0)  # of equal scores

    def found(counts: Tensor) -> Tensor:
        above = counts.double()[order]
        hits = above * right
        precision = hits.cumsum(0).gather(0, last) / above.cumsum(0).gather(0, last).clamp(min=1)
        return (hits * precision).sum(0) / hits.sum(0)

    return found


def scorer(evidence: Mapping[str, Tensor]) -> Callable[[Tensor], float]:
    """Return a function of how often each image of a test counts, [N], that gives the score (`Task.evidence`)."""
    if "errors" in evidence:
        errors = evidence["errors"].double()
        return lambda counts: -float((errors * counts).sum() / counts.sum())
    precision = average_precision(evidence["outputs"], evidence["labels"])

    def mean(counts: Tensor) -> float:
        score = float(precision(counts).nanmean())
        return 0.0 if math.isnan(score) else score

    return mean


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
        import torch
        from torch.nn import functional as F

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


CROSS_ENTROPY = Objective()
