"""Networks of torchvision and timm as skeletons of choice spaces (`ddarts.space.imported`).

The modules are those of the network itself, so that the network of all original blocks computes the same function.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ddarts.errors import SettingsError
from ddarts.genotype.starting import original_genotype
from ddarts.nn.choice_network import Block, ChoiceNetwork, Slot
from ddarts.nn.inverted_residual import SqueezeExcitation
from ddarts.nn.preprocessing import ModelError
from ddarts.space.choice_space import ChoiceSpace
from ddarts.space.imported import ORIGINAL, SKIP, Paths, find_family

#: Side of the images with which the shapes of blocks are found.
_PROBE = 224


def build_original(name: str, *, classes: int, in_channels: int = 3) -> nn.Module:
    """Build the network of a name ``torchvision:NAME`` or ``timm:NAME`` with new weights.

    Raises:
        SettingsError: the network is not supported, or timm is not installed.
    """
    family = find_family(name)
    library, _, network = name.partition(":")
    if library == "torchvision":
        from torchvision.models import get_model

        # the heads that only the published training of Inception uses are left out
        options: dict[str, Any] = {"aux_logits": False, "init_weights": True} if family.unused else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            built = get_model(network, weights=None, num_classes=classes, **options)
        if in_channels != 3:
            path, first = next((p, m) for p, m in built.named_modules() if isinstance(m, nn.Conv2d))
            assert path.startswith(family.paths.stem[0])
            built.set_submodule(path, _convolution(first, in_channels=in_channels))
        return built
    try:
        from timm.models import create_model
    except ImportError:
        raise SettingsError(f"{name} needs timm: pip install 'ddarts[timm]'") from None
    return create_model(network, pretrained=False, num_classes=classes, in_chans=in_channels)


class _WithoutValues(TorchFunctionMode):
    """Leaves out what writes into tensors of the meta device, which takes most of the time to build a network there."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        into = args[0] if args else (kwargs or {}).get("tensor")
        if name.endswith("_") and not name.endswith("__") and isinstance(into, Tensor) and into.is_meta:
            return into
        return func(*args, **(kwargs or {}))


def outline(name: str, *, classes: int, in_channels: int = 3) -> nn.Module:
    """Build the network of a name on the meta device, without weights; see `build_original`."""
    with torch.device("meta"), _WithoutValues():
        return build_original(name, classes=classes, in_channels=in_channels)


def load_original(name: str, state: dict[str, Tensor], where: str) -> nn.Module:
    """Build the network of a name with the weights of a state dict, its number of classes and of image channels.

    Raises:
        ModelError: the tensors are not those of the network; the first difference is named.
        SettingsError: see `build_original`.
    """
    classifier = f"{find_family(name).paths.classifier}.weight"
    first = next((tensor for tensor in state.values() if tensor.dim() == 4), None)
    if classifier not in state or state[classifier].dim() != 2 or first is None:
        raise ModelError(f"{where}: no tensor {classifier}, which {name} has; is it the state dict of another network?")
    classes = int(state[classifier].shape[0])
    network = build_original(name, classes=classes, in_channels=int(first.shape[1]))
    expected = network.state_dict()
    unused = find_family(name).unused
    state = {
        key: tensor
        for key, tensor in state.items()
        if key in expected or not ("num_batches" in key or (unused and key.startswith(f"{unused}.")))
    }
    lacking = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    other = next(iter([*lacking, *(key for key in state if key not in expected)]), None)
    if other is not None:
        verb = "lacks" if other in expected else f"holds, and {name} does not know of,"
        raise ModelError(f"{where} {verb} the tensor {other[:200]}; is it the state dict of another network?")
    for key, tensor in state.items():
        if tensor.shape != expected[key].shape:
            raise ModelError(
                f"{where}: {key} has the shape {list(tensor.shape)}, {name} has {list(expected[key].shape)}"
            )
    network.load_state_dict({key: tensor.to(expected[key].dtype) for key, tensor in state.items()}, strict=False)
    return network


class Imported:
    """The skeleton of a network: its own stem, blocks and head, and alternatives to the blocks.

    An alternative is a copy of the block with other convolutions. With `original` they take over its weights: kernels
    are filled up with zeros or cut, separable convolutions are the nearest of rank 1, narrow blocks keep the channels
    of the largest filters.

    The width and the stem are those of the network: the arguments `channels` and `stem` of `blocks` have no effect.

    Args:
        space: the space, `ddarts.space.imported.imported_space`.
        original: the network with its weights; new ones if not given.
    """

    def __init__(self, space: ChoiceSpace, original: nn.Module | None = None) -> None:
        self.space, self.original = space, original
        self._block: nn.Module = nn.Identity()  # what `candidate` makes candidates for

    @classmethod
    def of_space(cls, space: ChoiceSpace) -> Imported:
        """Return the skeleton of a space, with new weights."""
        return cls(space)

    def candidate(self, name: str, inputs: int, outputs: int, stride: int, *, affine: bool) -> nn.Module:
        """Build one candidate for the block under way; all have batch norms with scale and shift, as the block has."""
        return alternative(name, self._block, outputs, inherit=self.original is not None)

    def blocks(self, slot: Slot, *, channels: int, in_channels: int, stem: str) -> list[Block]:
        """Build the network before its pooling, from images."""
        paths = find_family(self.space.name).paths
        if self.original is not None and image_channels(self.original) != in_channels:
            raise SettingsError(
                f"{self.space.name}: its weights are for images of {image_channels(self.original)} channels, "
                f"these have {in_channels}; leave out baseline_weights"
            )
        if self.original is None:
            network = build_original(self.space.name, classes=1, in_channels=in_channels)
        else:
            network = self.original
        choices = {choice.name: i for i, choice in enumerate(self.space.choices)}
        shapes = _shapes(self.space.name, tuple(choices), in_channels)
        blocks: list[Block] = []
        for (name, module), (inputs, outputs, stride) in zip(
            _parts(network, paths, tuple(choices)), shapes, strict=True
        ):
            if name in choices:
                self._block = module
                module = slot(choices[name], inputs, outputs, stride)
            else:
                module = copy.deepcopy(module)
            blocks.append(Block(name.replace(".", "_"), module, outputs, stride))
        return blocks


def _parts(network: nn.Module, paths: Paths, choices: tuple[str, ...]) -> list[tuple[str, nn.Module]]:
    """Return the parts of a network before its pooling, in their order, by name."""
    parts = [("stem", _joined(network, paths.stem)), *((path, network.get_submodule(path)) for path in choices)]
    if paths.head:
        parts.append(("head", _joined(network, paths.head)))
    if paths.pooled:
        parts.append(("pooled", Pooled(_joined(network, paths.pooled))))
    return parts


@functools.cache
@torch.no_grad()
def _shapes(name: str, choices: tuple[str, ...], in_channels: int) -> list[tuple[int, int, int]]:
    """Return channels of the input, channels of the output, and stride of each of the parts of a network."""
    network = outline(name, classes=1, in_channels=in_channels).eval()
    x = torch.empty(1, in_channels, _PROBE, _PROBE, device="meta")
    shapes = []
    for _, module in _parts(network, find_family(name).paths, choices):
        y = module.eval()(x)
        shapes.append((x.shape[1], y.shape[1], round(x.shape[-1] / y.shape[-1])))
        x = y
    return shapes


class Pooled(nn.Module):
    """Layers between pooling and classifier, as a map of one pixel."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers
        self._linear = any(isinstance(layer, nn.Linear) for layer in layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, outputs, 1, 1]."""
        x = x.mean((2, 3), keepdim=True)
        return self.layers(x.flatten(1))[..., None, None] if self._linear else self.layers(x)


def _joined(network: nn.Module, paths: tuple[str, ...]) -> nn.Sequential:
    return nn.Sequential(OrderedDict((path.replace(".", "_"), network.get_submodule(path)) for path in paths))


# -- from the original and back ----------------------------------------------------------------------------------------


def imported_network(name: str, original: nn.Module) -> ChoiceNetwork:
    """Return the network of all original blocks, with copies of the weights of `original`: the same function.

    Args:
        name: ``torchvision:NAME`` or ``timm:NAME``.
        original: the network of this name.
    """
    genotype, classifier = original_genotype(name), original_classifier(name, original)
    network = ChoiceNetwork(
        genotype,
        in_channels=image_channels(original),
        classes=classifier.out_features,
        skeleton=Imported(genotype.facts, original),
    )
    network.classifier.load_state_dict(classifier.state_dict())
    return network.train(original.training)


def original_classifier(name: str, original: nn.Module) -> nn.Linear:
    """Return the last layer of a network of torchvision or timm."""
    classifier = original.get_submodule(find_family(name).paths.classifier)
    assert isinstance(classifier, nn.Linear)
    return classifier


def image_channels(original: nn.Module) -> int:
    """Return the channels of the images that a network of torchvision or timm takes."""
    return next(module.in_channels for module in original.modules() if isinstance(module, nn.Conv2d))


def exported_network(network: ChoiceNetwork) -> nn.Module:
    """Return an object of the original's class that computes the function of `network`, to stand in its place.

    Its modules have the paths of the original; where another candidate was chosen for a block, that stands there.

    Args:
        network: of a space ``torchvision:NAME`` or ``timm:NAME``.

    Raises:
        SettingsError: the network is of another space.
    """
    space = network.genotype.facts
    paths = find_family(space.name).paths
    original = outline(space.name, classes=network.classes, in_channels=network.in_channels)
    blocks: dict[str, Any] = dict(network.blocks.named_children())
    for group, module in (("stem", paths.stem), ("head", paths.head), ("pooled", paths.pooled)):
        if not module:
            continue
        inside = blocks[group].layers if group == "pooled" else blocks[group]
        for path in module:
            original.set_submodule(path, inside.get_submodule(path.replace(".", "_")))
    for choice in space.choices:
        original.set_submodule(choice.name, blocks[choice.name.replace(".", "_")])
    original.set_submodule(paths.classifier, network.classifier)
    return copy.deepcopy(original).train(network.training)


# -- alternatives to a block -------------------------------------------------------------------------------------------


def alternative(name: str, block: nn.Module, outputs: int, *, inherit: bool) -> nn.Module:
    """Return a candidate made from a copy of a block.

    Args:
        name: ``original``; ``kernelK`` or ``separableK`` with side K for its convolutions that are larger than 1x1;
            ``narrow`` with half the channels inside; ``squeeze`` with squeeze-and-excitation at its end; or ``skip``.
        block: the original.
        outputs: channels of its output.
        inherit: take over the weights as far as possible; otherwise what is changed gets new ones.
    """
    if name == SKIP:
        return nn.Identity()
    block = copy.deepcopy(block)
    if name == "narrow":
        _halve(block, inherit)
    elif name == "squeeze":
        path = [p for p, m in block.named_modules() if isinstance(m, nn.BatchNorm2d) and "downsample" not in p][-1]
        excitation = SqueezeExcitation(outputs)
        if inherit:  # scales by 1 at first
            nn.init.zeros_(excitation.expand.weight)
            nn.init.constant_(excitation.expand.bias, 3.0)  # type: ignore[arg-type]
        block.set_submodule(path, nn.Sequential(block.get_submodule(path), excitation))
    elif name != ORIGINAL:
        side = int(name[-1])
        for path, conv in [(p, m) for p, m in block.named_modules() if isinstance(m, nn.Conv2d)]:
            if max(conv.kernel_size) > 1:
                change = _separable if name.startswith("separable") else _resized
                block.set_submodule(path, change(conv, side, inherit))
    return block


def _convolution(conv: nn.Conv2d, **changes: Any) -> nn.Conv2d:
    """Return a new convolution with the arguments of another, some of them changed."""
    same = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    options: dict[str, Any] = {name: getattr(conv, name) for name in same} | {"bias": conv.bias is not None} | changes
    new = nn.Conv2d(**options)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    return new


def _size(conv: nn.Conv2d, side: int) -> dict[str, tuple[int, ...]]:
    """Return the kernel with `side` in place of each side above 1, and the padding that keeps the output's size."""
    assert isinstance(conv.padding, tuple)
    kernel = tuple(side if k > 1 else 1 for k in conv.kernel_size)
    both = zip(conv.padding, conv.kernel_size, kernel, strict=True)
    return {"kernel_size": kernel, "padding": tuple(p + (new - k) // 2 for p, k, new in both)}


def _fitted(weight: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """Fill the kernels [.., h, w] of a convolution up with zeros, or cut them, to `kernel`."""
    rows, columns = ((new - k) // 2 for new, k in zip(kernel, weight.shape[-2:], strict=True))
    return nn.functional.pad(weight, (columns, columns, rows, rows))


def _resized(conv: nn.Conv2d, side: int, inherit: bool) -> nn.Conv2d:
    new = _convolution(conv, **_size(conv, side))
    if inherit:
        new.load_state_dict(conv.state_dict() | {"weight": _fitted(conv.weight.detach(), new.kernel_size)})
    return new


def _separable(conv: nn.Conv2d, side: int, inherit: bool) -> nn.Sequential:
    """Return a depthwise and a pointwise convolution, the best approximation of each input channel's kernels.

    For each input channel i, :math:`W_{oi} \\approx p_{oi} d_i`, the first term of the singular value decomposition
    of the matrix of its kernels (outputs, h w).
    """
    inputs, groups = conv.in_channels, conv.groups
    depthwise = _convolution(conv, out_channels=inputs, groups=inputs, bias=False, **_size(conv, side))
    pointwise = _convolution(conv, kernel_size=1, stride=1, padding=0)
    if inherit:
        weight = conv.weight.detach()
        kernels = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flatten(2)  # inputs, outputs / g, k k
        # the largest eigenvector of K^T K, which is small, is the first right singular vector of K
        v = torch.linalg.eigh((kernels.mT @ kernels).double()).eigenvectors[:, :, -1].to(kernels.dtype)
        scaled = (kernels @ v[..., None])[..., 0]  # the first left one, times the singular value
        root = scaled.norm(dim=1, keepdim=True).sqrt().clamp(min=1e-12)
        first = (v * root).unflatten(1, weight.shape[2:])[:, None]
        depthwise.load_state_dict({"weight": _fitted(first, depthwise.kernel_size)})
        mixing = (scaled / root).unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
        pointwise.load_state_dict(pointwise.state_dict() | {"weight": mixing[..., None, None]})
        if conv.bias is not None and pointwise.bias is not None:
            pointwise.bias.data.copy_(conv.bias.detach())
    return nn.Sequential(depthwise, pointwise)


@torch.no_grad()
def _halve(block: nn.Module, inherit: bool) -> None:
    """Halve the channels inside a block in place: those of all convolutions but its input and output.

    Kept are the channels, or the groups where the next convolution has groups, whose filters have the largest norms.
    """
    squeezing = {m for m in block.modules() if "Squeeze" in type(m).__name__ for m in m.modules()}
    path_of = {m: path for path, m in block.named_modules()}
    convs = [m for p, m in block.named_modules() if isinstance(m, nn.Conv2d) and "downsample" not in p]
    main = [conv for conv in convs if conv not in squeezing]
    kept: Tensor | None = None
    for module in list(path_of):
        if "downsample" in path_of[module] or (kept is None and module is not main[0]):
            continue
        if isinstance(module, nn.Conv2d) and module in squeezing:
            reduces = module is next(c for c in convs if c in squeezing)
            assert kept is not None
            count = len(kept)
            new = _convolution(module, **({"in_channels": count} if reduces else {"out_channels": count}))
            weight = module.weight[:, kept] if reduces else module.weight[kept]
            bias = None if module.bias is None else module.bias if reduces else module.bias[kept]
            _replace(block, path_of[module], new, weight, bias, inherit)
        elif isinstance(module, nn.Conv2d):
            weight, count_in = module.weight, module.in_channels
            groups = module.groups
            if groups > 1 and kept is not None:
                groups = groups * len(kept) // module.in_channels
                count_in, out = len(kept), kept
            else:
                if kept is not None:
                    weight, count_in = weight[:, kept], len(kept)
                out = None
                if module is not main[-1]:
                    following = main[main.index(module) + 1]
                    out = _strongest(
                        module.weight, following.in_channels // following.groups if following.groups > 1 else 1
                    )
            if out is not None:
                weight = weight[out]
            bias = None if module.bias is None else module.bias if out is None else module.bias[out]
            new = _convolution(module, in_channels=count_in, out_channels=len(weight), groups=groups)
            _replace(block, path_of[module], new, weight, bias, inherit)
            kept = out
            if kept is None:
                break
        elif isinstance(module, nn.BatchNorm2d) and kept is not None:
            module.num_features = len(kept)
            for name, tensor in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(tensor[kept].clone()))
            for name in ("running_mean", "running_var"):
                setattr(module, name, getattr(module, name)[kept].clone())


def _strongest(weight: Tensor, size: int) -> Tensor:
    """Return the indices of half of the filters, in groups of `size`, with the largest norms, in their order."""
    norms = weight.flatten(1).norm(dim=1).unflatten(0, (-1, size)).sum(1)
    groups = norms.topk(max(len(norms) // 2, 1)).indices.sort().values
    return (groups[:, None] * size + torch.arange(size, device=weight.device)).flatten()


def _replace(block: nn.Module, path: str, new: nn.Conv2d, weight: Tensor, bias: Tensor | None, inherit: bool) -> None:
    if inherit:
        new.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    block.set_submodule(path, new)
