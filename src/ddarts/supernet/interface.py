"""What a search needs from a supernet, whatever its cells look like: a stack of mixed cells or a chain of mixed layers.

A supernet holds every operation and the alphas; it knows nothing of how alphas become gates. A search strategy computes
the gates (``ddarts.searching.strategy``) and passes them in. A gate is the factor by which the output of an operation
is multiplied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ddarts.space.cell_space import SearchSpace
from ddarts.space.choice_space import ChoiceSpace

#: What a supernet searches: `SearchSpace` or `ChoiceSpace`.
Space = TypeVar("Space", SearchSpace, ChoiceSpace)

#: Standard deviation of the initial alphas: small, so that no operation is preferred, and not 0, so that none are tied.
_ALPHA_SPREAD = 1e-3


@dataclass
class Trunk:
    """One pass through the whole supernet, kept for the branches that leave it.

    Attributes:
        logits: (N, classes).
        states: every tensor at which a branch may start, in the order of the network; `Searchable.branch_starts` gives
            indices into this list. The stem's output or outputs come first, then the output of every cell.
        precomputed: what `Searchable.branch` can use again, or None; its form is the supernet's own business.
    """

    logits: Tensor
    states: list[Tensor]
    precomputed: Any = None


class Searchable(nn.Module, ABC, Generic[Space]):
    """Base class of a supernet that the search can drive.

    A subclass builds its weights, then calls `add_alphas`, and implements `trunk`, `branch_starts` and `branch`.
    Everywhere below, `gates` is a list with one tensor (edges, operations) for each searched cell, in the order of
    `alphas` and of the same shapes.

    Attributes:
        space: what is searched; `space.searched_cells` is the number of alphas.
        alphas: the architecture parameters, one (edges, operations) for each searched cell.
        recompute: keep for the backward pass only what is passed from cell to cell, and compute each cell once more in
            it: the same numbers with less memory, at the cost of one more forward pass.
    """

    space: Space
    alphas: nn.ParameterList
    recompute = False

    @abstractmethod
    def trunk(self, x: Tensor, gates: Sequence[Tensor], *, track: bool, keep: bool = False) -> Trunk:
        """Run the whole network and return its logits with the states from which branches start.

        Args:
            x: images (N, in_channels, H, W).
            gates: of all searched cells; gradients flow to them.
            track: update the batch norms' running statistics (training mode only).
            keep: fill `Trunk.precomputed`, for branches that are computed without a graph.
        """

    @abstractmethod
    def branch_starts(self, searched: int) -> tuple[int, ...]:
        """Return the indices into `Trunk.states` of what the first cell that uses alpha `searched` reads.

        Two states for a cell that reads the two cells before it, one for a layer of a chain. A branch does not depend
        on the trunk in any other way, so gradients at these states are all that the trunk needs from it.
        """

    @abstractmethod
    def branch(
        self,
        searched: int,
        starts: Sequence[Tensor],
        gates: Sequence[Tensor],
        replacement: Tensor | None,
        *,
        precomputed: Any = None,
    ) -> Tensor:
        """Return the logits (N, classes) of the supernet with one searched cell ablated (paper, section 3.2).

        Running statistics are not updated.

        Args:
            searched: the searched cell to ablate, at every position that shares its alpha.
            starts: the trunk's states at `branch_starts(searched)`, in that order.
            gates: of all searched cells.
            replacement: gates (edges, operations) to use instead of the cell's own, or None to remove the cell.
            precomputed: the trunk's, or None; only without a graph.
        """

    def forward(self, x: Tensor, gates: Sequence[Tensor] | Callable[[], Sequence[Tensor]]) -> Tensor:
        """Return the logits (N, classes) of images (N, in_channels, H, W); in training mode statistics are updated.

        Gates may be a function that returns them: Fabric's wrapper rounds all tensors that it passes on to the
        precision of the network, and gates have to keep theirs.
        """
        return self.trunk(x, gates() if callable(gates) else gates, track=self.training).logits

    def add_alphas(self, shapes: Sequence[tuple[int, int]]) -> None:
        """Create one alpha (edges, operations) for each searched cell, near 0, from torch's current random state."""
        self.alphas = nn.ParameterList(nn.Parameter(_ALPHA_SPREAD * torch.randn(shape)) for shape in shapes)

    def set_alphas(self, values: Sequence[Sequence[Sequence[float]]]) -> None:
        """Set the alphas to [searched cell][edge][operation]."""
        with torch.no_grad():
            for alpha, value in zip(self.alphas, values, strict=True):
                alpha.copy_(torch.tensor(value))

    def architecture_parameters(self) -> list[nn.Parameter]:
        """Return the alphas."""
        return list(self.alphas)

    def weight_parameters(self) -> list[nn.Parameter]:
        """Return every parameter that is not an alpha."""
        return [p for name, p in self.named_parameters() if not name.startswith("alphas.")]

    @contextmanager
    def weights_frozen(self) -> Iterator[None]:
        """Disable the gradients of all weights inside the context, as an alpha step needs it."""
        weights = [p for p in self.weight_parameters() if p.requires_grad]
        for weight in weights:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in weights:
                weight.requires_grad_(True)
