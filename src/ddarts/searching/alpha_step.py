"""The gradient of every alpha, in one backward pass for all cells (specification, section 3).

For cell i the loss is CE(S) + R(i) + w_AB L_AB(i), where R is the regulariser of the search strategy (w_01 L_01(i) for
D-DARTS). CE(S without i) does not depend on alpha_i, so with nu held constant all of these gradients together are the
gradient of one scalar:

    CE(S) + sum_i R(i) + w_AB / (n nu) * sum_j CE(S without j)

The branches "S without j" share with the trunk S everything before cell j. They run one after the other: each is
differentiated at once down to the trunk's states that it left from, its gradient is added up there, and the trunk's
single backward pass carries the sum on to earlier cells. Memory holds the trunk and one branch, however many cells
there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ddarts.nn.tasks import CROSS_ENTROPY, Objective
from ddarts.runtime.distributed import Ranks
from ddarts.searching.losses import Term, ablation_scale, marginal_contribution
from ddarts.supernet.interface import Searchable, Trunk

Context = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class AblationPlan:
    """Which cells to ablate in this step, how, and what for.

    Attributes:
        use: "gradient" adds the ablation loss's gradient, "monitor" only measures, "off" does nothing.
        kind: "zero" removes the cell, "random" replaces its gates.
        cells: searched cells to ablate now; all of them, or a sample.
        replacements: with "random", for each of `cells` the gates [edges, operations] to use.
        weight: w_AB.
        floor: floor of nu, as a share of CE(S).
        known: running means of M of the other cells, for nu when `cells` is a sample; a tensor [others].
    """

    use: Literal["gradient", "monitor", "off"] = "off"
    kind: Literal["zero", "random"] = "zero"
    cells: Sequence[int] = ()
    replacements: Sequence[Tensor] = ()
    weight: float = 0.0
    floor: float = 0.1
    known: Tensor | None = None


@dataclass(frozen=True)
class AlphaOutcome:
    """What an alpha step has found.

    Attributes:
        gradients: for each searched cell, [edges, operations].
        cross_entropy: CE(S), a scalar tensor.
        terms: what was added to it, without a graph.
        correct: number of images that S classifies correctly (`ddarts.nn.tasks.Task.hits`), a scalar tensor.
        marginal: M of each ablated cell, in the order of the plan's `cells`; a tensor [len(cells)].
    """

    gradients: list[Tensor]
    cross_entropy: Tensor
    terms: dict[str, Term]
    correct: Tensor
    marginal: Tensor


def alpha_gradients(
    net: Searchable,
    x: Tensor,
    y: Tensor,
    gates: Sequence[Tensor],
    *,
    regulariser: Callable[[], Mapping[str, Term]] | None = None,
    plan: AblationPlan | None = None,
    autocast: Context = nullcontext,
    loss_scale: float = 1.0,
    ranks: Ranks | None = None,
    objective: Objective = CROSS_ENTROPY,
) -> AlphaOutcome:
    """Differentiate the search's loss with respect to every alpha, and to nothing else.

    Weights, their gradients and the running statistics are as they were afterwards.

    Args:
        net: the supernet, in training mode.
        x: images [B, C, H, W].
        y: labels [B].
        gates: of each searched cell [edges, operations], computed from the alphas with a graph.
        regulariser: computes the named terms that are added to the cross-entropy, from the gates or the alphas.
        plan: the ablations of this step; none if not given.
        autocast: makes the context in which the network runs.
        loss_scale: factor on the losses that half-precision gradients need; the gradients returned are free of it.
        ranks: the processes that share the batch evenly, `x` being this one's part. Losses and gradients returned are
            those of the whole batch (of `correct` only the own part); `torch.autograd.grad` knows nothing of other
            processes, so they are averaged here.
        objective: the loss that stands for CE.
    """
    ranks = ranks or Ranks()
    plan = plan or AblationPlan()
    ablate = list(plan.cells) if plan.use != "off" else []
    with net.weights_frozen():
        with autocast():
            reuse = bool(ablate) and plan.use == "monitor" and not net.recompute
            trunk = net.trunk(x, gates, track=False, keep=reuse)
        whole = objective.loss(trunk.logits, y)
        terms = {} if regulariser is None else regulariser()
        outputs: list[Tensor] = [loss_scale * sum((term.weight * term.value for term in terms.values()), whole)]
        weights: list[Tensor | None] = [None]
        mean_whole = ranks.mean(whole.detach())
        marginal = x.new_zeros(0)
        if ablate and plan.use == "monitor":
            losses = ranks.mean(_monitor(net, y, trunk, gates, plan, autocast, objective))
            marginal = marginal_contribution(mean_whole, losses)
        elif ablate:
            losses, at_states, at_gates = _branches(net, y, trunk, gates, plan, autocast, loss_scale, objective)
            marginal = marginal_contribution(mean_whole, ranks.mean(losses))
            every = marginal if plan.known is None else torch.cat([marginal, plan.known])
            scale = plan.weight / (len(ablate) * ablation_scale(every, mean_whole, plan.floor))
            for index, gradient in at_states.items():
                outputs.append(trunk.states[index])
                weights.append(gradient * scale.to(gradient.dtype))
            for gate, gradient in zip(gates, at_gates, strict=True):
                if gradient is not None:
                    outputs.append(gate)
                    weights.append(gradient * scale)
        gradients = ranks.means(torch.autograd.grad(outputs, net.architecture_parameters(), weights))
    correct = objective.task.hits(trunk.logits, y)
    return AlphaOutcome(
        [g / loss_scale for g in gradients] if loss_scale != 1 else list(gradients),
        mean_whole,
        {name: Term(term.weight, term.value.detach()) for name, term in terms.items()},
        correct,
        marginal,
    )


def _replacement(plan: AblationPlan, index: int) -> Tensor | None:
    return plan.replacements[index] if plan.kind == "random" else None


def _monitor(
    net: Searchable,
    y: Tensor,
    trunk: Trunk,
    gates: Sequence[Tensor],
    plan: AblationPlan,
    autocast: Context,
    objective: Objective,
) -> Tensor:
    """CE(S without j) for each j, without a graph; what the trunk has computed is used again."""
    losses = []
    with torch.no_grad():
        for index, cell in enumerate(plan.cells):
            starts = [trunk.states[k] for k in net.branch_starts(cell)]
            with autocast():
                logits = net.branch(cell, starts, gates, _replacement(plan, index), precomputed=trunk.precomputed)
            losses.append(objective.loss(logits, y))
    return torch.stack(losses)


def _branches(
    net: Searchable,
    y: Tensor,
    trunk: Trunk,
    gates: Sequence[Tensor],
    plan: AblationPlan,
    autocast: Context,
    loss_scale: float,
    objective: Objective,
) -> tuple[Tensor, dict[int, Tensor], list[Tensor | None]]:
    """Run and differentiate every branch.

    Returns:
        CE(S without j) for each j [cells]; the summed gradient at each of the trunk's states that a branch left from;
        and at the gates of each searched cell.
    """
    losses: list[Tensor] = []
    at_states: dict[int, Tensor] = {}
    free_gates = [g.detach().requires_grad_() for g in gates]
    at_gates: list[Tensor | None] = [None] * len(gates)
    for index, cell in enumerate(plan.cells):
        starts = {k: trunk.states[k].detach() for k in net.branch_starts(cell)}
        for k, start in starts.items():
            start.requires_grad_(trunk.states[k].requires_grad)
        with autocast():
            logits = net.branch(cell, list(starts.values()), free_gates, _replacement(plan, index))
        loss = objective.loss(logits, y)
        losses.append(loss.detach())
        if not loss.requires_grad:  # the last cell removed: nothing that could be trained is left in this branch
            continue
        inputs = [s for s in starts.values() if s.requires_grad] + free_gates
        found = torch.autograd.grad(loss_scale * loss, inputs, allow_unused=True)
        places = [k for k, s in starts.items() if s.requires_grad]
        for k, gradient in zip(places, found, strict=False):
            if gradient is not None:
                at_states[k] = at_states[k] + gradient if k in at_states else gradient
        for i, gradient in enumerate(found[len(places) :]):
            if gradient is not None:
                before = at_gates[i]
                at_gates[i] = gradient if before is None else before + gradient
    return torch.stack(losses), at_states, at_gates
