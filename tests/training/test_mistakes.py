import torch

from ddarts.training.mistakes import WorstMistakes


def logits(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows).log()


def test_the_most_confident_mistakes_are_kept_across_batches_and_hits_are_not() -> None:
    worst = WorstMistakes(2)
    worst.add(logits((0.9, 0.1), (0.6, 0.4), (0.3, 0.7)), torch.tensor([0, 1, 0]))
    worst.add(logits((0.2, 0.8), (0.45, 0.55)), torch.tensor([0, 0]))
    first, second = worst.listing()
    assert (first.image, first.truth, first.taken) == (3, 0, 1)
    assert (second.image, second.truth, second.taken) == (2, 0, 1)
    assert abs(first.confidence - 0.8) < 1e-6
    assert abs(first.chance - 0.2) < 1e-6


def test_equals_stand_in_the_order_of_the_images() -> None:
    worst = WorstMistakes(3)
    for _ in range(3):
        worst.add(logits((0.25, 0.75)), torch.tensor([0]))
    assert [m.image for m in worst.listing()] == [0, 1, 2]


def test_without_mistakes_there_are_none_and_none_are_kept_unless_asked_for() -> None:
    worst = WorstMistakes(5)
    assert worst.listing() == ()
    worst.add(logits((0.9, 0.1)), torch.tensor([0]))
    assert worst.listing() == ()
    none = WorstMistakes(0)
    none.add(logits((0.9, 0.1)), torch.tensor([1]))
    assert none.listing() == ()
