"""Budgets: the best gates, and the width, with which a network keeps upper bounds on its costs.

The bounds are kept by the very network that is trained: what is counted is `build_network` of the genotype, its size
and stem. The rule, in this order:

1. As many cells as were searched, and the stem that fits the resolution. Where such a network does not fit or has fewer
   than 4 channels, the other stem, if it allows twice as many. Where less than 95 % of the tightest budget are used, up
   to four more cells.
2. The genotype of the best gates at the largest width that keeps all budgets, if it uses 95 % of the tightest one.
3. Otherwise the best gates that keep all budgets and use 95 % of one of them (``ddarts.genotype.selection``), at this
   width and the next ones, whichever has the largest sum of gates. If none uses so much, the one that uses most.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from ddarts.config.schema import BudgetOptions
from ddarts.cost.activations import peak_activation_bytes
from ddarts.cost.counting import SMALL, count, count_parameters, file_bytes
from ddarts.cost.device import FILE_NAME, HERE_NAME, Device
from ddarts.cost.latency import measure_latency
from ddarts.cost.tables import Clock, CostTable, cost_table
from ddarts.errors import SettingsError
from ddarts.genotype.choices import AnyGenotype
from ddarts.genotype.deepen import deepen, deepen_gates, laid_out
from ddarts.genotype.derive import EDGES_PER_NODE, derive_genotype
from ddarts.genotype.gates import AnyGates, Gates, gates_of
from ddarts.genotype.genotype import Genotype, Size
from ddarts.genotype.random import random_genotype
from ddarts.genotype.selection import Bound, choose_gates, total
from ddarts.nn.choice_network import AnyNetwork, build_network
from ddarts.nn.resolution import STEM_HALVINGS, check_resolution, choose_stem
from ddarts.space.cell_space import SearchSpace
from ddarts.space.choice_space import ChoiceSpace

#: Share of the tightest budget that a network is to use.
USE = 0.95
#: Costs that are sums over operations; the peak of activations is none.
LINEAR = ("parameters", "macs", "size", "latency")
_WIDEST = 4096
#: Channels that vectors of most processors hold.
_VECTOR = 8
#: Of fewer channels the other stem is tested too.
_NARROW = 4
#: Cells that are tested beyond those that were searched.
_DEEPER = 4
#: Widths that are tested beyond the largest at which the best gates fit.
_BEYOND = 3
#: Corrections of the sum by what the network really costs.
_ATTEMPTS = 6
#: Threshold with which rules tell gates of what was chosen from the others, 0.
LEAST = 1e-6


class Derive(Protocol):
    """A rule with its arguments, such as `ddarts.genotype.derive.derive_genotype`."""

    def __call__(self, gates: AnyGates, method: str, threshold: float, name: str) -> AnyGenotype:
        """Return the genotype of gates."""
        ...


@dataclass(frozen=True)
class Fitted:
    """A network that keeps the budgets.

    Attributes:
        genotype: with its size, and as many cells as the network has.
        gates: what it was derived from: those of the search, 0 for what was not chosen.
        costs: of its network, by kind.
        use: share of the tightest budget that it uses, at most 1.
        worth: sum of the gates of its operations, over that of the best ones without a budget.
    """

    genotype: AnyGenotype
    gates: AnyGates
    costs: dict[str, float]
    use: float
    worth: float


@dataclass
class Budget:
    """Upper bounds on the costs of networks for images of one kind.

    Attributes:
        limits: the largest parameters, macs, activations (bytes), size (bytes of model.safetensors) and latency (ms);
            those that are set.
        images: (channels, height, width).
        classes: their number.
        channels: the width if it is fixed.
        layers: cells of the network if they are fixed.
        stem: "auto", "cifar" or "imagenet".
        least_use: share of the tightest budget that is to be used.
        clock: predicts latencies.
        timed: measures the latency of a network in milliseconds; None to take the predicted one.
    """

    limits: Mapping[str, float]
    images: tuple[int, int, int]
    classes: int
    channels: int | None = None
    layers: int | None = None
    stem: str = "auto"
    least_use: float = USE
    clock: Clock | None = None
    timed: Callable[[AnyNetwork], float] | None = None

    def __post_init__(self) -> None:
        self._tables: dict[Any, CostTable] = {}
        self._costs: dict[Any, dict[str, float]] = {}

    @classmethod
    def of(
        cls,
        options: BudgetOptions,
        space: SearchSpace | ChoiceSpace,
        images: tuple[int, int, int],
        classes: int,
        *,
        folder: Path | None = None,
        **fixed: Any,
    ) -> Budget | None:
        """Return the budget that the settings name; None if they name none.

        Latencies are those of the file that they name, or of its copy in `folder`; without a file those of this
        machine: operations are measured, once for a folder, and every network is before it counts as keeping the
        budget.

        Raises:
            GenotypeError, SettingsError: the file is not valid, or of other operations.
        """
        if not options.limits:
            return None
        if "latency" not in options.limits:
            return cls(options.limits, images, classes, **fixed)
        if options.device is None:

            def timed(network: AnyNetwork) -> float:
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                return measure_latency(network, images).median_ms

            here = None if folder is None or not folder.is_dir() else folder / HERE_NAME
            if here is not None and here.is_file():  # a search that is resumed has the same price
                clock = Device.load(here)
            else:
                clock = Device.measure(space, *images[1:])
                if here is not None:
                    clock.save(here)
            return cls(options.limits, images, classes, clock=clock, timed=timed, **fixed)
        path = Path(options.device).expanduser()
        copy = None if folder is None else folder / FILE_NAME
        clock = Device.load(copy if copy is not None and copy.is_file() and not path.is_file() else path)
        clock.check(space, str(path))
        return cls(options.limits, images, classes, clock=clock, **fixed)

    # -- costs -----------------------------------------------------------------------------------------------------

    def costs(self, genotype: AnyGenotype) -> dict[str, float]:
        """Return what the network of a genotype with a size costs, of each kind that has a limit."""
        key = (genotype.canonical(), genotype.size)
        if key not in self._costs:
            self._costs[key] = self._counted(genotype, tuple(self.limits))
        return self._costs[key]

    def all_costs(self, genotype: AnyGenotype) -> dict[str, float]:
        """Return all costs of the network of a genotype with a size; the latency only if there is a clock."""
        kinds = ("parameters", "macs", "activations", "size", *(("latency",) if self.clock else ()))
        return self._counted(genotype, kinds)

    def _counted(self, genotype: AnyGenotype, kinds: tuple[str, ...]) -> dict[str, float]:
        assert genotype.size is not None
        channels, stem = genotype.size
        in_channels, height, width = self.images
        small = channels * height * width <= SMALL and channels <= 64 and isinstance(genotype, Genotype)
        sizes: dict[str, Any] = {
            "channels": channels,
            "in_channels": in_channels,
            "classes": self.classes,
            "stem": stem,
        }
        with torch.random.fork_rng(devices=[]), torch.device("cpu" if small else "meta"):
            network = build_network(genotype, **sizes)
        found: dict[str, float] = {}
        if "parameters" in kinds:
            found["parameters"] = count_parameters(network)
        if "macs" in kinds:
            found["macs"] = count(network, self.images).macs
        if "activations" in kinds:
            where = "cpu" if small else "meta"
            found["activations"] = peak_activation_bytes(network, (1, *self.images), where)
        if "size" in kinds:
            found["size"] = file_bytes(network)
        if "latency" in kinds:
            assert self.clock is not None
            if self.timed is not None:
                with torch.random.fork_rng(devices=[]):
                    found["latency"] = self.timed(network if small else build_network(genotype, **sizes))
            else:
                with torch.device("meta"):
                    found["latency"] = self.clock.whole(build_network(genotype, **sizes), self.images)
        return {kind: found[kind] for kind in kinds}

    def use(self, costs: Mapping[str, float]) -> float:
        """Return the largest share of a limit that costs take; above 1 if one is exceeded."""
        return max((costs[kind] / limit for kind, limit in self.limits.items()), default=0.0)

    def table(self, space: SearchSpace | ChoiceSpace, size: Size) -> CostTable:
        """Return the costs of every operation at a width."""
        key = (space, size)
        if key not in self._tables:
            in_channels, height, width = self.images
            sizes: dict[str, Any] = {"channels": size.channels, "stem": size.stem, "in_channels": in_channels}
            sizes |= {"classes": self.classes, "clock": self.clock if "latency" in self.limits else None}
            self._tables[key] = cost_table(space, height, width, **sizes)
        return self._tables[key]

    # -- the choice ------------------------------------------------------------------------------------------------

    def _stems_of(self, space: SearchSpace | ChoiceSpace) -> list[Literal["cifar", "imagenet"]]:
        """Return the stem that fits the resolution, then the other one if the setting leaves it open."""
        first = choose_stem(self.stem, *self.images[1:])
        others = [stem for stem in STEM_HALVINGS if stem != first and self.stem == "auto"]
        found = []
        for stem in (first, *others):
            with contextlib.suppress(SettingsError):
                check_resolution(*self.images[1:], len(space.reductions), stem)
                found.append(stem)
        return found

    def fit(
        self,
        gates: AnyGates,
        method: str = "darts",
        threshold: float = 0.85,
        name: str = "",
        *,
        derive: Derive = derive_genotype,
    ) -> Fitted:
        """Return the network with the best gates that keeps the budgets; see the head of this module.

        Args:
            gates: what a search has found.
            method: rule of derivation.
            threshold: smallest gate that the `threshold_*` rules accept; where nothing that they accept fits, the rule
                `darts` is used.
            name: name of the genotype.
            derive: applies the rule.

        Raises:
            GenotypeError: the rule finds nothing in a cell.
            SettingsError: no network keeps the budgets.
        """
        for rule in dict.fromkeys((method, "darts")):
            best: Fitted | None = None
            for stem in self._stems_of(gates.space):
                found = self._at_depth(gates, self.layers, rule, threshold, name, stem, derive)
                if found is not None and (best is None or _width(found) >= 2 * _width(best)):
                    best = found
                if best is not None and (_width(best) >= _NARROW or self.channels is not None):
                    break
            if best is None:
                continue
            assert best.genotype.size is not None
            stem = best.genotype.size.stem
            cells = len(gates.sequence) if isinstance(gates, Gates) and self.layers is None else 0
            for layers in range(cells + 1, cells + 1 + min(cells, _DEEPER)):
                if best.use >= self.least_use:
                    break
                found = self._at_depth(gates, layers, rule, threshold, name, stem, derive)
                best = found if found is not None and found.use > best.use else best
            return best
        self.check(gates.space)
        kinds = " and ".join(f"max_{kind}" for kind in self.limits)
        raise SettingsError(f"no network of these gates keeps {kinds} together; raise one of them")

    def _at_depth(self, gates: AnyGates, layers: int | None, *rule: Any) -> Fitted | None:
        """Return the best network with so many cells (None for as many as were searched) and a stem."""
        if layers is None or not isinstance(gates, Gates):
            return self._fit(gates, *rule)
        deeper, used = deepen_gates(gates, layers)
        found = self._fit(deeper, *rule)
        if found is None:
            return None
        values = list(gates.values)
        for q, chosen in zip(used, found.gates.values, strict=True):
            values[q] = chosen
        return replace(found, gates=gates_of(gates.space, values))

    def _fit(
        self, gates: AnyGates, method: str, threshold: float, name: str, stem: str, derive: Derive
    ) -> Fitted | None:
        threshold = max(threshold, LEAST)

        def fitted(chosen: AnyGates, channels: int) -> Fitted:
            genotype = replace(derive(chosen, method, threshold, name), size=Size(channels, stem))
            costs = self.costs(genotype)
            return Fitted(genotype, chosen, costs, self.use(costs), total(gates, chosen) / best)

        free = choose_gates(gates, method, threshold, [])
        if free is None:
            derive(gates, method, threshold, name)  # says which cell is empty
            return None
        best = total(gates, free) or 1.0
        widest = self._widest(lambda channels: fitted(free, channels).use)
        found = [fitted(free, widest)] if widest else []
        if found and (found[0].use >= self.least_use or self.channels is not None):
            return found[0]
        first = self.channels or widest or 1
        for channels in range(first, first + (1 if self.channels else _BEYOND + 1)):
            chosen = self._best(
                gates, method, threshold, Size(channels, stem), free, lambda g, c=channels: fitted(g, c)
            )
            found += [chosen] if chosen is not None else []
        return max(found, key=lambda f: (min(f.use, self.least_use), f.worth, f.use), default=None)

    def _widest(self, use: Callable[[int], float]) -> int:
        """Return the largest width of which the use is at most 1, or 0: by powers of the width through two points."""
        if self.channels is not None:
            return self.channels if use(self.channels) <= 1 else 0
        low, high, of_low, of_high = 0, _WIDEST + 1, 0.0, math.inf
        width = 8
        while high - low > 1:
            found = use(width)
            low, of_low, high, of_high = (width, found, high, of_high) if found <= 1 else (low, of_low, width, found)
            if of_low and math.isfinite(of_high):
                power = math.log(of_high / of_low) / math.log(high / low)
                guess = low / of_low ** (1 / power)
            else:
                guess = width / found**0.5
            width = min(max(int(guess), low + 1), high - 1)
        if "latency" in self.limits:  # channels that fill a vector can take less time than fewer channels
            while low < _WIDEST and use(low + _VECTOR - low % _VECTOR) <= 1:
                low += _VECTOR - low % _VECTOR
        return low

    def _best(
        self,
        gates: AnyGates,
        method: str,
        threshold: float,
        size: Size,
        free: AnyGates,
        fitted: Callable[[AnyGates], Fitted],
    ) -> Fitted | None:
        """Return the best gates at a width that keep the budgets and use `USE` of one, or else just keep them."""
        kinds = [kind for kind in self.limits if kind in LINEAR]
        found = [self._at_least(gates, method, threshold, size, free, fitted, kind) for kind in kinds]
        used = [f for f in found if f is not None]
        if not any(f.use >= self.least_use for f in used):
            used += [f for f in [self._at_least(gates, method, threshold, size, free, fitted, None)] if f is not None]
        return max(used, key=lambda f: (min(f.use, self.least_use), f.worth, f.use), default=None)

    def _at_least(
        self,
        gates: AnyGates,
        method: str,
        threshold: float,
        size: Size,
        free: AnyGates,
        fitted: Callable[[AnyGates], Fitted],
        floor: str | None,
    ) -> Fitted | None:
        """Solve the integer programme, with a lower bound on the cost `floor`, until the network keeps the limits.

        What is not a sum over operations is taken to be what it was in the last network; at last bounds are tightened.
        """
        table = self.table(gates.space, size)
        kinds = [kind for kind in self.limits if kind in LINEAR]
        entries = {k: [[[getattr(c, k) for c in row] for row in cell] for cell in table.entries] for k in kinds}
        base: dict[str, float] = {}

        def correct(known: Fitted) -> None:
            """Set what a network costs besides the entries of the table that it has chosen."""
            for kind in kinds:
                base[kind] = known.costs[kind] - sum(
                    cost
                    for costs, picks in zip(entries[kind], known.gates.values, strict=True)
                    for row, picked in zip(costs, picks, strict=True)
                    for cost, pick in zip(row, picked, strict=True)
                    if pick > 0
                )

        correct(fitted(free))
        best: Fitted | None = None
        for attempt in range(_ATTEMPTS):
            slack = 1 - 0.005 * max(attempt - 1, 0)
            bounds = []
            for kind in kinds:
                upper = self.limits[kind] * slack - base[kind]
                lower = self.least_use * self.limits[kind] - base[kind] if kind == floor else -math.inf
                bounds.append(Bound(entries[kind], upper, lower))
            chosen = choose_gates(gates, method, threshold, bounds)
            if chosen is None:
                break
            found = fitted(chosen)
            if found.use <= 1 and (best is None or found.use > best.use):
                best = found
            if found.use <= 1 and (floor is None or found.use >= self.least_use):
                break
            correct(found)
        return best

    def front(
        self, gates: AnyGates, count: int, method: str = "darts", threshold: float = 0.85, name: str = ""
    ) -> list[Fitted]:
        """Return networks of one width along the front of gates and cost, the cheapest first.

        Their width, stem and number of cells are those of `fit`. The cost is that of the tightest budget; between the
        cheapest network and the one of `fit` or of the best gates, whichever is cheaper, `count` bounds on it lie at
        equal distances, and each gives the best gates that keep it. Networks that another one beats in both are left
        out, so that there may be fewer.

        Raises:
            GenotypeError, SettingsError: see `fit`.
        """
        last = self.fit(gates, method, threshold, name)
        size, layers = last.genotype.size, len(last.genotype) if isinstance(last.genotype, Genotype) else None
        assert size is not None
        linear = {kind: self.limits[kind] for kind in self.limits if kind in LINEAR} or {"macs": math.inf}
        shares = {kind: self.all_costs(last.genotype)[kind] / limit for kind, limit in linear.items()}
        kind = max(shares, key=shares.__getitem__)
        at_width = replace(self, channels=size.channels, stem=size.stem, layers=layers, least_use=0.0)
        free = replace(at_width, limits={kind: math.inf}).fit(gates, method, threshold, name)
        top = min(free.costs[kind], linear[kind])
        low = at_width._smallest(gates.space, size, kind)
        found: list[Fitted] = []
        for index in range(count):
            bound = top - (top - low) * (count - 1 - index) / max(count - 1, 1)
            with contextlib.suppress(SettingsError):  # the cheapest one by the table may be a little above
                new = replace(at_width, limits={**self.limits, kind: math.ceil(bound)}).fit(gates, method, threshold)
                genotype = replace(new.genotype, name=name)
                found.append(replace(new, genotype=genotype, costs=self.all_costs(genotype)))
        return [
            one
            for i, one in enumerate(found)
            if not any(
                other.worth >= one.worth and other.costs[kind] <= one.costs[kind] and (j < i or other.worth > one.worth)
                for j, other in enumerate(found)
                if j != i
            )
        ]

    # -- before a search -------------------------------------------------------------------------------------------

    def check(self, space: SearchSpace | ChoiceSpace) -> None:
        """Raise SettingsError, with the smallest possible value, if no network of a space can keep a budget."""
        smallest: dict[str, float] = {}
        for stem in self._stems_of(space):
            for kind in self.limits:
                widths = [self.channels] if self.channels else (1, _VECTOR // 2, _VECTOR) if kind == "latency" else [1]
                least = min(self._smallest(space, Size(channels, stem), kind) for channels in widths)
                smallest[kind] = min(least, smallest.get(kind, least))
            if all(least <= self.limits[kind] for kind, least in smallest.items()):
                return
        for kind, least in smallest.items():
            if least > self.limits[kind]:
                fixed = "" if self.channels is None else f" with channels = {self.channels}"
                raise SettingsError(
                    f"max_{kind} = {shown(kind, self.limits[kind])} cannot be kept{fixed}: the smallest network has "
                    f"{shown(kind, least)}; choose at least that{' or fewer channels' if fixed else ''}"
                )

    def _smallest(self, space: SearchSpace | ChoiceSpace, size: Size, kind: str) -> float:
        """Return the smallest cost of networks of a size; that of activations is an estimate."""
        by = kind if kind in LINEAR else "macs"
        entries = self.table(space, size).entries
        worth = [[[-float(getattr(cost, by)) for cost in row] for row in cell] for cell in entries]
        equal = gates_of(space, [[[1.0] * len(row) for row in cell] for cell in entries])
        chosen = choose_gates(equal, "darts", 0.0, [], worth=worth)
        assert chosen is not None  # of a space any two edges per node will do
        genotype = laid_out(replace(derive_genotype(chosen, "darts"), size=size), self.layers)
        return self._counted(genotype, (kind,))[kind]

    def typical_use(self, space: SearchSpace | ChoiceSpace, channels: int) -> float:
        """Return the use of a random network of a width."""
        genotype = random_genotype(space, seed=0)
        if self.layers is not None and isinstance(genotype, Genotype):
            genotype = deepen(genotype, max(self.layers, len(genotype)))
        stem = self._stems_of(space)[0]
        return self.use(self.costs(replace(genotype, size=Size(channels, stem))))

    def price(self, space: SearchSpace | ChoiceSpace) -> Price:
        """Return the price of gates at the largest width at which gates that are all equal keep the limits."""
        stem = self._stems_of(space)[0]

        def at(channels: int) -> Price:
            table = self.table(space, Size(channels, stem))
            return Price.of(table, {kind: limit for kind, limit in self.limits.items() if kind in LINEAR})

        widest = self._widest(lambda channels: at(channels).equal)
        return at(widest or self.channels or 1)


@dataclass(frozen=True)
class Price:
    r"""What gates cost above the limits: :math:`\sum_k \max(0, E_k / B_k - 1)`, a share of them.

    The expected cost is :math:`E = b + \sum_{q,e} w_e \sum_o p_{qeo} c_{qeo}`, with the table's base b and costs c, the
    gates of an edge divided by their sum p, and the share w of the edges to a node that a genotype keeps: 2 of them.

    Attributes:
        bases: b / B of each kind.
        rates: w c / B of each kind, in the shape of the gates.
    """

    bases: list[float]
    rates: list[list[list[list[float]]]]

    @classmethod
    def of(cls, table: CostTable, limits: Mapping[str, float]) -> Price:
        """Return the price of a table of costs."""
        space = table.space
        targets = [target for _, target in space.edges] if isinstance(space, SearchSpace) else [1]
        kept = [min(EDGES_PER_NODE, target) / target for target in targets]
        rates = [
            [
                [[share * getattr(c, kind) / limit for c in row] for row, share in zip(cell, kept, strict=True)]
                for cell in table.entries
            ]
            for kind, limit in limits.items()
        ]
        return cls([getattr(table.base, kind) / limit for kind, limit in limits.items()], rates)

    @property
    def equal(self) -> float:
        """The largest expected share of a limit if all gates are equal."""
        means = [sum(sum(row) / len(row) for cell in cells for row in cell) for cells in self.rates]
        return max((base + mean for base, mean in zip(self.bases, means, strict=True)), default=0.0)

    def __call__(self, gates: Sequence[Tensor]) -> Tensor:
        """Return the price of gates, a scalar.

        Args:
            gates: of each searched cell (edges, operations).
        """
        above = [gates[0].new_zeros(())]
        for base, cells in zip(self.bases, self.rates, strict=True):
            expected = gates[0].new_tensor(base)
            for gate, rates in zip(gates, cells, strict=True):
                shares = gate / gate.sum(1, keepdim=True).clamp_min(1e-12)
                expected = expected + (shares * gate.new_tensor(rates)).sum()
            above.append((expected - 1).clamp_min(0))
        return torch.stack(above).sum()


def _width(fitted: Fitted) -> int:
    assert fitted.genotype.size is not None
    return fitted.genotype.size.channels


def shown(kind: str, value: float) -> str:
    """Return a cost with its unit."""
    if kind == "latency":
        return f"{value:.3g} ms"
    return f"{value:,.0f}{' bytes' if kind in ('activations', 'size') else ''}"
