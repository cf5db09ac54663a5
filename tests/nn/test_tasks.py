from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from ddarts.nn.tasks import Objective, Task, average_precision


def test_half_precision_logits_are_widened_and_others_kept() -> None:
    logits = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    expected = math.log(sum(math.exp(v) for v in (1, 2, 4))) - 1
    target, loss = torch.tensor([0]), Objective().loss
    assert loss(logits, target).item() == pytest.approx(expected, abs=1e-15)
    assert loss(logits.bfloat16(), target).dtype == torch.float32
    assert loss(logits.half(), target).item() == pytest.approx(expected, abs=1e-6)


def test_class_weights_multiply_the_loss_of_each_image_and_halves_of_a_batch_average() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    labels, weights = torch.tensor([0, 0, 0, 0, 1, 2]), torch.tensor([0.5, 2.0, 2.0])
    objective = Objective(weights=weights)
    by_hand = (weights[labels] * F.cross_entropy(logits, labels, reduction="none")).mean()
    assert objective.loss(logits, labels).item() == pytest.approx(by_hand.item(), rel=1e-6)
    halves = [objective.loss(logits[part], labels[part]) for part in (slice(0, 3), slice(3, 6))]
    assert torch.stack(halves).mean().item() == pytest.approx(by_hand.item(), rel=1e-6)
    soft = F.one_hot(labels, 3).float()
    assert objective.loss(logits, soft).item() == pytest.approx(by_hand.item(), rel=1e-6)


def test_several_labels_have_a_sigmoid_each_and_a_share_of_right_ones() -> None:
    task = Task("multi-label")
    outputs, labels = torch.tensor([[2.0, -1.0], [3.0, 0.5]]), torch.tensor([[1, 0], [0, 1]], dtype=torch.uint8)
    by_hand = [math.log1p(math.exp(-2)), math.log1p(math.exp(-1)), math.log1p(math.exp(3)), math.log1p(math.exp(-0.5))]
    assert Objective(task).loss(outputs, labels).item() == pytest.approx(sum(by_hand) / 4, rel=1e-6)
    assert task.hits(outputs, labels).item() == pytest.approx(1.5)
    assert torch.allclose(task.answers(outputs), 1 / (1 + (-outputs).exp()))
    smooth = Objective(task, smoothing=0.2).loss(outputs, labels).item()
    assert smooth == pytest.approx(F.binary_cross_entropy_with_logits(outputs, labels * 0.8 + 0.1).item(), rel=1e-6)


def test_numbers_are_standardised_for_the_loss_and_answers_come_in_their_unit() -> None:
    task = Task("regression", (1.7e9,), (50.0,))
    labels = torch.tensor([[1.7e9 + 50], [1.7e9 - 50]], dtype=torch.float64)
    assert Objective(task).loss(torch.tensor([[1.0], [-1.0]]), labels).item() == 0
    assert Objective(task).loss(torch.tensor([[0.0], [0.0]]), labels).item() == 1
    assert task.hits(torch.tensor([[0.0], [-1.0]]), labels).item() == -50
    two = Task("regression", (0.0, 0.0), (1.0, 100.0))  # units of their own: errors of 2 and 1 standard deviations
    assert two.hits(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 100.0]], dtype=torch.float64)).item() == -1.5
    assert two.metric == "mean absolute error in standard deviations"
    assert Task("regression", (20.0,), (4.0,)).answers(torch.tensor([[0.5]])).tolist() == [[22.0]]


def test_average_precision_is_that_of_published_examples_and_of_ties() -> None:
    # the example of scikit-learn's average_precision_score, then all images in one threshold, then no positive image
    scores = torch.tensor([[0.1, 1.0, 0.0], [0.4, 1.0, 1.0], [0.35, 1.0, 2.0], [0.8, 1.0, 3.0]])
    labels = torch.tensor([[0, 1, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0]], dtype=torch.uint8)
    found = average_precision(scores, labels)
    assert found(torch.ones(4)).tolist() == pytest.approx([5 / 6, 0.25, math.nan], nan_ok=True)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(average_precision(scores[order], labels[order])(torch.ones(4))[:2], found(torch.ones(4))[:2])
    counts = torch.tensor([2, 0, 1, 3])  # images that are drawn again are as many images
    repeated = average_precision(*(t.repeat_interleave(counts, 0) for t in (scores, labels)))(torch.ones(6))
    assert found(counts)[:2].tolist() == pytest.approx(repeated[:2].tolist())


def test_words_of_a_record_without_a_known_task_are_those_of_a_classification() -> None:
    kinds = [Task.of({"task": value, "classes": 3}).kind for value in (None, "regression", ["x"], "segmentation")]
    assert kinds == ["classification", "regression", "classification", "classification"]
    assert Task.of({"task": "regression", "classes": 1}).metric == "mean absolute error"
    assert Task.of({"task": "regression", "classes": ["a", "b"]}).metric == "mean absolute error in standard deviations"


def test_scores_have_the_name_of_what_they_are_in_json() -> None:
    data = {"test_top1": -3.0, "val_top1": None, "reference": {"test_top1": -4.0, "title": "x"}}
    assert Task("regression").named(data) == {
        "test_mean_absolute_error": 3.0,
        "val_mean_absolute_error": None,
        "reference": {"test_mean_absolute_error": 4.0, "title": "x"},
    }
    assert Task("multi-label").named({"top1": 0.5}) == {"mean_average_precision": 0.5}
    assert Task().named(data) == data
