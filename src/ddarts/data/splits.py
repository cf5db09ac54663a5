"""Which image goes where: disjoint parts, each with its share of every class."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddarts.data.images import ImageData, Images
from ddarts.errors import DataError, SettingsError
from ddarts.runtime.seeds import generator

_FEW = 10  # training images of a class that are worth a remark
_UNEVEN = 5  # likewise, the largest class to the smallest


@dataclass(frozen=True, eq=False)
class Parts:
    """Training, validation and test images, no image in two of them.

    Attributes:
        train: what weights and gates may learn from.
        validation: for choosing among epochs; None if there is none.
        test: touched once, at the very end; None if the data set has none.
        train_index: int64, where `train` lies in the data set's training images.
        validation_index: likewise for `validation`; None if it is a part of its own, or absent.
    """

    train: Images
    validation: Images | None
    test: Images | None
    train_index: Tensor
    validation_index: Tensor | None


def split(images: ImageData, *, validation: float, seed: int) -> Parts:
    """Divide a data set into training, validation and test images.

    A validation part that the data set brings is used as it is. Otherwise the share `validation` (0 <= share < 1) of
    each class's training images is drawn by `seed`: at least one of each class that has two, never all.

    Raises:
        DataError: the share leaves no validation image.
    """
    everything = torch.arange(len(images.train))
    if images.validation is not None or validation <= 0:
        return Parts(images.train, images.validation, images.test, everything, None)
    kept, taken = stratified(images.train.labels, validation, seed, "validation part")
    if len(taken) == 0:
        raise DataError(
            f"validation {validation}: no class has two training images, so none can be spared; "
            "add images or set --validation 0"
        )
    return Parts(images.train.select(kept), images.train.select(taken), images.test, kept, taken)


def halves(images: Images, *, seed: int) -> tuple[Images, Images]:
    """Divide training images into the weight half and the alpha half of a search; see `halves_index`."""
    first, second = halves_index(images, seed=seed)
    return images.select(first), images.select(second)


def search_parts(
    images: Images, *, seed: int, weights: float | None = None, alphas: float | None = None
) -> tuple[Images, Images]:
    """Return the images that a search trains weights on and those that it trains alphas on; no image is in both.

    Halves, unless shares of each class are given: on ImageNet, PC-DARTS (arXiv 1907.05737, section 4.3) searches with
    10 % of the images for weights and 2.5 % for alphas. Each class that has two images keeps at least one for each.

    Args:
        images: training images.
        seed: the run's seed.
        weights, alphas: shares, 0 to 1, of each class's images; the rest of a half that is not given goes unused.

    Raises:
        DataError: there are fewer than two images.
        SettingsError: the shares add up to more than 1.
    """
    if weights is None and alphas is None:
        return halves(images, seed=seed)
    weights, alphas = 0.5 if weights is None else weights, 0.5 if alphas is None else alphas
    if weights + alphas > 1:
        raise SettingsError(
            f"weights_share = {weights:g} and alphas_share = {alphas:g} add up to more than 1, and no image may serve "
            "both; choose smaller shares"
        )
    first: list[Tensor] = []
    second: list[Tensor] = []
    for members in _shuffled_classes(images.labels, seed, "search halves"):
        for_weights = max(round(weights * len(members)), 1)
        for_alphas = max(min(round(alphas * len(members)), len(members) - for_weights), 1)
        first.append(members[: min(for_weights, max(len(members) - for_alphas, 1))])
        second.append(members[len(first[-1]) : len(first[-1]) + for_alphas])
    return images.select(torch.cat(first).sort().values), images.select(torch.cat(second).sort().values)


def with_classes(images: ImageData, count: int, *, seed: int) -> ImageData:
    """Return a data set of `count` classes drawn by `seed`, their labels numbered anew in the old order.

    Raises:
        SettingsError: it has fewer classes.
    """
    total = len(images.classes)
    if images.task.kind != "classification":
        raise SettingsError("search_classes needs images of one class each; leave it out, or use --limit")
    if count > total:
        raise SettingsError(f"search_classes = {count}, but the data has {total} classes; choose 2 to {total}")
    if count == total:
        return images
    kept = torch.randperm(total, generator=generator(seed, "search classes"))[:count].sort().values
    number = torch.full((total,), -1)
    number[kept] = torch.arange(count)

    def of(part: Images | None) -> Images | None:
        if part is None:
            return None
        chosen = part.select((number[part.labels] >= 0).nonzero().flatten())
        return replace(chosen, labels=number[chosen.labels])

    train = of(images.train)
    assert train is not None
    classes = tuple(images.classes[i] for i in kept.tolist())
    return replace(images, classes=classes, train=train, validation=of(images.validation), test=of(images.test))


def halves_index(images: Images, *, seed: int) -> tuple[Tensor, Tensor]:
    """Return the positions (int64, ascending) of the weight half and of the alpha half.

    Each half has half of every class; where a class is odd, the halves take the extra image in turn, so that their
    sizes differ by at most one.

    Raises:
        DataError: there are fewer than two images.
    """
    if len(images) < 2:
        raise DataError(
            f"{len(images)} training image: a search needs one half for weights and one for gates; add some"
        )
    first: list[Tensor] = []
    second: list[Tensor] = []
    extra = 0
    for members in _shuffled_classes(images.labels, seed, "search halves"):
        middle = (len(members) + (1 - extra)) // 2
        extra ^= len(members) % 2
        first.append(members[:middle])
        second.append(members[middle:])
    return torch.cat(first).sort().values, torch.cat(second).sort().values


def stratified(labels: Tensor, share: float, seed: int, purpose: str) -> tuple[Tensor, Tensor]:
    """Return positions (int64, ascending) that stay and that are taken: the share `share` of every class is taken.

    At least one image is taken from each class that has two, and at least one stays.
    """
    kept: list[Tensor] = []
    taken: list[Tensor] = []
    for members in _shuffled_classes(labels, seed, purpose):
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        taken.append(members[:count])
        kept.append(members[count:])
    return torch.cat(kept).sort().values, torch.cat(taken).sort().values


def limited(labels: Tensor, limit: int, purpose: str = "limit") -> Tensor:
    """Return at most `limit` positions (int64, ascending), the same share of each class, one of each at least.

    The choice depends on labels and limit alone.

    Raises:
        DataError: there are more classes than `limit`.
    """
    if len(labels) <= limit:
        return torch.arange(len(labels))
    members = _shuffled_classes(labels, 0, purpose)
    if len(members) > limit and labels.ndim == 2:
        members = _shuffled_classes(torch.zeros(len(labels), dtype=torch.int64), 0, purpose)
    if len(members) > limit:
        raise DataError(f"limit {limit}: the data has {len(members)} classes; keep {len(members)} images or more")
    wish = [len(m) * limit / len(labels) for m in members]
    count = [max(int(w), 1) for w in wish]
    while sum(count) > limit:  # rare classes were rounded up to 1: the largest pay
        count[max(range(len(count)), key=lambda c: (count[c], -c))] -= 1
    by_remainder = sorted(range(len(count)), key=lambda c: (count[c] - wish[c], c))
    for c in by_remainder[: limit - sum(count)]:
        count[c] += 1
    return torch.cat([m[:n] for m, n in zip(members, count, strict=True)]).sort().values


def strata(labels: Tensor) -> Tensor:
    """Return the group of each image, int64 [N], of which every split gets its share.

    That is its class; of several labels the rarest one (the number of classes if there is none); of numbers its tenth
    by the first column, with fewer groups where they would have fewer than ten images.
    """
    if labels.ndim == 1:
        return labels
    if labels.dtype == torch.uint8:
        rarest_first = class_counts(labels, labels.shape[1]).argsort(stable=True)
        rank = rarest_first.argsort().int()
        best = torch.cat([torch.where(part > 0, rank, len(rank)).amin(1) for part in labels.split(4096)])
        return torch.cat([rarest_first, torch.tensor([len(rank)])])[best.long()]
    rank = labels[:, 0].argsort(stable=True).argsort()
    return rank * max(min(10, len(labels) // 10), 1) // len(labels)


def class_counts(labels: Tensor, classes: int) -> Tensor:
    """Return how many images have each class or label, int64 [classes]."""
    return torch.bincount(labels, minlength=classes) if labels.ndim == 1 else labels.sum(0, dtype=torch.int64)


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Return the weight of each class in the loss, float32 [classes].

    N / (classes n) for n of N images, which is 1 in the mean; of several labels (N - n) / n, for positive ones.
    """
    counts = class_counts(labels, classes)
    if labels.ndim == 2:
        return ((len(labels) - counts).clamp(min=1) / counts.clamp(min=1)).float()
    return (len(labels) / (classes * counts.clamp(min=1))).float()


def balanced_order(groups: Tensor, random: torch.Generator) -> Tensor:
    """Return as many positions (int64 [N]) as there are images, shuffled, each group as often as the others.

    The images of a group come in turn, each once before any comes twice. Where N is no multiple of the number of
    groups, some groups that are drawn come once more.

    Args:
        groups: int64 [N], the group of each image, such as its class.
        random: decides everything.
    """
    numbers = groups.unique()
    share, rest = divmod(len(groups), len(numbers))
    one_more = torch.randperm(len(numbers), generator=random)[:rest].tolist()
    chosen = []
    for place, number in enumerate(numbers.tolist()):
        members = (groups == number).nonzero().flatten()
        wanted = share + (place in one_more)
        rounds = [torch.randperm(len(members), generator=random) for _ in range(-(-wanted // len(members)))]
        chosen.append(members[torch.cat(rounds)[:wanted]] if wanted else members[:0])
    order = torch.cat(chosen)
    return order[torch.randperm(len(order), generator=random)]


def uneven_classes(images: ImageData) -> list[str]:
    """Return what is unusual about the numbers of training images: classes of fewer than ten, more than 5 to 1."""
    if images.task.kind == "regression":
        return []
    counts = class_counts(images.train.labels, len(images.classes)).tolist()
    remarks = []
    few = [f"{name} ({count})" for name, count in zip(images.classes, counts, strict=True) if count < _FEW]
    if few:
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        remarks.append(f"classes with fewer than {_FEW} training images: {', '.join(few[:5])}{more}; add some")
    least, most = min(counts), max(counts)
    if most > _UNEVEN * least:
        small, large = images.classes[counts.index(least)], images.classes[counts.index(most)]
        remarks.append(
            f"classes are uneven: {large} has {most} training images, {small} {least}; accuracy favours large "
            "classes (--balance)"
        )
    return remarks


def _shuffled_classes(labels: Tensor, seed: int, purpose: str) -> list[Tensor]:
    """Return the positions of each class that occurs, shuffled; the draw of a class does not depend on the others."""
    shuffled = []
    labels = strata(labels)
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=generator(seed, purpose, int(label)))
        shuffled.append(members[order])
    return shuffled
