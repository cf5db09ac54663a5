"""Spaces around networks of torchvision and timm: a choice for each block, whose first candidate is the block itself.

The names of these spaces are ``torchvision:NAME`` and ``timm:NAME``. This module holds the facts without PyTorch;
`ddarts.nn.imported` builds the modules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ddarts.errors import SettingsError
from ddarts.space.choice_space import Choice, ChoiceSpace

#: The block of the network itself.
ORIGINAL = "original"
SKIP = "skip"

#: Alternatives to a residual block, whose convolutions are dense or grouped.
RESIDUAL = ("separable3", "separable5", "narrow", "squeeze")
#: Alternatives to a block of Xception, whose 3x3 convolutions are depthwise, and to one of Inception, with branches.
_XCEPTION, _INCEPTION = ("kernel5", "kernel7", "squeeze"), ("separable3", "separable5")


class Paths(NamedTuple):
    """Where the parts of a network are, as paths of its modules."""

    stem: tuple[str, ...]
    blocks: str | tuple[str, ...]
    """All of them, or one for all with ``{stage}``, ``{block}`` and ``{index}`` (of the block in the network) from 0,
    ``{stage1}`` and ``{number}`` from 1."""
    head: tuple[str, ...]
    """After the blocks and before the pooling."""
    pooled: tuple[str, ...]
    """After the pooling and before the classifier."""
    classifier: str


@dataclass(frozen=True)
class Family:
    """Networks that differ in the numbers and sizes of their blocks."""

    title: str
    paths: Paths
    networks: dict[str, tuple[int, ...]]
    """Number of blocks in each stage, by the name of the network."""
    strides: dict[int, tuple[int, ...]]
    """Stride of each stage, by the number of stages."""
    kernels: dict[int, tuple[int, ...]] | None = None
    """Kernel of the depthwise convolutions of each stage of a MobileNet, by the number of stages; None for others."""
    others: tuple[str, ...] = RESIDUAL
    """Candidates besides the block itself; of a MobileNet they follow from its kernels."""
    smallest: int = 1
    """Pixels a side of the smallest images that reach the end of the network."""
    unused: str = ""
    """Path of a part that only the network's published training uses."""


def _resnet(activation: str) -> Paths:
    return Paths(("conv1", "bn1", activation, "maxpool"), "layer{stage1}.{block}", (), (), "fc")


_MOBILE = {
    7: (1, 2, 2, 2, 1, 2, 1),  # MobileNetV2
    6: (1, 2, 2, 2, 1, 2),  # MobileNetV3 large
    5: (2, 2, 2, 1, 2),  # MobileNetV3 small
}
_KERNELS = {7: (3,) * 7, 6: (3, 3, 5, 3, 3, 5), 5: (3, 3, 5, 5, 5)}
_V2, _LARGE, _SMALL = (1, 2, 3, 4, 3, 3, 1), (1, 2, 3, 4, 2, 3), (1, 2, 3, 2, 3)
_RESIDUAL = {4: (1, 2, 2, 2)}
_DEPTHS = {
    18: (2, 2, 2, 2),
    26: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_BOTH = {f"resnet{n}": _DEPTHS[n] for n in (18, 34, 50, 101, 152)} | {
    "resnext50_32x4d": _DEPTHS[50],
    "resnext101_32x8d": _DEPTHS[101],
    "resnext101_64x4d": _DEPTHS[101],
    "wide_resnet50_2": _DEPTHS[50],
    "wide_resnet101_2": _DEPTHS[101],
}
_TIMM = {
    **{f"resnet{n}d": _DEPTHS[n] for n in (18, 26, 34, 50, 101, 152)},
    "resnet26": _DEPTHS[26],
    "resnext50d_32x4d": _DEPTHS[50],
    "resnext101_32x4d": _DEPTHS[101],
}
_TIMM_BLOCKS = "blocks.{stage}.{block}"
_XCEPTION_STRIDES = {4: (2, 2, 2, 2), 5: (2, 2, 2, 2, 1), 7: (2, 1, 2, 1, 2, 2, 1)}


def _inception_v3(*pools: str) -> Family:
    """Return Inception v3; `pools` are the names of its pools."""
    stem = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", pools[0], "Conv2d_3b_1x1", "Conv2d_4a_3x3", pools[1])
    blocks = tuple(f"Mixed_{name}" for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"))
    paths = Paths(stem, blocks, (), (), "fc")
    counts, strides = {"inception_v3": (1, 2, 5, 1, 2)}, {5: (1, 1, 2, 2, 1)}
    return Family("Inception", paths, counts, strides, None, _INCEPTION, 75, "AuxLogits")


#: The supported families, by where the networks come from.
FAMILIES: dict[str, tuple[Family, ...]] = {
    "torchvision": (
        Family("ResNet and ResNeXt", _resnet("relu"), _BOTH, _RESIDUAL),
        Family(
            "MobileNetV2",
            Paths(("features.0",), "features.{number}", ("features.18",), (), "classifier.1"),
            {"mobilenet_v2": _V2},
            _MOBILE,
            _KERNELS,
        ),
        Family(
            "MobileNetV3",
            Paths(
                ("features.0",), "features.{number}", ("features.16",), ("classifier.0", "classifier.1"), "classifier.3"
            ),
            {"mobilenet_v3_large": _LARGE},
            _MOBILE,
            _KERNELS,
        ),
        Family(
            "MobileNetV3",
            Paths(
                ("features.0",), "features.{number}", ("features.12",), ("classifier.0", "classifier.1"), "classifier.3"
            ),
            {"mobilenet_v3_small": _SMALL},
            _MOBILE,
            _KERNELS,
        ),
        _inception_v3("maxpool1", "maxpool2"),
    ),
    "timm": (
        Family("ResNet and ResNeXt", _resnet("act1"), _BOTH | _TIMM, _RESIDUAL),
        Family(
            "MobileNetV2",
            Paths(("conv_stem", "bn1"), _TIMM_BLOCKS, ("conv_head", "bn2"), (), "classifier"),
            dict.fromkeys(("mobilenetv2_050", "mobilenetv2_075", "mobilenetv2_100", "mobilenetv2_140"), _V2),
            _MOBILE,
            _KERNELS,
        ),
        Family(
            "MobileNetV3",
            Paths(("conv_stem", "bn1"), _TIMM_BLOCKS, ("blocks.6",), ("conv_head", "norm_head", "act2"), "classifier"),
            dict.fromkeys(("mobilenetv3_large_075", "mobilenetv3_large_100"), _LARGE),
            _MOBILE,
            _KERNELS,
        ),
        Family(
            "MobileNetV3",
            Paths(("conv_stem", "bn1"), _TIMM_BLOCKS, ("blocks.5",), ("conv_head", "norm_head", "act2"), "classifier"),
            dict.fromkeys(("mobilenetv3_small_050", "mobilenetv3_small_075", "mobilenetv3_small_100"), _SMALL),
            _MOBILE,
            _KERNELS,
        ),
        Family(
            "Xception",
            Paths(
                ("conv1", "bn1", "act1", "conv2", "bn2", "act2"),
                "block{number}",
                ("conv3", "bn3", "act3", "conv4", "bn4", "act4"),
                (),
                "fc",
            ),
            {"legacy_xception": (1, 1, 9, 1)},
            _XCEPTION_STRIDES,
            others=_XCEPTION,
            smallest=9,
        ),
        Family(
            "Xception",
            Paths(("stem",), "blocks.{index}", (), (), "head.fc"),
            {
                "xception41": (1, 1, 9, 1, 1),
                "xception65": (1, 1, 17, 1, 1),
                "xception71": (1, 1, 1, 1, 17, 1, 1),
            },
            _XCEPTION_STRIDES,
            others=_XCEPTION,
        ),
        _inception_v3("Pool1", "Pool2"),
        Family(
            "Inception",
            Paths(
                tuple(f"features.{i}" for i in range(6)),
                tuple(f"features.{i}" for i in range(6, 22)),
                (),
                (),
                "last_linear",
            ),
            {"inception_v4": (4, 8, 4)},
            {3: (1, 2, 2)},
            others=_INCEPTION,
            smallest=75,
        ),
    ),
}


def is_imported(name: str) -> bool:
    """Return whether a name is of the form ``torchvision:NAME`` or ``timm:NAME``."""
    return name.partition(":")[0] in FAMILIES and ":" in name


def find_family(name: str) -> Family:
    """Return the family of a network.

    Raises:
        SettingsError: the network is not supported; the message lists those that are.
    """
    library, _, network = name.partition(":")
    for family in FAMILIES[library]:
        if network in family.networks:
            return family
    known = ", ".join(network for family in FAMILIES[library] for network in family.networks)
    raise SettingsError(f"{name[:80]} cannot be searched: of {library}, {known} can be")


def imported_space(name: str) -> ChoiceSpace:
    """Return the space around a network: a choice for each block, called after the path of its module.

    Args:
        name: ``torchvision:NAME`` or ``timm:NAME``.

    Raises:
        SettingsError: the network is not supported.
    """
    family = find_family(name)
    counts = family.networks[name.partition(":")[2]]
    choices: list[Choice] = []
    reductions: list[int] = []
    for stage, count in enumerate(counts):
        if family.kernels is None:
            others = family.others
        else:  # the first stage of MobileNets has no expansion, which could be narrower
            kernel = family.kernels[len(counts)][stage]
            others = (*(f"kernel{k}" for k in (3, 5, 7) if k != kernel), *(("narrow",) if stage else ()))
        if family.strides[len(counts)][stage] > 1:
            reductions.append(len(choices))
        for block in range(count):
            index, path = len(choices), family.paths.blocks
            places = {"stage": stage, "stage1": stage + 1, "block": block, "index": index, "number": index + 1}
            path = path.format(**places) if isinstance(path, str) else path[index]
            choices.append(Choice(path, (ORIGINAL, *others, *((SKIP,) if block else ()))))
    return ChoiceSpace(
        name=name,
        choices=tuple(choices),
        skeleton="ddarts.nn.imported:Imported",
        reductions=tuple(reductions),
        parameter_free=frozenset({SKIP}),
        smallest=family.smallest,
    )
