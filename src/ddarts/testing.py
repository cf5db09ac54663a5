"""Conformance checks for operations, search spaces, strategies and data sources of other packages.

Each function takes the name under which a part is registered, runs the part on small networks and a few steps, and
raises `AssertionError` with the requirement that it violates. docs/extend.md builds one part of each kind and checks
it; the built-in parts are tested by the same functions.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddarts.config.loading import load_settings
from ddarts.config.strategies import STRATEGIES, StrategyOptions, TrialOptions
from ddarts.cost.counting import count_macs, count_parameters, operation_cost
from ddarts.data import Images, load_data
from ddarts.data.images import SelectedPixels
from ddarts.genotype.choices import AnyGenotype, ChoiceGenotype, genotype_from_json
from ddarts.genotype.derive import derive_genotype
from ddarts.genotype.gates import Gates, discrete_gates, gates_from_dict, gates_of
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.random import random_genotype
from ddarts.genotype.starting import search_space
from ddarts.nn.choice_network import ChoiceNetwork, Removed, build_network, load_skeleton
from ddarts.nn.network import Network
from ddarts.nn.operations import build_operation
from ddarts.runs.folder import RunFolder
from ddarts.searching.alpha_step import alpha_gradients
from ddarts.searching.loop import search_architecture
from ddarts.searching.start import StartingPoint
from ddarts.searching.strategy import BlackBox, Differentiable, SearchOutcome, Trial, implementation_of
from ddarts.space.cell_space import SearchSpace, build_space
from ddarts.space.choice_space import ChoiceSpace
from ddarts.space.operations import OPERATIONS
from ddarts.space.spaces import SPACES
from ddarts.supernet.choice_supernet import ChoiceSupernet, MixedChoice
from ddarts.supernet.reference import ReferenceSupernet, counterpart
from ddarts.supernet.supernet import Supernet

#: Settings of a search on the embedded digits that takes about a second.
_SMALL: dict[str, Any] = {
    **{"cells": 3, "nodes": 1, "channels": 2, "batch": 9, "lr": 0.05, "threads": 1, "device": "cpu", "data": "digits"},
    **{"checkpoint_steps": 1},
}
_SMALL_SUPERNET: dict[str, Any] = {"epochs": 3, "alpha_lr": 0.05, "stop_on_collapse": False}
_SMALL_TRIALS: dict[str, Any] = {"trials": 3, "trial_steps": 3}

#: Trials after which a black-box strategy is rebuilt from its history.
_TRIALS = 30


# -- operations --------------------------------------------------------------------------------------------------------


def check_operation(name: str) -> None:
    """Check a registered operation: its module, its facts, and its behaviour in supernets, genotypes and networks.

    Checked are the shapes at strides 1 and 2; that the state dict holds the whole state; that ``has_weights`` and
    ``costs`` agree with the module; that logits, ablations, gradients and running statistics of a supernet with the
    operation equal those of `ddarts.supernet.reference` to 1e-8 in float64, also where it has a grouped form; that a
    genotype survives JSON; and that the discrete network of a genotype equals the supernet with gates 0 and 1.

    Raises:
        AssertionError: a requirement is violated.
        GenotypeError: no operation has this name.
    """
    operation, about = OPERATIONS.get(name), f"operation {name}"
    with _seeded():
        for stride in (1, 2):
            _check_module(name, stride)
            _equal(
                tuple(operation.costs(4, stride, 6, 6)),
                tuple(operation_cost(operation, 4, stride, 6, 6)),
                f"{about}: costs(4, {stride}, 6, 6) must be the parameters and multiply-adds of its module",
            )
        weights = count_parameters(build_operation(name, 4, 1))
        _require(
            operation.has_weights == (weights > 0),
            f"{about}: has_weights is {operation.has_weights}, but its module has {weights} parameters at stride 1",
        )
        others = tuple(other for other in ("sep_conv_3x3", "max_pool_3x3") if other != name)
        check_supernet(SearchSpace((others[0], name, *others[1:]), 2, (2, 3), (0, 1), (1,)), about)
        _check_discretisation(SearchSpace((name,), 2, (2, 3), (0, 1), (1,)), about)


def _check_module(name: str, stride: int) -> None:
    """Check what `Operation.build` returns: shapes, state, and that the input is left unchanged."""
    about = f"operation {name} at stride {stride}"
    for height, width in ((6, 6), (7, 5)):
        module, x = build_operation(name, 4, stride, affine=False), torch.randn(2, 4, height, width)
        before, x = x.clone(), x.requires_grad_()
        y = module(x)
        _equal(
            tuple(y.shape),
            (2, 4, -(-height // stride), -(-width // stride)),
            f"{about}: output of an input of shape {tuple(x.shape)}",
        )
        _require(torch.equal(x, before), f"{about}: its module changes its input in place; copy the input first")
        _require(bool(y.isfinite().all()), f"{about}: its output is not finite")
        y.square().sum().backward()
        _require(x.grad is not None, f"{about}: no gradient reaches its input")
    module = build_operation(name, 4, stride, affine=False)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m.affine]
    _require(not norms, f"{about}: with affine=False its batch norms must have no scale and no shift")
    module(torch.randn(2, 4, 6, 6))
    twin, x = build_operation(name, 4, stride, affine=False), torch.randn(2, 4, 6, 6)
    twin.load_state_dict(module.state_dict())
    _require(
        torch.equal(module.eval()(x), twin.eval()(x)),
        f"{about}: a new module with the same state dict computes other numbers; hold all state in parameters and "
        "buffers, and compute without random numbers in evaluation mode",
    )


def check_supernet(space: SearchSpace, about: str) -> None:
    """Check that the supernet of a cell space computes what its definition does, `ddarts.supernet.reference`.

    Args:
        space: the space.
        about: the part that is checked; messages begin with it.

    Raises:
        AssertionError: logits, ablated logits, gradients or running statistics differ by more than 1e-8.
    """
    fast = Supernet(space, channels=4, classes=3)
    try:
        plain = ReferenceSupernet.like(fast).double()
    except KeyError as error:
        _fail(f"{about}: its grouped form has no tensor {error.args[0]}; name weights as in the module of `build`")
    fast.double()
    x, y = torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.arange(4) % 3
    shapes = [(len(space.edges), len(space.operations))] * space.searched_cells
    gates = [torch.rand(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    before = {key: value.clone() for key, value in fast.state_dict().items()}
    with torch.no_grad():
        for searched in range(space.searched_cells):
            trunk = fast.trunk(x, gates, track=False, keep=True)
            starts = [trunk.states[k] for k in fast.branch_starts(searched)]
            for replacement in (None, torch.rand_like(gates[0])):
                found = fast.branch(searched, starts, gates, replacement, precomputed=trunk.precomputed)
                _close(found, plain.ablated(x, gates, searched, replacement), f"{about}: logits with a cell ablated")
    moved = [key for key, value in fast.state_dict().items() if not torch.equal(value, before[key])]
    _require(not moved, f"{about}: an ablation changes {', '.join(moved[:3])}; no alpha step may")
    found = []
    for net in (fast, plain):
        loss = F.cross_entropy(net(x, gates), y)
        found.append(torch.autograd.grad(loss, gates, retain_graph=True))
        loss.backward()
    for mine, expected in zip(*found, strict=True):
        _close(mine, expected, f"{about}: gradient of the gates")
    gradients = reference_gradients(fast, [key for key, _ in plain.named_parameters()])
    for key, parameter in plain.named_parameters():
        if key in gradients:
            _close(gradients[key], parameter.grad, f"{about}: gradient of {key}")
    state = fast.state_dict()
    for key, value in plain.named_buffers():
        if (place := counterpart(key, fast)) is not None and value.is_floating_point():
            other, edge, edges = place
            _close(state[other].chunk(edges)[edge], value, f"{about}: running statistics {key}")


def reference_gradients(net: Supernet, names: list[str]) -> dict[str, Tensor | None]:
    """Return the weight gradients of a supernet under the names that `ReferenceSupernet` has for the weights.

    Args:
        net: the supernet, after a backward pass.
        names: names of parameters of the reference; those that `net` does not have and the alphas are left out.
    """
    parameters, found = dict(net.named_parameters()), dict[str, Tensor | None]()
    for name in names:
        place = counterpart(name, net)
        if place is not None and place[0] in parameters and not name.startswith("alphas."):
            target, edge, edges = place
            gradient = parameters[target].grad
            found[name] = gradient if gradient is None or edges == 1 else gradient.chunk(edges)[edge]
    return found


def _check_discretisation(space: SearchSpace, about: str) -> None:
    """Check that a network equals the supernet with gates 0 and 1 and the same weights, and that its genotype is kept.

    The operation stands on every edge of the genotype. A supernet puts a batch norm after an operation with
    ``norm_in_search``, a network does not: here the network gets them too.
    """
    (name,) = space.operations
    edges = tuple(Edge(name, source, target) for source, target in space.edges)
    genotype = Genotype(
        tuple(CellGenotype(edges, (2, 3), position in space.reductions) for position in range(space.cells))
    )
    _check_genotype(genotype, about)
    network, net = Network(genotype, channels=4, classes=3), ReferenceSupernet(space, channels=4, classes=3)
    if OPERATIONS.get(name).norm_in_search:
        for position, cell in enumerate(network.cells.values()):
            operations: Any = cell.operations
            for key, module in list(operations.items()):
                operations[key] = nn.Sequential(module, nn.BatchNorm2d(8 if position else 4, affine=False))
    _require_same_network(net, network, genotype, about)


# -- search spaces -----------------------------------------------------------------------------------------------------


def check_space(name: str) -> None:
    """Check a registered search space, of cells or of choices: networks, genotypes, gates and the supernet.

    For a choice space: every choice decides at least one position, every candidate maps to the declared shape at every
    position and has weights unless it is listed as ``parameter_free``, blocks have the declared channels and strides,
    and one path of the supernet equals the discrete network with the same weights.

    Raises:
        AssertionError: a requirement is violated.
        SettingsError: no space has this name, or it cannot be built.
    """
    about = f"space {name}"
    value = SPACES.get(name)
    with _seeded():
        space = value if isinstance(value, ChoiceSpace) else build_space(name, cells=3, nodes=2)
        if isinstance(space, ChoiceSpace):
            _equal(space.name, name, f"{about}: its name must be the one under which it is registered")
            _check_positions(space, about)
        else:
            _equal((space.cells, space.nodes), (3, 2), f"{about}: cells and nodes when called with cells=3, nodes=2")
            check_supernet(space, about)
        for seed in range(3):
            genotype = random_genotype(space, seed=seed)
            _check_genotype(genotype, about)
            gates = discrete_gates(space, genotype)
            _equal(gates_from_dict(gates.to_dict()), gates, f"{about}: gates after a round trip through JSON")
            network = build_network(genotype, channels=4, in_channels=1, classes=3)
            _equal(tuple(network(torch.randn(2, 1, 16, 16)).shape), (2, 3), f"{about}: shape of the logits")
            if isinstance(network, ChoiceNetwork):
                assert isinstance(space, ChoiceSpace)
                net = ChoiceSupernet(space, channels=4, in_channels=1, classes=3)
                _require_same_network(net, network, genotype, about)


def _check_positions(space: ChoiceSpace, about: str) -> None:
    """Build every candidate at every position of a choice space, and compare what the blocks declare."""
    skeleton = load_skeleton(space)
    for stem in ("cifar", "imagenet"):
        used: set[int] = set()
        shapes: set[tuple[int, int, int, int]] = set()

        def slot(choice: int, inputs: int, outputs: int, stride: int = 1, *, removed: Removed = "input") -> nn.Module:
            used.add(choice)  # noqa: B023
            shapes.add((choice, inputs, outputs, stride))  # noqa: B023
            candidate = space.choices[choice].candidates[0]
            return skeleton.candidate(candidate, inputs, outputs, stride, affine=False)

        blocks = skeleton.blocks(slot, channels=4, in_channels=3, stem=stem)
        missing = [c.name for i, c in enumerate(space.choices) if i not in used]
        _require(not missing, f"{about}: no position of the skeleton uses the choice {', '.join(missing[:3])}")
        x = torch.randn(2, 3, 64, 64)
        for block in blocks:
            expected = (2, block.outputs, *(-(-side // block.stride) for side in x.shape[2:]))
            x = block.module(x)
            _equal(tuple(x.shape), expected, f"{about}: output of the block {block.name} with the stem {stem}")
    for choice, inputs, outputs, stride in sorted(shapes):
        for name in space.choices[choice].candidates:
            where = f"{about}: candidate {name} of {space.choices[choice].name}"
            module = skeleton.candidate(name, inputs, outputs, stride, affine=False)
            found = tuple(module(torch.randn(2, inputs, 7, 5)).shape)
            _equal(found, (2, outputs, -(-7 // stride), -(-5 // stride)), f"{where}: output at stride {stride}")
            if inputs == outputs and stride == 1:
                _require(
                    (count_parameters(module) == 0) == (name in space.parameter_free),
                    f"{where} has {count_parameters(module)} parameters; parameter_free must list exactly the "
                    "candidates without any",
                )


def _check_genotype(genotype: AnyGenotype, about: str) -> None:
    """Check that a genotype survives its JSON text, and that costs of its network can be counted."""
    _equal(genotype_from_json(genotype.to_json()), genotype, f"{about}: genotype after a round trip through JSON")
    network = build_network(genotype, channels=4)
    _require(count_macs(network, (3, 16, 16)) > 0, f"{about}: a network has no multiply-adds")


def _require_same_network(
    net: ReferenceSupernet | ChoiceSupernet, network: Network | ChoiceNetwork, genotype: AnyGenotype, about: str
) -> None:
    """Copy the weights of one path of a supernet into a network, and compare both in training and evaluation mode."""
    inherited = inherited_weights(net, genotype)
    own = network.state_dict()
    missing = [key for key in own if key not in inherited and not key.endswith((".weight", ".bias"))]  # affine: 1 and 0
    missing += [
        key
        for key, module in network.named_modules()
        if not isinstance(module, nn.BatchNorm2d)
        and any(f"{key}.{n}" not in inherited for n, _ in module.named_parameters(recurse=False))
    ]
    _require(not missing, f"{about}: the supernet has no weights for {', '.join(missing[:3])} of the network")
    network.load_state_dict({key: inherited.get(key, value) for key, value in own.items()})
    net.double()
    network.double()
    gates = [torch.tensor(rows, dtype=torch.float64) for rows in discrete_gates(net.space, genotype).values]
    x = torch.randn(4, network.in_channels, 16, 16, dtype=torch.float64)
    for training in (True, False):
        logits = net.train(training)(x, gates)
        _close(
            network.train(training)(x),
            logits,
            f"{about}: logits of the network and of the supernet with gates 0 and 1 and the same weights "
            f"in {'training' if training else 'evaluation'} mode",
        )


def inherited_weights(net: ReferenceSupernet | ChoiceSupernet, genotype: AnyGenotype) -> dict[str, Tensor]:
    """Return the weights and running statistics on the path of a genotype, named as in its discrete network.

    In a cell space, every edge of the genotype must belong to the full cell, at its position in ``space.edges``.
    """
    renamed: list[tuple[str, str]] = []
    if isinstance(net, ChoiceSupernet):
        assert isinstance(genotype, ChoiceGenotype)
        for name, mixed in net.named_modules():
            if isinstance(mixed, MixedChoice):
                renamed.append((f"{name}.candidates.{genotype.indices[mixed.choice]}.", f"{name}."))
    else:
        assert isinstance(genotype, Genotype)
        for position, cell in enumerate(genotype.cells):
            head = f"cells.{position}"
            renamed += [(f"{head}.preprocess_{i}.", f"{head}.preprocess{i}.") for i in (0, 1)]
            for index, edge in enumerate(cell.edges):
                row, column = net.space.edges.index(edge[1:]), net.space.operations.index(edge.operation)
                ours = f"{head}.edges.{row}.operations.{column}."
                if OPERATIONS.get(edge.operation).norm_in_search:
                    renamed.append((f"{ours}operation.", f"{head}.operations.{index}.0."))
                    renamed.append((f"{ours}norm.", f"{head}.operations.{index}.1."))
                renamed.append((ours, f"{head}.operations.{index}."))
    found = {}
    for key, tensor in net.state_dict().items():
        for ours, theirs in renamed:
            if key.startswith(ours):
                key = theirs + key.removeprefix(ours)
                break
        found[key.replace(".module.", ".") if isinstance(net, ChoiceSupernet) else key] = tensor
    return found


# -- strategies --------------------------------------------------------------------------------------------------------


def check_strategy(name: str, **options: Any) -> None:
    """Check a registered strategy: a search of a few steps on the embedded digits, and each of its methods.

    Every strategy: a search that is killed twice in the middle of a step and resumed from its run folder by new objects
    ends with the same gates, genotype and metrics, to the bit; the steps in its summary are those that it did.
    Differentiable: gates have the shape of the space and lie between 0 and 1, follow from the step's random numbers
    alone, and pass a gradient to every logit; the derived genotype belongs to the space and survives JSON.
    Black-box: a proposal follows from seed, number and history alone, belongs to the space, and a new object that
    recovers a history proposes what the old one does.

    Args:
        name: name of the strategy.
        options: its settings, and settings of the search, such as ``epochs``; all others are small.

    Raises:
        AssertionError: a requirement is violated.
        SettingsError: no strategy has this name, or a setting is wrong.
    """
    with _seeded():
        settings = _search_settings(name, options)
        if isinstance(settings.search.strategy, TrialOptions):
            _check_black_box(settings.search.strategy)
        else:
            _check_differentiable(settings.search.strategy)
        _check_resumption(name, options)


def _search_settings(name: str, options: dict[str, Any]) -> Any:
    """Return the settings of a small search with a strategy."""
    strategy = STRATEGIES.get(name)
    small = _SMALL_TRIALS if issubclass(strategy, TrialOptions) else _SMALL_SUPERNET
    fits = {key: value for key, value in small.items() if key not in strategy.ignores}
    return load_settings("search", preset="demo", overrides={"strategy": name, **_SMALL, **fits, **options})


def build_relaxation(options: StrategyOptions, *, nodes: int = 2) -> tuple[Differentiable[Any], Supernet, list[Tensor]]:
    """Return a differentiable strategy, a small supernet in float64 of its space, and alphas that differ from another.

    Args:
        options: settings of the strategy.
        nodes: nodes of a cell.
    """
    space = search_space("darts", cells=3, nodes=nodes, shared_cells=options.shared_cells)
    torch.manual_seed(0)
    net = Supernet(space, channels=2, classes=3).double()
    strategy = implementation_of(options)(options)
    _require(
        isinstance(strategy, Differentiable),
        f"strategy {options.name}: {type(strategy).__name__} must derive from Differentiable, "
        "or from BlackBox with settings that derive from TrialOptions",
    )
    net.add_alphas([(len(space.edges), len(space.operations) + strategy.extra_logits)] * space.searched_cells)
    with torch.no_grad():
        for alpha in net.double().alphas:
            alpha.normal_()
    return strategy, net, list(net.alphas)


def _check_differentiable(options: StrategyOptions) -> None:
    about = f"strategy {options.name}"
    strategy, net, alphas = build_relaxation(options)
    space = net.space
    shape = (len(space.edges), len(space.operations))
    relaxed = strategy.relax(alphas, 0.5, torch.Generator().manual_seed(3))
    for method, gates in (("relax", relaxed), ("gates", strategy.gates(alphas))):
        shapes = [tuple(g.shape) for g in gates]
        _equal(shapes, [shape] * space.searched_cells, f"{about}: shapes of the gates that {method} returns")
        inside = all(bool(((g >= 0) & (g <= 1)).all()) for g in gates)
        _require(inside, f"{about}: {method} returns gates that do not lie between 0 and 1")
    again = strategy.relax(alphas, 0.5, torch.Generator().manual_seed(3))
    _require(
        all(torch.equal(a, b) for a, b in zip(relaxed, again, strict=True)),
        f"{about}: relax returns other gates for the same logits and random numbers; draw from its generator only",
    )
    x, y = torch.randn(6, 3, 5, 5, dtype=torch.float64), torch.arange(6) % 3
    if strategy.trains_alphas:
        outcome = alpha_gradients(
            net.train(), x, y, relaxed, regulariser=lambda: strategy.regulariser(alphas, relaxed, 0.5)
        )
        for gradient in outcome.gradients:
            _require(bool(gradient.isfinite().all()), f"{about}: a gradient of the logits is not finite")
            _require(bool((gradient != 0).all()), f"{about}: some logits get no gradient")
    gates = gates_of(space, [g.tolist() for g in strategy.gates(alphas)])
    genotype = strategy.derive(gates, options.rule or "darts", 0.85, "x")
    _check_member(genotype, space, f"{about}: derive")
    assert isinstance(genotype, Genotype)
    again = derive_genotype(Gates.of_genotype(space, genotype), "threshold_complete", 0.5, "x")
    edges = [[set(cell.edges) for cell in g.cells] for g in (again, genotype)]
    _equal(edges[0], edges[1], f"{about}: edges of a genotype derived again from the gates 0 and 1 of the first")


def _check_black_box(options: TrialOptions) -> None:
    about = f"strategy {options.name}"
    for space in (build_space(cells=3, nodes=2), SPACES.get("mobile")):
        strategy, same, other = (implementation_of(options)(options, space, 7) for _ in range(3))
        _require(isinstance(strategy, BlackBox), f"{about}: {type(strategy).__name__} must derive from BlackBox")
        history = []
        for number in range(_TRIALS):
            genotype = strategy.propose(number, random.Random(number))
            _equal(
                same.propose(number, random.Random(number)),
                genotype,
                f"{about}: proposal {number} of two objects with the same seed and history",
            )
            _check_member(genotype, space, f"{about}: propose")
            history.append(Trial(number, genotype, 0.5 + (number * 37 % 100) / 250, 5))
            strategy.feedback(history[-1])
            same.feedback(history[-1])
        other.recover(history)
        for number in (_TRIALS, _TRIALS + 1):
            found, expected = (s.propose(number, random.Random(1)) for s in (other, strategy))
            _equal(found, expected, f"{about}: proposal {number} of a new object after recover(history)")
    rungs = strategy.rungs()
    fits = bool(rungs) and all(count >= 1 and steps >= 1 for count, steps in rungs)
    _require(fits, f"{about}: rungs() = {rungs} must list at least one rung with at least one trial and one step")


def _check_member(genotype: AnyGenotype, space: SearchSpace | ChoiceSpace, about: str) -> None:
    """Check that a genotype belongs to a space: its gates can be written, and give it back."""
    if isinstance(space, ChoiceSpace):
        belongs = isinstance(genotype, ChoiceGenotype) and genotype.space == space.name
    else:
        belongs = (
            isinstance(genotype, Genotype)
            and len(genotype) == space.cells
            and genotype.reductions == space.reductions
            and {e.operation for c in genotype.cells for e in c.edges} <= set(space.operations)
            and {tuple(e[1:]) for c in genotype.cells for e in c.edges} <= set(space.edges)
        )
    _require(belongs, f"{about} returns a genotype that does not belong to the searched space")
    _equal(genotype_from_json(genotype.to_json()), genotype, f"{about}: genotype after a round trip through JSON")


class _Killed(BaseException):
    """Ends a search as a kill does: no handler of errors catches it."""


class _CountedPixels(SelectedPixels):
    """Pixels that count how often they are read, and end the process's work at a given read."""

    def __init__(self, base: Tensor, positions: Tensor, reads: list[int], fatal: int | None) -> None:
        super().__init__(base, positions)
        self.reads, self.fatal = reads, fatal

    def subset(self, index: Tensor) -> _CountedPixels:
        return _CountedPixels(self.base, self.positions[index], self.reads, self.fatal)

    def __getitem__(self, index: Tensor | slice | int) -> Tensor:
        self.reads[0] += 1
        if self.reads[0] == self.fatal:
            raise _Killed
        return super().__getitem__(index)


def _check_resumption(name: str, options: dict[str, Any]) -> None:
    """Check that a search that is killed and resumed ends with the bits of an uninterrupted one; check its budget."""
    about, data = f"strategy {name}", load_data("digits", limit=60)
    settings = _search_settings(name, options)

    def search(path: Path, fatal: int | None = None) -> tuple[SearchOutcome, int]:
        reads, pixels = [0], data.train.pixels
        assert isinstance(pixels, Tensor)
        counted = _CountedPixels(pixels, torch.arange(len(pixels)), reads, fatal)
        images = replace(data, train=Images(counted, data.train.labels))
        with RunFolder(path) if path.exists() else RunFolder.create(path) as run:
            found = search_architecture(settings, images, run, start=StartingPoint.of(settings.search), quiet=True)
        return found, reads[0]

    with tempfile.TemporaryDirectory(prefix="ddarts-") as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        expected, reads = search(whole)
        for fatal in sorted({max(reads // 3, 1), max(reads // 2, 1)}):
            try:
                search(killed, fatal)
            except _Killed:
                continue
        found, _ = search(killed)
        gates = [(path / "gates.json").read_bytes() for path in (killed, whole)]
        _require(
            gates[0] == gates[1],
            f"{about}: the gates of a search that was killed and resumed differ from those of an uninterrupted one; "
            "keep no state besides the logits or the recorded trials, and draw from the generators that are passed in",
        )
        _equal(
            found.genotype.canonical() if isinstance(found.genotype, ChoiceGenotype) else found.genotype.cells,
            expected.genotype.canonical() if isinstance(expected.genotype, ChoiceGenotype) else expected.genotype.cells,
            f"{about}: genotype of a search that was killed and resumed",
        )
        records = [_records(path) for path in (killed, whole)]
        _equal(records[0], records[1], f"{about}: metrics of a search that was killed and resumed")
        if isinstance(settings.search.strategy, TrialOptions):
            _check_budget(settings.search.strategy, whole, about)


def _records(path: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run, without times."""
    times = ("elapsed_s", "seconds")
    return [{k: v for k, v in r.items() if k not in times} for r in RunFolder.open(path).metrics()]


def _check_budget(options: TrialOptions, path: Path, about: str) -> None:
    """Check that the recorded training steps are those that the strategy's rungs allow."""
    space = build_space(cells=3, nodes=1)
    rungs = implementation_of(options)(options, space, 0).rungs()
    trains = sum(count for count, _ in rungs) > 1
    steps = [steps if trains else 0 for _, steps in rungs]
    allowed = sum(count * (s - before) for (count, _), s, before in zip(rungs, steps, [0, *steps[:-1]], strict=True))
    summary = RunFolder.open(path).summary
    _equal((summary["trials"], summary["search_steps"]), (rungs[0][0], allowed), f"{about}: trials and training steps")


# -- data sources ------------------------------------------------------------------------------------------------------


def check_source(spec: Any, *, resolution: int = 8) -> None:
    """Check a data source: two reads give the same images, labels are classes, limit and resolution are respected.

    Args:
        spec: what ``--data`` takes, such as the name of a registered source, with or without ``:DIR``.
        resolution: pixels per side to which images are scaled.

    Raises:
        AssertionError: a requirement is violated.
        DataError: the data cannot be read.
    """
    about = f"data {spec}" if isinstance(spec, str) else "data"
    first, second = (load_data(spec, quiet=True) for _ in range(2))
    _equal(first.classes, second.classes, f"{about}: classes of a second read")
    for split in ("train", "validation", "test"):
        one, other = getattr(first, split), getattr(second, split)
        _equal(one is None, other is None, f"{about}: whether there are {split} images in a second read")
        if one is None:
            continue
        _require(len(one) > 0, f"{about}: no {split} images; use None for a split that does not exist")
        same = torch.equal(one.labels, other.labels) and torch.equal(one.pixels[:], other.pixels[:])
        _require(same, f"{about}: {split} images or labels of a second read differ; read them in a fixed order")
        size = (first.channels, first.height, first.width)
        _equal(tuple(one.pixels.shape[1:]), size, f"{about}: channels, height and width of {split} images")
        inside = bool(((one.labels >= 0) & (one.labels < len(first.classes))).all())
        _require(inside, f"{about}: {split} labels must be 0 to {len(first.classes) - 1}, the number of classes less 1")
    limit = max(len(first.train) // 2, len(first.classes))
    small = load_data(spec, limit=limit, resolution=resolution, quiet=True)
    _require(len(small.train) <= limit, f"{about}: {len(small.train)} training images with a limit of {limit}")
    _equal((small.height, small.width), (resolution, resolution), f"{about}: size with resolution {resolution}")


# -- assertions --------------------------------------------------------------------------------------------------------


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed torch's random numbers inside the context, and restore them afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _fail(message: str) -> NoReturn:
    raise AssertionError(message)


def _require(condition: bool, message: str) -> None:
    if not condition:  # not an assert statement: the checks must work under python -O
        _fail(message)


def _equal(found: Any, expected: Any, what: str) -> None:
    _require(found == expected, f"{what}: found {found!r:.300}, expected {expected!r:.300}")


def _close(found: Tensor | None, expected: Tensor | None, what: str) -> None:
    """Compare two tensors to 1e-8, relative to the largest entry."""
    if found is None or expected is None:
        _require(found is expected, f"{what}: one of the two does not exist")
        return
    _equal(tuple(found.shape), tuple(expected.shape), f"{what}: shape")
    found, expected = found.detach(), expected.detach()
    error, scale = float((found - expected).abs().max()), max(float(expected.abs().max()), 1.0)
    _require(error <= 1e-8 * scale, f"{what}: differs from the reference by {error:.2g}, expected at most 1e-8")
