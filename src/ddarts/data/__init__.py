"""Image data sets in, disjoint parts and deterministic batches out."""

from ddarts.data.augment import POLICIES, Augment
from ddarts.data.batches import Batches, Normalise, check_share, in_order, workers_each
from ddarts.data.encoded import decode_all
from ddarts.data.images import ImageData, Images
from ddarts.data.loaded import Loaded, Request
from ddarts.data.sources.python import GivenData, given_data
from ddarts.data.sources.registry import SOURCES, load_data
from ddarts.data.splits import (
    Parts,
    class_weights,
    halves,
    halves_index,
    search_parts,
    split,
    uneven_classes,
    with_classes,
)

__all__ = [
    "POLICIES",
    "SOURCES",
    "Augment",
    "Batches",
    "GivenData",
    "ImageData",
    "Images",
    "Loaded",
    "Normalise",
    "Parts",
    "Request",
    "check_share",
    "class_weights",
    "decode_all",
    "given_data",
    "halves",
    "halves_index",
    "in_order",
    "load_data",
    "search_parts",
    "split",
    "uneven_classes",
    "with_classes",
    "workers_each",
]
