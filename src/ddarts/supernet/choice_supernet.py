"""The supernet of a choice space: its skeleton with a mixed operation at every position (paper, section 3.1)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddarts.genotype.choices import ChoiceGenotype
from ddarts.nn.batch_norm import running_statistics
from ddarts.nn.choice_network import ChoiceNetwork, Removed, Skeleton, load_skeleton
from ddarts.nn.recompute import recomputed
from ddarts.space.choice_space import ChoiceSpace
from ddarts.supernet.interface import Searchable, Trunk


class MixedChoice(nn.Module):
    """The sum over the candidates of gate * candidate(x), at one position of the skeleton.

    A candidate whose gate is exactly 0 is not computed, and its gate gets no gradient: sampling one path of the
    supernet costs as much as the discrete network, not as much as all candidates.

    Args:
        choice: index of the choice that decides the position.
        candidates: one module for each candidate.
        outputs: channels of the output.
        stride: 1 or 2.
        removed: what the position gives when it is removed: its "input", or "zeros".

    Attributes:
        gates: of this pass, (candidates,), or None if the position is removed; set by `MixedBlock`.
        values: the same numbers on the host.
    """

    gates: Tensor | None = None
    values: Sequence[float] = ()

    def __init__(
        self, choice: int, candidates: Sequence[nn.Module], outputs: int, stride: int, removed: Removed
    ) -> None:
        super().__init__()
        self.choice, self.outputs, self.stride, self.removed = choice, outputs, stride, removed
        self.candidates = nn.ModuleList(candidates)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride))."""
        if self.gates is None:
            around = _shortcut(x, self.outputs, self.stride)
            return around if self.removed == "input" else torch.zeros_like(around)
        total: Tensor | None = None
        for candidate, gate, value in zip(self.candidates, self.gates.unbind(), self.values, strict=True):
            if value == 0:
                continue
            y = candidate(x)
            if value != 1 or gate.requires_grad:
                y = gate.to(y.dtype) * y
            total = y if total is None else total + y
        return torch.zeros_like(_shortcut(x, self.outputs, self.stride)) if total is None else total


def _shortcut(x: Tensor, outputs: int, stride: int) -> Tensor:
    """Bring `x` to the shape of a layer's output without weights: average pooling, channels cut or filled with zeros.

    This is the shortcut A of ResNet (arXiv 1512.03385, section 3.3) with a pool in place of every second pixel; the
    identity where the shape is kept.
    """
    if stride > 1:
        x = F.avg_pool2d(x, stride, stride, ceil_mode=True, count_include_pad=False)
    channels = x.shape[1]
    return x[:, :outputs] if outputs <= channels else F.pad(x, (0, 0, 0, 0, 0, outputs - channels))


class MixedBlock(nn.Module):
    """A block of the skeleton, whose mixed operations get their gates with each call."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.choices = {m.choice for m in module.modules() if isinstance(m, MixedChoice)}

    def forward(
        self, x: Tensor, gates: Sequence[Tensor | None], values: Sequence[Sequence[float]], track: bool
    ) -> Tensor:
        """Compute the block.

        Args:
            x: (N, C, H, W).
            gates: for each choice (1, candidates), or None to remove it.
            values: the same numbers on the host.
            track: update the batch norms' running statistics (training mode only).
        """
        for mixed in self.module.modules() if self.choices else ():
            if isinstance(mixed, MixedChoice):
                gate = gates[mixed.choice]
                mixed.gates = None if gate is None else gate.flatten()
                mixed.values = values[mixed.choice]
        with running_statistics(self.module, track=track):
            return self.module(x)


class ChoiceSupernet(Searchable[ChoiceSpace]):
    """Every position of the skeleton holds every candidate of its choice.

    A choice that is ablated with "zero" is removed: the successor of a layer reads what the layer read. Where the layer
    changes the shape, its input is averaged over the stride and its channels are cut or filled with zeros, so that what
    is missing are the layer's weights and not all that came before. An edge of a cell, around which other edges lead,
    gives zeros (the skeleton says which: `ddarts.nn.choice_network.Slot`).

    Args:
        space: the choices and the skeleton.
        channels: C, the width setting of the skeleton.
        in_channels: channels of the images.
        classes: number of classes.
        stem: "cifar" or "imagenet".
        skeleton: builds the modules instead of the space's own skeleton.
    """

    def __init__(
        self,
        space: ChoiceSpace,
        *,
        channels: int = 16,
        in_channels: int = 3,
        classes: int = 10,
        stem: str = "cifar",
        skeleton: Skeleton | None = None,
    ) -> None:
        super().__init__()
        self.space = space
        skeleton = skeleton or load_skeleton(space)

        def slot(choice: int, inputs: int, outputs: int, stride: int = 1, *, removed: Removed = "input") -> nn.Module:
            names = space.choices[choice].candidates
            candidates = [skeleton.candidate(name, inputs, outputs, stride, affine=False) for name in names]
            return MixedChoice(choice, candidates, outputs, stride, removed)

        blocks = skeleton.blocks(slot, channels=channels, in_channels=in_channels, stem=stem)
        self.blocks = nn.Sequential(OrderedDict((block.name, MixedBlock(block.module)) for block in blocks))
        self.classifier = nn.Linear(blocks[-1].outputs, classes)
        self.add_alphas([(1, len(choice.candidates)) for choice in space.choices])

    def trunk(self, x: Tensor, gates: Sequence[Tensor], *, track: bool, keep: bool = False) -> Trunk:
        """Run the whole network; ``states[b]`` is what block b reads. See `Searchable.trunk`."""
        states = [x.contiguous(memory_format=torch.channels_last)]
        logits = self._run(states, gates, 0, track=track)
        return Trunk(logits, states)

    def branch_starts(self, searched: int) -> tuple[int, ...]:
        """Return the index of the first block that `searched` takes part in; see `Searchable.branch_starts`."""
        return (next(b for b, block in enumerate(self.blocks) if searched in block.choices),)  # type: ignore[operator]

    def branch(
        self,
        searched: int,
        starts: Sequence[Tensor],
        gates: Sequence[Tensor],
        replacement: Tensor | None,
        *,
        precomputed: Any = None,
    ) -> Tensor:
        """Return the logits with one choice ablated; see `Searchable.branch`."""
        ablated = [*gates[:searched], replacement, *gates[searched + 1 :]]
        return self._run(list(starts), ablated, self.branch_starts(searched)[0], track=False)

    def path(self, genotype: ChoiceGenotype) -> list[Tensor]:
        """Return the gates that choose one architecture: 1 for its candidates, 0 for the others."""
        return [
            F.one_hot(torch.tensor([index], device=alpha.device), alpha.shape[1]).to(alpha.dtype)
            for alpha, index in zip(self.alphas, genotype.indices, strict=True)
        ]

    def discrete(self, genotype: ChoiceGenotype) -> ChoiceNetwork:
        """Return the discrete network of a genotype with copies of the weights of its candidates.

        Only of skeletons whose candidates have the same batch norms in a search as after it.
        """
        first = next(module for module in self.modules() if isinstance(module, nn.Conv2d))
        network = ChoiceNetwork(genotype, in_channels=first.in_channels, classes=self.classifier.out_features)
        mixed = {p: genotype.indices[m.choice] for p, m in self.named_modules() if isinstance(m, MixedChoice)}
        state: dict[str, Tensor] = {}
        for key, tensor in self.state_dict().items():
            path = next((p for p in mixed if key.startswith(f"{p}.candidates.")), None)
            if path is not None:
                index, _, rest = key.removeprefix(f"{path}.candidates.").partition(".")
                if int(index) != mixed[path]:
                    continue
                key = f"{path}.{rest}"
            block, name, *inside = key.split(".")
            if block == "blocks":  # without the name of the module in `MixedBlock`
                state[".".join((block, name, *inside[1:]))] = tensor
            elif block == "classifier":
                state[key] = tensor
        network.load_state_dict(state)
        return network

    def _run(self, states: list[Tensor], gates: Sequence[Tensor | None], first: int, *, track: bool) -> Tensor:
        """Run the blocks from `first` on, append what each returns to `states`, and return the logits."""
        values = _on_host(gates)
        recompute = self.recompute and torch.is_grad_enabled()
        for block in list(self.blocks)[first:]:
            run = (states[-1], gates, values, track)
            states.append(recomputed(block, *run) if recompute else block(*run))
        return self.classifier(states[-1].mean((2, 3)))


def _on_host(gates: Sequence[Tensor | None]) -> list[list[float]]:
    """Return the numbers of all gates, read at once: a GPU waits for it only one time in a pass."""
    given = [gate.detach().flatten() for gate in gates if gate is not None]
    values = iter(torch.cat(given).tolist())
    return [[] if gate is None else [next(values) for _ in range(gate.numel())] for gate in gates]
