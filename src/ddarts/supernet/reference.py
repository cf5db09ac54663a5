"""The method written out, without regard to speed: D-DARTS (arXiv 2108.09306), sections 3.1 and 3.2.

This module is the definition: a mixed edge, a cell, the supernet with one architecture for each cell, its ablations and
the losses, on plain modules of `ddarts.nn.operations`, one for every operation on every edge. Everything else in
`ddarts.supernet` and `ddarts.searching.alpha_step` computes the same numbers faster, and is tested against this.
``ddarts search --backend reference`` searches with it.

With n searched cells, alpha_i [edges, operations] of cell i, and gates g_i = sigmoid(alpha_i), a search alternates

    alpha_i <- alpha_i - lr * dL(i) / dalpha_i        on a batch of the half for architectures, for every cell i
    w       <- w       - lr * dCE(S) / dw             on a batch of the half for weights

(first-order: w is held constant in the first line, the gates in the second).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddarts.nn.batch_norm import running_statistics
from ddarts.nn.operations import FactorizedReduce, ReLUConvBN, build_candidate
from ddarts.nn.stems import build_stem
from ddarts.space.cell_space import INPUT_STATES, SearchSpace
from ddarts.supernet.grouped_edges import GroupedEdges
from ddarts.supernet.interface import Searchable, Trunk
from ddarts.supernet.supernet import Supernet


class MixedEdge(nn.Module):
    """An edge that holds every candidate operation (paper, section 3.1; FairDARTS, arXiv 1911.12126).

        f(x) = sum over operations o of g_o * o(x)

    Gates are sigmoids, so operations do not compete. Batch norms are not affine, and pools are followed by one: a scale
    of its own would let an operation undo its gate.
    """

    def __init__(self, operations: Sequence[str], channels: int, stride: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(build_candidate(name, channels, stride) for name in operations)

    def forward(self, x: Tensor, gates: Tensor) -> Tensor:
        """Return the mixed result [B, C, H', W'] of a state [B, C, H, W] and the edge's gates [operations]."""
        return torch.stack([g * operation(x) for g, operation in zip(gates, self.operations, strict=True)]).sum(0)


class ReferenceCell(nn.Module):
    """A cell: a directed graph in which every node sums its edges from all earlier states (DARTS, section 2.1).

        s_0, s_1 = the outputs of the two cells before, each brought to the cell's width C
        s_t      = sum over earlier states j < t of f_jt(s_j)          for the nodes t = 2, 3, ...
        output   = concatenation of the nodes in `concat`

    Args:
        space: operations and nodes.
        channels_0, channels_1: widths of the two inputs.
        channels: C.
        concat: states that the output concatenates.
        reduction: edges from states 0 and 1 have stride 2.
        halve_0: state 0 has twice the resolution of state 1 (the cell before was a reduction).
    """

    def __init__(
        self,
        space: SearchSpace,
        channels_0: int,
        channels_1: int,
        channels: int,
        *,
        concat: tuple[int, ...],
        reduction: bool,
        halve_0: bool,
    ) -> None:
        super().__init__()
        self.nodes, self.concat = space.nodes, concat
        self.preprocess_0 = (FactorizedReduce if halve_0 else ReLUConvBN)(channels_0, channels, affine=False)
        self.preprocess_1 = ReLUConvBN(channels_1, channels, affine=False)
        self.edges = nn.ModuleList(
            MixedEdge(space.operations, channels, 2 if reduction and source < INPUT_STATES else 1)
            for source, _ in space.edges
        )

    def forward(self, state_0: Tensor, state_1: Tensor, gates: Tensor) -> Tensor:
        """Return the output [B, len(concat) * C, H', W'] for gates [edges, operations]."""
        states = [self.preprocess_0(state_0), self.preprocess_1(state_1)]
        edges = iter(zip(self.edges, gates, strict=True))  # node by node, and there by the state that they leave
        for _ in range(self.nodes):
            states.append(torch.stack([edge(s, g) for s, (edge, g) in zip(states, edges, strict=False)]).sum(0))
        return torch.cat([states[s] for s in self.concat], 1)


class ReferenceSupernet(Searchable[SearchSpace]):
    """The network of cells, each with an alpha (section 3.1): stem, cells, mean over all positions, linear classifier.

    Reduction cells halve the resolution and double the channels. Cells with equal entries in ``space.sequence`` share
    an alpha, not weights (DARTOpti, section 5).

    Args:
        space: operations, nodes, the sequence of cells and the reductions.
        channels: C of the first cell.
        in_channels: channels of the images.
        classes: number of classes.
        stem: "cifar" or "imagenet".
    """

    def __init__(
        self, space: SearchSpace, *, channels: int = 16, in_channels: int = 3, classes: int = 10, stem: str = "cifar"
    ) -> None:
        super().__init__()
        self.space = space
        self.stem = build_stem(stem, in_channels, channels)
        widths, halved = list(self.stem.outputs), self.stem.halves
        self.cells = nn.ModuleList()
        for position, searched in enumerate(space.sequence):
            reduction, concat = position in space.reductions, space.concat_of(searched)
            channels *= 2 if reduction else 1
            self.cells.append(
                ReferenceCell(
                    space, widths[-2], widths[-1], channels, concat=concat, reduction=reduction, halve_0=halved
                )
            )
            widths.append(len(concat) * channels)
            halved = reduction
        self.classifier = nn.Linear(widths[-1], classes)
        self.add_alphas([(len(space.edges), len(space.operations))] * space.searched_cells)

    def trunk(self, x: Tensor, gates: Sequence[Tensor], *, track: bool, keep: bool = False) -> Trunk:
        """See `Searchable.trunk`; the states are the outputs of the stem (two) and of every cell.

        Nothing is precomputed for branches: `keep` is ignored.
        """
        with running_statistics(self, track=track):
            states: list[Tensor] = list(self.stem(x))
            for cell, entry in zip(self.cells, self.space.sequence, strict=True):
                states.append(cell(states[-2], states[-1], gates[entry]))
        return Trunk(self._head(states[-1]), states)

    def branch_starts(self, searched: int) -> tuple[int, ...]:
        """See `Searchable.branch_starts`: cell k reads states k and k + 1."""
        first = self.space.sequence.index(searched)
        return first, first + 1

    def branch(
        self,
        searched: int,
        starts: Sequence[Tensor],
        gates: Sequence[Tensor],
        replacement: Tensor | None,
        *,
        precomputed: Any = None,
    ) -> Tensor:
        """Return the logits (N, classes) of S\\i, the supernet with cell i ablated (section 3.2).

        The gates of the cell are replaced by U(0,1) draws, as in the published code, or the cell is removed: its output
        is replaced by zeros. Arguments are those of `Searchable.branch`.
        """
        state_0, state_1 = starts
        with running_statistics(self, track=False):
            for position in range(self.branch_starts(searched)[0], self.space.cells):
                entry = self.space.sequence[position]
                chosen = gates[entry] if entry != searched or replacement is None else replacement
                output = self.cells[position](state_0, state_1, chosen)
                if entry == searched and replacement is None:
                    output = torch.zeros_like(output)
                state_0, state_1 = state_1, output
        return self._head(state_1)

    def ablated(self, x: Tensor, gates: Sequence[Tensor], searched: int, replacement: Tensor | None = None) -> Tensor:
        """Return the logits of S\\i for images (N, in_channels, H, W), a whole pass."""
        states = self.trunk(x, gates, track=False).states
        return self.branch(searched, [states[k] for k in self.branch_starts(searched)], gates, replacement)

    @classmethod
    def like(cls, net: Supernet) -> ReferenceSupernet:
        """Return a supernet of the same sizes, weights, running statistics and alphas as a grouped one."""
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are overwritten
            reference = cls(net.space, **net.sizes).to(next(net.parameters()).device)
        reference.load_supernet(net)
        return reference.train(net.training)

    def load_supernet(self, net: Supernet) -> None:
        """Copy weights, running statistics and alphas of a grouped supernet of the same sizes."""
        theirs = net.state_dict()
        with torch.no_grad():
            for name, tensor in self.state_dict().items():
                if (found := counterpart(name, net)) is not None:
                    other, edge, edges = found
                    value = theirs[other]
                    tensor.copy_(value if edges == 1 else value.chunk(edges)[edge])

    def _head(self, x: Tensor) -> Tensor:
        return self.classifier(x.mean((2, 3)))


def counterpart(name: str, net: Supernet) -> tuple[str, int, int] | None:
    """Return where a tensor of a `ReferenceSupernet` is in a grouped supernet of the same sizes.

    Args:
        name: the tensor's name in the state dict of the reference.
        net: the grouped supernet.

    Returns:
        its name there; and e and E, where it is the e-th of E equal parts of the rows of that tensor. None if the
        grouped supernet does not have it: its batch norms in cells do not count batches.
    """
    head, separator, rest = name.partition(".edges.")
    if not separator:
        missing = name.startswith("cells.") and name.endswith("num_batches_tracked")
        return None if missing else (name, 0, 1)
    row, _, column, part = rest.split(".", 3)
    source, target = net.space.edges[int(row)]
    first = max(INPUT_STATES, source + 1)  # the first node that the state has an edge to
    grouped = net.get_submodule(f"{head}.grouped_edges.{source}")
    assert isinstance(grouped, GroupedEdges)
    prefix, operation = f"{head}.grouped_edges.{source}", net.space.operations[int(column)]
    if column in grouped.plain:
        return f"{prefix}.plain.{column}.{target - first}.{part}", 0, 1
    if name.endswith("num_batches_tracked"):
        return None
    if operation in grouped.branches:
        return f"{prefix}.branches.{operation}.{part}", target - first, grouped.edges
    return f"{prefix}.pool_norms.{operation}.{part.removeprefix('norm.')}", 0, 1


def zero_one_loss(gates: Tensor) -> Tensor:
    """Return L_01 of a cell, which pushes its gates to 0 or 1 (section 3.2; FairDARTS).

    L_01 = - mean over edges and operations of (g - 1/2)^2
    """
    return -(gates - 0.5).square().mean()


def marginal_contributions(
    net: ReferenceSupernet, x: Tensor, y: Tensor, gates: Sequence[Tensor], replacements: Sequence[Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Return CE(S), a scalar, and the marginal contribution of each cell [n] (section 3.2).

        M_i = CE(S) - CE(S\\i)

    A cell that helps has a negative one.

    Args:
        net: the supernet S.
        x, y: images [B, C, H, W] and labels [B].
        gates: gates of the n searched cells.
        replacements: gates that stand for those of an ablated cell; None to remove it.
    """
    whole = F.cross_entropy(net.trunk(x, gates, track=False).logits, y)
    without = [
        F.cross_entropy(net.ablated(x, gates, i, None if replacements is None else replacements[i]), y)
        for i in range(len(gates))
    ]
    return whole, whole - torch.stack(without)


def cell_losses(
    net: ReferenceSupernet,
    x: Tensor,
    y: Tensor,
    gates: Sequence[Tensor],
    *,
    zero_one_weight: float,
    ablation_weight: float,
    floor: float = 0.1,
    replacements: Sequence[Tensor] | None = None,
) -> Tensor:
    """Return the loss of each cell [n], of which cell i descends the i-th through its alpha only (section 3.2).

        L(i)    = CE(S) + w_01 L_01(i) + w_AB L_AB(i)
        L_AB(i) = (M_i - mean of M) / nu

    nu is a constant: |mean of M|, but at least `floor` times CE(S), because the mean passes through 0 at the start. The
    paper writes -(M_i - mean)/mean, which is the same while the mean is negative.

    Args:
        net, x, y, gates, replacements: as for `marginal_contributions`.
        zero_one_weight: w_01.
        ablation_weight: w_AB.
        floor: see above.
    """
    whole, marginal = marginal_contributions(net, x, y, gates, replacements)
    mean = marginal.mean()
    nu = torch.maximum(mean.abs(), floor * whole).detach()
    zero_one = torch.stack([zero_one_loss(g) for g in gates])
    return whole + zero_one_weight * zero_one + ablation_weight * (marginal - mean) / nu


def alpha_gradients_by_definition(net: ReferenceSupernet, x: Tensor, y: Tensor, **options: Any) -> list[Tensor]:
    """Return dL(i) / dalpha_i of each cell, one backward pass for each; options as for `cell_losses`.

    `ddarts.searching.alpha_step` finds the same in one backward pass for all cells.
    """
    with net.weights_frozen():
        losses = cell_losses(net, x, y, [torch.sigmoid(alpha) for alpha in net.alphas], **options)
        return [
            torch.autograd.grad(loss, alpha, retain_graph=True)[0]
            for loss, alpha in zip(losses, net.alphas, strict=True)
        ]
