"""The discrete network that a genotype describes (paper, sections 3.4 and 4; specification, sections 1, 5 and 10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddarts.errors import SettingsError
from ddarts.genotype.genotype import CellGenotype, Genotype
from ddarts.nn.auxiliary import AuxiliaryHead
from ddarts.nn.features import FeatureInfo, choose_levels, find_levels
from ddarts.nn.fused_cell import FusedCell
from ddarts.nn.operations import FactorizedReduce, Rectified, ReLUConvBN, build_operation
from ddarts.nn.pruning import live_edges, live_inputs, live_states
from ddarts.nn.recompute import recomputed
from ddarts.nn.stems import ImageNetStem, build_stem
from ddarts.runtime.registry import load_reference

#: The genotype that a network is built from.
G = TypeVar("G")


class Cell(nn.Module):
    """One cell of a genotype: two rectified inputs in, the concatenated nodes out.

    ``operations`` holds the operation of edge i of the genotype under the name ``i``. What cannot reach the output
    (`ddarts.nn.pruning`) is not built, and its numbers are left out.

    Args:
        genotype: what to build.
        inputs: channels of the two inputs.
        channels: width C of the nodes.
        halve0: whether input 0 has twice the resolution of input 1.

    Attributes:
        outputs: channels of the output.
        droppable: number of operations that drop-path may drop (all but identities).
    """

    def __init__(self, genotype: CellGenotype, inputs: tuple[int, int], channels: int, *, halve0: bool) -> None:
        super().__init__()
        used = live_inputs(genotype)
        self.preprocess0: Rectified | None = None
        self.preprocess1: Rectified | None = None
        if 0 in used:
            build = FactorizedReduce if halve0 else ReLUConvBN
            self.preprocess0 = build(inputs[0], channels)
        if 1 in used:
            self.preprocess1 = ReLUConvBN(inputs[1], channels)
        self.operations = nn.ModuleDict()
        self._nodes: dict[int, list[tuple[str, int]]] = {}  # state -> (name of operation, state that it reads)
        for index in live_edges(genotype):
            edge = genotype.edges[index]
            stride = 2 if genotype.reduction and edge.source < 2 else 1
            self.operations[str(index)] = build_operation(edge.operation, channels, stride)
            self._nodes.setdefault(edge.target, []).append((str(index), edge.source))
        self._nodes = dict(sorted(self._nodes.items()))
        self._concat = genotype.live_concat
        self.outputs = len(self._concat) * channels
        names = [name for name, operation in self.operations.items() if not isinstance(operation, nn.Identity)]
        self._mask_of = {name: i for i, name in enumerate(names)}
        self.droppable = len(names)
        entering = {
            target: [(self._mask_of.get(name), self.operations[name], source) for name, source in edges]
            for target, edges in self._nodes.items()
        }
        self._fused = FusedCell((self.preprocess0, self.preprocess1), entering, self._concat, channels)

    def forward(self, input0: Tensor, input1: Tensor, masks: Tensor | None = None) -> Tensor:
        """Compute the cell.

        Args:
            input0, input1: rectified outputs of the two cells before, [B, inputs, H, W]; input 0 may be [.., 2H, 2W].
            masks: drop-path factors [droppable, B, 1, 1, 1], or None to drop nothing.

        Returns:
            [B, outputs, H, W], or [B, outputs, ceil(H/2), ceil(W/2)] from a reduction cell.
        """
        if self.training and self._fused.fits(input0, input1):
            return self._fused(input0, input1, masks)
        states: dict[int, Tensor] = {}
        if self.preprocess0 is not None:
            states[0] = self.preprocess0.after_relu(input0)
        if self.preprocess1 is not None:
            states[1] = self.preprocess1.after_relu(input1)
        rectified: dict[int, Tensor] = {}
        for target, edges in self._nodes.items():
            total: Tensor | None = None
            for name, source in edges:
                operation = self.operations[name]
                if isinstance(operation, Rectified):
                    if source not in rectified:  # once a state, however many operations read it
                        rectified[source] = F.relu(states[source])
                    result = operation.after_relu(rectified[source])
                else:
                    result = operation(states[source])
                if masks is not None and name in self._mask_of:
                    result = result * masks[self._mask_of[name]].to(result.dtype)
                total = result if total is None else total + result
            assert total is not None
            states[target] = total
        return torch.cat([states[s] for s in self._concat], dim=1)


class DiscreteNetwork(nn.Module, Generic[G]):
    """What the networks of cells and of choices share: their sizes, the classifier's input, and drop-path.

    Args:
        genotype: the architecture.
        channels: C, the width setting.
        in_channels: channels of the images.
        classes: number of classes.
        stem: "cifar" or "imagenet".

    Attributes:
        drop_path: probability 0 to 1 with which training drops a result, image by image; the results kept are scaled by
            1 / (1 - drop_path). The training loop sets it.
        drop_path_part: (rank, processes): which part of a batch that processes share evenly the images are. Random
            numbers are drawn for the whole batch, so that an image meets the same ones whoever holds it.
        recompute: whether training keeps the outputs of cells or blocks only and computes what is inside them a second
            time in the backward pass.

    Raises:
        SettingsError: a size below 1.
    """

    classifier: nn.Module

    def __init__(self, genotype: G, channels: int, in_channels: int, classes: int, stem: str) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("in_channels", in_channels), ("classes", classes)):
            if value < 1:
                raise SettingsError(f"{name} = {value} is out of range; a network needs at least 1")
        self.genotype = genotype
        self.channels, self.in_channels, self.classes, self.stem_name = channels, in_channels, classes, stem
        self.drop_path = 0.0
        self.drop_path_part: tuple[int, int] = (0, 1)
        self.recompute = False

    def _repr_html_(self) -> str:
        """Return sizes and a drawing for a notebook."""
        return load_reference("ddarts.reporting.network_drawing:network_html")(self)

    def forward_head(self, features: Tensor) -> Tensor:
        """Classify what `forward_features` returned: logits [B, classes]."""
        return self.classifier(features.mean((2, 3)))

    def drop_path_factors(self, x: Tensor, *count: int) -> Tensor:
        """Draw factors [*count, B, 1, 1, 1] for the images `x` on their device."""
        rank, ranks = self.drop_path_part
        draws = torch.rand(*count, ranks * len(x), 1, 1, 1, device=x.device).narrow(len(count), rank * len(x), len(x))
        keep = 1.0 - self.drop_path
        return (draws < keep).float() / keep


class Network(DiscreteNetwork[Genotype]):
    """The discrete network of a genotype: stem, cells, global average pooling, linear classifier.

    Names of parameters (a public format): ``stem.*``, ``cells.<cell>.preprocess0.*``, ``cells.<cell>.preprocess1.*``,
    ``cells.<cell>.operations.<edge of the genotype>.*``, ``auxiliary.*``, ``classifier.*``. Cells and operations whose
    result cannot reach the output are not built.

    Args:
        genotype: the architecture; channels double at each of its reduction cells.
        channels: C, width of the nodes of the first cell.
        in_channels: channels of the images.
        classes: number of classes.
        stem: "cifar" (keeps the resolution) or "imagenet" (divides it by 4 before the first cell).
        auxiliary: whether to build an auxiliary head, after the last reduction cell (2L//3 where there is none).

    Attributes:
        drop_path, drop_path_part, recompute: see `DiscreteNetwork`; drop-path drops results of all operations but
            identities.
        levels: the feature maps that `features` returns, one for each resolution, finest first.

    Raises:
        SettingsError: a size below 1, or an unknown stem.
    """

    def __init__(
        self,
        genotype: Genotype,
        *,
        channels: int = 36,
        in_channels: int = 3,
        classes: int = 10,
        stem: str = "cifar",
        auxiliary: bool = False,
    ) -> None:
        super().__init__(genotype, channels, in_channels, classes, stem)
        self.stem = build_stem(stem, in_channels, channels)
        live = live_states(genotype)
        self.cells = nn.ModuleDict()
        outputs, halved, width = list(self.stem.outputs), self.stem.halves, channels
        for position, cell in enumerate(genotype.cells):
            width *= 2 if cell.reduction else 1
            if position in live:
                self.cells[str(position)] = Cell(cell, (outputs[-2], outputs[-1]), width, halve0=halved)
            outputs.append(len(cell.live_concat) * width)
            halved = cell.reduction
        self.auxiliary: AuxiliaryHead | None = None
        wanted = genotype.reductions[-1] if genotype.reductions else 2 * len(genotype) // 3
        built = [int(name) for name in self.cells]
        self._auxiliary_after = max((p for p in built if p <= wanted), default=built[0])
        if auxiliary:
            self.auxiliary = AuxiliaryHead(outputs[self._auxiliary_after + 2], classes)
        self.outputs = outputs[-1]
        self.classifier = nn.Linear(self.outputs, classes)
        self.levels = find_levels(genotype, live | {-2}, outputs, self.stem.states)
        self._end = len(genotype) - 1  # position whose map is the output
        self._trim_stem(live)

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """Channels, reduction and module of each map that `features` returns."""
        return [level.info.copy() for level in self.levels]

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Classify images.

        Args:
            x: [B, in_channels, H, W], normalised.

        Returns:
            logits [B, classes]; in training mode with an auxiliary head (logits, auxiliary logits).
        """
        maps = self._maps(x, self._end)
        logits = self.forward_head(maps[self._end])
        if self.training and self.auxiliary is not None:
            return logits, self.auxiliary(F.relu(maps[self._auxiliary_after]))
        return logits

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the output of the last cell, before pooling: [B, outputs, h, w]."""
        return self._maps(x, self._end)[self._end]

    def features(self, x: Tensor, levels: int | Sequence[int] | None = None) -> list[Tensor]:
        """Return the last map of each resolution, finest first: [B, num_chs, H / reduction, W / reduction].

        Sides are rounded up. Maps of cells are not rectified, those of the stem are. The last is what
        `forward_features` returns.

        Args:
            x: images [B, in_channels, H, W].
            levels: which of `levels`: None for all, n for the last n, or indices. Nothing beyond them is computed.

        Raises:
            SettingsError: there is no such level.
        """
        positions = self.positions_of(levels)
        maps = self._maps(x, max(positions))
        return [maps[position] for position in positions]

    def positions_of(self, levels: int | Sequence[int] | None) -> list[int]:
        """Return the positions of the cells (-2 and -1: of the stem's states) that make the feature maps `levels`.

        Raises:
            SettingsError: there is no such level, or `keep_levels` has removed it.
        """
        chosen = choose_levels(self.levels, levels)
        for index in chosen:
            if self.levels[index].position not in self._live:
                raise SettingsError(f"level {index} is gone: keep_levels was not told to keep it")
        return [self.levels[index].position for index in chosen]

    def keep_levels(self, levels: int | Sequence[int]) -> None:
        """Remove all cells that the feature maps `levels` do not depend on; the last of these becomes the output.

        The indices of levels stay what they are. The auxiliary head goes; the classifier stays, and fits only if the
        last level is kept. This cannot be undone.

        Raises:
            SettingsError: there is no such level, or it is gone already.
        """
        positions = self.positions_of(levels)
        live = live_states(self.genotype, positions)
        for name in [name for name in self.cells if int(name) not in live]:
            del self.cells[name]
        self._trim_stem(live)
        self._end, self.auxiliary = max(positions), None
        self.outputs = next(level.info["num_chs"] for level in self.levels if level.position == self._end)

    def _trim_stem(self, live: frozenset[int]) -> None:
        """Remove the part of the stem that nobody reads."""
        self._live = live | {-2}
        if isinstance(self.stem, ImageNetStem) and -1 not in live:
            self.stem.drop_second()

    def _maps(self, x: Tensor, end: int) -> dict[int, Tensor]:
        """Return the output of each cell that was built, by position, up to `end`; -2 and -1 are the stem's states."""
        before: list[Tensor | None] = list(self.stem(x))  # rectified outputs of the two cells before
        masks = self._drop_path_masks(x)
        recompute = self.recompute and self.training and torch.is_grad_enabled()
        maps = {position: state for position, state in zip((-2, -1), before, strict=True) if state is not None}
        for position in range(end + 1):
            name = str(position)
            rectified: Tensor | None = None
            if name in self.cells:
                cell, mask = self.cells[name], masks.get(name)
                maps[position] = recomputed(cell, *before, mask) if recompute else cell(*before, mask)
                if position < end:
                    rectified = F.relu(maps[position])
            before = [before[1], rectified]
        return maps

    def _drop_path_masks(self, x: Tensor) -> dict[str, Tensor]:
        """Draw all drop-path factors of a step at once, on the device: for each cell [droppable, B, 1, 1, 1]."""
        if not self.training or self.drop_path <= 0:
            return {}
        counts = {name: int(cell.droppable) for name, cell in self.cells.items() if isinstance(cell, Cell)}
        factors = self.drop_path_factors(x, sum(counts.values()))
        return dict(zip(counts, factors.split(list(counts.values())), strict=True))
