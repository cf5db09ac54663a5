"""The registry of operations: what may stand on an edge, as facts that need no torch.

One registered class adds an operation everywhere: genotypes, search spaces, supernets, networks, reports, costs::

    from ddarts.space.operations import Operation, register_operation

    @register_operation
    class GatedConv(Operation):
        name = "gated_conv_3x3"

        def build(self, channels, stride, affine):
            return MyModule(channels, stride, affine)

Another package offers the class by an entry point of the group ``ddarts.operations``, named as the operation is.

Sources: DARTS (arXiv 1806.09055), appendix A.1.1; D-DARTS (arXiv 2108.09306), section 5.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeVar, get_args

from ddarts.errors import GenotypeError, SettingsError
from ddarts.runtime.registry import Registry, load_reference

#: Groups of operations that drawings show in one colour.
Kind = Literal["separable", "dilated", "pool", "skip", "plain", "factorized", "bottleneck", "other"]


class OperationCost(NamedTuple):
    """What an operation costs on one image."""

    parameters: int
    """Trainable scalars."""
    macs: int
    """Multiply-accumulate operations."""
    size: int = 0
    """Bytes in a file of weights, about."""
    latency: float = 0.0
    """Predicted milliseconds on a device, 0 without one."""


class Operation:
    """An operation on an edge of a cell: [B, C, H, W] to [B, C, H, W], or to half the resolution at stride 2.

    A subclass sets `name` and defines `build`; everything else has a default.

    Attributes:
        name: the name in genotypes, such as "sep_conv_3x3".
        label: the text in drawings; the name by default.
        kind: the group that drawings colour alike.
        has_weights: whether it has weights at stride 1. Cells without any are collapsed.
        norm_in_search: whether a supernet puts a batch norm after it, as after pools (DARTS, section 3.1): for
            operations that end without one.
    """

    name: str = ""
    label: str = ""
    kind: Kind = "other"
    has_weights: bool = True
    norm_in_search: bool = False

    def build(self, channels: int, stride: int, affine: bool) -> Any:
        """Build the operation as a torch.nn.Module, which must leave its input unchanged.

        Args:
            channels: C of input and output.
            stride: 1, or 2 to halve the resolution: ceil(H / 2), ceil(W / 2).
            affine: whether its batch norms have a scale and a shift; they have none during a search.
        """
        raise NotImplementedError

    def grouped(self, channels: int, edges: int, stride: int) -> Any:
        """Build a form for all edges that leave a state at once, which is faster; None to use one module an edge.

        Returns:
            a `ddarts.supernet.grouped_edges.GroupedOperation`, a `SharedOperation` of that module, or None.
        """
        return None

    def costs(self, channels: int, stride: int, height: int, width: int) -> OperationCost:
        """Return the costs on one image of C x height x width; counted on the module that `build` returns."""
        count = load_reference("ddarts.cost.counting:operation_cost")
        return count(self, channels, stride, height, width)


class _BuiltIn(Operation):
    """A built-in operation: the names of its module and of its grouped form, imported when they are built."""

    def __init__(self, name: str, kind: Kind, module: str, grouped: str, kernel: int) -> None:
        self.name, self.kind, self.label = name, kind, name
        self.has_weights = kind not in ("pool", "skip")
        self.norm_in_search = kind == "pool"
        self._module, self._grouped, self._kernel = module, grouped, kernel

    def build(self, channels: int, stride: int, affine: bool) -> Any:
        return load_reference(f"ddarts.nn.operations:{self._module}")(channels, self._kernel, stride, affine=affine)

    def grouped(self, channels: int, edges: int, stride: int) -> Any:
        return load_reference(f"ddarts.supernet.grouped_edges:{self._grouped}")(channels, edges, stride, self._kernel)


#: In the published order of the DARTOpti space.
_BUILT_IN = (
    _BuiltIn("conv_3x1_1x3", "factorized", "ConvPair", "GroupedConvPair", 3),
    _BuiltIn("conv_7x1_1x7", "factorized", "ConvPair", "GroupedConvPair", 7),
    _BuiltIn("max_pool_3x3", "pool", "build_max_pool", "share_max_pool", 3),
    _BuiltIn("avg_pool_3x3", "pool", "build_average_pool", "share_average_pool", 3),
    _BuiltIn("skip_connect", "skip", "build_skip", "group_skip", 1),
    _BuiltIn("simple_conv_1x1", "plain", "SimpleConv", "GroupedSimpleConv", 1),
    _BuiltIn("simple_conv_3x3", "plain", "SimpleConv", "GroupedSimpleConv", 3),
    _BuiltIn("sep_conv_3x3", "separable", "SeparableConv", "GroupedSeparableConv", 3),
    _BuiltIn("sep_conv_5x5", "separable", "SeparableConv", "GroupedSeparableConv", 5),
    _BuiltIn("dil_conv_3x3", "dilated", "DilatedConv", "GroupedDilatedConv", 3),
    _BuiltIn("dil_conv_5x5", "dilated", "DilatedConv", "GroupedDilatedConv", 5),
    _BuiltIn("bottleneck_1x3x1", "bottleneck", "Bottleneck", "GroupedBottleneck", 3),
)


def _instance(name: str, value: Any) -> Operation:
    """Return what an entry point or a caller has registered as an operation, checked."""
    operation = value() if isinstance(value, type) else value
    if not isinstance(operation, Operation):
        raise SettingsError(f"operation {name!r}: {value!r:.60} is not a subclass of ddarts.space.operations.Operation")
    if operation.name != name:
        raise SettingsError(f"operation {name!r}: its class has the name {operation.name!r}; make the two equal")
    if operation.kind not in get_args(Kind):
        raise SettingsError(f"operation {name!r}: kind {operation.kind!r} is not one of {', '.join(get_args(Kind))}")
    operation.label = operation.label or name
    return operation


#: Every operation that a genotype may name.
OPERATIONS: Registry[Operation] = Registry(
    "operation", "ddarts.operations", {o.name: o for o in _BUILT_IN}, convert=_instance, error=GenotypeError
)

#: Names of the operations that come with ddarts, in the published order of the DARTOpti space.
BUILT_IN_OPERATIONS = tuple(o.name for o in _BUILT_IN)

C = TypeVar("C", bound=type[Operation])


def register_operation(operation: C) -> C:
    """Register a subclass of `Operation` under its `name`; usable as a decorator.

    Raises:
        SettingsError: the name is taken or not a plain word, or the class is not a subclass of `Operation`.
    """
    OPERATIONS.register(getattr(operation, "name", ""), operation)
    return operation


def check_operation(name: str, where: str = "") -> str:
    """Return `name` if it is a known operation; raise `GenotypeError` with the nearest name otherwise."""
    return OPERATIONS.get(name, where).name


def is_parameter_free(name: str) -> bool:
    """Whether an operation has no weights at stride 1."""
    return not OPERATIONS.get(name).has_weights
