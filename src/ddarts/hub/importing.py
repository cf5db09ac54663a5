"""From a checkpoint of the reference's discrete networks to a `Network` with the same logits.

Sizes are read off the tensors; the genotype gives their meaning. Where the reference builds another network than the
genotype says (`ddarts.genotype.interop.reference_layout`), its network is what comes out, with a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ddarts.errors import GenotypeError
from ddarts.genotype.deepen import deepen
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.interop.reference_layout import reference_concat, reference_layout
from ddarts.hub.foreign import read_state
from ddarts.hub.reference_fit import CELL_NAME, Fit, cells, first, head_fits, tensors
from ddarts.hub.saved import ModelError
from ddarts.nn.network import Network

_MAX_CELLS = 1000
_MAX_SIZE = 2**16


@dataclass(frozen=True, eq=False)
class ImportedNetwork:
    """What a checkpoint became.

    Attributes:
        network: in evaluation mode, on the CPU, with an auxiliary head if the checkpoint has a usable one.
        tensors: number of tensors that it was given.
        left_out: number of tensors of parts that do not reach the output.
        notes: what was not as the genotype or the names said, for people.
    """

    network: Network
    tensors: int
    left_out: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Sizes:
    """What the tensors of a checkpoint tell without a genotype; the fields are those of `Network`."""

    stem: str
    channels: int
    in_channels: int
    classes: int
    cells: int
    auxiliary: bool
    positional: bool


def import_network(path: Path, genotype: Genotype) -> ImportedNetwork:
    """Read a checkpoint of the reference's discrete networks.

    Args:
        path: a state dict, plain or inside a training checkpoint, .pth or .safetensors.
        genotype: the architecture that was trained. If the checkpoint has more cells, they are laid out as the
            reference does it, or as `deepen` does, whichever fits.

    Raises:
        ModelError: the file is broken, holds another kind of network, or does not fit the genotype.
        GenotypeError: the order of the genotype's edges leaves open what the reference built.
    """
    found = read_state(path)
    state = found.tensors
    sizes = read_sizes(state, path)
    nearest: Fit | None = None
    for candidate, notes in _candidates(genotype, sizes, path):
        network = _build(candidate, sizes, path)
        fit = Fit.of(state, network, sizes.positional)
        if fit.is_exact:
            notes = [*notes, *_other_notes(state, sizes, network, found.counters)]
            _fill(network, state, fit, path)
            return ImportedNetwork(network, len(fit.names), len(fit.left_out), tuple(notes))
        nearest = nearest or fit
    assert nearest is not None
    raise ModelError(
        f"{path} does not fit the genotype{f' {genotype.name}' * bool(genotype.name)} of {len(genotype)} cells: "
        f"{nearest.describe()}; give the genotype that it was trained with"
    )


def read_sizes(state: dict[str, Tensor], path: Path) -> Sizes:
    """Read off a state dict what kind of network it is of.

    Raises:
        ModelError: it is not of one of the reference's discrete networks; the message says of what, if that is clear.
    """
    if any(re.match(r"cells\.\d+\._ops\.\d+\._ops\.", name) for name in state):
        raise ModelError(
            f"{path} holds a supernet, the network of a search; import-weights takes networks of one architecture, "
            "which the reference's train.py trains"
        )
    if any(re.match(r"cells\.\d+\.operations\.", name) for name in state):
        raise ModelError(f"{path} holds a model of ddarts; use its folder as it is: ddarts test, ddarts predict")
    stem = "imagenet" if "stem0.0.weight" in state else "cifar"
    stem_name = "stem0.3.weight" if stem == "imagenet" else "stem.0.weight"
    input_name = "stem0.0.weight" if stem == "imagenet" else stem_name
    for name, rank in ((stem_name, 4), (input_name, 4), ("classifier.weight", 2)):
        if name not in state:
            some = ", ".join(n[:60] for n in list(state)[:3]) or "nothing"
            raise ModelError(
                f"{path} is not of a network of the reference: it lacks {name} and holds {some}, {len(state)} tensors "
                "in all; give a checkpoint that train.py of D-DARTS wrote"
            )
        if state[name].ndim != rank:
            raise ModelError(f"{path}: {name} has the shape {list(state[name].shape)}, expected {rank} dimensions")
    width = state[stem_name].shape[0]
    if stem == "cifar" and width % 3:
        raise ModelError(f"{path}: {stem_name} has {width} outputs, expected 3C; is this another network?")
    last = max((int(match[1]) for match in map(CELL_NAME.match, state) if match), default=None)
    if last is None or last >= _MAX_CELLS:
        what = "no cells" if last is None else f"a cell {last}"
        raise ModelError(f"{path} has {what}; expected 1 to {_MAX_CELLS} cells, counted from 0")
    return Sizes(
        stem=stem,
        channels=width // 3 if stem == "cifar" else width,
        in_channels=state[input_name].shape[1],
        classes=state["classifier.weight"].shape[0],
        cells=last + 1,
        auxiliary=any(name.startswith("auxiliary_head.") for name in state),
        positional=any(re.match(r"cells\.\d+\._ops\.\d+\.(op|conv_1|bn|1)\.", name) for name in state)
        and not any(re.match(r"cells\.\d+\._ops\.\d+\.\d+\.\d+\.", name) for name in state),
    )


def _candidates(genotype: Genotype, sizes: Sizes, path: Path) -> Iterator[tuple[Genotype, list[str]]]:
    """Yield what the checkpoint may be, the likeliest first, with notes."""
    if sizes.cells < len(genotype):
        raise ModelError(
            f"{path} has {sizes.cells} cells, the genotype {len(genotype)}; give the genotype that it was trained with"
        )
    if sizes.positional:
        if sizes.stem == "imagenet":
            raise ModelError(
                f"{path} names its operations as the code of DARTS does, whose ImageNet stem divides images by 8 where "
                "this one divides them by 4: its logits would not be the same, so it is not imported"
            )
        for position, cell in enumerate(genotype.cells):
            if any(edge.target != k // 2 + 2 for k, edge in enumerate(cell.edges)):
                raise GenotypeError(
                    f"cell {position}: the checkpoint numbers its operations, two to a node in order, and the genotype "
                    "does not list two edges for each node; give the genotype that it was trained with"
                )
    deeper = f"the {len(genotype)} cells of the genotype are laid out over {sizes.cells}"
    layouts: list[tuple[Genotype | None, list[str]]] = [(genotype, [])]
    if sizes.cells > len(genotype):
        layouts = [
            (
                None if sizes.positional else reference_layout(genotype, sizes.cells),
                [f"{deeper} as the reference does"],
            ),
            (deepen(genotype, sizes.cells), [f"{deeper} as ddarts does"]),
        ]
    for layout, notes in layouts:
        if layout is None:
            continue
        if not sizes.positional:
            whole = reference_concat(layout)
            changed = [i for i, cell in enumerate(whole.cells) if cell != layout.cells[i]]
            if changed:
                told = f"the reference concatenates every node of a cell, whatever the genotype says: {cells(changed)}"
                yield whole, [*notes, told]
        yield layout, notes


def _build(genotype: Genotype, sizes: Sizes, path: Path) -> Network:
    """Build the network without memory for its weights."""
    if max(sizes.channels, sizes.in_channels, sizes.classes) > _MAX_SIZE:
        raise ModelError(f"{path}: {sizes.channels} channels and {sizes.classes} classes are more than any network has")
    if min(sizes.channels, sizes.in_channels, sizes.classes) < 1:
        raise ModelError(f"{path}: its stem or its classifier is empty; is it broken?")
    try:
        with torch.device("meta"):
            return Network(
                genotype,
                channels=sizes.channels,
                in_channels=sizes.in_channels,
                classes=sizes.classes,
                stem=sizes.stem,
                auxiliary=sizes.auxiliary and head_fits(genotype),
            )
    except (RuntimeError, OverflowError, TypeError, ValueError):
        raise ModelError(
            f"{path}: {sizes.channels} channels, doubled {len(genotype.reductions)} times, are too many"
        ) from None


def _other_notes(state: dict[str, Tensor], sizes: Sizes, network: Network, counters: int) -> Iterator[str]:
    """Return what else was not copied unchanged."""
    kinds = sorted({str(t.dtype).removeprefix("torch.") for t in state.values() if t.is_floating_point()} - {"float32"})
    if kinds:
        yield f"{' and '.join(kinds)} weights became float32"
    if counters:
        yield f"{counters} counters of a profiler (total_ops, total_params) were left out"
    if sizes.auxiliary and network.auxiliary is None:
        yield "the auxiliary head was left out: it stands after a cell that does not reach the output"


def _fill(network: Network, state: dict[str, Tensor], fit: Fit, path: Path) -> None:
    """Give a network on the meta device the weights, as float32 copies.

    Raises:
        ModelError: a tensor has the wrong kind of numbers, or numbers that are not finite.
    """
    filled = {}
    broken = []
    for ours, expected in network.state_dict().items():
        theirs = fit.names[ours]
        if theirs not in state:
            filled[ours] = torch.zeros(expected.shape, dtype=expected.dtype)  # a counter of batches
            continue
        tensor = state[theirs].detach()
        if expected.is_floating_point() and not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ModelError(f"{path}: {theirs} is {kind}, expected float32 (other floating types are converted)")
        value = tensor.to(torch.float32) if expected.is_floating_point() else tensor
        if not value.isfinite().all():
            broken.append(theirs)
            continue
        filled[ours] = value.to(expected.dtype).clone(memory_format=torch.contiguous_format)
    if broken:
        raise ModelError(
            f"{path}: {tensors(broken)} with values that are not finite ({first(broken)}): the training diverged; "
            "take an earlier checkpoint"
        )
    network.load_state_dict(filled, assign=True)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    network.eval()
