"""PC-DARTS' edge normalisation, with two shared cells (arXiv 1907.05737, section 3.3).

Its partial channels (section 3.2), which save memory, are not part of this strategy: every operation sees all channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddarts.config.strategies import PcDartsOptions
from ddarts.searching.strategy import Differentiable
from ddarts.space.cell_space import INPUT_STATES


class PcDarts(Differentiable[PcDartsOptions]):
    """gate = softmax(alpha) over the operations of an edge times softmax(beta) over the edges to a node.

    The last column of the logits is beta.
    """

    extra_logits = 1

    def gates(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """See `Differentiable.gates`."""
        gates = []
        for logit in logits:
            alpha, beta = logit[:, :-1], logit[:, -1]
            incoming: list[int] = []  # edges to each node, which stand together: 2, 3, 4, ...
            while sum(incoming) < len(beta):
                incoming.append(len(incoming) + INPUT_STATES)
            edges = torch.cat([part.softmax(0) for part in beta.split(incoming)])
            gates.append(alpha.softmax(1) * edges[:, None])
        return gates
